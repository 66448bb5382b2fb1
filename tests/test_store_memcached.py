"""The example of docs/writing-a-store.md, on a real memcached: the contract, and what is its own."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import textwrap
import time

import pytest
from asgi_driver import Client, handler
from conftest import ROOT
from msgspec import structs
from test_docs import blocks
from wsgi_driver import WSGIClient

from examples.store_memcached import GRACE, PAYLOAD_LIMIT, MemcachedStore
from session_mw.asgi import SessionMiddleware
from session_mw.errors import StoreError
from session_mw.testing import StoreContract
from session_mw.testing.contract import new_record
from session_mw.wsgi import SessionMiddleware as WSGISessionMiddleware


class TestMemcachedStore(StoreContract):
    can_list = False
    expires_itself = True
    payload_limit = PAYLOAD_LIMIT
    costs = {"load": 1, "save": 2, "touch": 2}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _server(self, memcached):
        self.server = memcached

    def make_store(self, tmp_path):
        prefix = hashlib.sha256(bytes(tmp_path)).hexdigest()[:16] + ":"
        return MemcachedStore(self.server.socket, prefix=prefix)

    open_again = make_store

    def before_each_command(self, store, tell):
        ask = store._ask

        def told(*arguments, **options):
            tell()
            return ask(*arguments, **options)

        store._ask = told


def test_what_the_kit_does_not_ask():
    assert set(TestMemcachedStore.left_out().values()) == {
        "can_list is False",
        "can_list is False; lose_record is not given",
        "expires_itself is True",
        "can_list is False; expires_itself is True",
    }


@pytest.fixture
def store(memcached, tmp_path):
    store = MemcachedStore(memcached.socket, prefix=f"{tmp_path.name}:")
    yield store
    store.teardown()


def ttl(memcached, store, record):
    """The seconds after which the server forgets *record*: memcached's meta command."""
    status, _, flag = memcached.ask(b"mg " + store._key(record.id).encode() + b" t").partition(b" ")
    assert status == b"HD"
    return int(flag.removeprefix(b"t"))


def test_the_server_forgets_what_is_due(memcached, store):
    now = int(time.time())
    record = new_record(expires_at=now + 1000)
    store.create(record)
    assert 990 < ttl(memcached, store, record) - GRACE <= 1002
    store.touch(record.id, now, now + 2000)
    assert 1990 < ttl(memcached, store, record) - GRACE <= 2002
    store.save(structs.replace(store.load(record.id), version=2), 1)
    assert 1990 < ttl(memcached, store, record) - GRACE <= 2002
    store.close(record.id, 2, until=now + 60)
    assert 50 < ttl(memcached, store, record) - GRACE <= 62
    past = new_record(expires_at=now - GRACE - 10)
    assert store.create(past) is True
    assert store.load(past.id) is None


def test_a_server_that_is_down_is_a_store_error_and_comes_back(memcached, store):
    record = new_record()
    store.create(record)
    memcached.stop()
    try:
        for call in (lambda: store.load(record.id), store.initialize, lambda: store.save(record, 1)):
            with pytest.raises(StoreError, match="memcached at ") as caught:
                call()
            assert isinstance(caught.value.__cause__, OSError)
    finally:
        memcached.start()
    assert store.load(record.id) is None, "it forgot: a session that ended early"
    assert store.create(record) is True


def test_what_is_no_session_is_a_store_error(memcached, store):
    record = new_record()
    memcached.ask(b"set " + store._key(record.id).encode() + b" 0 0 3\r\n\x92\x01\x02")
    with pytest.raises(StoreError, match="no session"):
        store.load(record.id)


def test_a_store_that_cannot_rotate_says_so(store):
    with pytest.raises(StoreError, match="two keys"):
        store.rotate(new_record(), "x", 1, until=1)
    assert repr(store).startswith("<MemcachedStore /")


def counts(session):
    session["n"] = session.get("n", 0) + 1
    if session["n"] == 2:
        session.login(user_id="ann")
    return f"{session['n']} {session.is_online()}"


def test_it_keeps_the_sessions_of_an_asgi_app(store):
    client = Client(SessionMiddleware(handler(counts), store=store))

    async def story():
        return [(await client.request()).text for _ in range(3)]

    assert asyncio.run(story()) == ["1 False", "2 True", "3 True"]


def test_it_keeps_the_sessions_of_a_wsgi_app(store):
    def app(environ, start_response):
        body = counts(environ["session_mw.session"]).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    client = WSGIClient(WSGISessionMiddleware(app, store=store))
    assert [client.get().text for _ in range(3)] == ["1 False", "2 True", "3 True"]


def test_the_page_about_it_shows_it_as_it_is():
    page = (ROOT / "docs" / "writing-a-store.md").read_text(encoding="utf-8")
    example = (ROOT / "examples" / "store_memcached.py").read_text(encoding="utf-8")
    shown = [
        textwrap.indent(textwrap.dedent(ast.get_source_segment(code, method, padded=True)), "    ")
        for code in (block.text for block in blocks(page) if block.language == "python")
        for cls in ast.parse(code).body
        if isinstance(cls, ast.ClassDef) and cls.name in ("MemcachedStore", "TalkingStore")
        for method in cls.body
    ]
    assert len(shown) == 3
    assert [method for method in shown if method not in example] == []
