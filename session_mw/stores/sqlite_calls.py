"""The store contract in SQL: the table, every statement, and the calls made on one pool of connections.

Decided here: one table, one row a record, closed ones included. A closed row has no owner and no version, so neither a
listing nor a compare-and-swap meets it, and every compare-and-swap but ``rotate`` is a single statement. A rowid table
with a unique id: the two other indexes, owner with creation time and deadline, then do not carry the id. Layout:

    id, digest, user_id, created_at, last_activity, expires_at, absolute_expires_at, lifetime,
    login_ip, login_user_agent, version, payload     as in Record

and in a closed row ``version`` is NULL and ``payload`` the successor, NULL without one. Three columns cost as much to
read as their row to find: so there are none for closed rows alone, and a load does not ask for the id.

A compare-and-swap that changed no row looks once more to tell CONFLICT from GONE. That second look may see a later
state, never a wrong one: what is gone or closed stays so, and CONFLICT makes the caller look for itself.
"""

# ruff: noqa: S608  (the one name put into these statements is the validated table)
from __future__ import annotations

import sqlite3

from msgspec import structs

from ..core.operations import Outcome
from ..core.record import Record
from ..errors import StoreBusyError, StoreError
from . import closed_record
from .faces import Call
from .sqlite_pool import FAULTS, Pool, fault

__all__ = ["COLUMNS", "PURGE_BATCH", "Calls", "Statements"]

PURGE_BATCH = 100  # rows a transaction: under 50 ms of write lock at a million rows

_ALL_BUT_ID = (  # in the order of Record
    "digest, user_id, created_at, last_activity, expires_at, absolute_expires_at, "
    "lifetime, login_ip, login_user_agent, version, payload"
)
_FIELDS = f"id, {_ALL_BUT_ID}"
COLUMNS = _FIELDS.split(", ")
_UNTIL, _VERSION, _PAYLOAD = map(_ALL_BUT_ID.split(", ").index, ("expires_at", "version", "payload"))


class Statements:
    """Every statement, written once for a table."""

    def __init__(self, table: str) -> None:
        self.table = table
        t = f'"{table}"'
        strict = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
        rows = (
            f"CREATE TABLE IF NOT EXISTS {t} (id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, user_id TEXT,"
            " created_at INTEGER NOT NULL, last_activity INTEGER NOT NULL, expires_at INTEGER NOT NULL,"
            " absolute_expires_at INTEGER NOT NULL, lifetime INTEGER, login_ip TEXT, login_user_agent TEXT,"
            f" version INTEGER, payload BLOB){strict}"
        )
        self.schema = (
            rows,
            f'CREATE INDEX IF NOT EXISTS "{table}_user" ON {t} (user_id, created_at) WHERE user_id IS NOT NULL',
            f'CREATE INDEX IF NOT EXISTS "{table}_expiry" ON {t} (expires_at)',
        )
        self.columns = f"PRAGMA table_info({t})"
        self.load = f"SELECT {_ALL_BUT_ID} FROM {t} WHERE id = ?"
        self.create = f"INSERT INTO {t} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        expected = "WHERE id = ? AND version = ?"
        self.save_payload = f"UPDATE {t} SET version = ?, payload = ? {expected}"
        self.save = (
            f"UPDATE {t} SET digest = ?, user_id = ?, created_at = ?, last_activity = ?, expires_at = ?,"
            " absolute_expires_at = ?, lifetime = ?, login_ip = ?, login_user_agent = ?, version = ?, payload = ?"
            f" {expected}"
        )
        self.touch = (
            f"UPDATE {t} SET last_activity = max(last_activity, ?), expires_at = max(expires_at, ?)"
            " WHERE id = ? AND version IS NOT NULL"
        )
        self.delete = f"DELETE FROM {t} WHERE id = ? AND version IS NOT NULL"
        self.delete_closed = f"DELETE FROM {t} WHERE id = ? AND version IS NULL"
        self.delete_expected = f"DELETE FROM {t} {expected}"
        self.close = (
            f"UPDATE {t} SET user_id = NULL, created_at = 0, last_activity = 0, expires_at = ?,"
            " absolute_expires_at = ?, lifetime = NULL, login_ip = NULL, login_user_agent = NULL, version = NULL,"
            f" payload = CAST(? AS BLOB) {expected}"
        )
        self.close_for = f"{self.close} AND NOT EXISTS (SELECT 1 FROM {t} WHERE id = ?)"
        self.version = f"SELECT version FROM {t} WHERE id = ?"
        self.list_user = f"SELECT {_FIELDS} FROM {t} WHERE user_id = ? ORDER BY created_at DESC, rowid DESC"
        self.delete_user = f"DELETE FROM {t} WHERE user_id = ? AND id IS NOT ?"
        live = "CASE WHEN version IS NOT NULL AND expires_at > :now THEN"
        self.stats = (
            f"SELECT count({live} 1 END), count(CASE WHEN expires_at <= :now THEN 1 END),"
            " count(CASE WHEN version IS NULL AND expires_at > :now THEN 1 END),"
            f" count(DISTINCT {live} user_id END), min({live} created_at END), max({live} created_at END),"
            f" coalesce(sum({live} length(payload) END), 0) FROM {t}"
        )
        self.count_expired = f"SELECT count(*) FROM {t} WHERE expires_at <= ?"
        self.purge = (
            f"DELETE FROM {t} WHERE rowid IN (SELECT rowid FROM {t} WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
        )


