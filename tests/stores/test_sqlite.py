"""SQLiteStore: the contract, what it leaves on disk, what it says when it fails, threads, processes and forks."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from itertools import pairwise
from operator import methodcaller
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from session_mw.core.operations import Outcome
from session_mw.errors import ConfigurationError, StoreBusyError, StoreError
from session_mw.stores import sqlite, sqlite_calls, sqlite_group, sqlite_pool
from session_mw.stores.sqlite import SQLiteStore
from session_mw.stores.sqlite_group import GroupCommit
from session_mw.testing import StoreContract
from session_mw.testing.contract import new_record

NOW = 1_700_000_000


class TestSQLiteStore(StoreContract):
    def make_store(self, tmp_path):
        return SQLiteStore(tmp_path / "s.db")

    open_again = make_store

    def before_each_command(self, store, tell):
        for face in (store, store.inline()):  # both speak on this thread, each with a connection of its own
            trace(face, lambda statement: tell())


class TestDurableSQLiteStore(StoreContract):
    def make_store(self, tmp_path):
        return SQLiteStore(tmp_path / "s.db", durable=True).aio()  # through group commit

    open_again = make_store


def test_what_the_kit_does_not_ask():
    lost = {"test_an_index_entry_without_a_record_heals": "lose_record is not given"}  # a row is its own index
    declared = {
        "test_listing_without_an_index_is_refused": "can_list is True",
        "test_payload_over_the_limit_is_refused": "payload_limit is None",
        "test_purge_leaves_expiry_to_the_backend": "expires_itself is False",
    }
    assert TestSQLiteStore.left_out() == lost | declared
    no_count = {name for name in TestDurableSQLiteStore.left_out() if name not in lost | declared}
    assert no_count == {  # it sends savepoints, not one statement a call
        "test_a_call_costs_what_it_may",
        "test_a_call_overtaken_midway_ends_as_one_after_the_other",
        "test_listing_costs_the_same_however_many_there_are",
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path):
    store = SQLiteStore(path, lock_timeout=0.02)
    store.initialize()
    yield store
    store.teardown()


def pragma(store, name):
    connection = store._pool.acquire()
    connection.lock.release()
    return connection.cursor.execute(f"PRAGMA {name}").fetchone()[0]


def trace(store, callback):
    """Call *callback* with what *store* runs on this thread's connection, before it runs."""
    connection = store._pool.acquire()
    connection.lock.release()
    connection.cursor.connection.set_trace_callback(callback)


def traced(store):
    """What *store* runs on this thread's connection, as it runs."""
    statements = []
    trace(store, statements.append)
    return statements


def on_a_thread(work):
    """What *work* answers, or raises, on another thread."""
    future = Future()

    def run():
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return future.result()


class Locked:
    """Another writer, holding the write lock."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def __enter__(self):
        self.db.execute("BEGIN IMMEDIATE")
        return self

    def __exit__(self, *exc):
        self.db.execute("ROLLBACK")
        self.db.close()


def count_up(store, id, times):
    """Increments by compare-and-swap, on one record."""
    done = 0
    while done < times:
        seen = store.load(id)
        changed = structs.replace(seen, version=seen.version + 1, payload=b"%d" % (int(seen.payload) + 1))
        done += store.save(changed, seen.version, payload_only=True) is Outcome.SAVED


# arguments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"path": ""}, "needs the path of a file"),
        ({"path": ":memory:"}, "use MemoryStore"),
        ({"path": "a\0b"}, "needs the path of a file"),
        ({"path": b"bytes.db"}, "needs the path of a file"),
        ({"path": "x", "table": 'a"; DROP TABLE x'}, "is not a plain name"),
        ({"path": "x", "table": ""}, "is not a plain name"),
        ({"path": "x", "table": "x" * 64}, "is not a plain name"),
        ({"path": "x", "table": "sqlite_x"}, "is not a plain name"),
        ({"path": "x", "table": "SQLite_x"}, "is not a plain name"),
        ({"path": "x", "table": "a\n"}, "is not a plain name"),
        ({"path": "x", "table": "sé"}, "is not a plain name"),
        ({"path": "x", "lock_timeout": 0}, "lock_timeout must be"),
        ({"path": "x", "lock_timeout": float("nan")}, "lock_timeout must be"),
        ({"path": "x", "lock_timeout": 3601}, "lock_timeout must be"),
    ],
)
def test_bad_arguments_are_refused(arguments, says):
    with pytest.raises(ConfigurationError, match=says):
        SQLiteStore(**arguments)


def test_a_table_may_have_a_keyword_for_a_name_and_shares_the_file(path):
    first, second = SQLiteStore(path, table="order"), SQLiteStore(path, table="Group_2")
    record = new_record()
    assert first.create(record)
    assert second.load(record.id) is None
    assert second.create(record)
    first.teardown()
    second.teardown()


def given_away(path, monkeypatch):
    """From here on *path* is another user's."""
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


