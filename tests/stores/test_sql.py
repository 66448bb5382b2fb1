# ruff: noqa: S608  (tables of the tests' own)
"""DatabaseStore keeps the contract: on every database, with every driver, of both kinds."""

from __future__ import annotations

import pytest
from servers.sql_faces import new_table
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from session_mw.stores.sql import AsyncDatabaseStore, DatabaseStore
from session_mw.stores.sql_line import LINES, Line
from session_mw.testing import StoreContract


def use_lines(store, kind):
    """New connections of *store*, and all that are used from now on, speak through lines of this *kind*."""
    connections = store._flows.connections
    connections._line = kind
    connections._age += 1


def tell_statements(store, tell):
    """*tell* is called just before each statement."""

    class Telling(LINES.get(store._flows.connections.engine.dialect.driver, Line)):
        def rows(self, *asked):
            tell()
            return super().rows(*asked)

        def changed(self, *asked):
            tell()
            return super().changed(*asked)

        def arows(self, *asked):
            tell()
            return super().arows(*asked)

        def achanged(self, *asked):
            tell()
            return super().achanged(*asked)

    use_lines(store, Telling)


class Contract(StoreContract):
    """One store a class, on a table of its own that is emptied between the cases: making one takes a while."""

    driver = ""
    purge_skips_locked = True
    costs = {"load": 1, "save": 1, "touch": 1, "list_user": 1}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _server(self, request):
        self.server = request.getfixturevalue("postgres" if self.driver.startswith("p") else "mariadb")

    def make_store(self, tmp_path):
        kind = type(self)
        if "store" not in kind.__dict__:
            kind.store = self.open(new_table())
        else:
            use_lines(kind.store, LINES.get(kind.store._flows.connections.engine.dialect.driver, Line))
            with self.server.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {kind.store._flows.table.name}")
        return kind.store

    def open_again(self, tmp_path):
        return self.open(type(self).store._flows.table.name)

    def open(self, table):
        return DatabaseStore(self.server.url(self.driver), table=table, create=True)

    def before_each_command(self, store, tell):
        tell_statements(store, tell)


class TestPsycopg(Contract):
    driver = "postgresql"


class TestAsyncpg(Contract):
    driver = "postgresql+asyncpg"


class TestPyMySQL(Contract):
    driver = "mariadb"


class TestAsyncmy(Contract):
    driver = "mysql+asyncmy"


class TestSQLiteEngine(StoreContract):
    @pytest.fixture(autouse=True)
    def _engines(self):
        self.engines = []
        yield
        for engine in self.engines:
            engine.dispose()

    def make_store(self, tmp_path):
        self.engines.append(create_engine(f"sqlite:///{tmp_path}/s.db"))
        return DatabaseStore(self.engines[-1], create=True)

    def before_each_command(self, store, tell):
        tell_statements(store, tell)


class Disposing(AsyncDatabaseStore):
    """Closes the engine that it was given while its event loop still runs."""

    async def teardown(self):
        await super().teardown()
        await greenlet_spawn(self._flows.connections.engine.dispose)


class TestPsycopgAsyncEngine(Contract):
    driver = "postgresql+psycopg"

    def open(self, table):
        engine = create_async_engine(self.server.url(self.driver))
        return Disposing(engine.sync_engine, ours=False, table=table, column_prefix="s_", create=True)


def test_what_the_kit_does_not_ask():
    declared = {
        "test_an_index_entry_without_a_record_heals": "lose_record is not given",  # a row is its own index
        "test_listing_without_an_index_is_refused": "can_list is True",
        "test_payload_over_the_limit_is_refused": "payload_limit is None",
        "test_purge_leaves_expiry_to_the_backend": "expires_itself is False",
    }
    for kit in (TestPsycopg, TestAsyncpg, TestPyMySQL, TestAsyncmy, TestPsycopgAsyncEngine):
        assert kit.left_out() == declared
    assert all("open_again" in reason for name, reason in TestSQLiteEngine.left_out().items() if name not in declared)
