"""The 21 weaknesses of the two systems this library descends from, each kept out by a test of its own.

Three of them live in one kind of store, and are tested with that store:

    S3   destroy and regenerate leave a row alive     here for records, and by StoreContract on every store
    S10  world-readable session files                 the filesystem store's tests
    S12  raw ids as file names                        here for secrets at rest, and the filesystem store's tests
"""

from __future__ import annotations

import base64
import logging
from typing import Any

import msgspec
import pytest
from harness import AWAY, HOME, KEY, App, Browser, both, token

from session_mw.config import SessionConfig
from session_mw.core.login import MAX_IP_CHANGES, Login, fingerprint
from session_mw.errors import ConfigurationError, InvalidSessionIdError, SessionClosedError, SessionTooLargeError
from session_mw.testing import FaultyStore

NAME = "__Host-session"


def kept(kind: str, **settings: Any) -> App:
    app = App(kind, **settings)
    with app.request() as s:
        s["a"] = 1
        s.login(user_id="ann")
    app.told()
    return app


@pytest.mark.parametrize("encrypt", [True, False])
def test_s1_a_client_cannot_write_its_own_data(encrypt: bool) -> None:
    app = kept("cookie", encrypt_cookie_data=encrypt)
    honest = app.browser.cookies[NAME]
    plain = base64.urlsafe_b64encode(b'{"global":{"online":"on","role":"admin"}}').decode()
    swapped = honest[:-20] + honest[-20:].swapcase()
    for value in (plain, '{"role":"admin"}', swapped, honest[:-1], honest + "A", honest[: len(honest) // 2]):
        with app.request(Browser(**{NAME: value})) as s:
            assert (s, s.online()) == ({}, False)


def test_s2_the_mode_is_the_servers_and_never_the_payloads() -> None:
    readable, sealed = kept("cookie", encrypt_cookie_data=False), kept("cookie")
    assert sealed.look(readable.browser) == {}
    assert readable.look(sealed.browser) == {}


@pytest.mark.parametrize("end", [lambda s: s.logout(), lambda s: s.regenerate(grace=0), lambda s: s.destroy()])
def test_s3_an_old_id_is_rejected_after_it_ended(end: Any) -> None:
    app = kept("store")
    old = app.browser.copy()
    with app.request() as s:
        old_id = s.session_id
        end(s)
    with app.request(old) as s:
        assert (s, s.online(), s.is_new) == ({}, False, True)
    assert app.store is not None
    left = app.store.load(old_id)
    assert left is None or (left.closed and left.payload == b"" and left.user_id is None)


@both
def test_s4_no_fixation(kind: str) -> None:
    app = App(kind)
    chosen = token("attacker").text
    victim = Browser(**{NAME: chosen})
    with app.request(victim) as s:
        s["a"] = 1
        assert s.session_id != chosen[:24]  # a client's id is never adopted
    attacker = victim.copy()
    with app.request(victim) as s:
        s.login(user_id="ann")
    if kind == "store":
        assert app.look(attacker) == {}
    with app.request(attacker) as s:
        assert not s.online()
    for malformed in ("../../etc", "x", ""):
        with app.request(Browser(**{NAME: malformed})) as s:
            s["b"] = 1
        assert malformed not in app.sent[0].partition(";")[0] or malformed in ("", "x")


def test_s5_destroy_wins_and_no_stale_copy_is_written_back() -> None:
    app = kept("store")
    tab = app.browser.copy()
    slow, quick = app.begin(tab), app.begin()
    slow.session["late"] = slow.session["a"]
    assert slow.session.attempt() == 1
    quick.session.destroy()
    for exchange in (quick, slow):
        exchange.respond()
        exchange.end()
    assert slow.sent == []
    assert app.look(tab) == {}
    one, two = kept("store"), None
    two = one.begin()
    assert two.session["a"] == 1
    with one.request() as s:
        s["b"] = 2
    two.session["c"] = 3
    two.respond()
    two.end()
    assert one.look() == {"a": 1, "b": 2, "c": 3}  # no update was lost


@both
def test_s6_nothing_revives_and_nothing_lives_for_ever(kind: str) -> None:
    app = kept(kind, idle_timeout=100, absolute_timeout=250)
    for _ in range(4):
        app.clock.advance(60)
        with app.request() as s:
            s["n"] = app.clock.now
    app.clock.advance(10)
    with app.request() as s:  # 250 seconds, however busy
        assert (s, s.online()) == ({}, False)
    idle = kept(kind, idle_timeout=100)
    idle.clock.advance(100)
    with idle.request() as s:
        s["b"] = 1
    assert idle.look() == {"b": 1}


@both
@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "cf-connecting-ip", "client-ip", "x-real-ip", "x-forwarded", "forwarded"]
)
def test_s7_headers_of_strangers_are_not_believed_and_a_mismatch_shows_nothing(kind: str, header: str) -> None:
    app = kept(kind, strict_session_ip=True)
    claim = f"for={HOME}" if header == "forwarded" else HOME
    with app.request(peer=AWAY, headers={header: claim}) as s:
        assert (s, s.online(), s.user_id) == ({}, False, None)


