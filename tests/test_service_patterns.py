"""The seed's usage patterns: each example of ``examples/service`` is run, and its classes are tried further."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from session_mw import SessionRecord, SessionService
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

FOLDER = ROOT / "examples" / "service"

SAID = {
    "single_sign_on": """
        the shop sees ada and the forum sees ada
        logged out on the tablet: True and again: False
        password changed on the laptop; other sessions ended: 1
        laptop: ada phone: None
        logged out everywhere: 1
        laptop: None
    """,
    "middleware": """
        Hello, Ada! Visit number 1.
        Hello, Ada! Visit number 2.
        as without a middleware: the handler failed
        Goodbye.
        not let through
        not let through
        not let through
    """,
    "conversation": """
        user: Hello!
        assistant: Hi! How can I help?
        user: What is the weather?
        after four tools at once: 83 messages
        over: True 0
    """,
    "shopping_cart": """
        on the laptop: 38.10
        on the phone: 37.20 and on the laptop: 37.20
        Bob's: 0
        bought; a new one: []
    """,
    "analytics": """
        Activity(sessions=2, page_views=4, average_duration=210.0)
        {'views': {'home': 2, 'news': 1}}
        Activity(sessions=0, page_views=0, average_duration=0.0)
    """,
    "validation": """
        ada valid: True may edit: True
        bob valid: True may edit: False
        a guest valid: True may edit: False
        mallory valid: False may edit: False
        by the id alone: False
        ada, logged out: False
    """,
    "lifetimes": """
        after 14 minutes, bank: True social: True
        left alone for 15 minutes, bank: False social: True
        too late: nothing revives a session
        never past the absolute limit: 8 hours
        after 2 days, social: False remembered: True
    """,
    "activity": """
        phone: news, 35 min ago, 85 min left
        laptop (this one): mail, 5 min ago, 115 min left
        later:
        laptop (this one): mail, 0 min ago, 120 min left
    """,
    "secure_regeneration": """
        user: ada data: {'cart': ['tea'], 'admin': True}
        another id: True sessions: 1
        the old id: None
        the old token: None and to renew it: None
    """,
    "scheduled_cleanup": """
        the thread cleaned up 3 sessions
        stopped; left: 0
        the task cleaned up 3 sessions
        stopped; left: 0
    """,
    "web_and_worker": """
        ada: ordered
        ada: ready
        bob: as you asked, by mail
    """,
}
ON_SQLITE = ("single_sign_on", "conversation", "scheduled_cleanup", "web_and_worker")


def test_every_example_is_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SAID)


@pytest.mark.parametrize(
    ("name", "store"),
    [*((name, "") for name in SAID), *((name, "sqlite:///example.db") for name in ON_SQLITE)],
)
def test_it_does_as_it_says(name: str, store: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "EXAMPLE_STORE": store, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.split("\n") == [line.strip() for line in SAID[name].strip().split("\n")] + [""]
    assert (tmp_path / "example.db").exists() == bool(store)


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> SessionService:
    return SessionService(store=MemoryStore(clock=clock), clock=clock, idle_timeout=1800, absolute_timeout=7200)


# -- the middleware ------------------------------------------------------------------------------------------------


def test_the_middleware_slides_but_lets_nobody_live_for_ever(sessions: SessionService, clock: Clock) -> None:
    module = example("middleware")
    middleware = module.Middleware(sessions)
    handle = sessions.create_session("ada", {"name": "Ada"})
    token = sessions.issue_token(handle)
    for _ in range(8):  # 7200 seconds; who adds half an hour a call would go on and on
        assert middleware.handle(token, lambda session: session.data["name"]) == "Ada"
        record = sessions.get_record(handle)
        assert record is not None
        assert record.last_activity == int(clock())
        clock.advance(1000)
    with pytest.raises(module.InvalidSessionError):
        middleware.handle(token, lambda session: None)


def test_a_handler_that_logs_out_answers(sessions: SessionService) -> None:
    module = example("middleware")
    middleware = module.Middleware(sessions)
    handle = sessions.create_session("ada")
    token = sessions.issue_token(handle)

    def logout(session: SessionRecord) -> str:
        assert sessions.destroy_session(session.session_id)
        return "bye"

    assert middleware.handle(token, logout) == "bye"
    assert sessions.get_session(handle) is None
    with pytest.raises(module.InvalidSessionError):
        middleware.handle(token, logout)


def test_activity_counts_even_when_the_handler_fails(sessions: SessionService, clock: Clock) -> None:
    middleware = example("middleware").Middleware(sessions)
    handle = sessions.create_session("ada")
    token = sessions.issue_token(handle)
    clock.advance(600)
    with pytest.raises(ZeroDivisionError):
        middleware.handle(token, lambda session: 1 / 0)
    record = sessions.get_record(handle)
    assert record is not None
    assert record.expires_at == int(clock()) + 1800


# -- the rest ------------------------------------------------------------------------------------------------------


def test_a_conversation_over_two_stores_of_one_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/talk.db"
    one, two = SessionService.from_url(url), SessionService.from_url(url)
    talk = example("conversation").Conversation(one, "ada", keep=50)
    barrier = threading.Barrier(2)

    def speak(sessions: SessionService, role: str) -> None:
        mine = example("conversation").Conversation.__new__(type(talk))
        mine.sessions, mine.session_id, mine.keep = sessions, talk.session_id, talk.keep
        barrier.wait(20)
        for number in range(20):
            mine.add(role, str(number))

    threads = [threading.Thread(target=speak, args=pair) for pair in ((one, "user"), (two, "assistant"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for role in ("user", "assistant"):
        said = [message["content"] for message in talk.history() if message["role"] == role]
        assert said == [str(number) for number in range(20)]  # none lost, each in its order
    for number in range(20):
        talk.add("user", f"more {number}")
    assert len(talk.history()) == 50
    assert talk.history()[-1]["content"] == "more 19"
    for sessions in (one, two):
        sessions.teardown()


def test_carts_meet(sessions: SessionService) -> None:
    module = example("shopping_cart")
    carts = [module.ShoppingCart(sessions, "ada") for _ in range(3)]
    for cart in carts:
        cart.add("tea", 1, Decimal("0.10"))
    assert {cart.total() for cart in carts} == {Decimal("0.30")}
    assert len(sessions.list_sessions("ada")) == 1


def test_single_sign_on_over_several_apps(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    module = example("single_sign_on")
    shop, forum = (module.SingleSignOn(SessionService(store=store, clock=clock)) for _ in range(2))
    token, other = shop.login("ada", {}), forum.login("ada", {})
    assert forum.who(token) == shop.who(other) == "ada"
    assert shop.logout_all("ada", but="made up") == 2  # nothing is spared for a token that opens nothing
    assert forum.who(token) is forum.who(other) is None
    assert shop.logout("made up") is False


def test_renewing_gives_no_new_life(sessions: SessionService, clock: Clock) -> None:
    accounts = example("secure_regeneration").Accounts(sessions)
    handle = sessions.create_session("ada")
    token = sessions.issue_token(handle)
    first = sessions.get_record(handle)
    clock.advance(600)
    renewed = sessions.authenticate(accounts.renew(token))
    assert first is not None
    assert renewed is not None
    assert (renewed.user_id, renewed.created_at, renewed.absolute_expires_at, renewed.expires_at) == (
        "ada",
        first.created_at,
        first.absolute_expires_at,
        first.expires_at,
    )
    assert accounts.become_admin("made up") is None


def test_a_view_of_a_page_counts_for_the_whole_user(sessions: SessionService, clock: Clock) -> None:
    module = example("analytics")
    handle = sessions.create_session("ada")
    clock.advance(30)
    module.view(sessions, handle, "home")
    assert module.activity(sessions, "ada") == (1, 1, 30.0)
    sessions.destroy_session(handle)
    assert module.activity(sessions, "ada") == (0, 0, 0.0)
