"""The batcher: what falls due in one tick of an event loop travels to the server together, on one connection.

Decided here:

* A *pump* task sends everything that waits as one piece and hands each answer to the one who asked. Who asks
  meanwhile need not wait for the last of them: whenever an answer is there, what has come since is sent after it, so
  that server and client work at the same time. At most ``BATCH`` commands are under way. One time limit for a
  piece, since a limit for each command would cost more than the command.
* Who is alone in a tick needs no pump, and sends and reads in their own task: to switch to another and back costs a
  fifth of a load. Whether it will be so is guessed from the last time.
* Loads in a row are one ``MGET``, whose answer costs the client as much to read as that of one ``GET``. Everything is
  done in the order in which it was asked.
* An error of the server belongs to its command. A connection that breaks fails all that was on its way: what only
  reads is sent once more on a new one; for a write nobody can know whether it was made. What was not sent yet goes on,
  unless no connection can be had at all.
* Who is cancelled is forgotten; the pump goes on for the others. Who was alone takes the connection along.
* Answers are delivered as values, errors too, so that nobody's error is left unread.

A batcher belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context
from typing import Any

from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from .redis_faults import BROKEN
from .redis_limit import Limit
from .redis_sync import Replicas, pack

__all__ = ["BATCH", "Batcher"]

BATCH = 256  # commands
_AGAIN: Any = object()


class _Waiting:
    """One who waits for an answer: to a command, or for the value of a key."""

    __slots__ = ("again", "command", "due", "future", "key", "reads")

    def __init__(self, command: bytes, key: bytes | None, reads: bool) -> None:
        self.command = command
        self.key = key
        self.reads = reads
        self.future: asyncio.Future[Any] | None = None  # none for who asks in their own task
        self.again = reads  # whether it may be sent once more
        self.due = 0.0

    def answer(self, value: Any) -> None:
        future = self.future
        if future is not None and not future.done():  # done: cancelled
            future.set_result(value)

    def cancel(self) -> None:
        if self.future is not None:
            self.future.cancel()

    def all(self) -> list[_Waiting]:
        return [self]


class _Loads:
    """Several who wait for the value of a key, and the one command that asks for all."""

    reads = True
    __slots__ = ("_waiting", "command", "due")

    def __init__(self, waiting: list[_Waiting]) -> None:
        self._waiting = waiting
        self.command = pack(("MGET", *(one.key for one in waiting)))
        self.due = 0.0

    def answer(self, value: Any) -> None:
        values = [value] * len(self._waiting) if isinstance(value, Exception) else value
        for waiting, one in zip(self._waiting, values, strict=True):
            waiting.answer(one)

    def all(self) -> list[_Waiting]:
        return self._waiting


class _Wait:
    """The question at the end of a piece whether enough replicas have its writes, whose answers are held till then."""

    reads = True
    __slots__ = ("_held", "_replicas", "command", "due")

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._held: list[tuple[_Waiting, Any]] = []
        self.command = replicas.command
        self.due = 0.0

    def hold(self, waiting: _Waiting, value: Any) -> None:
        self._held.append((waiting, value))

    def answer(self, reached: Any) -> None:
        lack = self._replicas.lack(reached)
        for waiting, value in self._held:
            waiting.answer(lack or value)

    def all(self) -> list[_Waiting]:
        return [waiting for waiting, _ in self._held]


_Sent = _Waiting | _Loads | _Wait


def _asked(loads: list[_Waiting]) -> _Sent:
    """One command for all of *loads*."""
    if len(loads) > 1:
        return _Loads(loads)
    loads[0].command = pack(("GET", loads[0].key))
    return loads[0]


def _parcels(piece: list[_Waiting]) -> list[_Sent]:
    """What is sent for *piece*, an answer each."""
    parcels: list[_Sent] = []
    row: list[_Waiting] = []
    for waiting in piece:
        if waiting.key is not None:
            row.append(waiting)
            continue
        if row:
            parcels.append(_asked(row))
            row = []
        parcels.append(waiting)
    if row:
        parcels.append(_asked(row))
    return parcels


class Batcher:
    """Sends commands through one connection of *pool*. *seconds*: what a piece may take; ``None``: no limit."""

    def __init__(self, pool: Any, seconds: float | None, replicas: Replicas | None) -> None:
        self._pool = pool
        self._replicas = replicas
        self._loop = asyncio.get_running_loop()
        self._limit = Limit(self._loop, seconds)
        self._queue: list[_Waiting] = []
        self._under_way: deque[_Sent] = deque()
        self._connection: Any = None
        self._busy = False  # a pump, or one who is alone, is at work
        self._alone = False  # nobody else was there the last time
        self._pump: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None  # done when nobody is at work any more

    def send(self, command: bytes, *, reads: bool) -> Awaitable[Any]:
        """The answer to a packed *command*: a value, or the exception in its place."""
        return self._add(_Waiting(command, None, reads))

    def get(self, key: str) -> Awaitable[Any]:
        """The value of *key*, ``None`` where there is none, or the exception in its place.

        Raises UnicodeEncodeError for a key that is no text: in an ``MGET`` it would be everybody's.
        """
        return self._add(_Waiting(b"", key.encode(), True))

    def _add(self, waiting: _Waiting) -> Awaitable[Any]:
        self._queue.append(waiting)
        if not self._busy:
            if self._alone:
                return self._lead(waiting)
            self._start()
        return self._future(waiting)

    def _future(self, waiting: _Waiting) -> asyncio.Future[Any]:
        waiting.future = future = self._loop.create_future()
        return future

    def _start(self) -> None:
        self._busy = True
        self._pump = self._loop.create_task(self._run(), context=Context())
        self._pump.add_done_callback(self._ended)

    async def _lead(self, waiting: _Waiting) -> Any:
        """The answer to *waiting*, asked for in this task if nobody comes in the same tick, else by a pump."""
        self._busy = True
        pumped = False
        try:
            await asyncio.sleep(0)
            if await self._at_hand(waiting) and len(self._queue) == 1:
                self._queue.clear()
                value = await self._exchange_one(waiting)
                if value is not _AGAIN:
                    return value
                self._queue.insert(0, waiting)
            self._start()
            pumped = True
        finally:
            if not pumped:
                self._pass_on()
        return await self._future(waiting)

    async def _at_hand(self, waiting: _Waiting) -> bool:
        """Whether *waiting* can be sent without ado."""
        if self._connection is None or not (waiting.reads or self._replicas is None):
            return False
        try:
            return await _fit(self._connection)
        except BROKEN:
            return False

    async def _exchange_one(self, waiting: _Waiting) -> Any:
        """The answer to *waiting*, who is alone; ``_AGAIN`` where it has to be asked for once more."""
        connection = self._connection
        try:
            with self._limit:
                await connection.send_packed_command(waiting.command or pack(("GET", waiting.key)))
                value = await _read(connection)
        except Exception as error:
            await self._hang_up()
            if not (waiting.again and isinstance(error, BROKEN)):
                return error
            waiting.again = False
            return _AGAIN
        except BaseException:  # nobody will read the answer
            await self._hang_up()
            raise
        if isinstance(value, ReadOnlyError):
            await self._hang_up()
        return value

    def _pass_on(self) -> None:
        """Who was alone is done: those who have asked meanwhile get a pump."""
        self._queue[:] = [one for one in self._queue if one.future is not None and not one.future.done()]
        if self._queue:
            self._start()
        else:
            self._rest()

    def _rest(self) -> None:
        self._busy = False
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    async def close(self) -> None:
        """Let what waits be answered, then give the connection back. A later command takes a new one."""
        while self._busy:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)
        self._limit.end()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):  # a farewell nobody answers
                await connection.disconnect()
            await self._pool.release(connection)

    async def _run(self) -> None:
        while self._queue:
            connected = False
            try:
                with self._limit:
                    connection = await self._ready()
                    connected = True
                    await self._exchange(connection)
            except Exception as error:
                await self._hang_up()
                self._broke(error, for_all=not connected or not self._under_way)
            except BaseException:  # the loop is being shut down
                await self._hang_up()
                raise
        self._rest()

    def _ended(self, pump: asyncio.Task[None]) -> None:
        """A pump that did not end by itself, or never began, leaves nobody waiting."""
        if pump.cancelled() or pump.exception() is not None:
            for waiting in [*self._left(), *self._queue]:
                waiting.cancel()
            self._queue.clear()
            self._rest()

    async def _exchange(self, connection: Any) -> None:
        """Send what waits and hand out the answers, until nothing is under way."""
        under_way, alone, demoted = self._under_way, self._replicas is not None, False
        wait: _Wait | None = None
        while True:
            if self._queue and not demoted and len(under_way) < BATCH and not (alone and under_way):
                taken = self._take()
                wait = taken[-1] if isinstance(taken[-1], _Wait) else None
                await connection.send_packed_command(b"".join([one.command for one in taken]))
            if not under_way:
                break
            value = await _read(connection)
            sent = under_way[0]
            if isinstance(value, Exception):
                demoted = demoted or isinstance(value, ReadOnlyError)
                sent.answer(value)
            elif wait is None or not isinstance(sent, _Waiting) or sent.reads:
                sent.answer(value)
            else:
                wait.hold(sent, value)
            under_way.popleft()
            if under_way:
                self._limit.due = under_way[0].due
        if demoted:  # the next one may lead to the new primary
            await self._hang_up()

    def _take(self) -> list[_Sent]:
        """What waits, as far as there is room, as what is to be sent; from now on it is under way."""
        under_way = self._under_way
        room = BATCH - len(under_way)
        self._alone = len(self._queue) == 1 and not under_way
        taken = _parcels(self._queue[:room])
        del self._queue[:room]
        if self._replicas is not None and not all(one.reads for one in taken):
            taken.append(_Wait(self._replicas))
        due = self._limit.from_now()
        for one in taken:
            one.due = due
        if not under_way:
            self._limit.due = due
        under_way.extend(taken)
        return taken

    async def _ready(self) -> Any:
        """The connection, connected."""
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._pool.get_connection()
        elif not await _fit(connection):
            await self._hang_up()
            await connection.connect()
        return connection

    async def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(RedisError, OSError):
                await self._connection.disconnect(nowait=True)

    def _left(self) -> list[_Waiting]:
        """Those whose answers are under way, no longer kept."""
        left = [waiting for sent in self._under_way for waiting in sent.all()]
        self._under_way.clear()
        return left

    def _broke(self, error: Exception, *, for_all: bool) -> None:
        """What becomes of those who were not answered; *for_all*: the rest would only wait for the same."""
        again = []
        for waiting in self._left():
            if waiting.again and isinstance(error, BROKEN):
                waiting.again = False
                again.append(waiting)
            else:
                waiting.answer(error)
        if for_all:
            for waiting in self._queue:
                waiting.answer(error)
            self._queue.clear()
        self._queue[:0] = again


async def _fit(connection: Any) -> bool:
    """Whether *connection* can be used as it is; with unasked data the server hung up, or is not where we think."""
    return connection.is_connected and not connection.should_reconnect() and not await connection.can_read()


async def _read(connection: Any) -> Any:
    """The next answer, or the server's error in its place."""
    try:
        return await connection.read_response(disable_decoding=True, timeout=math.inf)
    except ResponseError as error:
        return error