def _values(record: Record) -> tuple[object, ...]:
    return structs.astuple(record)[: len(COLUMNS)]


class Calls:
    """The calls of the contract, made on the connections of one pool."""

    can_rotate = True

    def __init__(self, pool: Pool, sql: Statements) -> None:
        self._pool = pool
        self._sql = sql

    def _write(self, statement: str, values: tuple[object, ...]) -> int:
        """How many rows the one statement changed."""
        connection = self._pool.acquire()
        try:
            return connection.cursor.execute(statement, values).rowcount
        except FAULTS as error:
            raise fault(self._pool.path, error) from error
        finally:
            connection.lock.release()

    def _rows(self, statement: str, values: tuple[object, ...] | dict[str, object]) -> list[tuple[object, ...]]:
        connection = self._pool.acquire()
        try:
            return connection.cursor.execute(statement, values).fetchall()
        except FAULTS as error:
            raise fault(self._pool.path, error) from error
        finally:
            connection.lock.release()

    def _refusal(self, id: str) -> Outcome:
        """Why a compare-and-swap on *id* changed nothing."""
        rows = self._rows(self._sql.version, (id,))
        return Outcome.CONFLICT if rows and rows[0][0] is not None else Outcome.GONE

    def load(self, id: str) -> Record | None:
        connection = self._pool.acquire()
        try:
            row = connection.cursor.execute(self._sql.load, (id,)).fetchone()
        except FAULTS as error:
            raise fault(self._pool.path, error) from error
        finally:
            connection.lock.release()
        if row is None:
            return None
        if row[_VERSION] is None:
            successor: bytes | None = row[_PAYLOAD]
            return closed_record(
                id, row[0], until=row[_UNTIL], successor=None if successor is None else successor.decode()
            )
        return Record(id, *row)

    def create(self, record: Record) -> bool:
        return self._write(self._sql.create, _values(record)) == 1

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        if payload_only:  # the deadline is indexed: left alone, the save costs half
            values = (record.version, record.payload, record.id, expected_version)
            changed = self._write(self._sql.save_payload, values)
        else:
            changed = self._write(self._sql.save, (*_values(record)[1:], record.id, expected_version))
        return Outcome.SAVED if changed else self._refusal(record.id)

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        return self._write(self._sql.touch, (last_activity, expires_at, id)) == 1

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        if expected_version is not None:
            changed = self._write(self._sql.delete_expected, (id, expected_version))
            return Outcome.DELETED if changed else self._refusal(id)
        if self._write(self._sql.delete, (id,)):
            return Outcome.DELETED
        self._write(self._sql.delete_closed, (id,))
        return Outcome.GONE

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        changed = self._write(self._sql.close, (until, until, successor, id, expected_version))
        return Outcome.DELETED if changed else self._refusal(id)

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        sql = self._sql
        connection = self._pool.acquire()
        try:
            cursor = connection.cursor
            ours = not cursor.connection.in_transaction
            if ours:
                cursor.execute("BEGIN IMMEDIATE")
            try:
                ending = (until, until, successor, old_id, expected_version, record.id)
                changed = cursor.execute(sql.close_for, ending).rowcount
                if changed:
                    cursor.execute(sql.create, _values(record))
                if ours:
                    cursor.execute("COMMIT")
            except BaseException:
                if ours and cursor.connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise
        except FAULTS as error:
            raise fault(self._pool.path, error) from error
        finally:
            connection.lock.release()
        return Outcome.SAVED if changed else self._refusal(old_id)

    def list_user(self, user_id: str) -> list[Record]:
        return [Record(*row) for row in self._rows(self._sql.list_user, (user_id,))]  # type: ignore[arg-type]

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        return self._write(self._sql.delete_user, (user_id, except_id))

    def purge(self, now: int, limit: int) -> int:
        count = 0
        while count < limit:
            batch = min(PURGE_BATCH, limit - count)
            try:
                purged = self._write(self._sql.purge, (now, batch))
            except StoreBusyError:
                if not count:
                    raise
                break  # what is done is done; the rest is for the next sweep
            count += purged
            if purged < batch:
                break
        return count

    def initialize(self) -> None:
        """Open this thread's connection, creating file and table where missing. Raises StoreError."""
        self._pool.acquire().lock.release()

    def teardown(self) -> None:
        """Close the connections of all threads. A later call opens anew."""
        self._pool.close()

    def together(self, calls: list[Call]) -> list[object]:
        """Make *calls* in one transaction: each one's answer, or the StoreError that undid this one alone."""
        answers: list[object] = []
        connection = self._pool.acquire()
        try:
            cursor = connection.cursor
            cursor.execute("BEGIN IMMEDIATE")
            try:
                for call in calls:
                    cursor.execute("SAVEPOINT one")
                    try:
                        answers.append(call(self))
                    except StoreError as error:
                        cursor.execute("ROLLBACK TO one")
                        answers.append(error)
                    cursor.execute("RELEASE one")
                cursor.execute("COMMIT")
            except BaseException:
                if cursor.connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise
        except FAULTS as error:
            raise fault(self._pool.path, error) from error
        finally:
            connection.lock.release()
        return answers