@pytest.mark.parametrize("part", ["", "-journal", "-wal", "-shm"])
def test_a_file_of_somebody_else_is_refused(path, part, monkeypatch):
    """Who writes a record can log in as anybody."""
    file = Path(f"{path}{part}")
    file.touch(0o600)
    given_away(file, monkeypatch)
    with pytest.raises(StoreError, match=rf"{file}: belongs to another user \(uid \d+\); run as that user, or make it"):
        SQLiteStore(path).initialize()


@pytest.mark.parametrize("part", ["", "-journal", "-wal", "-shm"])
def test_a_file_that_others_may_write_to_is_refused(path, part):
    file = Path(f"{path}{part}")
    file.touch()
    file.chmod(0o602)
    with pytest.raises(StoreError, match=rf"{file}: others may write to it; take that from them \(chmod o-w\)"):
        SQLiteStore(path).initialize()
    file.chmod(0o604)
    SQLiteStore(path).initialize()


def test_a_file_that_its_group_may_write_to_is_told_once(path, caplog):
    path.touch()
    path.chmod(0o660)
    store = SQLiteStore(path)
    store.create(new_record())
    on_a_thread(store.initialize)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: its group may write to it, and log in as anybody; take that from it (chmod g-w)"
    ]


@pytest.mark.parametrize("what", ["a link", "a link to nothing", "a pipe", "a directory"])
def test_what_is_no_file_of_its_own_is_refused(path, what):
    other = path.with_name("older.db")
    if what == "a link":
        SQLiteStore(other).initialize()
    if "link" in what:
        path.symlink_to(other)
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(StoreError, match="no regular file, or a symbolic link, which is never followed; pass the path"):
        SQLiteStore(path).initialize()


def test_a_directory_in_which_others_may_replace_it_is_refused(path):
    path.parent.chmod(0o777)
    with pytest.raises(StoreError, match="others may write to the directory above it, and put another in its place"):
        SQLiteStore(path).initialize()
    assert not path.exists()
    path.parent.chmod(0o1777)
    SQLiteStore(path).initialize()


def test_where_files_have_no_owners_none_is_asked_for(path, monkeypatch):
    monkeypatch.setattr(sqlite_pool, "_HAS_OWNERS", False)
    path.touch()
    path.chmod(0o666)
    SQLiteStore(path).initialize()


def test_a_relative_path_stays_where_it_was_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("s.db")
    monkeypatch.chdir("/")
    store.initialize()
    store.teardown()
    assert (tmp_path / "s.db").is_file()
    assert repr(store) == f"<SQLiteStore {tmp_path}/s.db>"


# on disk


def test_files_are_readable_by_their_owner_alone(path):
    before = os.umask(0)
    try:
        store = SQLiteStore(path)
        store.create(new_record())
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    store.teardown()
    assert modes == dict.fromkeys(["sessions.db", "sessions.db-wal", "sessions.db-shm"], 0o600)


def test_connections_are_set_up_as_promised(path, store):
    durable = SQLiteStore(path, durable=True)
    found = {
        name: (pragma(store, name), pragma(store.inline(), name), pragma(durable, name))
        for name in ("journal_mode", "synchronous", "busy_timeout", "wal_autocheckpoint")
    }
    durable.teardown()
    assert found == {
        "journal_mode": ("wal", "wal", "wal"),
        "synchronous": (1, 1, 2),
        "busy_timeout": (20, 50, 5000),
        "wal_autocheckpoint": (1000, 0, 1000),
    }


