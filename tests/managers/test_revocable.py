"""RevocableCookieManager: a sealed cookie that has ended opens nowhere, whoever holds a copy of it."""

from __future__ import annotations

from typing import Any

import pytest
from harness import KEY, App, Browser
from msgspec import structs

from session_mw.asgi import SessionMiddleware
from session_mw.config import SessionConfig
from session_mw.core.operations import Outcome
from session_mw.core.record import Record
from session_mw.core.state import OPEN
from session_mw.errors import ConfigurationError, SessionTooLargeError, StoreConflictError, StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyStore
from session_mw.wsgi import SessionMiddleware as WsgiMiddleware


class Counting(MemoryStore):
    """Counts what is asked."""

    asked = 0
    found: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__(evict=False)

    def load(self, id: str) -> Record | None:
        self.asked += 1
        record = super().load(id)
        if record is not None:
            self.found |= {id}
        return record


def app(**settings: Any) -> App:
    return App("cookie", **{"revocation": Counting(), **settings})


def signed_in(app: App, user: str = "alice", browser: Browser | None = None) -> Browser:
    with app.request(browser) as session:
        session["cart"] = [1]
        session.login(user_id=user)
    return (app.browser if browser is None else browser).copy()


ENDINGS = {
    "logout": lambda session: session.logout(),
    "login": lambda session: session.login(),
    "destroy": lambda session: session.destroy(),
    "destroy all": lambda session: session.destroy(True),
    "regenerate": lambda session: session.regenerate(grace=0),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_copy_of_an_ended_seal_opens_nothing(ending: str) -> None:
    here = app()
    thief = signed_in(here)
    with here.request() as session:
        ENDINGS[ending](session)
    here.told()
    with here.request(thief) as session:
        assert not session.online()
        assert session == {}
        session["planted"] = True
    assert here.sent == []  # the browser may hold a newer one
    assert here.told("refused", "dropped") == ["refused:stale_token", "dropped:stale_token"]
    assert here.look(thief) == {}


@pytest.mark.parametrize("seconds", [59, 60])
@pytest.mark.parametrize("others", [False, True])
def test_who_holds_an_ended_seal_begins_anew_after_a_minute(seconds: int, others: bool) -> None:
    """As beside a store: by then no newer cookie can be under way."""
    shop = app()
    signed_in(shop)
    mine = shop.browser.copy()
    shop.clock.advance(1)
    with shop.request(signed_in(shop, browser=type(mine)()) if others else shop.browser) as s:
        s.destroy_others() if others else s.logout()
    shop.clock.advance(seconds)
    shop.told()
    with shop.request(mine) as s:
        assert (s.online(), dict(s)) == (False, {})
        s["csrf"] = 1
    assert bool(shop.sent) is (seconds == 60)
    assert shop.look(mine) == ({"csrf": 1} if seconds == 60 else {})
    assert shop.told("refused")[0] == ("refused:ended" if seconds == 60 else "refused:stale_token")


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_a_list_it_does(ending: str) -> None:
    here = App("cookie")
    thief = signed_in(here)
    with here.request() as session:
        ENDINGS[ending](session)
    assert here.look(thief) == {"cart": [1]}


def test_a_session_that_was_emptied_is_over_too() -> None:
    here = app()
    with here.request() as session:
        session["a"] = 1
    copy = here.browser.copy()
    with here.request() as session:
        del session["a"]
    assert not here.browser
    assert here.look(copy) == {}


def test_nothing_is_remembered_of_a_session_that_goes_on() -> None:
    here = app()
    old = signed_in(here)
    with here.request() as session:
        session["cart"].append(2)
    assert here.look() == {"cart": [1, 2]}
    assert here.look(old) == {"cart": [1]}  # the same session: of two seals, whichever came last
    assert here.config.revocation.purge(2**40, 100) == 0


def test_the_grace_of_a_regenerate_lets_read_and_not_write() -> None:
    here = app()
    late = signed_in(here)
    with here.request() as session:
        session.regenerate(grace=20)
    with here.request(late) as session:
        assert session["cart"] == [1]
        session["cart"].append(2)
    assert here.sent == []
    assert here.told("dropped") == ["dropped:gone"]
    here.clock.advance(20)
    assert here.look(late) == {}
    assert here.look() == {"cart": [1]}


LAST = {name: ENDINGS[name] for name in ("logout", "destroy", "destroy all", "login")}


@pytest.mark.parametrize("ending", LAST)
def test_the_grace_ends_with_the_session(ending: str) -> None:
    here = app()
    late = signed_in(here)
    for _ in range(2):
        with here.request() as session:
            session.regenerate(grace=300)
    assert here.look(late) == {"cart": [1]}
    with here.request() as session:
        LAST[ending](session)
    assert here.look(late) == {}


def test_rotations_in_a_row_are_followed_and_not_for_ever() -> None:
    here = app()
    late = signed_in(here)
    for _ in range(8):
        with here.request() as session:
            session.regenerate(grace=300)
    assert here.look(late) == {"cart": [1]}
    with here.request() as session:
        session.regenerate(grace=300)
    assert here.look(late) == {}
    assert here.look() == {"cart": [1]}


@pytest.mark.parametrize("ending", ["logout", "destroy", "destroy all"])
@pytest.mark.parametrize("rotations", [1, 3])
@pytest.mark.parametrize("grace", [0, 30])
def test_an_ending_follows_to_where_the_session_has_gone(ending: str, rotations: int, grace: int) -> None:
    """As of an overlapping tab: what it was told has happened, and no cookie, as it came too late to write."""
    here = app()
    signed_in(here)
    slow = here.begin()
    assert slow.session.online()
    for _ in range(rotations):
        with here.request() as session:
            session.regenerate(grace=grace)
    ENDINGS[ending](slow.session)
    assert slow.respond() == []
    slow.end()
    assert here.look() == here.look(slow.browser) == {}
    assert "dropped:gone" in here.told()


def test_an_app_that_fails_does_not_undo_the_logout_of_an_overlapping_tab() -> None:
    here = app()
    late = signed_in(here)
    with here.request() as session:
        session.regenerate()
    request = here.begin(late)
    request.session.logout()
    request.end(failed=True)
    assert here.look() == {}


def test_an_ending_follows_a_rotation_between_question_and_entry() -> None:
    here = app(revocation=Overtaken())
    copy = signed_in(here)
    first = here.begin()
    handle = first.session.session_id
    with here.request() as session:
        session.regenerate()
    entry = here.config.revocation.load(handle)
    here.config.revocation.delete(handle)  # not yet: it falls between
    here.config.revocation.rivals = (entry,)
    first.session.destroy()
    assert first.respond() == []
    assert here.look() == here.look(copy) == {}


def test_no_ending_follows_into_a_login() -> None:
    """It stands on its own proof, and leaves no trace."""
    here = app()
    signed_in(here)
    slow = here.begin()
    assert slow.session.online()
    with here.request() as session:
        session.login()
    slow.session.destroy()
    assert slow.respond() == []
    assert here.look() == {"cart": [1]}


def test_a_login_after_a_logout_ends_what_the_session_has_become() -> None:
    here = app()
    signed_in(here)
    slow = here.begin()
    slow.session.logout()
    slow.session.login(user_id="bob")
    with here.request() as session:
        session.regenerate()
    new = here.browser.copy()
    assert slow.respond()
    assert here.look(new) == {}
    with here.request() as session:
        assert session.user_id == "bob"


def test_others_end_whatever_has_become_of_the_session_that_asked() -> None:
    here = app()
    thief = signed_in(here, browser=Browser())
    late = signed_in(here)
    with here.request() as session:
        session.regenerate()
    with here.request(late) as session:
        session["changed"] = True
        session.destroy_others()
    assert here.sent == []
    assert here.look(thief) == {}
    assert here.look() == here.look(late) == {"cart": [1]}  # by the old id as by the new one


def test_others_end_though_the_session_that_asked_has_ended() -> None:
    here = app()
    thief = signed_in(here, browser=Browser())
    copy = signed_in(here)
    slow = here.begin()
    slow.session["changed"] = True
    slow.session.destroy_others()
    with here.request(copy) as session:
        session.logout()
    assert slow.respond() == []
    assert here.look(thief) == here.look(slow.browser) == {}


def test_who_logs_in_ends_the_others_and_logs_out_again_has_done_so() -> None:
    here = app()
    stale = signed_in(here)
    with here.request() as session:
        session.destroy()
    other = signed_in(here, browser=Browser())
    with here.request(stale) as session:
        session.login(user_id="alice")
        session.destroy_others()
        session.logout()
    assert here.sent == []
    assert here.look(other) == {}


def test_who_writes_after_a_concurrent_logout_gets_no_cookie() -> None:
    here = app()
    signed_in(here)
    slow = here.begin()
    slow.session["cart"].append(2)
    with here.request() as session:
        session.logout()
    assert slow.respond() == []
    slow.end()
    assert here.told("dropped") == ["dropped:gone"]
    assert slow.session["cart"] == [1, 2]  # served as it was opened
    assert here.look() == {"cart": [1]}


def test_a_login_stands_on_its_own_proof() -> None:
    here = app()
    signed_in(here)
    slow = here.begin()
    slow.session["mine"] = True
    slow.session.login(user_id="alice")
    with here.request() as session:
        session.destroy()
    assert slow.respond()
    assert here.look() == {"mine": True}
    with here.request() as session:
        assert session.online()
        assert session.user_id == "alice"


def test_an_ended_seal_can_log_in_again() -> None:
    here = app()
    thief = signed_in(here)
    with here.request() as session:
        session.logout()
    with here.request(thief) as session:
        session.login(user_id="alice")
        session["new"] = 1
    with here.request(thief) as session:
        assert session.online()
        assert dict(session) == {"new": 1}
        session["newer"] = 2
    assert here.look(thief) == {"new": 1, "newer": 2}


def test_of_two_rotations_at_once_one_counts() -> None:
    here = app()
    signed_in(here)
    one, two = here.begin(), here.begin()
    one.session.regenerate()
    two.session.regenerate()
    assert one.respond()
    assert two.respond() == []
    assert here.look() == {"cart": [1]}


def test_destroy_others_ends_every_other_session_of_the_owner() -> None:
    here = app()
    phone, laptop, bob = Browser(), Browser(), Browser()
    for browser, user in ((phone, "alice"), (laptop, "alice"), (bob, "bob")):
        signed_in(here, user, browser)
    with here.request(laptop) as session:
        session.destroy_others()
    assert here.look(phone) == {}
    assert here.look(laptop) == here.look(bob) == {"cart": [1]}
    with here.request(laptop) as session:  # whoever is kept is kept under a new id, too
        session.regenerate(grace=0)
    assert here.look(laptop) == {"cart": [1]}
    with here.request(laptop) as session:
        session.regenerate(grace=0)
    assert here.look(laptop) == {"cart": [1]}
    here.clock.advance(1)
    signed_in(here, "alice", phone)
    assert here.look(phone) == {"cart": [1]}
    with here.request(phone) as session:
        session.destroy_others()
    assert here.look(laptop) == {}
    assert here.look(phone) == {"cart": [1]}


def test_with_oneself_when_that_is_asked_for() -> None:
    here = app()
    other = signed_in(here, "alice", Browser())
    copy = signed_in(here)
    with here.request() as session:
        session.destroy_others()
        session.destroy()
    assert here.look(other) == here.look(copy) == {}


def test_the_list_tells_nothing_about_anybody() -> None:
    here = app()
    signed_in(here)
    with here.request() as session:
        session.destroy_others()
    store = here.config.revocation
    here.look()
    (entry,) = map(store.load, store.found)
    assert entry.user_id is None
    assert b"alice" not in entry.payload
    assert store.list_user("alice") == []


def test_an_entry_lasts_as_long_as_the_seals_it_concerns() -> None:
    here = app(idle_timeout=100, absolute_timeout=1000)
    signed_in(here)
    with here.request() as session:
        session.destroy()
    store = here.config.revocation
    assert store.purge(here.clock.now + 999, 10) == 0
    assert store.purge(here.clock.now + 1000, 10) == 1


def test_staleness_saves_the_question_at_opening_and_not_before_a_seal() -> None:
    here = app(revocation_staleness=60, touch_interval=50)
    store = here.config.revocation
    thief = signed_in(here)
    store.asked = 0
    assert here.look() == {"cart": [1]}
    assert store.asked == 0
    with here.request() as session:
        session.destroy()
    assert store.asked > 0
    with here.request(thief) as session:
        assert session["cart"] == [1]  # within the chosen staleness
        session["cart"].append(2)
    assert here.sent == []
    here.clock.advance(60)
    assert here.look(thief) == {}


def test_an_untouched_or_anonymous_request_asks_nothing_or_once() -> None:
    here = app()
    store = here.config.revocation
    with here.request() as session:
        session["a"] = 1
    assert store.asked == 0
    with here.request():
        pass
    assert store.asked == 0
    with here.request() as session:
        assert session["a"] == 1
    assert store.asked == 1


def test_an_early_commit_has_nothing_to_write() -> None:
    here = app()
    store = here.config.revocation
    signed_in(here)
    with here.request() as session:
        session.logout()
        asked = store.asked
        session.commit()
        assert store.asked == asked
    assert here.look() == {"cart": [1]}


def test_an_ended_seal_that_is_only_looked_at_is_no_event() -> None:
    here = app()
    thief = signed_in(here)
    with here.request() as session:
        session.logout()
    here.told()
    with here.request(thief) as session:
        assert session == {}
    assert here.told("dropped") == []


def test_what_is_asked_is_what_the_docs_say() -> None:
    here = app()
    store = here.config.revocation
    signed_in(here)
    store.asked = 0
    here.look()
    assert store.asked == 2  # its own entry and its owner's
    store.asked = 0
    with here.request() as session:
        session["cart"].append(2)
    assert store.asked == 4
    store.asked = 0
    with here.request() as session:
        session.regenerate()
    assert store.asked == 5  # whether this is the one its owner kept


def test_what_is_too_large_ends_nothing() -> None:
    here = app()
    signed_in(here)
    request = here.begin()
    request.session["big"] = "x" * 5000
    request.session.regenerate()
    with pytest.raises(SessionTooLargeError):
        request.respond()
    assert here.look() == {"cart": [1]}


def test_an_app_that_fails_does_not_undo_its_logout() -> None:
    here = app()
    copy = signed_in(here)
    request = here.begin()
    request.session.logout()
    request.end(failed=True)
    assert here.look(copy) == {}


def test_a_store_that_fails_is_no_logout() -> None:
    store = FaultyStore(MemoryStore(evict=False))
    here = app(revocation=store)
    signed_in(here)
    store.fail("load")
    with pytest.raises(StoreError):
        here.look()
    store.heal()
    assert here.look() == {"cart": [1]}


def test_a_foreign_record_is_an_error() -> None:
    here = app()
    signed_in(here)
    with here.request() as session:
        handle = session.session_id
    assert handle is not None
    here.config.revocation.create(Record(handle, b"", None, 0, 0, 2**40, 2**40, None, None, None, 1, b"{}"))
    with pytest.raises(StoreError, match="none of ours"):
        here.look()


@pytest.mark.anyio
async def test_an_open_socket_is_told() -> None:
    here = app()
    signed_in(here)
    socket = here.begin().session
    assert socket.online()
    here.layer.home = here.layer.home._replace(astore=here.config.revocation.aio())  # sockets are asked on a loop
    seen = socket._state.base
    assert seen is not None
    for _ in range(3):  # it goes on under each new id, past every grace
        with here.request() as session:
            session.regenerate()
            handle = session.session_id
        seen = await here.layer.still_there(socket, seen, active=True)
        assert seen is not None
        assert seen.id == handle
        here.clock.advance(30)
    with here.request() as session:
        session.destroy()
    assert await here.layer.still_there(socket, seen, active=True) is None
    here.clock.advance(10**7)
    assert await here.layer.still_there(socket, seen, active=True) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"store": "memory:", "revocation": "memory:"}, "kept by the client"),
        ({"revocation": "memory:"}, "secret_key"),
        ({"secret_key": KEY, "revocation_staleness": 5}, "add it"),
        ({"secret_key": KEY, "revocation": 5}, "a store"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        SessionConfig(**settings)


@pytest.mark.parametrize("store", ["memory:", MemoryStore(), MemoryStore().aio()], ids=repr)
def test_a_store_that_forgets_early_is_refused(store: Any) -> None:
    """Whoever fills it with entries of their own would make others' sessions open again."""
    with pytest.raises(ConfigurationError, match="forgets nothing") as caught:
        SessionMiddleware(None, secret_key=KEY, revocation=store)  # type: ignore[arg-type]
    assert SessionMiddleware(None, secret_key=KEY, revocation="memory:?evict=0")  # type: ignore[arg-type]
    assert "evict=0" in str(caught.value)


def test_a_full_list_ends_nothing_and_forgets_nothing() -> None:
    here = app(revocation=MemoryStore(1, evict=False, clock=Clock(0)))
    thief = signed_in(here)
    with here.request() as session:
        session.logout()
    other = Browser()
    signed_in(here, "bob", other)
    with pytest.raises(StoreError, match="full"), here.request(other) as session:
        session.destroy()
    assert here.look(other) == {"cart": [1]}
    assert here.look(thief) == {}


def test_no_password_of_its_url_is_shown() -> None:
    assert "hunter2" not in repr(SessionConfig(secret_key=KEY, revocation="sqlite:///x.db?key=hunter2"))


def test_an_awaited_list_needs_asgi() -> None:
    with pytest.raises(ConfigurationError, match="awaited"):
        WsgiMiddleware(lambda environ, start: [], secret_key=KEY, revocation=MemoryStore(evict=False).aio())
    assert SessionMiddleware(None, secret_key=KEY, revocation=MemoryStore(evict=False).aio())  # type: ignore[arg-type]


class Overtaken(Counting):
    """Somebody else is faster, once, just before the write."""

    rivals: tuple[Record, ...] = ()

    def _overtake(self) -> None:
        rivals, self.rivals = self.rivals, ()
        for rival in rivals:
            if not super().create(rival):
                old = super().load(rival.id)
                assert old is not None
                super().save(structs.replace(rival, version=old.version + 1), old.version)

    def create(self, record: Record) -> bool:
        self._overtake()
        return super().create(record)

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        self._overtake()
        return super().save(record, expected_version, payload_only=payload_only)


def remembered(here: App, browser: Browser) -> Record:
    """The entry of a user's ended sessions."""
    store = here.config.revocation
    here.look(browser)
    (entry,) = [record for record in map(store.load, store.found) if record is not None]
    return entry


@pytest.mark.parametrize("asked_before", [False, True])
def test_two_that_end_each_other_leave_one(asked_before: bool) -> None:
    """Whoever is written last is kept; nobody is told to try again."""
    here = app(revocation=Overtaken())
    phone, laptop = Browser(), Browser()
    signed_in(here, "alice", phone)
    signed_in(here, "alice", laptop)
    with here.request(phone) as session:
        session.destroy_others()
    entry = remembered(here, phone)
    here.clock.advance(1)
    signed_in(here, "alice", laptop)
    if not asked_before:
        here.config.revocation.delete(entry.id)
    here.config.revocation.rivals = (entry,)
    with here.request(laptop) as session:
        session.destroy_others()
    assert here.look(laptop) == {"cart": [1]}
    assert here.look(phone) == {}


class Never(Counting):
    """Its saves always conflict."""

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        return Outcome.CONFLICT


@pytest.mark.parametrize("what", ["destroy_others", "regenerate"])
def test_a_list_that_never_settles_is_an_error(what: str) -> None:
    here = app(revocation=Never())
    signed_in(here)
    with here.request() as session:
        session.destroy_others()
    with pytest.raises(StoreConflictError), here.request() as session:
        getattr(session, what)()
    assert here.look() == {"cart": [1]}  # for what was asked did not happen, or is in its grace


def test_who_is_overtaken_between_question_and_end_sends_no_cookie() -> None:
    here = app(revocation=Overtaken())
    signed_in(here)
    slow = here.begin()
    handle = slow.session.session_id
    assert handle is not None
    slow.session.regenerate()
    now = int(here.clock.now)
    rival = Record(handle, b"", None, now, now, now + 99, now + 99, None, None, None, 1, f"{now}:".encode())
    here.config.revocation.rivals = (rival,)  # another worker's logout
    assert slow.respond() == []
    slow.end()
    assert here.told("dropped") == ["dropped:gone"]
    assert here.look() == {}


def test_what_is_written_after_a_login_on_an_ended_seal_is_kept() -> None:
    """A response may be made twice, as Flask does for an error: the second one is no straggler's."""
    here = app()
    thief = signed_in(here)
    with here.request() as session:
        session.logout()
    request = here.begin(thief)
    request.session.login(user_id="alice")
    assert request.respond()
    request.session._state.phase = OPEN
    request.session["more"] = 1
    assert request.respond()
    assert here.look(thief) == {"more": 1}


def test_applications_that_share_a_list_end_their_own() -> None:
    store = Counting()
    shop, blog = (app(revocation=store, table_index=index, clock=Clock()) for index in ("shop", "blog"))
    phone = signed_in(blog)
    signed_in(shop)
    with shop.request() as session:
        session.destroy_others()
    assert blog.look(phone) == {"cart": [1]}
