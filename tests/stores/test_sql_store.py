"""DatabaseStore as it is built: which kind for what, names, the schema, engines of an app's own."""

# ruff: noqa: S608  (tables of the tests' own)
from __future__ import annotations

import asyncio
import threading

import pytest
from servers.sql_faces import AWAITED, CALLED, DRIVERS, new_table
from sqlalchemy import MetaData, create_engine, inspect, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from session_mw.errors import ConfigurationError, StoreError
from session_mw.stores import Inspectable, StoreStats, sql
from session_mw.stores.faces import is_awaited, require_async, require_sync
from session_mw.stores.sql import AsyncDatabaseStore, DatabaseStore, SyncDatabaseStore, ddl, session_table
from session_mw.stores.sqlite import SQLiteStore
from session_mw.stores.url import store_from_url
from session_mw.testing.contract import new_record
from session_mw.testing.samples import NOW


@pytest.mark.parametrize(
    ("url", "kind", "driver"),
    [
        ("postgresql://h/d", SyncDatabaseStore, "psycopg"),
        ("postgresql+psycopg://h/d", SyncDatabaseStore, "psycopg"),
        ("postgresql+asyncpg://h/d", AsyncDatabaseStore, "asyncpg"),
        ("mysql://h/d", SyncDatabaseStore, "pymysql"),
        ("mysql+pymysql://h/d", SyncDatabaseStore, "pymysql"),
        ("mysql+asyncmy://h/d", AsyncDatabaseStore, "asyncmy"),
        ("mariadb://h/d", SyncDatabaseStore, "pymysql"),
        ("mariadb+pymysql://h/d", SyncDatabaseStore, "pymysql"),
        ("mariadb+asyncmy://h/d", AsyncDatabaseStore, "asyncmy"),
    ],
)
def test_a_url_means_a_kind(url, kind, driver):
    for store in (store_from_url(url), DatabaseStore(url), DatabaseStore(make_url(url))):
        assert type(store) is kind
        assert is_awaited(store) is (kind is AsyncDatabaseStore)
        (require_async if is_awaited(store) else require_sync)(store)
        assert store._flows.connections.engine.dialect.driver == driver


def test_a_url_has_our_options_and_the_drivers():
    url = "postgresql://u:hunter2@h/d?table=web&column_prefix=x_&create=1&timeout=2.5&pool_size=3&application_name=me"
    store = store_from_url(url)
    calls = store._flows.connections
    assert repr(store) == "<SyncDatabaseStore postgresql://h/d web>"
    assert calls.engine.pool.size() == 3
    assert dict(calls.engine.url.query) == {"application_name": "me"}
    assert store._flows.table.c.id.name == "x_id"
    assert store._flows._create is True
    assert DatabaseStore(url, table="other")._flows.table.name == "other"
    assert repr(DatabaseStore("mysql+asyncmy://u:hunter2@h:33/d")) == (
        "<AsyncDatabaseStore mysql://h:33/d session_mw_sessions>"
    )


def test_each_application_has_its_own_table():
    names = [DatabaseStore("mysql://h/d", table_index=name)._flows.table.name for name in ("default", "a-b", "z" * 32)]
    assert names == ["session_mw_sessions", "session_mw_sessions_a_b", f"session_mw_sessions_{'z' * 32}"]


def test_sqlite_urls_are_the_standard_librarys(tmp_path):
    store = DatabaseStore(f"sqlite:///{tmp_path}/a%20b.db")
    assert isinstance(store, SQLiteStore)
    assert repr(store) == f"<SQLiteStore {tmp_path}/a b.db>"
    assert DatabaseStore(f"sqlite:///{tmp_path}/s.db", table="web")._table.sql.table == "web"
    assert DatabaseStore(f"sqlite:///{tmp_path}/s.db", table_index="a-b")._table.sql.table == "session_mw_sessions_a_b"
    with pytest.raises(ConfigurationError, match="takes table and table_index only"):
        DatabaseStore(f"sqlite:///{tmp_path}/s.db", column_prefix="x_")