def test_columns_are_typed(path, store):
    store.create(new_record())
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("UPDATE sessions SET version = 'many'")
    db.close()


@pytest.mark.parametrize(("version", "strict"), [((3, 36, 0), False), ((3, 37, 0), True)])
def test_columns_are_strict_where_sqlite_can(version, strict, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert sqlite_calls.Statements("t").schema[0].endswith("STRICT") is strict


def test_every_look_up_goes_by_an_index(store):
    sql = store._sql
    for index in range(20):
        store.create(new_record(user_id=f"u{index % 3}", expires_at=NOW + index))
    plans = {}
    for name, statement in vars(sql).items():
        if name in ("schema", "table", "columns", "create", "stats"):  # the last reads the whole table
            continue
        values = [None] * statement.count("?")
        rows = store._rows(f"EXPLAIN QUERY PLAN {statement}", tuple(values))
        plans[name] = [str(row[3]) for row in rows]
    assert len(plans) == 14
    for name, steps in plans.items():
        assert any("USING INDEX" in step or "USING COVERING INDEX" in step for step in steps), (name, steps)
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in steps), (name, steps)
    assert "sessions_user (user_id=?)" in plans["list_user"][0]


def test_a_payload_only_save_leaves_the_indexed_columns_alone(store):
    record = new_record()
    store.create(record)
    statements = traced(store)
    store.save(structs.replace(record, version=2), 1, payload_only=True)
    (statement,) = statements
    assert statement.startswith('UPDATE "sessions" SET version = 2, payload = ')
    assert "expires_at" not in statement


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (methodcaller("load", "x"), 1),
        (methodcaller("create", new_record()), 1),
        (methodcaller("save", new_record("s" * 24, version=2), 1), 1),
        (methodcaller("touch", "s" * 24, 1, 1), 1),
        (methodcaller("close", "s" * 24, 1, until=1), 1),
        (methodcaller("delete", "s" * 24, expected_version=1), 1),
        (methodcaller("rotate", new_record(), "s" * 24, 1, until=1), 4),
        (methodcaller("list_user", "alice"), 1),
        (methodcaller("delete_user", "alice"), 1),
    ],
    ids=lambda value: repr(value)[22:30] if callable(value) else None,
)
def test_statements_a_call(store, call, count):
    store.create(new_record("s" * 24))
    statements = traced(store)
    call(store)
    assert len(statements) == count, statements


# faults


def test_faults_say_what_to_do(tmp_path):
    missing = SQLiteStore(tmp_path / "no" / "s.db")
    with pytest.raises(
        StoreError, match=r"no/s.db: unable to open; create the directory or pass another path"
    ) as caught:
        missing.load("x")
    cause = caught.value.__cause__
    assert isinstance(cause, FileNotFoundError)
    assert cause.__context__ is None  # a log begins with what is wrong
    with pytest.raises(StoreError, match=r"no regular file, or a symbolic link, .*; pass the path of the file itself"):
        SQLiteStore(tmp_path).initialize()
    (tmp_path / "text").write_text("this is no database, but it is long enough to be looked at" * 9)
    with pytest.raises(StoreError, match="text: not an SQLite database; pass another path") as caught:
        SQLiteStore(tmp_path / "text").initialize()
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_another_table_of_that_name_is_refused(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE sessions (sid TEXT, data TEXT)")
    db.close()
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match="table 'sessions' is not a session table; pass another table="):
        store.initialize()
    gc.collect()


def test_a_damaged_file_is_told(path, store):
    for _ in range(50):
        store.create(new_record(payload=b"x" * 3000))
    store.teardown()
    pages = bytearray(path.read_bytes())
    pages[4096:] = b"\xaa" * (len(pages) - 4096)
    path.write_bytes(pages)
    with pytest.raises(StoreError, match=r"sessions\.db: damaged; restore it from a backup"):
        store.load("x")


