"""The least there is: each driver by itself, given the statements that ``DatabaseStore`` needs for the same work.

Decided here: what "the same statements" are, written by hand as one would for this driver: one connection, one cursor,
autocommit mode, values made ready before the clock starts, no Record made of what comes back.
"""

# ruff: noqa: S608  (tables of its own)
from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec

from session_mw.core.record import Record
from session_mw.stores.sql_schema import COLUMNS, FIELDS
from session_mw.stores.sql_statements import values_of

from .scenarios import SESSION
from .sql_servers import DATABASE, FOUND_ROWS, USER, Server

__all__ = ["AWAITED", "CALLED", "bare", "record", "values"]

CALLED = {"postgresql": "psycopg", "mariadb": "pymysql"}
AWAITED = {"postgresql": "asyncpg", "mariadb": "asyncmy"}
PAYLOAD = msgspec.json.encode(SESSION)
_NUMBERS = itertools.count()


def record(user: str = "bench") -> Record:
    """A new one, with the session of the bench."""
    now = int(time.time())
    times = (now, now, now + 7200, now + 604_800)
    return Record(f"{next(_NUMBERS):024d}", bytes(32), user, *times, None, None, None, 1, PAYLOAD)


def values(work: str, one: Record, old_id: str) -> tuple[object, ...]:
    """What the statement of *work* is given for the record *one*; *old_id* is what rotating ends."""
    if work == "load":
        return (one.id,)
    if work == "save":
        return (1, one.payload, one.id, 1)
    if work == "touch":
        return (one.last_activity + 60, one.expires_at + 60, one.id)
    if work == "create":
        return values_of(one)
    until = one.created_at + 60
    return (until, until, None, b"", old_id, 1, *values_of(one))


_ENDING = 6  # of these values are the ended record's


def _texts(table: str) -> dict[str, str]:
    fields = ", ".join(FIELDS)
    marks = ", ".join("?" * len(FIELDS))
    close = (
        f"UPDATE {table} SET expires_at = ?, absolute_expires_at = ?, successor = ?, payload = ?, closed = 1,"
        " created_at = 0, last_activity = 0, version = 0, user_id = NULL, lifetime = NULL, login_ip = NULL,"
        " login_user_agent = NULL WHERE id = ? AND version = ? AND closed = 0"
    )
    types = {"id": "VARCHAR", "digest": "BYTEA", "user_id": "BYTEA", "payload": "BYTEA", "login_ip": "TEXT",
             "login_user_agent": "TEXT"}  # fmt: skip
    cast = ", ".join(f"CAST(? AS {types.get(field, 'BIGINT')})" for field in FIELDS)
    return {
        "load": f"SELECT {', '.join(COLUMNS)} FROM {table} WHERE id = ?",
        "save": f"UPDATE {table} SET version = ?, payload = ? WHERE id = ? AND version = ? AND closed = 0",
        "touch": f"UPDATE {table} SET last_activity = greatest(last_activity, ?), expires_at = greatest(expires_at, ?)"
        " WHERE id = ? AND closed = 0",
        "create": f"INSERT INTO {table} ({fields}, closed) VALUES ({marks}, 0)",
        "close": close,
        "rotate": f"WITH ended AS ({close} RETURNING id) INSERT INTO {table} ({fields}, closed)"
        f" SELECT {cast}, 0 FROM ended",
    }


def _called(server: Server, texts: dict[str, str]) -> tuple[dict[str, Callable[..., Any]], Callable[[], Any]]:
    connection = server.connect()
    cursor = connection.cursor()
    text = {work: text.replace("?", "%s") for work, text in texts.items()}

    def load(values: Any) -> Any:
        cursor.execute(text["load"], values)
        return cursor.fetchall()

    def changing(work: str) -> Callable[[Any], Any]:
        own = text[work]

        def change(values: Any) -> Any:
            cursor.execute(own, values)
            return cursor.rowcount

        return change

    def rotate(values: Any) -> Any:
        cursor.execute("START TRANSACTION")
        cursor.execute(text["close"], values[:_ENDING])
        cursor.execute(text["create"], values[_ENDING:])
        cursor.execute("COMMIT")
        return 1

    made = {"load": load, **{work: changing(work) for work in ("save", "touch", "create", "rotate")}}
    return made | ({} if server.name == "postgresql" else {"rotate": rotate}), connection.close


async def _asyncpg(server: Server, texts: dict[str, str]) -> tuple[dict[str, Callable[..., Any]], Callable[[], Any]]:
    import asyncpg

    connection = await asyncpg.connect(host=server.host, user=USER, database=DATABASE)
    text = {}
    for work, plain in texts.items():
        number = itertools.count(1)
        text[work] = re.sub(r"\?", lambda _, number=number: f"${next(number)}", plain)

    async def load(values: Any) -> Any:
        return await connection.fetch(text["load"], *values)

    def changing(work: str) -> Callable[[Any], Any]:
        own = text[work]

        async def change(values: Any) -> Any:
            return int((await connection.execute(own, *values))[-1])  # "UPDATE 1"

        return change

    return {"load": load, **{work: changing(work) for work in ("save", "touch", "create", "rotate")}}, connection.close


async def _asyncmy(server: Server, texts: dict[str, str]) -> tuple[dict[str, Callable[..., Any]], Callable[[], Any]]:
    import asyncmy

    settings = {"user": USER, "database": DATABASE, "autocommit": True, "client_flag": FOUND_ROWS}
    connection = await asyncmy.connect(unix_socket=server.host, **settings)
    cursor = connection.cursor()
    text = {work: text.replace("?", "%s") for work, text in texts.items()}

    async def load(values: Any) -> Any:
        await cursor.execute(text["load"], values)
        return await cursor.fetchall()

    def changing(work: str) -> Callable[[Any], Any]:
        own = text[work]

        async def change(values: Any) -> Any:
            await cursor.execute(own, values)
            return cursor.rowcount

        return change

    async def rotate(values: Any) -> Any:
        await cursor.execute("START TRANSACTION")
        await cursor.execute(text["close"], values[:_ENDING])
        await cursor.execute(text["create"], values[_ENDING:])
        await cursor.execute("COMMIT")
        return 1

    made = {"load": load, **{work: changing(work) for work in ("save", "touch", "create")}, "rotate": rotate}
    return made, connection.ensure_closed


async def bare(server: Server, driver: str, table: str) -> tuple[dict[str, Callable[..., Any]], Callable[[], Any]]:
    """Work by name, each a function of ``values`` that answers rows or how many were changed; and what closes it."""
    if driver in CALLED.values():
        return _called(server, _texts(table))
    return await (_asyncpg if driver == "asyncpg" else _asyncmy)(server, _texts(table))
