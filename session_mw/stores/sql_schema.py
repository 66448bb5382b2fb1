"""The session table in SQL, for every dialect: as a SQLAlchemy ``Table``, and as text for whoever runs migrations.

Decided here: the types. Ids and users compare byte by byte everywhere, so neither is left to a database's idea of
equal letters: an id is ASCII under a binary collation, a user its UTF-8 bytes (``VARBINARY`` also because a MySQL
collation may ignore trailing spaces, ``BYTEA`` also because PostgreSQL's text cannot hold every character). Layout:

    id, digest, user_id, created_at, last_activity, expires_at, absolute_expires_at, lifetime,
    login_ip, login_user_agent, version, payload     as in Record; times are Unix seconds
    closed       1 for a closed record, which has no owner, so that no listing meets it
    successor    what a closed record points to
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, SmallInteger, String, Table, Text, make_url
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

from ..errors import ConfigurationError

__all__ = ["COLUMNS", "FIELDS", "ddl", "session_table", "table_name"]

DEFAULT_TABLE = "session_mw_sessions"
FIELDS = (  # in the order of Record
    "id", "digest", "user_id", "created_at", "last_activity", "expires_at", "absolute_expires_at", "lifetime",
    "login_ip", "login_user_agent", "version", "payload",
)  # fmt: skip
COLUMNS = (*FIELDS, "closed", "successor")
DIALECTS = ("mariadb", "mysql", "postgresql", "sqlite")

_TABLE = re.compile(r"(?!sqlite_|pg_)[a-z_][a-z0-9_]{0,55}")  # and "_expiry" is within PostgreSQL's 63 bytes
_PREFIX = re.compile(r"([a-z_][a-z0-9_]{0,31})?")
_INDEX = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

_MY = ("mysql", "mariadb")
_ASCII = {"charset": "ascii", "collation": "ascii_bin"}
_ID = String(64).with_variant(String(64, collation="C"), "postgresql").with_variant(mysql.VARCHAR(64, **_ASCII), *_MY)
_POINTER = String(255).with_variant(mysql.VARCHAR(255, **_ASCII), *_MY)
_USER = LargeBinary().with_variant(mysql.VARBINARY(1020), *_MY)  # 255 characters
_DIGEST = LargeBinary().with_variant(mysql.VARBINARY(32), *_MY)
_PAYLOAD = LargeBinary().with_variant(mysql.MEDIUMBLOB(), *_MY)
_WORDS = Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), *_MY)


def table_name(table: str | None, table_index: str) -> str:
    """*table*, or the default one of the application *table_index*. Raises ConfigurationError."""
    if not _INDEX.fullmatch(table_index):
        raise ConfigurationError("table_index is 1 to 32 of a-z, 0-9 and -, not beginning with -")
    if table is None:
        return DEFAULT_TABLE if table_index == "default" else f"{DEFAULT_TABLE}_{table_index.replace('-', '_')}"
    if not _TABLE.fullmatch(table):
        raise ConfigurationError(
            f"table {table!r} is not a plain name: a-z, 0-9 and _, at most 56, not beginning with a digit, sqlite_, pg_"
        )
    return table


def session_table(metadata: MetaData, *, table: str | None = None, column_prefix: str = "") -> Table:
    """The session table in *metadata*, such as the ``target_metadata`` of Alembic.

    *table*: a plain name; *column_prefix*: put before every column's name. Raises ConfigurationError.
    """
    name = table_name(table, "default")
    if not _PREFIX.fullmatch(column_prefix):
        raise ConfigurationError(
            f"column_prefix {column_prefix!r} is not plain: a-z, 0-9 and _, at most 32, no digit first"
        )
    types: dict[str, TypeEngine[Any]] = {
        "id": _ID, "digest": _DIGEST, "user_id": _USER, "login_ip": _WORDS, "login_user_agent": _WORDS,
        "payload": _PAYLOAD, "closed": SmallInteger(), "successor": _POINTER,
    }  # fmt: skip
    optional = {"user_id", "lifetime", "login_ip", "login_user_agent", "successor"}
    made = Table(
        name,
        metadata,
        *(
            Column(
                f"{column_prefix}{column}",
                types.get(column, BigInteger()),
                key=column,
                primary_key=column == "id",
                nullable=column in optional,
                autoincrement=False,
            )
            for column in COLUMNS
        ),
        postgresql_with={"fillfactor": 80},  # room to rewrite a payload without touching an index
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    owned = made.c.user_id.is_not(None)
    Index(f"{name}_user", made.c.user_id, made.c.created_at, postgresql_where=owned, sqlite_where=owned)
    Index(f"{name}_expiry", made.c.expires_at)
    return made


def ddl(dialect: str | Dialect, *, table: str | None = None, column_prefix: str = "") -> str:
    """The statements that make the table, as text. *dialect*: ``postgresql``, ``mysql``, ``mariadb`` or ``sqlite``.

    Raises ConfigurationError.
    """
    if isinstance(dialect, str):
        if dialect not in DIALECTS:
            raise ConfigurationError(f"no dialect {dialect!r}; known: {', '.join(DIALECTS)}")
        dialect = make_url(f"{dialect}://").get_dialect()()
    made = session_table(MetaData(), table=table, column_prefix=column_prefix)
    statements: list[Any] = [
        CreateTable(made),
        *(CreateIndex(index) for index in sorted(made.indexes, key=lambda i: str(i.name))),
    ]
    texts = (str(statement.compile(dialect=dialect)).strip() for statement in statements)
    return "".join(f"{text};\n" for text in texts).replace("\t", "    ")