def test_a_deleted_file_is_not_an_empty_store(path, store):
    path.unlink()
    with pytest.raises(StoreError, match="unable to open"):
        on_a_thread(lambda: store.load("x"))
    store.teardown()
    for sidecar in ("-wal", "-shm"):
        Path(f"{path}{sidecar}").unlink(missing_ok=True)
    assert store.load("x") is None, "opened anew, it is made anew"


def test_no_write_where_nothing_may_be_written():
    directory = Path(tempfile.mkdtemp())  # others may come as far as this, unlike tmp_path
    try:
        output = program("unprivileged", directory / "sessions.db")
    finally:
        directory.chmod(0o700)
        shutil.rmtree(directory)
    assert output.splitlines() == [
        "/sessions.db: read-only; make the file and its directory writable or pass another path",
        "/new.db: unable to open; make the directory writable or pass another path",
    ]


@pytest.mark.parametrize(
    "changes", [{"login_user_agent": "secret\ud800"}, {"user_id": "secret\udfff"}, {"expires_at": 2**63}]
)
def test_a_value_that_sqlite_cannot_hold_is_refused_unseen(store, changes):
    old = new_record()
    store.create(old)
    bad = new_record(**changes)
    for attempt in (lambda: store.create(bad), lambda: store.rotate(bad, old.id, 1, until=NOW)):
        with pytest.raises(StoreError, match="a value that SQLite cannot hold") as caught:
            attempt()
        assert "secret" not in str(caught.value)
    assert store.load(bad.id) is None
    assert store.load(old.id) == old, "a rotation that failed half-way left the old record"
    assert store.create(new_record()), "no transaction is left open"


def test_an_unknown_fault_speaks_sqlites_words(store):
    with pytest.raises(StoreError, match=r"sessions\.db: no such table: nowhere"):
        store._rows("SELECT 1 FROM nowhere", ())


def test_a_full_disk_is_told(store):
    pragma(store, f"max_page_count = {pragma(store, 'page_count')}")
    with pytest.raises(StoreError, match="the disk is full; make room"):
        store.create(new_record(payload=b"x" * 100_000))
    assert store.list_user("alice") == []


# locks


def test_a_held_lock_is_busy_and_nothing_changes(path, store):
    record = new_record()
    store.create(record)
    changed = structs.replace(record, version=2)
    writes = [
        methodcaller("create", new_record()),
        methodcaller("save", changed, 1),
        methodcaller("save", changed, 1, payload_only=True),
        methodcaller("touch", record.id, NOW + 9, NOW + 9999),
        methodcaller("delete", record.id),
        methodcaller("close", record.id, 1, until=NOW),
        methodcaller("rotate", new_record(), record.id, 1, until=NOW),
        methodcaller("delete_user", "alice"),
        methodcaller("purge", NOW * 2, 10),
    ]
    with Locked(path):
        for face in (store, store.inline()):
            for write in writes:
                with pytest.raises(StoreBusyError, match="another writer held the lock") as caught:
                    write(face)
                assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert face.load(record.id) == record, "readers do not wait for writers"
    assert store.list_user("alice") == [record]


def test_the_awaited_face_waits_on_a_thread(path):
    store = SQLiteStore(path)
    store.initialize()
    record = new_record()

    async def story():
        aio = store.aio()
        with Locked(path):
            waiting = asyncio.create_task(aio.create(record))
            await asyncio.sleep(0)  # it was declined inline, and hopped
            assert not waiting.done()
            assert await aio.load(record.id) is None
        assert await waiting is True
        await aio.teardown()

    asyncio.run(story())
    assert store.load(record.id) == record
    store.teardown()


def test_the_inline_face_makes_no_files(path):
    store = SQLiteStore(path)
    with pytest.raises(StoreBusyError, match=r"not opened yet, and that may wait; call initialize\(\)"):
        store.inline().load("x")
    assert not path.exists()

    async def story():
        assert await store.aio().load("x") is None

    asyncio.run(story())
    assert store.inline().load("x") is None, "opened by the hop"
    store.teardown()


def test_a_durable_write_is_declined_inline(path):
    store = SQLiteStore(path, durable=True)
    record = new_record()
    store.create(record)
    for write in (methodcaller("touch", record.id, 1, 1), methodcaller("rotate", new_record(), record.id, 1, until=1)):
        with pytest.raises(StoreBusyError, match="a durable write waits for the disk"):
            write(store.inline())
    assert store.inline().load(record.id) == record
    store.teardown()


