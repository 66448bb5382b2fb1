"""``session-mw cleanup``, ``stats``, ``schema``; which store a command finds, and how it says that it found none."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_driver import name_store, on_terminal, one_line, real, run
from msgspec import structs

from session_mw import SessionService, generate_key
from session_mw.core.operations import AsyncStore
from session_mw.errors import StoreBusyError
from session_mw.managers.service import PURGE_BATCH
from session_mw.stores import StoreStats
from session_mw.stores.faces import Awaited
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import FaultyStore
from session_mw.testing.contract import new_record

OVER, LONG = 1_000_000_000, 2**32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    """Two sessions of alice, one of bob; three that expired; one closed whose minute is over, one whose is not."""
    store = SQLiteStore(path)
    fill(store)
    yield store
    store.teardown()


def fill(store: Any) -> None:
    live = {"expires_at": LONG, "absolute_expires_at": LONG}
    for user, created in (("alice", 1_700_000_100), ("alice", 1_700_000_000), ("bob", 1_700_000_050)):
        store.create(structs.replace(new_record(), user_id=user, created_at=created, payload=b"x" * 7, **live))
    expire(store, 3)
    for until in (OVER, LONG):
        record = new_record()
        store.create(record)
        store.close(record.id, 1, until=until)


def expire(store: Any, count: int) -> None:
    for _ in range(count):
        store.create(structs.replace(new_record(user_id=None), expires_at=OVER, absolute_expires_at=OVER))


def kept(store: Any) -> StoreStats:
    told: StoreStats = store.stats(OVER)
    return told


# -- cleanup -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_what_a_run_deletes(store: SQLiteStore, url: str) -> None:
    before = kept(store)
    done = run("cleanup", "--dry-run", "--store", url)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Would delete 4 records.\n", "")
    done = run("cleanup", "--dry-run", "--limit", "1", "--store", url)
    assert done.stdout == "Would delete 1 record.\n"
    assert kept(store) == before, "a dry run deleted something"
    done = run("cleanup", "--store", url)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Deleted 4 records.\n", "")
    assert kept(store) == structs.replace(before, expired=0)
    assert run("cleanup", "--store", url).stdout == "Deleted 0 records.\n"


def test_cleaning_up_with_a_limit_and_as_json(store: SQLiteStore, url: str) -> None:
    done = run("cleanup", "--limit", "3", "--json", "--store", url)
    assert json.loads(done.stdout) == {"store": url, "dry_run": False, "count": 3}
    for limit in ("5", "1"):
        done = run("cleanup", "--dry-run", "--limit", limit, "--json", "--store", url)
        assert json.loads(done.stdout) == {"store": url, "dry_run": True, "count": 1}
    for bad in ("0", "-1", "many"):
        one_line(run("cleanup", "--limit", bad, "--store", url), "--limit")
    assert kept(store).expired == 1


def test_on_a_terminal_cleaning_up_shows_how_far_it_is(store: SQLiteStore, url: str) -> None:
    expire(store, PURGE_BATCH)
    done = on_terminal("cleanup", "--store", url)
    assert done.code == 0
    assert "Deleting" in done.text
    assert f"{PURGE_BATCH + 4}/{PURGE_BATCH + 4}" in done.text
    assert f"Deleted {PURGE_BATCH + 4:,} records." in done.text


def test_a_bar_of_unknown_length(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = FaultyStore(MemoryStore())
    fill(inner)
    done = run("cleanup", "--store", name_store(monkeypatch, inner), env={"FORCE_COLOR": "1", "COLUMNS": "80"})
    assert (done.exit_code, done.stdout) == (0, "Deleted 4 records.\n")
    assert "4/?" in done.stderr


def test_a_clean_up_that_fails_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaultyStore(MemoryStore())
    expire(store, PURGE_BATCH + 1)
    store.fail("purge", after=1, times=None, error=StoreBusyError("another one is writing"))
    url = name_store(monkeypatch, store)
    one_line(run("cleanup", "--store", url), f"another one is writing; {PURGE_BATCH:,} records were deleted", code=4)
    done = run("cleanup", "--json", "--store", url)
    one_line(done, "another one is writing", code=4)
    assert "before" not in done.stderr


def test_what_cannot_count_cannot_try(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MemoryStore()
    fill(inner)
    for plain in (FaultyStore(inner), inner.aio()):
        url = name_store(monkeypatch, plain)
        for words in (["cleanup", "--dry-run"], ["stats"], ["stats", "--json"]):
            done = run(*words, "--store", url)
            one_line(done, "mine://store.example:1234/7", "cannot count")
            assert "hunter2" not in done.stderr
    assert kept(inner).expired == 4


# -- stats -------------------------------------------------------------------------------------------------------------


def test_counting_a_store(store: SQLiteStore, url: str) -> None:
    told = json.loads(run("stats", "--json", "--store", f"{url}?durable=1").stdout)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told.pop("at"))
    assert told == {
        "store": url,
        "live": 3,
        "expired": 4,
        "closed": 1,
        "users": 2,
        "oldest": "2023-11-14T22:13:20Z",
        "newest": "2023-11-14T22:15:00Z",
        "payload_bytes": 21,
    }
    done = run("stats", "--store", url)
    values = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(values) == ["store", "at", *[name for name in told if name != "store"]]
    assert values["live"] == "3"
    assert re.fullmatch(r"2023-11-14T22:13:20Z \(\d+ days ago\)", values["oldest"])


def test_counting_nothing(path: Path, url: str) -> None:
    SQLiteStore(path).initialize()
    told = json.loads(run("stats", "--json", "--store", url).stdout)
    assert (told["live"], told["users"], told["oldest"], told["newest"]) == (0, 0, None, None)
    assert "oldest\t-\n" in run("stats", "--store", url).stdout


class InspectableAwaited(Awaited):
    """An awaited store that can be looked over, and says when it was closed."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, store)
        self.closed = 0

    async def stats(self, now: int) -> StoreStats:
        await asyncio.sleep(0)
        told: StoreStats = self._store.stats(now)  # type: ignore[attr-defined]
        return told

    async def count_expired(self, now: int) -> int:
        return (await self.stats(now)).expired

    async def teardown(self) -> None:
        self.closed += 1

    def schema(self) -> str:
        return "CREATE TABLE far_away (id);\n"


