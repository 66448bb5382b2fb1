"""The store contract in SQL, as flows: what is asked of the database, and what follows from the answers.

Decided here, once for both kinds of store. A flow yields an ``Ask`` and is sent its answer; the project's runners
drive it.

* A compare-and-swap that met no row looks once more to tell CONFLICT from GONE. That look may see a later state,
  never a wrong one: what is gone or closed stays so, and CONFLICT makes the caller look for itself.
* ``delete_user`` looks again as well: while its DELETE waits for a row that is being rotated away, the row that
  replaces it is invisible to it. So it deletes until a look finds nothing, which is a moment at which that user had
  no session.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Engine, MetaData, Table

from ..core.operations import Operation, Outcome
from ..core.record import Record
from ..errors import StoreBusyError, StoreError
from . import StoreStats, closed_record
from .sql_connections import Connections
from .sql_errors import DuplicateError, is_missing
from .sql_line import Values, Work
from .sql_schema import ddl, session_table
from .sql_statements import Prepared, Statements, values_of

__all__ = ["PURGE_BATCH", "Flows"]

PURGE_BATCH = 100  # rows a transaction
_LOOKS = 64  # a bound for what happens once or twice

T = TypeVar("T")


class Ask(Operation, frozen=True, gc=False):
    """One statement, or a transaction, on some connection: the line's method *how*."""

    how: str
    arguments: tuple[Any, ...]

    def ask(self, store: Any) -> Any:
        return store.put(self.how, *self.arguments)


class Have(Operation, frozen=True, gc=False):
    """Something done about connections: the method *how* of ``Connections``."""

    how: str
    arguments: tuple[Any, ...] = ()

    def ask(self, store: Any) -> Any:
        return store.have(self.how, *self.arguments)


Flow: TypeAlias = Generator[Operation, Any, T]