def test_opening_waits_its_turn(store):
    sqlite_pool._gate.acquire()
    try:
        with pytest.raises(StoreBusyError, match="other connections were being opened"):
            on_a_thread(lambda: store.load("x"))
    finally:
        sqlite_pool._gate.release()


def test_switching_an_existing_file_to_wal_waits_for_its_users(path):
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("CREATE TABLE other (a)")
    store = SQLiteStore(path, lock_timeout=0.02)
    db.execute("BEGIN")
    db.execute("SELECT * FROM other").fetchall()
    db.execute("INSERT INTO other VALUES (1)")
    with pytest.raises(StoreBusyError):
        store.initialize()
    db.execute("COMMIT")
    store.initialize()
    assert pragma(store, "journal_mode") == "wal"
    assert db.execute("SELECT * FROM other").fetchall() == [(1,)]
    db.close()
    store.teardown()


def test_switching_to_wal_is_tried_again_when_the_others_are_done(path, monkeypatch):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE other (a)")
    db.execute("BEGIN IMMEDIATE")
    real, seen = sqlite3.connect, []

    def note(statement):
        seen.append(statement)
        if statement == "BEGIN EXCLUSIVE":
            db.execute("COMMIT")

    def connect(*args, **options):
        connection = real(*args, **options)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    store = SQLiteStore(path, lock_timeout=0.02)
    store.initialize()
    assert seen[:4] == ["PRAGMA journal_mode = WAL", "BEGIN EXCLUSIVE", "ROLLBACK", "PRAGMA journal_mode = WAL"]
    store.teardown()
    db.execute("DELETE FROM other")
    db.execute("PRAGMA journal_mode = DELETE")
    monkeypatch.setattr(sqlite_pool, "_WAL_TRIES", 1)
    with Locked(path), pytest.raises(StoreBusyError):
        store.initialize()
    db.close()


# purge


def expired(store, count):
    store._write("BEGIN", ())
    for index in range(count):
        store.create(new_record(user_id=None, expires_at=NOW - index))
    store._write("COMMIT", ())


def test_purge_works_in_short_transactions(store, monkeypatch):
    monkeypatch.setattr(sqlite_calls, "PURGE_BATCH", 10)
    expired(store, 35)
    statements = traced(store)
    assert store.purge(NOW, 25) == 25
    assert [statement.rsplit(" ", 1)[1] for statement in statements] == ["10)", "10)", "5)"]
    assert store.purge(NOW, 100) == 10
    assert store.purge(NOW, 0) == 0


def test_a_purge_that_meets_a_lock_keeps_what_it_did(path, store, monkeypatch):
    monkeypatch.setattr(sqlite_calls, "PURGE_BATCH", 10)
    expired(store, 35)
    other = Locked(path)
    seen = []

    def lock_before_the_second(statement):
        seen.append(statement)
        if len(seen) == 2:
            other.__enter__()

    store._pool.acquire().cursor.connection.set_trace_callback(lock_before_the_second)
    try:
        assert store.purge(NOW, 100) == 10
    finally:
        other.__exit__()
    assert store.purge(NOW, 100) == 25


def test_a_large_purge_leaves_the_event_loop(store):
    with pytest.raises(StoreBusyError, match="takes too long for an event loop"):
        store.inline().purge(NOW, sqlite.PURGE_BATCH + 1)
    expired(store, 3)
    assert store.inline().purge(NOW, sqlite.PURGE_BATCH) == 3
    expired(store, 3)

    async def story():
        return await store.aio().purge(NOW, 1000)

    assert asyncio.run(story()) == 3


# checkpoints


def test_inline_writes_are_checkpointed_by_a_thread(path, store, monkeypatch):
    monkeypatch.setattr(sqlite, "CHECKPOINT_EVERY", 10)
    inline, before = store.inline(), path.stat().st_size
    for _ in range(9):
        inline.create(new_record(payload=b"x" * 4000))
    assert inline._checkpoint is None
    assert path.stat().st_size == before, "until then all is in the log"
    inline.create(new_record(payload=b"x" * 4000))
    inline._checkpoint.join()
    assert path.stat().st_size > before + 40_000