def test_a_store_that_must_be_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MemoryStore()
    fill(inner)
    awaited: AsyncStore = InspectableAwaited(inner)
    url = name_store(monkeypatch, awaited)
    listed = run("sessions", "list", "--user", "bob", "--store", url).stdout.splitlines()
    assert len(listed) == 1
    handle = listed[0].partition("\t")[0]
    assert run("sessions", "show", handle, "--store", url).exit_code == 0
    assert run("sessions", "destroy", handle, "--store", url).exit_code == 0
    one_line(run("sessions", "show", handle, "--store", url), "ended a moment ago", code=3)
    assert run("sessions", "destroy-user", "alice", "--yes", "--store", url).stdout == "Destroyed 2 sessions.\n"
    assert run("cleanup", "--dry-run", "--store", url).stdout == "Would delete 4 records.\n"
    assert run("cleanup", "--store", url).stdout == "Deleted 4 records.\n"
    assert json.loads(run("stats", "--json", "--store", url).stdout)["expired"] == 0
    assert awaited.closed == 8  # type: ignore[attr-defined]
    assert run("schema", "--store", url).stdout == "CREATE TABLE far_away (id);\n"


# -- schema ------------------------------------------------------------------------------------------------------------


def test_a_schema_is_what_the_database_takes(path: Path, url: str) -> None:
    sql = run("schema", "--store", f"{url}?table=web").stdout
    document = json.loads(run("schema", "--json", "--store", f"{url}?table=web").stdout)
    assert document == {"store": url, "sql": sql}
    assert not path.exists(), "asking for the schema opened the store"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(sql)
    assert run("stats", "--store", f"{url}?table=web").exit_code == 0


def test_some_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    url = name_store(monkeypatch, MemoryStore())
    assert run("schema", "--store", url).stdout == "nothing: this store makes what it needs\n"
    document = json.loads(run("schema", "--json", "--store", url).stdout)
    assert document == {"store": "mine://store.example:1234/7", "sql": None}


# -- which store, with which settings ----------------------------------------------------------------------------------

STORE_COMMANDS = [
    ["sessions", "list", "--user", "alice"],
    ["sessions", "show", "x" * 24],
    ["sessions", "destroy", "x" * 24],
    ["sessions", "destroy-user", "alice", "--yes"],
    ["cleanup"],
    ["cleanup", "--dry-run"],
    ["stats"],
]


