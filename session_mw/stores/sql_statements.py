"""Every statement of the store, written once in SQLAlchemy's Core and compiled once for the dialect in use.

Decided here: what is one statement and what needs a transaction. In autocommit mode a single statement pays for no
BEGIN and no COMMIT, and on PostgreSQL every compare-and-swap is one, ``rotate`` included. MySQL cannot change one row
and insert another in one statement, so there ``rotate`` is a transaction, and so is ``purge``.

Executing text that is compiled already skips most of what SQLAlchemy does for each execution. A ``Prepared`` is that
text, and how the values go with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Table,
    Update,
    and_,
    bindparam,
    case,
    cast,
    delete,
    distinct,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.engine import Dialect

from ..core.record import Record
from .sql_schema import COLUMNS, FIELDS

__all__ = ["Prepared", "Statements", "values_of"]

_ZERO: ColumnElement[int] = literal_column("0", Integer)
_ONE: ColumnElement[int] = literal_column("1", Integer)
_NAMED = re.compile(r"%\((\w+)\)s")


class Prepared:
    """A statement's ``text``, and ``bind``: a tuple of values, in the order of *names*, as the driver takes them."""

    __slots__ = ("bind", "text")

    def __init__(self, statement: Any, dialect: Dialect, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text: str = compiled.string
        wanted: list[str] = compiled.positiontup
        if not compiled.positional:  # psycopg: a mapping costs more to make, and to read, than values in their order
            wanted = _NAMED.findall(self.text)
            self.text = _NAMED.sub("%s", self.text)
        order = [names.index(name) for name in wanted]
        as_they_are = order == list(range(len(names)))
        self.bind: Callable[[tuple[object, ...]], Any] = _as_they_are if as_they_are else itemgetter(*order)


def _as_they_are(values: tuple[object, ...]) -> tuple[object, ...]:
    return values


class Statements:
    """Every statement for *table* in *dialect*, which must have met its server: versions differ in what they can."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self._table = table
        self._dialect = dialect
        c = table.c
        kind = dialect.name
        record = {field: self._value(field) for field in FIELDS}
        expected = (c.id == record["id"], c.version == self._value("version", "expected"), c.closed == _ZERO)
        live = (c.id == record["id"], c.closed == _ZERO)
        owned = c.user_id == record["user_id"]
        others = (owned, c.id != self._value("id", "spared"))
        later = func.max if kind == "sqlite" else func.greatest

        self.begin = "BEGIN IMMEDIATE" if kind == "sqlite" else "START TRANSACTION"
        self.load = self._prepare(select(*(c[name] for name in COLUMNS)).where(c.id == record["id"]), "id")
        self.create = self._prepare(insert(table).values({**record, "closed": _ZERO}), *FIELDS)
        changed = {field: record[field] for field in FIELDS[1:]}
        self.save = self._prepare(update(table).where(*expected).values(changed), *FIELDS, "expected")
        changed = {field: record[field] for field in ("version", "payload")}
        saved = update(table).where(*expected).values(changed)
        self.save_payload = self._prepare(saved, "version", "payload", "id", "expected")
        raised = {field: later(c[field], record[field]) for field in ("last_activity", "expires_at")}
        self.touch = self._prepare(update(table).where(*live).values(raised), "last_activity", "expires_at", "id")
        self.delete = self._prepare(delete(table).where(*live), "id")
        self.delete_closed = self._prepare(delete(table).where(c.id == record["id"], c.closed == _ONE), "id")
        self.delete_expected = self._prepare(delete(table).where(*expected), "id", "expected")
        closing = self._closing()
        names = ("until", "successor", "empty", "old_id", "expected")
        self.close = self._prepare(closing, *names)
        self.rotate = self._prepare(self._rotation(closing), *names, *FIELDS) if kind == "postgresql" else None
        self.closed = self._prepare(select(c.closed).where(c.id == record["id"]), "id")
        listed = select(*(c[field] for field in FIELDS)).where(owned).order_by(c.created_at.desc())
        self.list_user = self._prepare(listed, "user_id")
        self.delete_user = self._prepare(delete(table).where(*others), "user_id", "spared")
        # Writers that wait for one another do not on SQLite; elsewhere a row may move on while DELETE waits for it.
        left = select(_ONE).select_from(table).where(*others).limit(_ONE)
        self.left = None if kind == "sqlite" else self._prepare(left, "user_id", "spared")
        self._purging(kind)
        self._counting(func.length if kind == "sqlite" else func.octet_length)

    def _counting(self, length: Callable[[Any], Any]) -> None:
        """``stats`` in the order of ``StoreStats``, and ``count_expired``; both of one time."""
        c = self._table.c
        now = self._value("expires_at", "now")
        due, live = c.expires_at <= now, and_(c.closed == _ZERO, c.expires_at > now)
        closed = and_(c.closed == _ONE, c.expires_at > now)
        self.stats = self._prepare(
            select(
                *(func.count(case((state, _ONE))) for state in (live, due, closed)),
                func.count(distinct(case((live, c.user_id)))),
                func.min(case((live, c.created_at))),
                func.max(case((live, c.created_at))),
                func.coalesce(func.sum(case((live, length(c.payload)))), _ZERO),
            ),
            "now",
        )
        self.count_expired = self._prepare(select(func.count()).select_from(self._table).where(due), "now")

    def _purging(self, kind: str) -> None:
        """``purge`` is one statement, or ``None`` where ``doomed`` chooses ids and ``sweep(n)`` deletes them."""
        c = self._table.c
        due = c.expires_at <= self._value("expires_at", "now")
        doomed = select(c.id).where(due).order_by(c.expires_at).limit(bindparam("p_limit", type_=Integer))
        self.doomed = self.purge = None
        if kind == "sqlite":
            doomed = doomed.offset(_ZERO)  # or the compiler would make it a parameter
            self.purge = self._prepare(delete(self._table).where(c.id.in_(doomed)), "now", "limit")
        elif kind == "postgresql":  # a CTE that locks is evaluated once; a subquery might be evaluated again
            chosen = doomed.with_for_update(skip_locked=True).cte("doomed")
            self.purge = self._prepare(delete(self._table).where(c.id.in_(select(chosen.c.id))), "now", "limit")
        else:
            if self._skips_locked():
                doomed = doomed.with_for_update(skip_locked=True)
            self.doomed = self._prepare(doomed, "now", "limit")

    def sweep(self, count: int) -> Prepared:
        """Delete what is still due of *count* ids: the ids, then the time."""
        c = self._table.c
        ids = [f"id_{number}" for number in range(count)]
        chosen = c.id.in_([self._value("id", name) for name in ids])
        due = c.expires_at <= self._value("expires_at", "now")
        return self._prepare(delete(self._table).where(chosen, due), *ids, "now")

    def _skips_locked(self) -> bool:
        version: tuple[Any, ...] = getattr(self._dialect, "server_version_info", None) or ()
        return version >= ((10, 6) if getattr(self._dialect, "is_mariadb", False) else (8, 0, 1))

    def _value(self, column: str, name: str | None = None) -> BindParameter[Any]:
        return bindparam(f"p_{name or column}", type_=self._table.c[column].type)

    def _prepare(self, statement: Any, *names: str) -> Prepared:
        return Prepared(statement, self._dialect, [f"p_{name}" for name in names])

    def _closing(self) -> Update:
        """What is left of a record that ended, as ``closed_record`` makes it."""
        c = self._table.c
        until = self._value("expires_at", "until")
        return (
            update(self._table)
            .where(
                c.id == self._value("id", "old_id"),
                c.version == self._value("version", "expected"),
                c.closed == _ZERO,
            )
            .values(
                expires_at=until,
                absolute_expires_at=until,
                successor=self._value("successor"),
                payload=self._value("payload", "empty"),
                closed=_ONE,
                **dict.fromkeys(("created_at", "last_activity", "version"), _ZERO),
                **dict.fromkeys(("user_id", "lifetime", "login_ip", "login_user_agent"), null()),
            )
        )

    def _rotation(self, closing: Update) -> Any:
        """One statement: insert the new record if the old one could be closed. A taken id undoes all of it."""
        ended = closing.returning(self._table.c.id).cte("ended")
        columns = self._table.c  # a SELECT tells the server no types, hence the casts
        row = [cast(self._value(field), columns[field].type).label(f"new_{field}") for field in FIELDS]
        return insert(self._table).from_select(
            [*FIELDS, "closed"], select(*row, _ZERO).select_from(ended), include_defaults=False
        )


def values_of(record: Record) -> tuple[object, ...]:
    """The values of a live *record*, in the order of ``FIELDS``. Raises UnicodeEncodeError."""
    user = record.user_id
    return (
        record.id,
        record.digest,
        None if user is None else user.encode(),
        record.created_at,
        record.last_activity,
        record.expires_at,
        record.absolute_expires_at,
        record.lifetime,
        record.login_ip,
        record.login_user_agent,
        record.version,
        record.payload,
    )