@pytest.mark.parametrize(
    ("where", "settings", "says"),
    [
        (5, {}, "needs a URL, an Engine or an AsyncEngine"),
        ("nonsense hunter2", {}, "cannot be read"),
        ("postgresql://u:p@h:hunter2/d", {}, "cannot be read"),
        ("oracle://u:hunter2@h/d", {}, "no store for 'oracle': drivers are psycopg"),
        ("postgresql+psycopg2://u:hunter2@h/d", {}, r"no store for 'postgresql\+psycopg2'"),
        ("mysql://h/d", {"tabel": "x"}, "DatabaseStore has no tabel; known: table, table_index"),
        ("mysql://h/d?create=maybe", {}, "option 'create' of a mysql: URL has a bad value"),
        ("mysql://h/d", {"table": 'a"; DROP TABLE x'}, "is not a plain name"),
        ("mysql://h/d", {"table": ""}, "is not a plain name"),
        ("mysql://h/d", {"table": "Upper"}, "is not a plain name"),
        ("mysql://h/d", {"table": "x" * 57}, "is not a plain name"),
        ("mysql://h/d", {"table": "pg_x"}, "is not a plain name"),
        ("mysql://h/d", {"table": "a\n"}, "is not a plain name"),
        ("mysql://h/d", {"table": "sé"}, "is not a plain name"),
        ("mysql://h/d", {"column_prefix": "a b"}, "column_prefix 'a b' is not plain"),
        ("mysql://h/d", {"column_prefix": "x" * 33}, "is not plain"),
        ("mysql://h/d", {"table_index": "A"}, "table_index is"),
        ("mysql://h/d", {"timeout": 0}, "timeout must be"),
        ("mysql://h/d", {"timeout": float("nan")}, "timeout must be"),
        ("mysql://h/d", {"pool_size": 0}, "pool_size must be"),
        ("mysql://h/d", {"pool_size": True}, "pool_size must be"),
    ],
)
def test_bad_arguments_are_refused(where, settings, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        DatabaseStore(where, **settings)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None or "hunter2" not in str(caught.value.__cause__)


def test_a_driver_that_is_not_there_is_named_with_its_extra(monkeypatch):
    def missing(url, **settings):
        raise ModuleNotFoundError("No module named 'pymysql'")

    monkeypatch.setattr(sql, "create_engine", missing)
    with pytest.raises(ConfigurationError, match=r"pymysql is not installed: pip install 'session_mw\[mysql\]'"):
        DatabaseStore("mysql://h/d")
    with pytest.raises(ConfigurationError, match=r"session_mw\[postgresql\]"):
        DatabaseStore("postgresql://h/d")


def test_engines_that_cannot_serve_are_refused(tmp_path):
    file = f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(ConfigurationError, match="the engine's own: give them to create_engine"):
        DatabaseStore(create_engine(file), pool_size=3)
    for engine in (
        create_engine("sqlite://"),
        create_engine("sqlite:///:memory:"),
        create_engine(file, poolclass=StaticPool),
    ):
        with pytest.raises(ConfigurationError, match=r"use MemoryStore\(\)"):
            DatabaseStore(engine)
    engine = create_engine(file)
    engine.dialect.driver = "pysqlcipher"
    with pytest.raises(ConfigurationError, match="no store for an engine on sqlite with pysqlcipher"):
        DatabaseStore(engine)


@pytest.mark.parametrize(("called", "awaited"), list(zip(CALLED, AWAITED, strict=True)))
def test_both_kinds_share_their_records(called, awaited, databases):
    one = databases.store(called)
    record = new_record(user_id="Zoë \N{SNOWMAN}", login_user_agent="山", payload=b"\0\xff")
    one.create(record)
    other = databases.store(awaited, table=one.flows.table.name)
    assert other.load(record.id) == record
    assert other.list_user("Zoë \N{SNOWMAN}") == [record]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_column_prefix_and_a_table_called_like_a_keyword(driver, databases):
    store = databases.store(driver, table="order", column_prefix="group_")
    record = new_record()
    assert store.create(record) is True
    assert store.rotate(new_record(), record.id, 1, until=5).value == "saved"
    assert store.load(record.id).closed is True
    connection = databases.server(driver).connect()
    with connection, connection.cursor() as cursor:
        quote = "`" if driver.startswith("m") else '"'
        cursor.execute(f"SELECT group_id FROM {quote}order{quote}")
        assert (record.id,) in cursor.fetchall()
        cursor.execute(f"DROP TABLE {quote}order{quote}")


# the schema


@pytest.mark.parametrize("driver", CALLED)
def test_the_printed_schema_is_the_schema(driver, databases):
    """A table made of the text is the table that create_schema makes."""
    store = databases.store(driver, create=False)
    text = store.schema()
    connection = databases.server(driver).connect()
    with connection, connection.cursor() as cursor:
        for statement in text.split(";")[:-1]:
            cursor.execute(statement)
    record = new_record(user_id="x" * 255)
    assert store.create(record) is True
    assert store.list_user(record.user_id) == [record]
    other = databases.store(driver)
    other.create_schema()

    def described(one):
        found = inspect(one.flows.connections.engine)
        name = one.flows.table.name
        columns = [(column["name"], repr(column["type"]), column["nullable"]) for column in found.get_columns(name)]
        indexes = [(each["name"].removeprefix(name), each["column_names"]) for each in found.get_indexes(name)]
        return columns, sorted(indexes), found.get_pk_constraint(name)["constrained_columns"]

    assert described(store) == described(other)


def test_the_schema_of_every_dialect_can_be_printed():
    for dialect in ("postgresql", "mysql", "mariadb", "sqlite"):
        text = ddl(dialect, table="web", column_prefix="x_")
        assert text.startswith("CREATE TABLE web (")
        assert text.count(";\n") == 3
        assert "CREATE INDEX web_user ON web (x_user_id, x_created_at)" in text
    assert "VARBINARY(1020)" in ddl("mysql")
    for url, dialect in (("postgresql+asyncpg://h/d", "postgresql"), ("mysql://h/d", "mysql")):
        assert DatabaseStore(url, column_prefix="x_").schema() == ddl(dialect, column_prefix="x_")
    assert "BYTEA" in ddl("postgresql")
    with pytest.raises(ConfigurationError, match="no dialect 'oracle'; known: mariadb, mysql"):
        ddl("oracle")


def test_the_table_can_join_an_apps_own_metadata():
    metadata = MetaData()
    table = session_table(metadata)
    assert metadata.tables == {"session_mw_sessions": table}


@pytest.mark.parametrize("driver", CALLED)
def test_many_who_make_the_table_at_once(driver, databases):
    table = new_table()
    stores = [databases.store(driver, table=table) for _ in range(6)]
    barrier = threading.Barrier(len(stores))
    failed = []

    def work(store):
        barrier.wait()
        try:
            store.create_schema()
            store.initialize()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert stores[0].create(new_record())


@pytest.mark.parametrize("driver", CALLED)
def test_a_table_of_another_kind_is_refused(driver, databases):
    store = databases.store(driver)
    connection = databases.server(driver).connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {store.flows.table.name} (id INTEGER)")
    with pytest.raises(StoreError):
        store.initialize()
    store = databases.store(driver, create=False)
    with pytest.raises(StoreError, match="no session table"):
        store.initialize()


def test_a_schema_that_cannot_be_made(databases):
    store = databases.store("postgresql+psycopg")
    connection = databases.server("postgresql").connect()
    connection.execute(f"CREATE VIEW {store.flows.table.name} AS SELECT 1 AS id")
    with pytest.raises(StoreError) as caught:
        store.create_schema()
    assert caught.value.__cause__ is not None
    connection.close()


# connections


@pytest.mark.parametrize("driver", CALLED)
def test_connections_of_ours_are_set_up_as_promised(driver, databases):
    store = databases.store(driver, timeout=3.0)
    line = store.flows.connections.acquire()
    cursor = line._cursor
    if driver.startswith("p"):
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('transaction_isolation')")
        assert cursor.fetchone() == ("3s", "read committed")
    else:
        cursor.execute(
            "SELECT @@innodb_lock_wait_timeout, @@tx_isolation, @@sql_mode LIKE '%STRICT_ALL%', @@autocommit"
        )
        assert cursor.fetchone() == (3, "READ-COMMITTED", 1, 1)
    store.flows.connections.release(line)


@pytest.mark.parametrize("driver", CALLED)
def test_an_engine_is_left_as_it_was(driver, databases):
    """Its connections are in a transaction again when the app gets them; teardown closes none of them."""
    engine = create_engine(databases.url(driver), pool_size=1, max_overflow=0)
    store = databases.asked(DatabaseStore(engine, table=new_table(), create=True))
    record = new_record()
    store.create(record)
    store.rotate(new_record(), record.id, 1, until=5)
    store.teardown()
    assert engine.pool.checkedin() == 1
    with engine.connect() as connection:
        assert engine.dialect.detect_autocommit_setting(connection.connection.dbapi_connection) is False
        connection.exec_driver_sql(f"DELETE FROM {store.flows.table.name}")
        connection.rollback()
    assert store.load(record.id).closed is True
    engine.dispose()


def test_an_engine_whose_connection_cannot_be_given_back(databases, monkeypatch):
    engine = create_engine(databases.url(CALLED[0]))
    store = databases.asked(DatabaseStore(engine, table=new_table(), create=True))
    store.initialize()

    def fails(connection):
        raise RuntimeError

    monkeypatch.setattr(engine.dialect, "reset_isolation_level", fails)
    record = new_record()
    assert store.create(record) is True, "what was asked is done"
    assert engine.pool.checkedin() == 1
    monkeypatch.undo()

    def refuses(connection, level):
        raise ValueError

    monkeypatch.setattr(engine.dialect, "set_isolation_level", refuses)
    with pytest.raises(StoreError):
        store.load(record.id)
    monkeypatch.undo()
    assert store.load(record.id) == record
    engine.dispose()


def test_an_async_engine_makes_an_awaited_store(databases):
    async def story():
        engine = create_async_engine(databases.url(AWAITED[0]))
        store = DatabaseStore(engine, table=new_table())
        await store.create_schema()
        record = new_record()
        await store.create(record)
        assert await store.load(record.id) == record
        await store.teardown()
        assert engine.pool.checkedin() == 1
        await engine.dispose()
        return store

    assert type(asyncio.run(story())) is AsyncDatabaseStore


def test_several_stores_on_one_engine_do_not_mix(databases):
    engine = create_engine(databases.url(CALLED[0]))
    one, other = (databases.asked(DatabaseStore(engine, table=new_table(), create=True)) for _ in range(2))
    record = new_record()
    one.create(record)
    assert other.load(record.id) is None
    engine.dispose()


# for operators


@pytest.mark.parametrize("driver", [*DRIVERS, "sqlite"])
def test_it_can_be_looked_over(driver, databases, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/s.db")
    sqlite = driver == "sqlite"
    store = databases.asked(DatabaseStore(engine, create=True)) if sqlite else databases.store(driver)
    assert isinstance(store.store, Inspectable)
    with pytest.raises(StoreError, match="no session table"):
        store.open_existing()
    assert store.stats(NOW) == StoreStats(
        live=0, expired=0, closed=0, users=0, oldest=None, newest=None, payload_bytes=0
    )
    for fields in (
        {"created_at": NOW - 300},
        {"user_id": "Alice", "payload": b"\xff" * 5},
        {"user_id": None, "payload": b""},
        {"expires_at": NOW + 1},
        {"expires_at": NOW, "created_at": NOW - 900, "user_id": "carol"},
    ):
        store.create(new_record(**{"payload": b"\0" * 10, **fields}))
    for until in (NOW + 1, NOW):
        record = new_record(user_id="dora", created_at=5)
        store.create(record)
        store.close(record.id, 1, until=until)
    assert store.stats(NOW) == StoreStats(
        live=4, expired=2, closed=1, users=2, oldest=NOW - 300, newest=NOW, payload_bytes=25
    )
    assert store.count_expired(NOW) == 2
    assert store.purge(NOW, 10) == 2
    assert store.count_expired(NOW) == 0
    store.open_existing()
    engine.dispose()
