"""What a database's failure means, told by its own code: SQLSTATE, MySQL's and SQLite's numbers.

Decided here: which failures did nothing and may be repeated at once, which are a lock that was not free, and what
the message of every other one advises. A message is made of the place (host and database, never user or password), our
words and the kind of fault. The driver's exception is the cause, and causes are logged: so where a statement failed, it
keeps its code and loses its text, which may show values.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, exc

from ..errors import StoreBusyError, StoreError

__all__ = ["REPEAT", "DuplicateError", "code_of", "driver_error", "fault", "is_missing", "place_of", "wordless"]

DUPLICATE: Final = frozenset({"23505", 1062, 1555, 2067})
REPEAT: Final = frozenset({"40001", "40P01", 1213, 1020})  # deadlock, serialization: undone as a whole
BUSY: Final = frozenset({"55P03", 1205, 5, 6})
MISSING: Final = frozenset({"42P01", "42703", 1146, 1054})
SQLITE_ERROR: Final = 1
_ADVICE: Final[dict[str | int, str]] = {
    "28P01": "it refused the user or password",
    "28000": "it refused the user or password",
    1045: "it refused the user or password",
    "3D000": "it has no such database",
    1049: "it has no such database",
    "42501": "it does not let this user use the table; grant it SELECT, INSERT, UPDATE and DELETE",
    1142: "it does not let this user use the table; grant it SELECT, INSERT, UPDATE and DELETE",
    "53300": "it has too many connections; lower pool_size or raise its limit",
    1040: "it has too many connections; lower pool_size or raise its limit",
    "25006": "it is read-only",
    1290: "it is read-only",
    1836: "it is read-only",
    8: "it is read-only",
    "53100": "it has no space left",
    1114: "it has no space left",
    13: "it has no space left",
    1153: "it refuses a payload of this size; raise max_allowed_packet",
    1406: "it refuses a value of this size",
}


class DuplicateError(StoreError):
    """An id is taken; met by flows alone."""


def code_of(error: BaseException) -> str | int:
    """The code that a driver's exception carries; an empty text when none."""
    first = error.args[0] if error.args else None
    if isinstance(first, int):  # MySQL's drivers
        return first
    number: int | None = getattr(error, "sqlite_errorcode", None)
    if number is not None:
        return number if number in DUPLICATE else number & 0xFF
    state: str | None = getattr(error, "sqlstate", None)
    return state or ""


def is_missing(error: BaseException | None) -> bool:
    """Whether the table, or a column of it, is not there."""
    code = "" if error is None else code_of(error)
    return code in MISSING or (code == SQLITE_ERROR and "no such" in str(error))


def driver_error(error: BaseException) -> BaseException:
    """What the driver raised, where SQLAlchemy wrapped it (whose text would show a statement's values)."""
    return error.orig or error if isinstance(error, exc.DBAPIError) else error


def wordless(error: BaseException) -> BaseException:
    """*error*, and what it was made of, with nothing to say but a code. SQLite's, which show no value, as they are.

    PostgreSQL tells the whole row ("Failing row contains …"), MySQL what is there already, asyncpg what it cannot send.
    """
    each: Any = error
    while each is not None and not hasattr(each, "sqlite_errorcode"):
        each.args = (code_of(each),)
        if hasattr(each, "detail"):  # asyncpg's own
            each.detail = None
        each = each.__cause__
    return error


def fault(place: str, table: str, error: BaseException, what: str = "the database failed") -> StoreError:
    """The StoreError that says *error* in words; the caller raises it from *error*."""
    if isinstance(error, exc.TimeoutError):
        return StoreError(f"{place}: no connection came free in time; raise pool_size or timeout")
    code = code_of(error)
    kind = f"{type(error).__name__} {code}".strip()
    if code in DUPLICATE:
        return DuplicateError(f"{place}: the id is taken ({kind})")
    if code in BUSY or code in REPEAT:
        return StoreBusyError(f"{place}: others held the lock for too long ({kind})")
    if is_missing(error):
        how = "create_schema(), `session-mw schema` or create=True makes it"
        return StoreError(f"{place}: there is no session table {table!r}; {how}")
    return StoreError(f"{place}: {_ADVICE.get(code, what)} ({kind})")


def place_of(url: URL) -> str:
    """Where *url* leads: dialect, host and database. Shows neither user nor password, nor options."""
    dialect = url.get_backend_name()
    port = f":{url.port}" if url.port else ""
    return f"{dialect}://{url.host or ''}{port}/{url.database or ''}"
