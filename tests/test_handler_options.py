"""The options that the seed's session handlers have, and what damage costs, on every store, through the middleware."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_driver import SECRET
from msgspec import structs
from store_site import AWAY, HOME, Site, Visitor, logs_in, puts
from store_urls import STORES, every_store

from session_mw.core.event import Event
from session_mw.core.operations import Create, Delete, ListUser, Load, Outcome, Save
from session_mw.core.record import SessionRecord
from session_mw.core.tokens import digest

PLAIN = "what-nobody-may-read-at-rest"


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def site(
    store_name: str, kind: str, runner: asyncio.Runner, request: pytest.FixtureRequest, tmp_path: Any
) -> Iterator[Site]:
    site = Site(kind, STORES[store_name].url(request, tmp_path), runner)
    yield site
    site.end()


@every_store()
def test_encryption_seals_the_payload_and_binds_it_to_its_record(site: Site) -> None:
    ann = site.begin(secret_key=SECRET, encryption=True)
    bob = Visitor(site)
    ann.visit(puts(whose=f"ann {PLAIN}"))
    bob.visit(puts(whose=f"bob {PLAIN}"))
    anns, bobs = (site.ask(Load(visitor.token[0])) for visitor in (ann, bob))
    assert PLAIN.encode() not in anns.payload + bobs.payload

    def put_payloads(first: bytes, second: bytes) -> None:
        for record, payload in ((anns, first), (bobs, second)):  # just as they were, for nearly all of them is bound
            assert site.ask(Delete(record.id)) is Outcome.DELETED
            assert site.ask(Create(structs.replace(record, payload=payload)))

    site.told()
    put_payloads(bobs.payload, anns.payload)
    for visitor in (ann, bob):
        before = dict(visitor.cookies)
        assert visitor.visit() == {}, "a payload of another record was opened"
        assert visitor.cookies == before
        assert site.told() == ["refused:corrupt", "close"]
    put_payloads(anns.payload, bobs.payload)
    assert ann.visit() == {"whose": f"ann {PLAIN}"}
    assert bob.visit() == {"whose": f"bob {PLAIN}"}
    plain = site.begin()
    plain.cookies = dict(ann.cookies)
    assert plain.visit() == {}, "a sealed payload is nothing without its key"


@every_store()
def test_session_ip_binds_a_record_to_where_it_began(site: Site) -> None:
    visitor = site.begin(session_ip=True)
    visitor.visit(puts(a=1))
    record = site.ask(Load(visitor.token[0]))
    site.told()
    visitor.address = AWAY
    before = dict(visitor.cookies)
    assert visitor.visit() == {}
    assert site.told() == ["refused:address", "close"]
    assert (visitor.cookies, site.ask(Load(record.id))) == (before, record)
    visitor.address = HOME
    assert visitor.visit() == {"a": 1}
    unbound = site.begin()
    unbound.visit(puts(b=2))
    unbound.address = AWAY
    assert unbound.visit() == {"b": 2}


@every_store()
def test_a_strict_login_ends_where_it_comes_from_elsewhere(site: Site) -> None:
    visitor = site.begin(strict_session_ip=True)
    visitor.visit(logs_in("ann", HOME))
    (record,) = site.ask(ListUser("ann"))
    visitor.address = AWAY
    assert visitor.visit(lambda session: session.is_online()) is False
    assert site.ask(ListUser("ann")) == []
    assert site.told()[-3:] == ["ip_changed:ended", "destroy:ip_changed", "close"]
    left = site.ask(Load(record.id))
    assert left is None or left.closed


@every_store()
def test_callbacks_are_filters_of_one_stream(site: Site) -> None:
    heard: dict[str, list[Event]] = {name: [] for name in ("on_create", "on_open", "on_close", "on_destroy")}
    stream: list[Event] = []
    visitor = site.begin(on_event=stream.append, **{name: found.append for name, found in heard.items()})
    visitor.visit()
    visitor.visit(puts(a=1))
    visitor.visit(puts(a=2))
    visitor.visit(logs_in("ann"))
    visitor.visit(lambda session: session.logout())
    visitor.visit(lambda session: session.destroy(all_data=True))
    assert visitor.cookies == {}
    assert [event.name for event in stream] == [
        *("close",),
        *("create", "close"),
        *("open", "save", "close"),
        *("open", "login", "rotate", "close"),
        *("open", "logout", "rotate", "close"),
        *("open", "destroy", "close"),
    ]
    for name, found in heard.items():
        assert found == [event for event in stream if event.name == name.removeprefix("on_")]
    assert {event.user_id for event in stream if event.name in ("login", "logout")} == {"ann"}
    assert all(event.session_id for event in stream if event.name != "close")
    assert all(event.at == 2_100_000_000 for event in stream)


@every_store()
def test_on_validate_may_veto_and_nothing_else(site: Site) -> None:
    seen: list[SessionRecord] = []
    verdicts: list[object] = [True, False, 1, None, True]

    def validate(record: SessionRecord) -> Any:
        seen.append(record)
        return verdicts[len(seen) - 1]

    visitor = site.begin(on_validate=validate)
    visitor.visit(puts(a=1))
    assert seen == [], "there was nothing to open"
    record = site.ask(Load(visitor.token[0]))
    opened = [visitor.visit() for _ in verdicts]
    assert opened == [{"a": 1}, {}, {}, {}, {"a": 1}], "only True lets it open"
    assert [name for name in site.told() if name != "close"] == ["create", "open", *["refused:vetoed"] * 3, "open"]
    assert site.ask(Load(record.id)) == record, "a veto leaves the record alone"
    assert {one.session_id for one in seen} == {record.id}


@every_store()
def test_a_callback_that_fails_costs_nobody_a_session(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fails(event: Any) -> None:
        raise ValueError("a listener broke")

    names = ("on_event", "on_create", "on_open", "on_close", "on_destroy")
    visitor = site.begin(**dict.fromkeys(names, fails))
    visitor.visit(puts(a=1))
    assert visitor.visit() == {"a": 1}
    visitor.visit(lambda session: session.destroy())
    assert visitor.cookies == {}
    assert caplog.text.count("a listener broke") >= 8
    visitor = site.begin()
    visitor.visit(puts(a=1))
    closed_door = site.begin(on_validate=fails)
    closed_door.cookies = dict(visitor.cookies)
    assert closed_door.visit() == {}, "what decides, and fails, decides against"


@every_store()
def test_a_damaged_record_is_one_event_and_a_fresh_session(site: Site) -> None:
    alice, phone = site.begin(), Visitor(site)
    for number, visitor in enumerate((alice, phone)):
        visitor.visit(logs_in("alice"))
        visitor.visit(puts(number=number))
    (id, _), old = alice.token, alice.cookies  # noqa: A001
    record = site.ask(Load(id))
    bad = structs.replace(record, payload=b"?" + record.payload, version=record.version + 1)
    assert site.ask(Save(bad, record.version)) is Outcome.SAVED
    site.told()
    assert alice.visit() == {}
    assert site.told() == ["refused:corrupt", "close"]
    assert alice.cookies == old, "nothing was written, so no cookie was sent"
    alice.visit(puts(number=2))
    assert alice.visit() == {"number": 2}
    assert alice.token[0] != id
    assert phone.visit() == {"number": 1}
    assert {record.id for record in site.ask(ListUser("alice"))} == {id, phone.token[0]}, "the list still works"
    assert site.ask(Load(id)) == bad, "it is left for whoever wants to look"


@every_store()
def test_ids_and_secrets_have_their_entropy_and_the_store_no_secret(site: Site) -> None:
    site.begin()
    tokens = []
    for number in range(25):
        visitor = Visitor(site)
        visitor.visit(puts(number=number))
        tokens.append(visitor.token)
    parts = [
        binascii.a2b_base64(part.translate(str.maketrans("-_", "+/")), strict_mode=True)
        for token in tokens
        for part in token
    ]
    assert {len(part) * 8 for part in parts[::2]} == {144}, "bits of an id"
    assert {len(part) * 8 for part in parts[1::2]} == {264}, "bits of a secret"
    assert len(set(parts)) == 50
    for size, column in ((18, parts[::2]), (33, parts[1::2])):
        for place in range(size):
            assert len({part[place] for part in column}) > 12, "every byte of it is random"
    for id, secret in tokens:  # noqa: A001
        record = site.ask(Load(id))
        assert record.digest == digest(secret)
        assert secret not in repr(structs.asdict(record))


@every_store(named=True)
def test_names_keep_two_apps_apart(
    store_name: str, kind: str, runner: asyncio.Runner, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    named = STORES[store_name].named
    assert named is not None
    one, two = (Site(kind, url, runner) for url in named(request, tmp_path))
    try:
        visitor = one.begin()
        visitor.visit(logs_in("ann"))
        (record,) = one.ask(ListUser("ann"))
        assert two.ask(Load(record.id)) is None
        assert two.ask(ListUser("ann")) == []
        assert two.ask(Create(structs.replace(record, payload=b"{}"))) is True
        assert one.ask(Load(record.id)) == record
    finally:
        for site in (one, two):
            site.end()
