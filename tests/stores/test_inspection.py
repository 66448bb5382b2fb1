"""What stores offer to operators: counts that change nothing, a schema in words, opening without making.

A store with ``stats`` and ``count_expired`` gets a line in ``MAKERS``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs

from session_mw.core.operations import Outcome, Store
from session_mw.errors import StoreError
from session_mw.stores import Inspectable, StoreStats
from session_mw.stores.filesystem import FilesystemStore
from session_mw.stores.memory import MemoryStore
from session_mw.stores.redis import RedisStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing.contract import new_record

NOW = 1_700_000_000

MAKERS: dict[str, Callable[[Any, Path], Any]] = {
    "memory": lambda asked, path: MemoryStore(clock=lambda: NOW),
    "sqlite": lambda asked, path: SQLiteStore(path / "s.db"),
    "filesystem": lambda asked, path: FilesystemStore(path / "s", durable=False),
    "redis": lambda asked, path: RedisStore(asked("redis_server").url, table_index=f"t{uuid4().hex[:24]}"),
    "redis cluster": lambda asked, path: RedisStore(asked("redis_cluster").url, table_index=f"t{uuid4().hex[:24]}"),
}


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    store = MAKERS[request.param](request.getfixturevalue, tmp_path)
    store.initialize()
    yield store
    store.teardown()


def put(store: Store, **fields: Any) -> str:
    """A record: alice's, created at NOW, good for an hour, with a payload of 10 bytes; but for *fields*."""
    given = {"created_at": NOW, "expires_at": NOW + 3600, "payload": b"\0" * 10, "version": 1, **fields}
    record = structs.replace(new_record(), **given)
    assert store.create(record)
    return record.id


def test_an_empty_store_holds_nothing(store: Any) -> None:
    assert isinstance(store, Inspectable)
    assert store.stats(NOW) == StoreStats(
        live=0, expired=0, closed=0, users=0, oldest=None, newest=None, payload_bytes=0
    )
    assert store.count_expired(NOW) == 0


def filled(store: Store) -> None:
    put(store, created_at=NOW - 300)
    put(store, created_at=NOW - 200, user_id="Alice", payload=b"\xff" * 5)
    put(store, created_at=NOW - 100, user_id="bob")
    put(store, user_id=None, payload=b"")
    put(store, expires_at=NOW + 1)  # the last second of its life
    put(store, created_at=NOW - 900, expires_at=NOW)  # over at this moment
    put(store, created_at=NOW - 999, expires_at=NOW - 9, user_id="carol")
    for until in (NOW + 60, NOW + 1, NOW, NOW - 1):
        assert store.close(put(store, created_at=5, user_id="dora"), 1, until=until) is Outcome.DELETED


def test_every_record_counts_once(store: Any) -> None:
    filled(store)
    assert store.stats(NOW) == StoreStats(
        live=5, expired=4, closed=2, users=3, oldest=NOW - 300, newest=NOW, payload_bytes=35
    )


def test_what_is_said_to_be_expired_is_what_a_purge_deletes(store: Any) -> None:
    filled(store)
    before = store.stats(NOW)
    for _ in range(2):
        assert store.count_expired(NOW) == before.expired == 4, "counting deleted something"
    assert store.count_expired(NOW - 10) == 0
    assert store.purge(NOW, 3) == 3
    assert store.count_expired(NOW) == 1
    assert store.purge(NOW, 100) == 1
    assert store.stats(NOW) == structs.replace(before, expired=0)


def test_it_is_no_promise_of_every_store() -> None:
    assert not isinstance(MemoryStore().aio(), Inspectable)


def test_a_store_that_fails_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.initialize()
    with closing(sqlite3.connect(tmp_path / "s.db")) as other:
        other.execute("ALTER TABLE sessions RENAME TO elsewhere")
    for call in (store.stats, store.count_expired):
        with pytest.raises(StoreError, match="no such table") as caught:
            call(NOW)
        assert isinstance(caught.value.__cause__, sqlite3.Error)
    store.teardown()


# -- SQLite: what it needs, and opening only what is there -------------------------------------------------------------


def test_the_schema_makes_what_the_store_wants(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SQLiteStore(path, table="web")
    statements = store.schema()
    assert not path.exists(), "asking for the schema opened the store"
    with closing(sqlite3.connect(path)) as other:
        other.executescript(statements)
        made = other.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    store.open_existing()
    record_id = put(store)
    assert [record.id for record in store.list_user("alice")] == [record_id]
    store.teardown()
    own = SQLiteStore(tmp_path / "own.db", table="web")
    own.initialize()
    own.teardown()
    with closing(sqlite3.connect(tmp_path / "own.db")) as other:
        assert other.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall() == made


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    missing, apps, text, there = (tmp_path / name for name in ("missing.db", "app.db", "text", "there.db"))
    with closing(sqlite3.connect(apps)) as other:
        other.execute("CREATE TABLE orders (id)")
    text.write_text("no database at all, but long enough to be looked at " * 30)
    store = SQLiteStore(there)
    store.initialize()
    store.teardown()
    for path, words in [
        (missing, "missing.db: no such file"),
        (missing / "deeper.db", "no such file"),
        (text / "deeper.db", "not a directory"),
        (apps, "app.db: there is no table 'sessions'"),
        (text, "not an SQLite database"),
    ]:
        for _ in range(2):
            with pytest.raises(StoreError, match=words):
                SQLiteStore(path).open_existing()
    assert not missing.exists()
    with closing(sqlite3.connect(apps)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("orders",)]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",), "somebody else's file was changed"
    store.open_existing()
    assert store.list_user("alice") == []
    store.teardown()
