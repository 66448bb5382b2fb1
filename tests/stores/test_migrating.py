"""Two stores as one: the contract, for sessions of either store, and what the contract cannot know of two."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, ClassVar

import flask
import pytest
from cli_driver import run
from flask_site import site
from harness import App, Random
from msgspec import structs

from session_mw.cli.reach import Reached, configured
from session_mw.config import SessionConfig
from session_mw.core.operations import Outcome
from session_mw.errors import ConfigurationError, StoreError
from session_mw.service import AsyncSessionService, SessionService
from session_mw.stores.faces import store_of
from session_mw.stores.memory import MemoryStore
from session_mw.stores.migrating import AsyncMigratingStore, MigratingStore, migrating
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import Clock, FaultyAsyncStore, FaultyStore, StoreContract
from session_mw.testing.contract import new_record


class Told(MigratingStore):
    """Says when a command is about to be sent; its faces do as well."""

    def __init__(self, new, old, tell=lambda: None):
        super().__init__(new, old)
        self.tell = tell

    def aio(self):
        return AsyncTold(*self._stores, self)

    def _run(self, steps):
        return super()._run(_told(steps, self))


class AsyncTold(AsyncMigratingStore):
    def __init__(self, new, old, owner):
        super().__init__(new, old)
        self._owner = owner

    async def _run(self, steps):
        return await super()._run(_told(steps, self._owner))


def _told(steps, owner):
    try:
        step = next(steps)
        while True:
            owner.tell()
            step = steps.send((yield step))
    except StopIteration as stop:
        return stop.value


class TestContract(StoreContract):
    """Sessions that are born in the new store."""

    def make_store(self, tmp_path):
        return MigratingStore(MemoryStore(), MemoryStore())


class BornOld(Told):
    """Every session is born in the old store, so that every rule meets one that has yet to move."""

    def create(self, record):
        new, old = self._stores
        return new.load(record.id) is None and old.create(record)

    def aio(self):
        return AsyncBornOld(*self._stores, self)


class AsyncBornOld(AsyncTold):
    async def create(self, record):
        new, old = self._stores
        return await new.load(record.id) is None and await old.create(record)


class TestContractOfWhatMoves(StoreContract):
    """Two files, for the rules between processes."""

    costs: ClassVar = {"load": 3, "save": 4, "touch": 5, "list_user": 2}  # 3: for what is in neither

    def make_store(self, tmp_path):
        return BornOld(SQLiteStore(tmp_path / "new.db"), SQLiteStore(tmp_path / "old.db"))

    def open_again(self, tmp_path):
        return self.make_store(tmp_path)

    def before_each_command(self, store, tell):
        store.tell = tell

    def _pairs(self):
        """Without those of purge: it counts a session twice that is due while it moves."""
        return [pair for pair in super()._pairs() if pair.needs != "purge"]


# -- what the contract cannot know


class Both:
    """A migrating store, and its two halves to look into; ``faults`` counts and fails the calls of either."""

    def __init__(self) -> None:
        self.new, self.old = FaultyStore(MemoryStore()), FaultyStore(MemoryStore())
        self.store = MigratingStore(self.new, self.old)

    def born_old(self, **fields: Any) -> Any:
        record = new_record(**fields)
        assert self.old.create(record)
        self.old.forget()
        return record

    def found(self, id: str) -> tuple[Any, Any]:
        return self.new._store.load(id), self.old._store.load(id)


def following(record: Any, **fields: Any) -> Any:
    return structs.replace(record, **{"version": record.version + 1, "payload": b"changed", **fields})


def test_reading_moves_nothing() -> None:
    both = Both()
    record = both.born_old()
    assert both.store.load(record.id) == record
    assert both.store.list_user("alice") == [record]
    assert both.found(record.id) == (None, record)


def test_a_save_moves() -> None:
    both = Both()
    record = both.born_old()
    changed = following(record)
    assert both.store.save(changed, 1) is Outcome.SAVED
    assert both.found(record.id) == (changed, None)
    assert both.store.load(record.id) == changed
    assert both.store.list_user("alice") == [changed]


def test_a_touch_moves_and_keeps_the_later_times() -> None:
    both = Both()
    record = both.born_old()
    assert both.store.touch(record.id, record.last_activity - 5, record.expires_at + 5) is True
    moved = structs.replace(record, expires_at=record.expires_at + 5)
    assert both.found(record.id) == (moved, None)


def test_a_payload_alone_moves_with_the_times_of_a_later_touch() -> None:
    both = Both()
    record = both.born_old()
    both.old.touch(record.id, record.last_activity + 5, record.expires_at + 5)
    assert both.store.save(following(record), 1, payload_only=True) is Outcome.SAVED
    new, old = both.found(record.id)
    assert old is None
    assert (new.last_activity, new.expires_at) == (record.last_activity + 5, record.expires_at + 5)


def test_what_is_new_is_made_in_the_new_one_and_the_old_one_is_left_alone() -> None:
    both = Both()
    record = new_record()
    assert both.store.create(record) is True
    assert both.found(record.id) == (record, None)
    assert both.store.create(structs.replace(both.born_old(), payload=b"another's")) is False
    assert both.store.load(record.id) == record
    assert both.old.count("create") == 0


def test_once_moved_the_old_store_is_not_asked_any_more() -> None:
    both = Both()
    record = both.born_old()
    both.store.touch(record.id, record.last_activity + 1, record.expires_at + 1)
    both.old.forget()
    assert both.store.load(record.id) is not None
    assert both.store.save(following(record), 1) is Outcome.SAVED
    assert both.store.touch(record.id, record.last_activity + 2, record.expires_at + 2) is True
    assert both.old.calls == []


def test_what_moves_between_two_looks_is_found() -> None:
    both = Both()
    record = both.born_old()
    load = both.old.load

    def overtaken(id: str) -> Any:
        both.old.load = load  # type: ignore[method-assign]
        assert both.store.save(following(record), 1) is Outcome.SAVED
        return load(id)

    both.old.load = overtaken  # type: ignore[method-assign]
    assert both.store.load(record.id) == following(record)


def _overtaken(act: Any) -> tuple[Both, Any, Outcome]:
    """A save that moves, and *act* between its copy and its delete: by somebody past the migrating store."""
    both = Both()
    record = both.born_old()
    delete = both.old.delete

    def overtaken(*arguments: Any, **options: Any) -> Any:
        both.old.delete = delete  # type: ignore[method-assign]
        act(both, record)
        return delete(*arguments, **options)

    both.old.delete = overtaken  # type: ignore[method-assign]
    return both, record, both.store.save(following(record, payload=b"mine"), 1)


def test_a_save_past_it_in_the_old_store_is_not_lost() -> None:
    theirs = b"an old worker's"
    both, record, outcome = _overtaken(lambda both, r: both.old.save(following(r, payload=theirs), 1))
    assert outcome is Outcome.CONFLICT
    assert both.found(record.id) == (None, following(record, payload=theirs))
    newest = both.store.load(record.id)
    assert both.store.save(following(newest), newest.version) is Outcome.SAVED
    assert both.found(record.id) == (following(newest), None)


@pytest.mark.parametrize("how", ["delete", "close", "delete_user"])
def test_what_ends_in_the_old_store_meanwhile_is_not_brought_back(how: str) -> None:
    endings: dict[str, Any] = {
        "delete": lambda both, r: MemoryStore.delete(both.old._store, r.id),
        "close": lambda both, r: both.old.close(r.id, 1, until=r.expires_at),
        "delete_user": lambda both, r: both.old.delete_user("alice"),
    }
    both, record, outcome = _overtaken(endings[how])
    assert outcome is Outcome.GONE
    found = both.store.load(record.id)
    assert found is None or found.closed
    assert both.store.list_user("alice") == []
    assert both.new._store.load(record.id) is None


def test_not_even_if_somebody_has_written_to_the_copy() -> None:
    def act(both: Both, record: Any) -> None:
        copy = both.new.load(record.id)
        assert both.new.save(following(copy), copy.version) is Outcome.SAVED
        MemoryStore.delete(both.old._store, record.id)

    both, record, outcome = _overtaken(act)
    assert outcome is Outcome.GONE
    assert both.store.load(record.id) is None


CRASHES = {
    "save": lambda store, record: store.save(following(record), 1),
    "touch": lambda store, record: store.touch(record.id, record.last_activity + 9, record.expires_at + 9),
}
AFTERWARDS = {
    "delete": lambda store, record: store.delete(record.id),
    "delete version": lambda store, record: store.delete(record.id, expected_version=store.load(record.id).version),
    "close": lambda store, record: store.close(record.id, store.load(record.id).version, until=record.expires_at),
    "delete_user": lambda store, record: store.delete_user("alice"),
}


@pytest.mark.parametrize(("crash", "ending"), list(itertools.product(CRASHES, AFTERWARDS)))
def test_a_crash_in_the_middle_leaves_one_session_that_ends_as_one(crash: str, ending: str) -> None:
    """The worker dies between the copy and the delete."""
    both = Both()
    record = both.born_old()
    both.old.fail("delete")
    with pytest.raises(StoreError):
        CRASHES[crash](both.store, record)
    new, old = both.found(record.id)
    assert new is not None
    assert old is not None
    both.old.heal()
    assert both.store.load(record.id) == new
    assert both.store.list_user("alice") == [new]
    answer = AFTERWARDS[ending](both.store, record)
    assert answer in (Outcome.DELETED, 1)
    assert both.store.list_user("alice") == []
    new, old = both.found(record.id)
    assert new is None or new.closed
    assert old is None


def test_a_crash_in_the_middle_of_an_ending_brings_nothing_back() -> None:
    both = Both()
    record = both.born_old()
    both.old.fail("delete")
    with pytest.raises(StoreError):
        both.store.save(following(record), 1)
    both.old.heal()
    both.new.fail("close")
    with pytest.raises(StoreError):
        both.store.close(record.id, 2, until=record.expires_at)
    both.new.heal()
    new, old = both.found(record.id)
    assert old is None  # the hidden one goes first
    assert not new.closed


def test_purge_reaches_both_within_its_limit() -> None:
    both = Both()
    due = [new_record(expires_at=5) for _ in range(4)]
    for record in due[:2]:
        both.old.create(record)
    for record in due[2:]:
        both.new.create(record)
    assert both.store.purge(5, 3) == 3
    assert both.store.purge(5, 3) == 1
    assert both.store.purge(5, 3) == 0


def test_log_out_everywhere_reaches_both_and_spares_one() -> None:
    both = Both()
    kept, old = both.born_old(created_at=1), both.born_old(created_at=2)
    new = new_record(created_at=3)
    both.store.create(new)
    assert both.store.list_user("alice") == [new, old, kept]
    assert both.store.delete_user("alice", except_id=kept.id) == 2
    assert both.store.list_user("alice") == [kept]


def test_it_never_rotates_in_one_step() -> None:
    both = Both()
    assert both.store.can_rotate is False
    with pytest.raises(NotImplementedError):
        both.store.rotate(new_record(), "a", 1, until=5)
    with pytest.raises(NotImplementedError):
        asyncio.run(both.store.aio().rotate(new_record(), "a", 1, until=5))


# -- built


def test_the_kinds_are_told_apart() -> None:
    called, awaited = MemoryStore(), FaultyAsyncStore(MemoryStore().aio())
    assert type(migrating(called, MemoryStore())) is MigratingStore
    for new, old in ((called, awaited), (awaited, called)):
        assert type(migrating(new, old)) is AsyncMigratingStore
        with pytest.raises(ConfigurationError, match="has to be awaited"):
            MigratingStore(new, old)
    with pytest.raises(ConfigurationError, match="into itself"):
        migrating(called, called)
    with pytest.raises(ConfigurationError, match="is not a store"):
        migrating(called, object())
    assert repr(migrating(called, MemoryStore())) == (
        "<MigratingStore <MemoryStore 0 of 100000> -> <MemoryStore 0 of 100000>>"
    )


def test_one_process_s_memory_is_told_through_it() -> None:
    memory = MemoryStore()
    assert migrating(memory, MemoryStore()).built_in == memory.built_in


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"migrate_from": "memory:"}, "migrate_from= is the store that sessions are moved out of: add store="),
        ({"store": "sqlite:///a.db", "migrate_from": "sqlite:///a.db"}, "migrate_from and store are the same"),
        ({"store": "memory:", "migrate_from": 5}, "migrate_from must be a URL"),
    ],
)
def test_what_cannot_be_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SessionConfig(**settings)


def test_the_settings_name_it(tmp_path: Any) -> None:
    store = store_of(SessionConfig(store="memory:", migrate_from=f"sqlite:///{tmp_path}/old.db"))
    assert type(store) is MigratingStore
    assert [type(each) for each in store._stores] == [MemoryStore, SQLiteStore]
    shown = repr(SessionConfig(store="memory:", migrate_from="redis://:secret@host/0"))
    assert "secret" not in shown
    from_env = SessionConfig.from_env({"SESSION_MW_STORE": "memory:", "SESSION_MW_MIGRATE_FROM": "sqlite:///old.db"})
    assert from_env.migrate_from == "sqlite:///old.db"


# -- whole requests


def sites(**settings: Any) -> tuple[App, App, MemoryStore, MemoryStore]:
    """The app before and after, and its stores."""
    clock = Clock()
    old, new = MemoryStore(clock=clock), MemoryStore(clock=clock)
    before = App("store", store=old, clock=clock, **settings)
    after = App("store", store=new, migrate_from=old, clock=clock, **settings)
    after.layer.random = Random("after")
    return before, after, old, new


@pytest.mark.parametrize("settings", [{}, {"encryption": True, "secret_key": "k" * 43 + "another"}])
def test_a_session_goes_on_in_the_new_store(settings: Any) -> None:
    before, after, old, new = sites(**settings)
    browser = before.browser
    with before.request() as session:
        session.login(user_id="ada")
        session["n"] = 1
    with after.request(browser) as session:
        assert session["n"] == 1
        assert session.online()
    assert (len(old._live), len(new._live)) == (1, 0)
    with after.request(browser) as session:
        session["n"] = 2
    assert after.sent == []  # the token is the same
    assert (len(old._live), len(new._live)) == (0, 1)
    with after.request(browser) as session:
        assert session["n"] == 2
        session.regenerate(grace=30)
    with after.request(browser) as session:
        assert session["n"] == 2
        session.logout()
    with after.request(browser) as session:
        assert session["n"] == 2
        assert not session.online()


def test_a_rotation_ends_the_old_record_where_it_is() -> None:
    before, after, old, new = sites()
    with before.request() as session:
        session["n"] = 1
    browser, straggler = before.browser, before.browser.copy()
    with after.request(browser) as session:
        session.login(user_id="ada")
    assert (len(old._live), len(new._live)) == (0, 1)
    with after.request(straggler) as session:
        assert session == {}
    with before.request(straggler) as session:
        assert session == {}


def test_overlapping_requests_lose_nothing_and_nobody_comes_back() -> None:
    before, after, _, _ = sites()
    with before.request() as session:
        session["n"] = 1
    browser = before.browser
    one, two = after.begin(browser), after.begin(browser)
    one.session["one"] = 1
    two.session["two"] = 2
    for exchange in (one, two):
        exchange.respond()
        exchange.end()
    assert after.look(browser) == {"n": 1, "one": 1, "two": 2}
    one, two = after.begin(browser), after.begin(browser)
    one.session["late"] = 1
    two.session.destroy()
    two.respond()
    two.end()
    one.respond()
    one.end()
    assert after.look(browser) == {}


def test_workers_of_both_generations_serve_a_session_when_both_know_both_stores() -> None:
    """The first step of a rollout: old store first, new store second."""
    clock = Clock()
    old, new = MemoryStore(clock=clock), MemoryStore(clock=clock)
    first = App("store", store=old, migrate_from=new, clock=clock)
    second = App("store", store=new, migrate_from=old, clock=clock)
    browser = first.browser
    for number, each in enumerate(itertools.islice(itertools.cycle((first, second)), 8)):
        with each.request(browser) as session:
            assert session.get("n", 0) == number
            session["n"] = number + 1
            assert len(old._live) + len(new._live) <= 1
    with second.request(browser) as session:
        session["n"] = 9
    assert (len(old._live), len(new._live)) == (0, 1)


def test_the_service_reaches_both() -> None:
    before, after, _, _ = sites()
    with before.request() as session:
        session.login(user_id="ada")
        first = session.session_id
    with after.request() as session:
        session.login(user_id="ada")
        second = session.session_id
    service = SessionService(after.config)
    assert sorted(service.list_sessions("ada")) == sorted([first, second])
    assert service.get_session(first) == {}
    service.update_session(first, {"n": 1})
    assert after.look(before.browser) == {"n": 1}
    assert service.destroy_user_sessions("ada") == 2
    assert after.look(before.browser) == {}
    with before.request(type(before.browser)()) as session:
        session["n"] = 1
    after.clock.advance(10**6)
    assert service.cleanup_expired_sessions() >= 1


def test_the_awaited_service_reaches_both() -> None:
    before, _, old, _ = sites()
    with before.request() as session:
        session.login(user_id="ada")

    async def main() -> None:
        awaited = FaultyAsyncStore(MemoryStore(clock=before.clock).aio())
        async with AsyncSessionService(store=awaited, migrate_from=old, clock=before.clock) as service:
            (id,) = await service.list_sessions("ada")  # noqa: A001
            await service.update_session(id, {"n": 1})
            assert await service.get_session(id) == {"n": 1}
            assert await service.destroy_user_sessions("ada") == 1
            assert await service.list_sessions("ada") == []

    asyncio.run(main())


def test_flask_s_layers_and_service_share_it() -> None:
    old = MemoryStore()
    before, after = site("store", store=old), site("store", migrate_from=old)
    for app in (before, after):

        @app.get("/in")
        def log_in() -> str:
            flask.session.login(user_id="ada")
            return ""

    before.config["SESSION_MW"]["store"] = old
    first, client = before.test_client(), after.test_client()
    first.get("/in")
    cookie = first.get_cookie("session")
    assert cookie is not None
    client.set_cookie("session", cookie.value)
    assert client.get("/set/a/1").text == "1"
    assert not old._live
    after.config["SESSION_COOKIE_DOMAIN"] = "localhost"  # another layer of the same app
    assert client.get("/").json == {"a": "1"}
    with after.app_context():
        service = after.extensions["session_mw"].service()
    first.get("/in")
    assert len(service.list_sessions("ada")) == 2
    assert service._store is after.session_interface._layer(after).home.store
    after.config["SESSION_MW"]["migrate_from"] = MemoryStore()  # another place, so another store
    assert service._store is not after.session_interface._layer(after).home.store
    after.config["SESSION_MW"]["migrate_from"] = old
    assert service.destroy_user_sessions("ada") == 2
    assert client.get("/").json == {}


def test_the_command_line_reaches_both(tmp_path: Any) -> None:
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    env = {"SESSION_MW_STORE": new, "SESSION_MW_MIGRATE_FROM": old}
    with SessionService.from_url(old) as service:
        service.create_session("ada")
    missing = run("sessions", "list", "--user", "ada", "--json", env=env)
    assert missing.exit_code != 0  # nothing is made: the new store has yet to be
    assert not (tmp_path / "new.db").exists()
    with SessionService.from_url(new) as service:
        service.create_session("ada")
    both = run("sessions", "list", "--user", "ada", "--json", env=env)
    assert both.stdout.count('"session_id"') == 2
    assert run("sessions", "list", "--user", "ada", "--json", "--store", new, env=env).stdout.count('"session_id"') == 1
    assert "CREATE TABLE" in run("schema", env=env).stdout
    with pytest.MonkeyPatch.context() as environ:
        for name, value in env.items():
            environ.setenv(name, value)
        at = Reached(configured(None))
        assert at.service._store is at.store
        at.close()
    ended = run("sessions", "destroy-user", "ada", "--yes", env=env)
    assert ended.exit_code == 0, ended.output
    assert run("sessions", "list", "--user", "ada", "--json", env=env).stdout.count('"session_id"') == 0


def test_the_awaited_kind_opens_nothing_that_is_not_there(tmp_path: Any) -> None:
    store = migrating(FaultyAsyncStore(MemoryStore().aio()), SQLiteStore(tmp_path / "old.db"))
    with pytest.raises(StoreError):
        asyncio.run(store.open_existing())
    assert not (tmp_path / "old.db").exists()