class Flows:
    """The flows of one store. *create*: make a missing table at first use. Any of them may raise StoreError."""

    def __init__(self, engine: Engine, *, ours: bool, table: str, column_prefix: str, create: bool) -> None:
        self.table: Table = session_table(MetaData(), table=table, column_prefix=column_prefix)
        self.connections = Connections(engine, ours=ours, table=table)
        self._prefix = column_prefix
        self._create = create
        self._sql: Statements | None = None

    def load(self, id: str) -> Flow[Record | None]:
        sql = self._sql or (yield from self.initialize())
        rows = yield Ask("rows", (sql.load, (id,)))
        if not rows:
            return None
        row = rows[0]
        return closed_record(row[0], row[1], until=row[5], successor=row[13]) if row[12] else _record(row[:12])

    def create(self, record: Record) -> Flow[bool]:
        sql = self._sql or (yield from self.initialize())
        try:
            changed = yield Ask("changed", (sql.create, self._values(record)))
        except DuplicateError:
            return False
        return bool(changed)

    def save(self, record: Record, expected_version: int, payload_only: bool) -> Flow[Outcome]:
        sql = self._sql or (yield from self.initialize())
        if payload_only:  # the deadline is indexed: left alone, the save costs less
            values: Values = (record.version, record.payload, record.id, expected_version)
            changed = yield Ask("changed", (sql.save_payload, values))
        else:
            changed = yield Ask("changed", (sql.save, (*self._values(record), expected_version)))
        return Outcome.SAVED if changed else (yield from self._refusal(sql, record.id))

    def touch(self, id: str, last_activity: int, expires_at: int) -> Flow[bool]:
        sql = self._sql or (yield from self.initialize())
        changed = yield Ask("changed", (sql.touch, (last_activity, expires_at, id)))
        return bool(changed)

    def delete(self, id: str, expected_version: int | None) -> Flow[Outcome]:
        sql = self._sql or (yield from self.initialize())
        if expected_version is not None:
            changed = yield Ask("changed", (sql.delete_expected, (id, expected_version)))
            return Outcome.DELETED if changed else (yield from self._refusal(sql, id))
        if (yield Ask("changed", (sql.delete, (id,)))):
            return Outcome.DELETED
        yield Ask("changed", (sql.delete_closed, (id,)))
        return Outcome.GONE

    def close(self, id: str, expected_version: int, until: int, successor: str | None) -> Flow[Outcome]:
        sql = self._sql or (yield from self.initialize())
        changed = yield Ask("changed", (sql.close, (until, successor, b"", id, expected_version)))
        return Outcome.DELETED if changed else (yield from self._refusal(sql, id))

    def rotate(
        self, record: Record, old_id: str, expected_version: int, until: int, successor: str | None
    ) -> Flow[Outcome]:
        sql = self._sql or (yield from self.initialize())
        ending = (until, successor, b"", old_id, expected_version)
        row = self._values(record)
        try:
            if sql.rotate is not None:
                changed = yield Ask("changed", (sql.rotate, (*ending, *row)))
            else:
                changed = yield Ask("together", (sql.begin, _rotate_within, sql, ending, row))
        except DuplicateError:  # the new id is taken
            return Outcome.CONFLICT
        return Outcome.SAVED if changed else (yield from self._refusal(sql, old_id))

    def list_user(self, user_id: str) -> Flow[list[Record]]:
        sql = self._sql or (yield from self.initialize())
        rows = yield Ask("rows", (sql.list_user, (self._bytes(user_id),)))
        return [_record(row) for row in rows]

    def delete_user(self, user_id: str, except_id: str | None) -> Flow[int]:
        sql = self._sql or (yield from self.initialize())
        values = (self._bytes(user_id), except_id or "")
        count: int = 0
        for _ in range(_LOOKS):
            count += yield Ask("changed", (sql.delete_user, values))
            if sql.left is None or not (yield Ask("rows", (sql.left, values))):
                return count
        raise StoreError(f"{self.connections.place}: a user's sessions changed faster than they could be deleted")

    def purge(self, now: int, limit: int) -> Flow[int]:
        sql = self._sql or (yield from self.initialize())
        count = 0
        while count < limit:
            batch = min(PURGE_BATCH, limit - count)
            try:
                if sql.doomed is None:
                    found = purged = yield Ask("changed", (sql.purge, (now, batch)))
                else:
                    found, purged = yield Ask("together", (sql.begin, _purge_within, sql, sql.doomed, now, batch))
            except StoreBusyError:
                if not count:
                    raise
                break  # what is done is done; the rest is for the next sweep
            count += purged
            if found < batch:
                break
        return count

    def initialize(self) -> Flow[Statements]:
        """Connect, and see that the table is there. Raises StoreError, whose message says how to make it."""
        try:
            sql = yield from self._check()
        except StoreError as error:
            if not self._create or not is_missing(error.__cause__):
                raise
            yield from self.create_schema()
            sql = yield from self._check()
        self._sql = sql
        return sql

    def open_existing(self) -> Flow[None]:
        """Connect, and make nothing."""
        self._sql = yield from self._check()

    def stats(self, now: int) -> Flow[StoreStats]:
        sql = self._sql or (yield from self.initialize())
        live, due, closed, users, oldest, newest, size = (yield Ask("rows", (sql.stats, (now,))))[0]
        return StoreStats(
            live=live, expired=due, closed=closed, users=users, oldest=oldest, newest=newest, payload_bytes=int(size)
        )

    def count_expired(self, now: int) -> Flow[int]:
        sql = self._sql or (yield from self.initialize())
        rows = yield Ask("rows", (sql.count_expired, (now,)))
        count: int = rows[0][0]
        return count

    def create_schema(self) -> Flow[None]:
        """Make the table and its indexes where they are missing."""
        try:
            yield Have("make", (self.table,))
        except StoreError as error:
            try:
                yield from self._check()  # another process may have been faster
            except StoreError:
                raise error from error.__cause__

    def teardown(self) -> Flow[None]:
        """Close connections; an engine that was given stays open. A later call opens anew."""
        yield Have("close")

    def schema(self) -> str:
        """The statements that make the table and its indexes, as text for whoever runs migrations."""
        return ddl(self.connections.engine.dialect, table=self.table.name, column_prefix=self._prefix)

    def _check(self) -> Flow[Statements]:
        yield Have("meet")
        sql = Statements(self.table, self.connections.engine.dialect)
        yield Ask("rows", (sql.load, ("",)))
        return sql

    def _refusal(self, sql: Statements, id: str) -> Flow[Outcome]:
        """Why a compare-and-swap on *id* changed nothing."""
        rows = yield Ask("rows", (sql.closed, (id,)))
        return Outcome.CONFLICT if rows and not rows[0][0] else Outcome.GONE

    def _values(self, record: Record) -> Values:
        try:
            return values_of(record)
        except UnicodeEncodeError as error:
            raise self.connections.told(error, "a value that is no text") from error

    def _bytes(self, user_id: str) -> bytes:
        try:
            return user_id.encode()
        except UnicodeEncodeError as error:
            raise self.connections.told(error, "a value that is no text") from error


def _record(row: Any) -> Record:
    key, digest, user, *rest = row
    return Record(key, digest, None if user is None else user.decode(), *rest)


# Within a transaction.


def _rotate_within(sql: Statements, ending: Values, row: Values) -> Work:
    changed = yield "changed", sql.close, ending
    if changed:
        yield "changed", sql.create, row
    return changed


def _purge_within(sql: Statements, doomed: Prepared, now: int, batch: int) -> Work:
    """How many rows of a batch were found to be due, and how many of them deleted."""
    rows = yield "rows", doomed, (now, batch)
    ids = [row[0] for row in rows]
    if not ids:
        return 0, 0
    return len(ids), (yield "changed", sql.sweep(len(ids)), (*ids, now))
