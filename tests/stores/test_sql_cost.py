"""What a call on a database costs: round trips, counted on the wire; indexes, as the server tells; batches."""

# ruff: noqa: S608  (tables of the tests' own)
from __future__ import annotations

import json

import pytest
from servers.relay import Relay
from servers.sql_faces import AWAITED, DRIVERS
from sqlalchemy import create_engine

from session_mw.core.operations import Outcome
from session_mw.stores import sql_flows
from session_mw.stores.sql import DatabaseStore
from session_mw.stores.sql_statements import Statements
from session_mw.testing.contract import new_record
from session_mw.testing.samples import NOW, following


@pytest.fixture
def relay(request):
    """Make relays before servers; ended after the stores that use them."""
    made = []

    def make(server):
        made.append(Relay(server.port))
        return made[-1]

    yield make
    for one in made:
        one.close()


def trips(relay, store):
    """Round trips of every call, each on records of its own."""
    first, second, third, fourth = records = [new_record(user_id=f"u{number}") for number in range(4)]
    for record in records:
        store.create(record)
    calls = {
        "load": lambda: store.load(first.id),
        "create": lambda: store.create(new_record()),
        "save": lambda: store.save(following(first), 1),
        "save payload": lambda: store.save(following(following(first)), 2, payload_only=True),
        "save conflict": lambda: store.save(following(first), 1),
        "touch": lambda: store.touch(first.id, NOW + 1, NOW + 9000),
        "rotate": lambda: store.rotate(new_record(user_id="u1"), second.id, 1, until=NOW + 60),
        "close": lambda: store.close(third.id, 1, until=NOW + 60),
        "delete": lambda: store.delete(first.id),
        "delete version": lambda: store.delete(fourth.id, expected_version=1),
        "list_user": lambda: store.list_user("u1"),
        "delete_user": lambda: store.delete_user("u1"),
        "purge": lambda: store.purge(NOW + 61, 10),
    }
    return {name: relay.count(call) for name, call in calls.items()}


ONE_EACH = dict.fromkeys(
    ("load", "create", "save", "save payload", "touch", "rotate", "close", "delete", "delete version", "list_user"), 1
)


@pytest.mark.parametrize("driver", DRIVERS)
def test_round_trips(driver, databases, relay):
    wire = relay(databases.server(driver))
    store = databases.store(driver, port=wire.port)
    for _ in range(6):  # drivers prepare a statement at its first use, or its fifth
        trips(wire, store)
    rest = {"save conflict": 2, "delete_user": 2, "purge": 1}
    if driver.startswith("mysql"):  # BEGIN, two statements, COMMIT
        rest |= {"rotate": 4, "purge": 4}
    assert trips(wire, store) == ONE_EACH | rest


@pytest.mark.parametrize(("driver", "load"), [("postgresql+psycopg", 1), ("mysql+pymysql", 6)])
def test_an_engine_of_the_apps_own_costs_the_change_of_its_mode(driver, load, databases, relay):
    """On PostgreSQL that is the driver's business alone; on MySQL the server must be told, and told back."""
    wire = relay(databases.server(driver))
    url = databases.url(driver).replace(f":{databases.server(driver).port}/", f":{wire.port}/")
    for level, wanted in ((None, load), ("AUTOCOMMIT", 1 if driver.startswith("p") else 2)):
        engine = create_engine(url, **({"isolation_level": level} if level else {}))
        store = databases.asked(DatabaseStore(engine, create=True))
        store.initialize()
        for _ in range(6):
            store.load("x")
        assert wire.count(lambda store=store: store.load("x")) == wanted
        engine.dispose()


def plan(databases, driver, store, text, values):
    """The server's plan of a statement, as text."""
    connection = databases.server(driver).connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {'TABLE ' if driver.startswith('m') else ''}{store.flows.table.name}")
        if driver.startswith("m"):
            cursor.fetchall()
        cursor.execute(f"EXPLAIN {'' if driver.startswith('m') else '(FORMAT JSON) '}{text}", values)
        return json.dumps(cursor.fetchall(), default=str)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
