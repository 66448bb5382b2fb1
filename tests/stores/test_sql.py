"""DatabaseStore keeps the contract: on every database, with every driver, of both kinds."""

# ruff: noqa: S608  (tables of the tests' own)
from __future__ import annotations

import pytest
from servers.sql_faces import new_table
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from session_mw.stores.sql import AsyncDatabaseStore, DatabaseStore
from session_mw.testing import StoreContract


class Contract(StoreContract):
    """One store a class, on a table of its own that is emptied between the cases: making one takes a while."""

    driver = ""

    @pytest.fixture(autouse=True)
    def _server(self, request):
        self.server = request.getfixturevalue("postgres" if self.driver.startswith("p") else "mariadb")

    def make_store(self, tmp_path):
        kind = type(self)
        if "store" not in kind.__dict__:
            kind.store = DatabaseStore(self.server.url(self.driver), table=new_table(), create=True)
        else:
            with self.server.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {kind.store._flows.table.name}")
        return kind.store


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


class Disposing(AsyncDatabaseStore):
    """Closes the engine that it was given while its event loop still runs."""

    async def teardown(self):
        await super().teardown()
        await greenlet_spawn(self._flows.connections.engine.dispose)


class TestPsycopgAsyncEngine(Contract):
    driver = "postgresql+psycopg"

    def make_store(self, tmp_path):
        engine = create_async_engine(self.server.url(self.driver))
        return Disposing(engine.sync_engine, ours=False, table=new_table(), column_prefix="s_", create=True)