@pytest.mark.parametrize("command", [*STORE_COMMANDS, ["schema"]], ids=" ".join)
def test_memory_is_nothing_another_process_sees(command: list[str]) -> None:
    one_line(run(*command, "--store", "memory:"), "memory:", "the app's own process")
    one_line(run(*command, env={"SESSION_MW_STORE": "MEMORY:?max_sessions=5"}), "memory:")


@pytest.mark.parametrize("command", [*STORE_COMMANDS, ["schema"]], ids=" ".join)
def test_a_store_must_be_named(command: list[str]) -> None:
    one_line(run(*command), "--store URL", "SESSION_MW_STORE")
    client_kept = {"SESSION_MW_SECRET_KEY": generate_key()}
    one_line(run(*command, env=client_kept), "--store URL", "SESSION_MW_STORE")
    one_line(run(*command, "--store", "nonsense://x"), "unknown store scheme 'nonsense'")
    one_line(run(*command, "--store", ""), "--store is empty")
    one_line(run(*command, "--store", "no-url"), "store must be a URL", "(from --store)")


@pytest.mark.parametrize("command", STORE_COMMANDS, ids=" ".join)
def test_a_store_that_is_not_there_is_no_empty_one(command: list[str], tmp_path: Path) -> None:
    missing, apps = tmp_path / "missing.db", tmp_path / "app.db"
    with closing(sqlite3.connect(apps)) as database:
        database.execute("CREATE TABLE orders (id)")
    one_line(run(*command, "--store", f"sqlite:///{missing}"), "missing.db: no such file", code=4)
    one_line(run(*command, "--store", f"sqlite:///{apps}"), "no table 'sessions'", code=4)
    one_line(run(*command, "--store", f"sqlite:///{__file__}"), "not an SQLite database", code=4)
    assert not missing.exists()
    with closing(sqlite3.connect(apps)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("orders",)]


def test_the_option_beats_the_environment(store: SQLiteStore, url: str) -> None:
    elsewhere = {"SESSION_MW_STORE": "sqlite:////nowhere/else.db"}
    one_line(run("stats", env=elsewhere), "/nowhere/else.db", code=4)
    for env in (
        elsewhere,
        {"SESSION_MW_store": "memory:"},
        {"SESSION_MW_MAX_SESSIONS_PER_USER": "3"},
        {"SESSION_MW_SECRET_KEY": generate_key(), "SESSION_MW_REVOCATION": url, "SESSION_MW_REVOCATION_STALENESS": "9"},
        {"SESSION_MW_SECRET_KEY": generate_key(), "SESSION_MW_ENCRYPT_COOKIE_DATA": "false"},
        {"SESSION_MW_STORE": "file:", "SESSION_MW_SAVE_PATH": "/nowhere"},
    ):
        done = run("sessions", "list", "--user", "bob", "--store", url, env=env)
        assert done.exit_code == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1


def test_all_other_settings_come_from_the_environment(url: str) -> None:
    one_line(run("stats", "--store", url, env={"SESSION_MW_IDLE_TIMEOT": "9"}), "SESSION_MW_IDLE_TIMEOUT")
    wrong = {"SESSION_MW_STORE": url, "SESSION_MW_ENCRYPTION": "yes"}
    one_line(run("stats", env=wrong), "secret_key=", "(from SESSION_MW_ENCRYPTION")
    with SessionService.from_url(url, idle_timeout=50_000) as service:
        handle = service.create_session("alice", {"when": "then"})
    env = {"SESSION_MW_IDLE_TIMEOUT": "50000", "SESSION_MW_STORE": url}
    assert run("sessions", "show", handle, "--data", env=env).exit_code == 0


def test_a_directory_may_be_named_beside_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    name_store(monkeypatch, MemoryStore(), scheme="file")
    env = {"SESSION_MW_STORE": "file:", "SESSION_MW_SAVE_PATH": "/somewhere"}
    assert run("sessions", "list", "--user", "bob", env=env).exit_code == 0


def test_interrupted_it_closes_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(MemoryStore):
        closed = False

        def purge(self, now: int, limit: int) -> int:
            raise KeyboardInterrupt

        def teardown(self) -> None:
            self.closed = True

    store = Slow()
    assert run("cleanup", "--store", name_store(monkeypatch, store)).exit_code == 130
    assert store.closed


def test_as_a_program_it_cleans_up(store: SQLiteStore, url: str) -> None:
    command = ["-W", "error", "-m", "session_mw", "cleanup", "--json"]
    done = real(*command, env={"SESSION_MW_STORE": url})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"store": url, "dry_run": False, "count": 4}
