"""The batcher: what falls due in one tick of an event loop travels to the server together, on one connection.

Decided here:

* A *pump* task takes everything that waits, at most ``BATCH`` commands, sends it as one piece and hands each answer to
  the one who asked. What comes meanwhile waits for the next piece. One time limit for the whole piece: a limit for
  each command would cost more than the command.
* An error of the server belongs to its command. A connection that breaks fails all that was on its way: what only
  reads is sent once more on a new one; for a write nobody can know whether it was made. What was not sent yet goes on,
  unless no connection can be had at all.
* Who is cancelled is forgotten; the pump goes on for the others.
* Answers are delivered as values, errors too, so that nobody's error is left unread.

A batcher belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from contextvars import Context
from typing import Any

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from .redis_faults import BROKEN
from .redis_sync import Replicas

__all__ = ["BATCH", "Batcher"]

BATCH = 256  # commands


class _Waiting:
    """One command on its way."""

    __slots__ = ("again", "command", "future", "reads")

    def __init__(self, command: bytes, reads: bool, future: asyncio.Future[Any]) -> None:
        self.command = command
        self.reads = reads
        self.future = future
        self.again = reads  # whether it may be sent once more

    def answer(self, value: Any) -> None:
        if not self.future.done():  # done: cancelled
            self.future.set_result(value)


class Batcher:
    """Sends commands through one connection of *pool*. *seconds*: what a piece may take; ``None``: no limit."""

    def __init__(self, pool: Any, seconds: float | None, replicas: Replicas | None) -> None:
        self._pool = pool
        self._seconds = seconds
        self._replicas = replicas
        self._loop = asyncio.get_running_loop()
        self._queue: list[_Waiting] = []
        self._connection: Any = None
        self._pumping = False
        self._pump: asyncio.Task[None] | None = None

    def send(self, command: bytes, *, reads: bool) -> asyncio.Future[Any]:
        """The future answer to a packed *command*: a value, or the exception in its place."""
        future = self._loop.create_future()
        self._queue.append(_Waiting(command, reads, future))
        if not self._pumping:
            self._pumping = True
            self._pump = self._loop.create_task(self._run(), context=Context())
            self._pump.add_done_callback(self._ended)
        return future

    async def close(self) -> None:
        """Let what waits be answered, then give the connection back. A later command takes a new one."""
        while self._pumping and self._pump is not None:
            await asyncio.wait([self._pump])
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):  # a farewell nobody answers
                await connection.disconnect()
            await self._pool.release(connection)

    async def _run(self) -> None:
        while self._queue:
            piece = self._queue[:BATCH]
            del self._queue[:BATCH]
            await self._travel(piece)
        self._pumping = False

    def _ended(self, pump: asyncio.Task[None]) -> None:
        """A pump that did not end by itself, or never began, leaves nobody waiting."""
        if pump is self._pump and self._pumping:
            self._pumping = False
            for waiting in self._queue:
                waiting.future.cancel()
            self._queue.clear()

    async def _travel(self, piece: list[_Waiting]) -> None:
        """Send *piece* and hand out the answers."""
        held: list[tuple[_Waiting, Any]] = []  # writes that replicas must have first
        answered, connected = 0, False
        try:
            async with asyncio.timeout(self._seconds):
                connection = await self._ready()
                connected = True
                replicas = None if all(waiting.reads for waiting in piece) else self._replicas
                commands = [waiting.command for waiting in piece]
                if replicas is not None:
                    commands.append(replicas.command)
                await connection.send_packed_command(b"".join(commands))
                demoted = False
                for waiting in piece:
                    value = await _read(connection)
                    demoted = demoted or isinstance(value, ReadOnlyError)
                    answered += 1
                    if replicas is None or waiting.reads or isinstance(value, Exception):
                        waiting.answer(value)
                    else:
                        held.append((waiting, value))
                if replicas is not None:
                    lack = replicas.lack(await _read(connection))
                    for waiting, value in held:
                        waiting.answer(lack or value)
                if demoted:  # the next one may lead to the new primary
                    await self._hang_up()
        except Exception as error:
            await self._hang_up()
            self._broke([waiting for waiting, _ in held] + piece[answered:], error, connected=connected)
        except BaseException:  # the loop is being shut down
            await self._hang_up()
            for waiting in piece:
                waiting.future.cancel()
            raise

    async def _ready(self) -> Any:
        """The connection, connected."""
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._pool.get_connection()
        elif not connection.is_connected or connection.should_reconnect() or await connection.can_read():
            await self._hang_up()  # unasked data: the server hung up, or is not where we think
            await connection.connect()
        return connection

    async def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    def _broke(self, left: list[_Waiting], error: Exception, *, connected: bool) -> None:
        """What becomes of those who were not answered."""
        again = []
        for waiting in left:
            if connected and waiting.again and isinstance(error, BROKEN):
                waiting.again = False
                again.append(waiting)
            else:
                waiting.answer(error)
        if not connected:  # the rest would only wait for the same
            for waiting in self._queue:
                waiting.answer(error)
            self._queue.clear()
        self._queue[:0] = again


async def _read(connection: Any) -> Any:
    """The next answer, or the server's error in its place."""
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except ResponseError as error:
        return error
