"""Lines that answer when called: a connection kept by each thread, or a Cluster's own client.

Decided here:

* A thread takes one connection out of the client's pool and keeps it: a checkout for every command costs as much as
  the command. How it is made (TLS, login, Sentinel, protocol) stays the pool's business.
* A connection that broke, or was not read to the end, is closed. What only reads is asked once more on a new one; for
  a write nobody can know whether it was made, so that is a StoreError.
* A connection that has rested is looked at before it is used: what the server closed meanwhile costs no write.
* A child of a fork leaves its parent's connections alone.
* A Cluster routes by key, so there redis-py's client is asked. It must not repeat a write by itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hiredis
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from ..errors import StoreError
from .redis_calls import Ask
from .redis_faults import BROKEN, FAULTS, fault
from .redis_scripts import SCRIPTS

__all__ = ["Clustered", "Kept", "Replicas", "checked", "pack", "with_source"]

REST = 0.05  # seconds

pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
"""The bytes of a command."""


class Replicas:
    """How many replicas must have a write before it is acknowledged, within how many seconds."""

    def __init__(self, number: int, seconds: float, where: str) -> None:
        self.command = pack(("WAIT", number, max(1, round(seconds * 1000))))
        self._number = number
        self._where = where

    def lack(self, reached: Any) -> StoreError | None:
        """The StoreError for a write that only so many replicas have; *reached* is what WAIT answered."""
        if isinstance(reached, Exception):
            return fault(self._where, reached)
        if reached < self._number:
            return StoreError(f"{self._where} made the write, but {reached} of {self._number} replicas have it")
        return None


def with_source(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The command for a server that does not know the script yet: its source in place of its name."""
    return ("EVAL", SCRIPTS[args[1]], *args[2:])


def checked(where: str, answer: Any) -> Any:
    """*answer*, unless it stands for a fault. Raises StoreError, or what nobody foresaw."""
    if isinstance(answer, FAULTS):
        raise fault(where, answer) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


class _Connection:
    """One connection and the lock under which it is used while it is ``open``."""

    __slots__ = ("connection", "lock", "open", "pid", "used")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lock = threading.Lock()
        self.open = True
        self.pid = os.getpid()
        self.used = time.monotonic()

    def ready(self) -> bool:
        """Connect again where that is needed; whether it was."""
        connection, now = self.connection, time.monotonic()
        rested = now - self.used > REST
        self.used = now
        if connection.is_connected and not (rested and _stale(connection)) and not connection.should_reconnect():
            return False
        connection.disconnect()
        try:
            connection.connect()
        except BaseException:  # a greeting that was cut short would be taken for our first answer
            connection.disconnect()
            raise
        return True

    def exchange(self, command: bytes, answers: int) -> list[Any]:
        """The *answers* to *command*, errors of the server among them. Whatever else goes wrong ends the connection."""
        connection, received = self.connection, list[Any]()
        try:
            connection.send_packed_command((command,))
            for _ in range(answers):
                try:
                    received.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    received.append(error)
        except BaseException:
            connection.disconnect()
            raise
        if isinstance(received[0], ReadOnlyError):  # the next one may lead to the new primary
            connection.disconnect()
        return received


def _stale(connection: Any) -> bool:
    try:
        return bool(connection.can_read(0))  # nobody asked for anything: it hung up, or is not where we think
    except BROKEN:
        return True


class _Lease:
    """A thread's hold on its connection: gives it back when the thread ends."""

    __slots__ = ("give_back", "kept")

    def __init__(self, kept: _Connection, give_back: Callable[[_Connection], None]) -> None:
        self.kept = kept
        self.give_back = give_back

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be ending
            self.give_back(self.kept)


