"""A line: one connection, and how a statement is put to its driver.

Decided here: the driver is told directly. SQLAlchemy's own ``Connection`` would cost as much again as the driver, and
its stand-ins for awaited drivers more than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any, TypeAlias

from sqlalchemy.pool import PoolProxiedConnection

from .sql_statements import Prepared

__all__ = ["LINES", "Line", "Values", "Work"]

Values: TypeAlias = tuple[object, ...]
# What a transaction asks, step by step: "rows" or "changed", a statement and its values; it asks at least once.
Work: TypeAlias = Generator[tuple[str, Prepared, Values], Any, Any]


class Line:
    """One connection, while its pool lends it to us: how a statement is put to its driver.

    ``rows`` answers what a query finds, ``changed`` how many rows a statement met, ``together`` what some work comes to
    in one transaction. Where the driver is awaited these run in a greenlet; ``awaits`` names those that the line has
    with an ``a`` before their name too, which need none.
    """

    __slots__ = ("_cursor", "age", "inside", "lent", "restore", "used")
    awaits: frozenset[str] = frozenset()

    def __init__(self, lent: PoolProxiedConnection, age: int) -> None:
        self._cursor: Any = lent.cursor()
        self.lent = lent
        self.age = age
        self.inside = False  # a transaction that has not ended
        self.restore = False  # its autocommit mode is ours
        self.used = 0.0

    def rows(self, statement: Prepared, values: Values) -> Any:
        cursor = self._cursor
        cursor.execute(statement.text, statement.bind(values))
        return cursor.fetchall()

    def changed(self, statement: Prepared, values: Values) -> int:
        cursor = self._cursor
        cursor.execute(statement.text, statement.bind(values))
        count: int = cursor.rowcount
        return count

    def together(self, begin: str, work: Callable[..., Work], *arguments: Any) -> Any:
        """What ``work(*arguments)`` comes to, in one transaction; a failure undoes all of it."""
        self.inside = True
        self._cursor.execute(begin)
        try:
            steps = work(*arguments)
            how, statement, values = next(steps)
            try:
                while True:
                    how, statement, values = steps.send(getattr(self, how)(statement, values))
            except StopIteration as stop:
                answer = stop.value
            self._cursor.execute("COMMIT")
        except Exception:
            with suppress(Exception):  # else it stays inside, and is discarded
                self._cursor.execute("ROLLBACK")
                self.inside = False
            raise
        self.inside = False
        return answer


class AsyncpgLine(Line):
    """asyncpg has no cursor of this kind, and what SQLAlchemy puts in its place costs as much again as asyncpg."""

    __slots__ = ("_driver",)
    awaits = frozenset({"rows", "changed"})  # PostgreSQL needs no transaction

    def __init__(self, lent: PoolProxiedConnection, age: int) -> None:
        super().__init__(lent, age)
        self._driver: Any = lent.driver_connection

    def arows(self, statement: Prepared, values: Values) -> Awaitable[Any]:
        answer: Awaitable[Any] = self._driver.fetch(statement.text, *statement.bind(values))
        return answer

    async def achanged(self, statement: Prepared, values: Values) -> int:
        tag: str = await self._driver.execute(statement.text, *statement.bind(values))
        return int(tag.rpartition(" ")[2])  # "UPDATE 1"


class AsyncmyLine(Line):
    """asyncmy's own cursor, beside the one that is for greenlets."""

    __slots__ = ("_driver",)
    awaits = frozenset({"rows", "changed", "together"})

    def __init__(self, lent: PoolProxiedConnection, age: int) -> None:
        super().__init__(lent, age)
        driver: Any = lent.driver_connection
        self._driver = driver.cursor()

    async def arows(self, statement: Prepared, values: Values) -> Any:
        cursor = self._driver
        await cursor.execute(statement.text, statement.bind(values))
        return await cursor.fetchall()

    async def achanged(self, statement: Prepared, values: Values) -> int:
        cursor = self._driver
        await cursor.execute(statement.text, statement.bind(values))
        count: int = cursor.rowcount
        return count

    async def atogether(self, begin: str, work: Callable[..., Work], *arguments: Any) -> Any:
        cursor = self._driver
        self.inside = True
        await cursor.execute(begin)
        try:
            steps = work(*arguments)
            how, statement, values = next(steps)
            try:
                while True:
                    found = await (self.arows if how == "rows" else self.achanged)(statement, values)
                    how, statement, values = steps.send(found)
            except StopIteration as stop:
                answer = stop.value
            await cursor.execute("COMMIT")
        except Exception:
            with suppress(Exception):
                await cursor.execute("ROLLBACK")
                self.inside = False
            raise
        self.inside = False
        return answer


LINES: dict[str, type[Line]] = {"asyncpg": AsyncpgLine, "asyncmy": AsyncmyLine}
