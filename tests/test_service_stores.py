"""One story on every store: a service and a site that know each other by the URL of their store alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from asgi_driver import NAME
from store_site import Site, Visitor, logs_in, puts
from store_urls import STORES, every_store

from session_mw import (
    AsyncSessionService,
    SessionExpiredError,
    SessionLogicError,
    SessionNotFoundError,
    SessionService,
)
from session_mw.core.operations import Load
from session_mw.testing import Clock

NOW = 2_100_000_000
on_every_store = pytest.mark.parametrize(
    ("store_name", "kind"), [*every_store().args[1], ("cluster", "asgi"), ("cluster", "wsgi")]
)


class Worker:
    """A service in a worker: the face that fits, in calls that return their answers."""

    def __init__(self, site: Site, clock: Clock) -> None:
        where: Any = {"store": site.store if site.url == "memory:" else site.url, "clock": clock}
        self.site = site
        self.service: Any = (AsyncSessionService if site.kind == "asgi" else SessionService)(**where)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.service, name)
        return lambda *arguments, **options: self.site.ask_later(lambda: call(*arguments, **options))


@pytest.fixture
def url(store_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if store_name == "cluster":
        text: str = request.getfixturevalue("redis_cluster").url
        return f"{text}?table_index=t{uuid4().hex[:24]}"
    return STORES[store_name].url(request, tmp_path)


@pytest.fixture
def site(url: str, kind: str) -> Iterator[Site]:
    with asyncio.Runner() as runner:
        site = Site(kind, url, runner)
        yield site
        site.end()


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def worker(site: Site, clock: Clock) -> Iterator[Worker]:
    worker = Worker(site, clock)
    yield worker
    worker.teardown()


def carrying(visitor: Visitor, token: str) -> Visitor:
    visitor.cookies = {NAME: token}
    return visitor


def add(number: int) -> Callable[[Any], Any]:
    return lambda session: session.update_with("n", lambda n: n + number, 0)


@on_every_store
def test_made_by_a_worker_opened_in_the_web_app(site: Site, worker: Worker, clock: Clock) -> None:
    browser = site.begin(clock=clock)
    handle = worker.create_session("ada", {"cart": ["tea"]}, lifetime=600)
    carrying(browser, worker.issue_token(handle))
    assert browser.visit(lambda s: (dict(s), s.user_id, s.online())) == ({"cart": ["tea"]}, "ada", True)
    browser.visit(add(1))
    assert worker.update_with(handle, "n", lambda n: n + 1) == 2
    worker.update_session(handle, {"note": "é\U0001f375"})
    worker.delete_keys(handle, "cart", "never")
    assert browser.visit() == worker.get_session(handle) == {"n": 2, "note": "é\U0001f375"}
    with pytest.raises(SessionLogicError):
        worker.issue_token(handle)
    old, token = browser.cookies[NAME], worker.issue_token(handle, replace=True)
    assert (worker.authenticate(old), worker.authenticate(token).session_id) == (None, handle)
    assert worker.touch_session(handle) == NOW + 600
    assert worker.extend_session(handle, 60) == NOW + 660
    clock.advance(599)
    record = worker.get_record(handle)
    assert (record.user_id, record.expires_at, record.created_at) == ("ada", NOW + 660, NOW)
    assert worker.validate_session(handle) is True
    clock.advance(61)
    assert worker.validate_session(handle) is False
    assert worker.list_sessions("ada") == []
    with pytest.raises(SessionNotFoundError):  # or its kind, SessionExpiredError: whoever meets it first deletes it
        worker.touch_session(handle)
    assert carrying(browser, token).visit() == {}


@on_every_store
def test_a_token_that_was_replaced_is_reached_by_no_older_one(site: Site, worker: Worker, clock: Clock) -> None:
    browser = site.begin(clock=clock)
    browser.visit(logs_in("ada"))
    thief = Visitor(site)
    thief.cookies = dict(browser.cookies)
    browser.visit(lambda session: session.regenerate(grace=300) and None)
    assert thief.visit(lambda session: session.user_id) == "ada"
    token = worker.issue_token(browser.token[0], replace=True)
    assert (worker.authenticate(thief.cookies[NAME]), worker.authenticate(browser.cookies[NAME])) == (None, None)
    for visitor in (thief, browser):
        assert visitor.visit(lambda session: session.user_id) is None
    assert carrying(browser, token).visit(lambda session: session.user_id) == "ada"


@on_every_store
def test_made_in_the_web_app_looked_after_by_a_worker(site: Site, worker: Worker, clock: Clock) -> None:
    laptop = site.begin(clock=clock)
    laptop.visit(logs_in("ada"))
    laptop.visit(puts(device="laptop"))
    clock.advance(1)
    phone = Visitor(site)
    phone.visit(logs_in("ada"))
    phone.visit(puts(device="phone"))
    handles = [visitor.token[0] for visitor in (phone, laptop)]
    assert worker.list_sessions("ada") == handles
    assert [record.session_id for record in worker.list_records("ada")] == handles
    on_phones = worker.find_sessions("ada", lambda record: record.data["device"] == "phone")
    assert [record.session_id for record in on_phones] == handles[:1]
    assert worker.list_sessions("Ada") == []
    worker.replace_session(handles[0], {"replaced": True})
    assert phone.visit(lambda s: (dict(s), s.user_id)) == ({"replaced": True}, "ada")
    fresh = worker.regenerate_session(handles[0])
    before = dict(phone.cookies)
    assert phone.visit(puts(late=True)) is None
    assert (phone.cookies, worker.get_session(fresh)) == (before, {"replaced": True}), "a straggler"
    assert carrying(phone, worker.issue_token(fresh)).visit() == {"replaced": True}
    assert worker.destroy_user_sessions("ada", except_id=fresh) == 1
    assert (laptop.visit(), phone.visit()) == ({}, {"replaced": True})
    assert (worker.destroy_session(fresh), worker.destroy_session(fresh)) == (True, False)
    assert (phone.visit(), worker.list_sessions("ada")) == ({}, [])


@on_every_store
def test_a_sweep_takes_what_is_over_and_nothing_else(site: Site, worker: Worker, clock: Clock) -> None:
    gone = [worker.create_session(None, lifetime=60) for _ in range(3)]
    kept = [worker.create_session("ada"), worker.create_session(None)]
    clock.advance(60)
    with pytest.raises(SessionExpiredError):
        worker.extend_session(gone[0], 60)
    counts: list[int] = []
    assert worker.cleanup_expired_sessions(progress=counts.append) == 2
    assert counts == [2]
    assert [site.ask(Load(handle)) for handle in gone] == [None] * 3
    assert worker.cleanup_expired_sessions() == 0
    assert [worker.get_session(handle) for handle in kept] == [{}, {}]
    assert worker.destroy_all_sessions() >= 2
    assert [worker.get_session(handle) for handle in (*gone, *kept)] == [None] * 5