class Kept:
    """The line to a single server, or to the primary that Sentinel names, through *pool*."""

    def __init__(self, pool: Any, where: str, replicas: Replicas | None, end: Callable[[], None]) -> None:
        self._pool = pool
        self._where = where
        self._replicas = replicas
        self._end = end
        self._local = threading.local()
        self._kept: set[_Connection] = set()

    def nodes(self) -> tuple[None]:
        """The one server."""
        return (None,)

    def get(self, key: str) -> bytes | None:
        """The value of *key*. Raises StoreError."""
        try:
            value = self._answer(pack(("GET", key)), True)
        except FAULTS as error:
            raise fault(self._where, error) from error
        found: bytes | None = checked(self._where, value)
        return found

    def ask(self, ask: Ask) -> Any:
        """The server's answer. Raises StoreError."""
        try:
            answer = self._answer(pack(ask.args), ask.reads)
            if isinstance(answer, NoScriptError):
                answer = self._answer(pack(with_source(ask.args)), ask.reads)
        except FAULTS as error:
            raise fault(self._where, error) from error
        return checked(self._where, answer)

    def _answer(self, command: bytes, reads: bool) -> Any:
        replicas = None if reads else self._replicas
        answers = 1
        if replicas is not None:
            command, answers = command + replicas.command, 2
        kept = self._acquire()
        try:
            new = kept.ready()
            try:
                received = kept.exchange(command, answers)
            except BROKEN:
                if not reads or new:
                    raise
                kept.ready()
                received = kept.exchange(command, answers)
        finally:
            kept.lock.release()
        if replicas is not None and not isinstance(received[0], Exception):
            return replicas.lack(received[1]) or received[0]
        return received[0]

    def _acquire(self) -> _Connection:
        """This thread's connection, locked."""
        try:
            kept: _Connection = self._local.lease.kept
        except AttributeError:
            return self._open()
        if kept.pid == os.getpid():
            kept.lock.acquire()
            if kept.open:
                return kept
            kept.lock.release()
        return self._open()

    def _open(self) -> _Connection:
        try:
            kept = _Connection(self._pool.get_connection())
        except BaseException:  # see ``ready``
            self._pool.disconnect(inuse_connections=False)
            raise
        kept.lock.acquire()
        self._kept.add(kept)
        self._local.lease = _Lease(kept, self._give_back)
        return kept

    def _give_back(self, kept: _Connection) -> None:
        """To the pool, by the process that took it, once nobody is using it."""
        self._kept.discard(kept)
        if kept.pid != os.getpid():
            return
        with kept.lock:
            if kept.open:
                kept.open = False
                self._pool.release(kept.connection)

    def close(self) -> None:
        """Give all connections back; later calls take new ones."""
        for kept in list(self._kept):
            self._give_back(kept)
        self._end()


class Clustered:
    """The line to a Cluster, through the client that *make* makes when it is first needed."""

    def __init__(self, make: Callable[[], Any], where: str, end: Callable[[Any], None]) -> None:
        self._make = make
        self._where = where
        self._end = end
        self._lock = threading.Lock()
        self._client: Any = None

    def _ready(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def _ask(self, work: Callable[[Any], Any], *, reads: bool) -> Any:
        try:
            client = self._ready()
            try:
                return work(client)
            except BROKEN:
                if not reads:
                    raise
            return work(client)  # outside: its failure is to have no other behind it
        except FAULTS as error:
            raise fault(self._where, error) from error

    def nodes(self) -> list[Any]:
        """All primaries. Raises StoreError."""
        found: list[Any] = self._ask(lambda client: client.get_primaries(), reads=True)
        return found

    def get(self, key: str) -> bytes | None:
        """The value of *key*. Raises StoreError."""
        found: bytes | None = self._ask(lambda client: client.execute_command("GET", key), reads=True)
        return found

    def values(self, keys: list[str]) -> list[bytes | None]:
        """The values of *keys*, asked of all nodes at once. Raises StoreError."""
        found: list[bytes | None] = self._ask(lambda client: client.mget_nonatomic(keys), reads=True)
        return found

    def ask(self, ask: Ask) -> Any:
        """The answer of the node that has the key, or of ``ask.node``. Raises StoreError."""

        def work(client: Any) -> Any:
            place = client if ask.node is None else client.get_redis_connection(ask.node)
            try:
                return place.execute_command(*ask.args)
            except NoScriptError:
                return place.execute_command(*with_source(ask.args))

        return self._ask(work, reads=ask.reads)

    def close(self) -> None:
        """Close the client if it is ours; a later call makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            self._end(client)