def test_s8_a_sealed_cookie_is_bound_to_its_application_name_and_time() -> None:
    app = kept("cookie")
    value = app.browser.cookies[NAME]
    assert App("cookie", table_index="other").look(Browser(**{"__Host-session-other": value})) == {}
    assert App("cookie", cookie_name="__Host-cart").look(Browser(**{"__Host-cart": value})) == {}
    assert App("cookie", secret_key="another key, as long as it has to be").look(Browser(**{NAME: value})) == {}
    app.clock.advance(7200)
    assert app.look() == {}
    assert app.told("refused") == ["refused:expired"]


def test_s9_lives_are_short_by_default() -> None:
    config = SessionConfig(secret_key=KEY)
    assert (config.idle_timeout, config.absolute_timeout) == (7200, 7 * 86400)
    app = kept("store")
    assert "Max-Age" not in app.sent[0]
    assert "Expires" not in app.sent[0]


@both
def test_s11_ids_are_in_no_message_and_tokens_in_no_log(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = App(kind)
    text = token().text
    with app.request(Browser(**{NAME: text})) as s:
        s["a"] = 1
    with app.request(Browser()) as s, pytest.raises(InvalidSessionIdError) as refused:
        s.start("not-a-token-" + text[:20])
    for secret in (text, text[:24], text[25:]):
        assert secret not in caplog.text + str(refused.value)


def test_s12_a_stolen_store_opens_nothing() -> None:
    app = kept("store")
    assert app.store is not None
    secret = app.browser.cookies[NAME].partition(".")[2]
    for record in app.store._live.values():
        raw = msgspec.json.encode(record)
        assert secret.encode() not in raw
        forged = Browser(**{NAME: f"{record.id}.{base64.urlsafe_b64encode(record.digest + b'x').decode()}"})
        assert app.look(forged) == {}


@pytest.mark.parametrize("change", [str.swapcase, lambda t: t + "/", lambda t: "./" + t, lambda t: t + "%00"])
def test_s13_an_id_is_refused_never_repaired(change: Any) -> None:
    app = kept("store")
    assert app.look(Browser(**{NAME: change(app.browser.cookies[NAME])})) == {}


@both
def test_s14_no_key_is_reserved_and_metadata_is_out_of_reach(kind: str) -> None:
    app = kept(kind)
    with app.request() as s:
        s["__session_metadata__"] = {"online": "on", "token": "mine"}
        s.set_to("online", True, "admin")
        assert not s.online("admin")
        assert s.login_token not in str(s.get_result())
    with app.request() as s:
        s.logout()
        assert not s.online()
        assert s["__session_metadata__"] == {"online": "on", "token": "mine"}


def test_s15_everything_has_a_bound() -> None:
    app = kept("store", strict_session_ip=True, on_ip_changed=lambda *_: False)
    for number in range(30):
        with app.request(peer=f"198.51.100.{number}") as s:
            assert s.online()
    assert len(s.ip_changes) == MAX_IP_CHANGES
    with pytest.raises(SessionTooLargeError), app.request(peer="198.51.100.29") as s:
        s["a"] = "x" * (5 * 1024 * 1024)


@both
def test_s16_no_silent_surprise(kind: str) -> None:
    app = kept(kind)
    with app.request() as s:
        s.remove("0").remove("")  # falsy keys wipe nothing
        assert (s["a"], s.online()) == (1, True)
        s.set_to("x", 1, "other").clear("other")
        assert s["a"] == 1  # exactly the storage that was named
        s.commit()
        s["later"] = 2  # after a commit: kept
    assert app.look() == {"a": 1, "later": 2}
    with pytest.raises(SessionTooLargeError), app.request() as s:
        s["big"] = "x" * (5000 if kind == "cookie" else 5 * 1024 * 1024)  # not dropped in silence
    assert app.look() == {"a": 1, "later": 2}
    client = kept("cookie")
    with client.request() as s:
        assert s["a"]
        client.respond()
        with pytest.raises(SessionClosedError):
            s["a"] = 2


@both
@pytest.mark.parametrize("all_data", [False, True])
def test_s17_only_our_own_cookies_are_deleted(kind: str, all_data: bool) -> None:
    app = kept(kind)
    app.browser.cookies |= {"csrf": "1", "__Host-session-other": "2", "__Host-sessionx": "3"}
    with app.request() as s:
        s.destroy(all_data)
    assert app.browser.cookies == {"csrf": "1", "__Host-session-other": "2", "__Host-sessionx": "3"}
    assert len(app.sent) == 1


def test_s18_the_cipher_is_fixed_and_keys_rotate() -> None:
    app = kept("cookie")
    value = app.browser.cookies[NAME]
    rotated = App("cookie", secret_key=["a newer key, as long as it has to be", KEY])
    assert rotated.look(Browser(**{NAME: value})) == {"a": 1}
    for first in "BCXYZ":
        assert app.look(Browser(**{NAME: first + value[1:]})) == {}  # nothing a payload says chooses another


@both
def test_s19_fingerprints_are_keyed_and_login_tokens_can_be_checked(kind: str) -> None:
    app = kept(kind)
    with app.request() as s:
        assert s.login_token is not None
        assert s.fingerprint == fingerprint(Login(0, s.login_token, HOME), "default")
        assert s.verify_login_token(s.login_token)
        assert not s.verify_login_token(s.login_token.upper() + "0")


@both
def test_s20_attempts_are_the_clients_own_and_say_so(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.attempt() == 1
        assert "No protection against guessing" in (type(s).attempt.__doc__ or "")
    with app.request(Browser()) as s:
        assert s.attempts == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"same_site": "laxx"},
        {"same_site": "none", "cookie_secure": False},
        {"cookie_domain": "example.com"},
        {"cookie_secure": False},
    ],
)
def test_s21_cookies_are_host_only_and_wrong_settings_are_errors(settings: Any) -> None:
    app = kept("store")
    assert app.sent[0].partition("=")[0] == NAME
    assert "Domain" not in app.sent[0]
    assert "; Secure; HttpOnly; SameSite=Lax" in app.sent[0]
    with pytest.raises(ConfigurationError):
        SessionConfig(store="memory:", **settings)


def test_s5_again_a_failed_store_is_never_read_as_logged_out() -> None:
    store = FaultyStore(App().store)  # type: ignore[arg-type]
    app = kept("store", store=store)
    store.fail("load")
    session = app.begin().session
    with pytest.raises(Exception, match="told to fail"):
        session.online()
    assert session.online()