def test_nothing_scans(driver, databases):
    store = databases.store(driver)
    store.initialize()
    name = store.flows.table.name
    connection = databases.server(driver).connect()
    with connection, connection.cursor() as cursor:
        number = "generate_series(1, 5000) AS seq" if driver.startswith("p") else "seq_1_to_5000"
        user = "convert_to('u' || seq / 10, 'UTF8')" if driver.startswith("p") else "CONCAT('u', seq DIV 10)"
        cursor.execute(
            f"INSERT INTO {name} SELECT CONCAT('i', seq), '', {user}, seq, 0, {NOW} + seq, 0, NULL, NULL, NULL, 1, '',"
            f" 0, NULL FROM {number}"
        )
    sql = store.flows._sql
    questions = {
        "load": (sql.load, ("i77",), "PRIMARY|_pkey"),
        "touch": (sql.touch, (1, 1, "i77"), "PRIMARY|_pkey"),
        "save": (sql.save_payload, (1, b"", "i77", 1), "PRIMARY|_pkey"),
        "delete": (sql.delete, ("i77",), "PRIMARY|_pkey"),
        "delete closed": (sql.delete_closed, ("i77",), "PRIMARY|_pkey"),
        "delete expected": (sql.delete_expected, ("i77", 1), "PRIMARY|_pkey"),
        "closed": (sql.closed, ("i77",), "PRIMARY|_pkey"),
        "close": (sql.close, (1, None, b"", "i77", 1), "PRIMARY|_pkey"),
        "left": (sql.left, (b"u7", ""), "_user"),
        "list_user": (sql.list_user, (b"u7",), "_user"),
        "delete_user": (sql.delete_user, (b"u7", ""), "_user"),
        "purge": (sql.purge or sql.doomed, (NOW + 5, 10), "_expiry"),
        "count_expired": (sql.count_expired, (NOW + 5,), "_expiry"),
    }
    for question, (statement, values, indexes) in questions.items():
        found = plan(databases, driver, store, statement.text, statement.bind(values))
        assert any(index in found for index in indexes.split("|")), f"{question}: {found}"
        assert "Seq Scan" not in found, f"{question}: {found}"
        assert "filesort" not in found, f"{question}: {found}"
        assert '"ALL"' not in found, f"{question}: {found}"  # what MariaDB calls a scan, whatever keys were possible
    assert [record.created_at for record in store.list_user("u7")] == list(range(79, 69, -1))


@pytest.mark.parametrize("driver", ["postgresql+psycopg", *AWAITED[1:]])
def test_purge_goes_in_batches(driver, databases, monkeypatch):
    monkeypatch.setattr(sql_flows, "PURGE_BATCH", 3)
    store = databases.store(driver)
    for number in range(8):
        store.create(new_record(expires_at=NOW - number))
    seen = []
    connections = store.flows.connections
    release = connections.release
    monkeypatch.setattr(connections, "release", lambda line: seen.append(line) or release(line))
    assert store.purge(NOW, 100) == 8
    assert len(seen) == 3
    assert store.purge(NOW, 100) == 0
    assert store.delete(new_record().id) is Outcome.GONE


def test_purge_of_a_server_that_cannot_step_over_locks(databases):
    store = databases.store("mysql+pymysql")
    store.initialize()
    dialect = store.flows.connections.engine.dialect
    assert "SKIP LOCKED" in store.flows._sql.doomed.text
    for version, maria, skips in (((10, 6), True, True), ((10, 5, 9), True, False), ((8, 0, 1), False, True)):
        dialect.server_version_info, dialect.is_mariadb = version, maria
        assert ("SKIP LOCKED" in Statements(store.flows.table, dialect).doomed.text) is skips
    dialect.server_version_info = (5, 7, 44)
    store.initialize()
    assert "FOR UPDATE" not in store.flows._sql.doomed.text
    for number in range(8):
        store.create(new_record(expires_at=NOW + number))
    assert store.purge(NOW + 3, 100) == 4
