"""Connections to a database: SQLAlchemy's pool, each in autocommit mode, none across a fork, none that is known dead.

Decided here:

* **A lost connection costs the request that met it, and no other.** All that were opened before are then replaced as
  they come up, and one that lay idle for ``IDLE_CHECK`` seconds is asked for a sign of life before it is used.
* **What the database undid is done again**, at once and at most ``_REPEATS`` times: a deadlock, a serialization
  failure. Nothing else ever is, since nobody knows whether it happened.
* **The isolation level is READ COMMITTED**, set on every connection of our own: a compare-and-swap must meet the newest
  row, not the one of a snapshot, and MySQL's default locks gaps between rows. An engine of the app's is not changed;
  its connections are put in autocommit mode while they are ours.
* **In a forked child** the parent's connections are kept and never used nor closed.
* **What the pool lent stays with us** between calls, where the engine is ours: a way through the pool and back costs a
  fifth of a load. The pool opens connections, bounds them and makes callers wait; while one waits, connections are
  given back to it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, Table, event
from sqlalchemy.pool import PoolProxiedConnection

from ..errors import StoreError
from .sql_errors import REPEAT, code_of, driver_error, fault, place_of, wordless
from .sql_line import LINES, Line

__all__ = ["Connections", "prepare_connections"]

IDLE_CHECK = 30.0  # seconds
_REPEATS = 5
_TRIES = 128  # a bound: each throws away one dead connection
_LOST = (OSError, EOFError, AttributeError, RuntimeError)  # what drivers raise where a connection broke under them

_NO_LINE = "cannot connect; see that it runs, and that host, port, user, password and database are right"


class Connections:
    """The connections of *engine* for one store; *ours*: nobody else uses it. *table* is for messages.

    Where the driver is awaited, *engine* is the ``sync_engine`` and all but ``take`` and ``release`` need a greenlet.
    """

    def __init__(self, engine: Engine, *, ours: bool, table: str) -> None:
        self.engine = engine
        self.ours = ours
        self.place = place_of(engine.url)
        self._table = table
        self._line = LINES.get(engine.dialect.driver, Line)
        self._age = 0  # how often a connection was lost
        self._pid = os.getpid()
        pool: Any = engine.pool
        self._size: int = pool.size() if ours else 0
        self._idle = deque[Line]()  # lent to us, and at rest
        self._waiting = deque[None]()  # one for each caller who asks the pool
        self._parked = set[int]()  # given back to the pool, and open: they count among those to be kept
        if ours:
            event.listen(engine, "close", lambda connection, _: self._parked.discard(id(connection)))

    def put(self, how: str, *arguments: Any) -> Any:
        """What the line's method *how* answers. Raises StoreError."""
        repeats = _REPEATS
        while True:
            line = self.acquire()
            try:
                answer = getattr(line, how)(*arguments)
            except BaseException as error:
                self.failed(line, error, repeats > 0)
                repeats -= 1
            else:
                self.release(line)
                return answer

    def meet(self) -> None:
        """Connect, so that the dialect has met its server. Raises StoreError."""
        self.release(self.acquire())

    def make(self, table: Table) -> None:
        """Make *table* and its indexes where they are missing. Raises StoreError."""
        try:
            with self.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                table.create(connection, checkfirst=True)
                for index in table.indexes:
                    index.create(connection, checkfirst=True)
        except Exception as error:
            raise self.told(error) from driver_error(error)

    def acquire(self) -> Line:
        """A connection that is not known to be dead. Raises StoreError; the caller gives it back."""
        if self.forked():
            self.forget(keep=True)
        for _ in range(_TRIES):
            lent = self._resting() or self._lend()
            self._parked.discard(id(lent.dbapi_connection))
            try:
                line: Line | None = lent.info.get(self)
                if line is None:
                    line = lent.info[self] = self._line(lent, self._age)
                elif not self._good(line) and not self._alive(line, lent):
                    self._discard(lent)
                    continue
                line.lent = lent
                if not self.ours:
                    self._borrow(line)
            except BaseException as error:
                self._discard(lent, error)
                if isinstance(error, Exception):
                    raise self.told(error) from driver_error(error)
                raise
            return line
        raise StoreError(f"{self.place}: every connection was lost")

    def _resting(self) -> PoolProxiedConnection | None:
        try:
            return self._idle.pop().lent
        except IndexError:
            return None

    def _lend(self) -> PoolProxiedConnection:
        """A connection from the pool, which may open one, or wait for one. Raises StoreError."""
        self._waiting.append(None)  # from now on others give theirs to the pool; who did just before left it here
        try:
            return self._resting() or self.engine.raw_connection()
        except Exception as error:  # whatever a driver raises that cannot connect
            raise self.told(error, _NO_LINE) from driver_error(error)
        finally:
            self._waiting.pop()

    def take(self, how: str) -> Line | None:
        """A connection that is there and in order, without a wait and outside a greenlet, for the awaited kind of its
        method *how*; else ``None``."""
        if how not in self._line.awaits or not self._idle or self.forked():
            return None
        line = self._idle.pop()
        if self._good(line):
            return line
        self._idle.append(line)  # for ``acquire`` to look at
        return None

    def spare(self) -> bool:
        """Whether giving back one more connection would close it, which takes a greenlet."""
        if not self._waiting:
            return len(self._idle) >= self._size - len(self._parked)
        pool: Any = self.engine.pool
        full: bool = pool.checkedin() >= self._size
        return full

    def release(self, line: Line) -> None:
        """Give a connection back that is in order."""
        line.used = time.monotonic()
        if line.restore:
            line.restore = False
            connection: Any = line.lent.dbapi_connection
            try:
                self.engine.dialect.reset_isolation_level(connection)
            except Exception as error:  # what was asked is done; the connection is no good any more
                self._discard(line.lent, error)
                return
        if self.ours and line.age == self._age:
            self._rest(line)
        else:
            self._park(line.lent)

    def _rest(self, line: Line) -> None:
        self._idle.append(line)
        if not self._waiting and len(self._idle) <= self._size - len(self._parked):
            return
        surplus = not self._waiting
        lent = self._resting()
        if lent is None:  # somebody was faster
            return
        if surplus:
            self._discard(lent)
        else:
            self._park(lent)

    def _park(self, lent: PoolProxiedConnection) -> None:
        if self.ours:
            self._parked.add(id(lent.dbapi_connection))
        lent.close()

    def failed(self, line: Line, error: BaseException, repeat: bool) -> None:
        """Give back, or discard, a connection that met *error*. Returns when the call can be made again: if *repeat*,
        and the database undid it. Else raises StoreError, or *error* where it is no fault at all."""
        if not isinstance(error, Exception):  # cancelled in the middle of an exchange: who knows what comes next
            self._discard(line.lent, error)
            raise error
        dialect: Any = self.engine.dialect
        lost = isinstance(error, _LOST) or dialect.is_disconnect(error, line.lent.dbapi_connection, None)
        if lost:
            self._age += 1
        if lost or line.inside:
            self._discard(line.lent, error)
        else:
            self.release(line)
        if lost:
            raise self.told(error, "the connection was lost") from error
        if not repeat or code_of(error) not in REPEAT:
            raise self.told(error) from wordless(error)

    def told(self, error: BaseException, what: str = "the database failed") -> StoreError:
        """The StoreError for *error*."""
        return fault(self.place, self._table, driver_error(error), what)

    def close(self) -> None:
        """Close what is idle, when the engine is ours. A later call opens anew."""
        if self.ours:
            self._age += 1  # so that what is under way does not rest here afterwards
            while lent := self._resting():
                lent.close()
            self.engine.dispose()

    def forked(self) -> bool:
        """Whether what is open belongs to a parent process."""
        return self._pid != os.getpid()

    def forget(self, *, keep: bool) -> None:
        """Never again use what is open, nor close it: it belongs to another process, or to an event loop that ended.

        *keep*: nor let the collector close it.
        """
        if keep:
            _inherited.append((self.engine.pool, self._idle))
        self._idle, self._waiting, self._parked = deque(), deque(), set()
        self._pid = os.getpid()
        self.engine.dispose(close=False)

    def _discard(self, lent: PoolProxiedConnection, error: BaseException | None = None) -> None:
        lent.invalidate(error)

    def _good(self, line: Line) -> bool:
        return line.age == self._age and time.monotonic() - line.used < IDLE_CHECK

    def _alive(self, line: Line, lent: PoolProxiedConnection) -> bool:
        connection: Any = lent.dbapi_connection
        try:
            return line.age == self._age and bool(self.engine.dialect.do_ping(connection))
        except Exception:
            return False

    def _borrow(self, line: Line) -> None:
        connection: Any = line.lent.dbapi_connection
        dialect = self.engine.dialect
        if not dialect.detect_autocommit_setting(connection):
            dialect.set_isolation_level(connection, "AUTOCOMMIT")
            line.restore = True


def prepare_connections(engine: Engine, timeout: float) -> None:
    """Set up every new connection of *engine*, which is ours: isolation level, and *timeout* seconds for a lock."""
    commands = _SETUP[engine.dialect.name](timeout)

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for command in commands:
            cursor.execute(command)
        cursor.close()


def _postgresql(timeout: float) -> tuple[str, ...]:
    settings = {"lock_timeout": f"{timeout * 1000:.0f}ms", "default_transaction_isolation": "read committed"}
    calls = (f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    return (f"SELECT {', '.join(calls)}",)


def _mysql(timeout: float) -> tuple[str, ...]:
    wait = max(1, round(timeout))  # whole seconds
    strict = "sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"  # or what is too long would be cut short in silence
    return (
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        f"SET SESSION innodb_lock_wait_timeout = {wait}, {strict}",
    )


_SETUP: dict[str, Callable[[float], tuple[str, ...]]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
}
_inherited: list[Any] = []  # pools of a parent process, kept for ever: the collector would close what is not ours