def test_rotations_alone_are_checkpointed_too(path, store, monkeypatch):
    monkeypatch.setattr(sqlite, "CHECKPOINT_EVERY", 10)
    inline, records = store.inline(), [new_record() for _ in range(11)]
    store.create(records[0])
    for old, new in pairwise(records):
        assert inline._checkpoint is None
        assert inline.rotate(new, old.id, 1, until=NOW) is Outcome.SAVED
    inline._checkpoint.join()


def test_a_checkpoint_that_fails_is_left_to_the_next(store, monkeypatch):
    monkeypatch.setattr(sqlite, "CHECKPOINT_EVERY", 1)
    inline = store.inline()
    monkeypatch.setattr(sqlite, "threading", SimpleNamespace(Thread=NoMoreThreads))
    assert inline.create(new_record()) is True
    monkeypatch.undo()
    sqlite._checkpoint(SQLiteStore("/nonexistent/s.db")._pool)
    assert len(store.list_user("alice")) == 1


class NoMoreThreads:
    """As at the interpreter's end."""

    def __init__(self, **options):
        pass

    def start(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")


# group commit


def test_waiting_writes_share_a_transaction(path):
    store = SQLiteStore(path, durable=True)
    store.initialize()
    batches = []
    commit = store._group._commit
    store._group._commit = lambda calls: batches.append(len(calls)) or commit(calls)
    records = [new_record() for _ in range(30)]

    async def story():
        aio = store.aio()
        assert await asyncio.gather(*(aio.create(record) for record in records)) == [True] * 30
        saves = [aio.save(structs.replace(records[0], version=2), 1) for _ in range(5)]
        outcomes = await asyncio.gather(*saves)
        assert sorted(outcome.name for outcome in outcomes) == ["CONFLICT"] * 4 + ["SAVED"]

    asyncio.run(story())
    assert sum(batches) == 35
    assert len(batches) < 10, "each transaction took whatever was waiting"
    assert len(store.list_user("alice")) == 30
    store.teardown()


def test_one_bad_write_of_a_group_fails_alone(path):
    store = SQLiteStore(path, durable=True)
    old = new_record()
    store.create(old)
    calls = [
        methodcaller("create", new_record()),
        methodcaller("rotate", new_record(login_user_agent="\ud800"), old.id, 1, until=NOW),
        methodcaller("rotate", new_record(), old.id, 7, until=NOW),
        methodcaller("touch", old.id, NOW + 1, NOW + 9000),
    ]
    first, second, third, fourth = store.together(calls)
    assert (first, third, fourth) == (True, Outcome.CONFLICT, True)
    assert isinstance(second, StoreError)
    assert not store.load(old.id).closed
    store.teardown()


def test_a_group_that_cannot_commit_fails_as_a_whole(path):
    store = SQLiteStore(path, durable=True, lock_timeout=0.02)
    store.initialize()

    async def story():
        with Locked(path):
            answers = [store.aio().create(new_record()) for _ in range(3)]
            return await asyncio.gather(*answers, return_exceptions=True)

    assert [type(answer) for answer in asyncio.run(story())] == [StoreBusyError] * 3
    assert store.list_user("alice") == []

    def broken(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.together([methodcaller("create", new_record()), broken])
    assert store.list_user("alice") == [], "all of it is taken back"
    store.teardown()


def test_a_group_stops_when_sqlite_gave_up_the_transaction(store):
    def gives_up(face):
        face._write("ROLLBACK", ())
        raise StoreError("as a full disk does")

    with pytest.raises(StoreError, match="no such savepoint"):
        store.together([methodcaller("create", new_record()), gives_up])
    assert store.list_user("alice") == []


def test_a_write_cancelled_before_it_began_is_not_made():
    entered, go = threading.Event(), threading.Event()
    made = []

    def commit(calls):
        entered.set()
        go.wait()
        made.extend(calls)
        return calls

    group = GroupCommit(commit)
    first = group.put("first")
    entered.wait()
    second, third = group.put("second"), group.put("third")
    assert second.cancel()
    go.set()
    assert (first.result(), third.result()) == ("first", "third")
    fourth = group.put("fourth")
    assert fourth.result() == "fourth"
    group.stop()
    assert made == ["first", "third", "fourth"]
    group.stop()
    only = group.put("only")
    group.stop()
    assert only.result() == "only"


def test_a_group_of_cancelled_writes_asks_nobody(monkeypatch):
    asked = []
    group = GroupCommit(asked.append)
    monkeypatch.setattr(group, "_drain", lambda: None)
    future = group.put("x")
    future.cancel()
    GroupCommit._drain(group)
    group.stop()
    assert asked == []
    assert group._draining is False


def test_a_batch_is_bounded(monkeypatch):
    monkeypatch.setattr(sqlite_group, "MOST", 4)
    sizes = []
    entered, go = threading.Event(), threading.Event()

    def commit(calls):
        entered.set()
        go.wait()
        sizes.append(len(calls))
        return calls

    group = GroupCommit(commit)
    futures = [group.put("first")]
    entered.wait()
    futures += [group.put(index) for index in range(10)]
    go.set()
    assert [future.result() for future in futures] == ["first", *range(10)]
    group.stop()
    assert sizes == [1, 4, 4, 2]


# threads


def test_threads_count_exactly_and_leave_no_connection(store, path):
    patient = SQLiteStore(path)
    record = new_record(payload=b"0")
    patient.create(record)
    threads = [threading.Thread(target=count_up, args=(patient, record.id, 25)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert patient.load(record.id).payload == b"150"
    del threads, thread
    gc.collect()
    assert len(patient._pool._opened) == 1, "the main thread's"
    patient.teardown()
    assert len(patient._pool._opened) == 0


def test_teardown_while_others_are_at_work(path):
    store = SQLiteStore(path)
    record = new_record(payload=b"0")
    store.create(record)
    failures = []

    def work():
        try:
            count_up(store, record.id, 40)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        store.teardown()
    assert failures == []
    assert store.load(record.id).payload == b"120"
    store.teardown()


def test_a_dropped_store_closes_its_connections(path):
    store = SQLiteStore(path)
    store.create(new_record())
    store.inline().load("x")
    opened = [face._pool._opened for face in (store, store.inline())]
    connections = [connection for some in opened for connection in some]
    del store
    gc.collect()
    assert [connection.open for connection in connections] == [False, False]
    assert not Path(f"{path}-wal").exists(), "the last one out moves the log into the file"


# processes


def test_a_connection_is_closed_by_the_process_that_opened_it_alone(store):
    connection = store._pool.acquire()
    connection.lock.release()
    connection.pid, ours = -1, connection.pid
    store._pool.close()
    assert connection.open
    assert store._pool._opened == {connection}
    connection.pid = ours
    store._pool.close()
    assert not connection.open


def program(name, path):
    """Run one of sqlite_programs; its output. Warnings are errors there too."""
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    file = Path(__file__).with_name("sqlite_programs.py")
    done = subprocess.run([*command, file, name, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "fork_loses_nothing",
        "fork_among_threads",
        "fork_and_group_commit",
        "foreign_fork",
        "spawned",
        "import_is_light",
        "ends_untidily",
    ],
)
def test_in_a_process_of_its_own(name, path):
    assert program(name, path) == ""
    if name == "ends_untidily":
        assert not Path(f"{path}-wal").exists()


def test_processes_that_start_together_all_open_the_new_file(path):
    code = (
        "import sys; from session_mw.stores.sqlite import SQLiteStore; sys.stdout.write('.'); sys.stdout.flush();"
        " sys.stdin.read(1); SQLiteStore(sys.argv[1]).initialize()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    starters = [subprocess.Popen([sys.executable, "-c", code, path], **pipes) for _ in range(3)]
    for starter in starters:
        starter.stdout.read(1)
    for starter in starters:
        starter.stdin.close()
    for starter in starters:
        starter.stdin = None
        _, errors = starter.communicate(timeout=60)
        assert (starter.returncode, errors) == (0, b"")
