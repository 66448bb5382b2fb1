"""CookieManager: what is sealed, what opens, and when a cookie is sent at all."""

from __future__ import annotations

from typing import Any

import pytest
from harness import KEY, App, Random, opened

from session_mw.config import SessionConfig
from session_mw.core.payload import join
from session_mw.core.state import State
from session_mw.errors import ConfigurationError, SessionTooLargeError
from session_mw.managers import CLEAR, LEAVE, Action, Opened
from session_mw.managers.cookie import CookieManager

NOW = 1_700_000_000
signed = pytest.mark.parametrize("encrypt", [True, False])


def manager(**settings: Any) -> CookieManager:
    made = CookieManager()
    made.configure(SessionConfig(**{"secret_key": KEY, **settings}))
    return made


def sealed(made: CookieManager, data: dict[str, Any], now: int = NOW, state: State | None = None) -> str:
    verdict = made.commit(state or State(now), {"global": data}, now, Random(str(data)))
    assert verdict.action is Action.SET
    return verdict.value


def test_there_must_be_a_key() -> None:
    with pytest.raises(ConfigurationError, match="secret_key"):
        CookieManager().configure(SessionConfig(store="memory:"))


@signed
def test_what_was_sealed_opens(encrypt: bool) -> None:
    made = manager(encrypt_cookie_data=encrypt)
    text = sealed(made, {"a": 1})
    record = made.open([text], NOW).record
    assert record is not None
    assert (record.payload, record.created_at, record.expires_at) == (join(b'{"a":1}', b""), NOW, NOW + 7200)
    assert (record.digest, record.user_id, record.version) == (b"", None, 1)
    assert len(record.id) == 24


@signed
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"), ("forged", "malformed")),
        (lambda text: text[:60] + ("A" if text[60] != "A" else "B") + text[61:], ("forged",)),
        (lambda text: "", ("malformed",)),
        (lambda text: "x" * 5000, ("malformed", "unknown_key")),
        (lambda text: "é" + text, ("malformed",)),
    ],
)
def test_a_tampered_value_is_an_empty_session(encrypt: bool, text: Any, reason: tuple[str, ...]) -> None:
    made = manager(encrypt_cookie_data=encrypt)
    answer = made.open([text(sealed(made, {"a": 1}))], NOW)
    assert answer.record is None
    assert answer.reason in (*reason, "unknown_key")


def test_mode_key_and_purpose_are_the_servers_choice() -> None:
    text = sealed(manager(), {"a": 1})
    readable = sealed(manager(encrypt_cookie_data=False), {"a": 1})
    for other, value in (
        (manager(encrypt_cookie_data=False), text),
        (manager(), readable),
        (manager(secret_key="another key, as long as it has to be"), text),
        (manager(table_index="other"), text),
        (manager(cookie_name="other"), text),
    ):
        assert other.open([value], NOW).record is None
    rotated = manager(secret_key=["a newer key, as long as it has to be", KEY])
    assert rotated.open([text], NOW).record is not None


@pytest.mark.parametrize(
    ("now", "reason"), [(NOW + 7199, ""), (NOW + 7200, "expired"), (NOW - 60, ""), (NOW - 61, "future")]
)
def test_time_is_sealed_in(now: int, reason: str) -> None:
    made = manager()
    assert made.open([sealed(made, {"a": 1})], now).reason == reason


@pytest.mark.parametrize(("later", "due"), [(719, False), (720, True)])
def test_opening_tells_whether_activity_is_due(later: int, due: bool) -> None:
    made = manager()
    assert made.open([sealed(made, {"a": 1})], NOW + later).due is due


def test_doubled_names() -> None:
    plain = manager(cookie_name="session")
    text, second = sealed(plain, {"a": 1}), sealed(plain, {"b": 2})
    assert plain.open([], NOW) == Opened()
    assert plain.open(["junk", text], NOW).record is not None
    assert plain.open([text, second], NOW).reason == "doubled"
    assert plain.open(["junk", "garbage"], NOW).reason == "malformed"
    assert plain.open([text, "a", "b", "c"], NOW).reason == "doubled"
    host = manager()
    assert host.open([sealed(host, {"a": 1})] * 2, NOW).reason == "doubled"


def test_nothing_to_say() -> None:
    made = manager()
    assert made.commit(State(NOW), {"global": {}}, NOW, Random()) is LEAVE
    assert made.commit(State(NOW), {"global": {"a": 1}}, NOW, Random(), early=True) is LEAVE
    record = made.open([sealed(made, {"a": 1})], NOW).record
    assert made.commit(opened(record, NOW), {"global": {"a": 1}}, NOW, Random()) is LEAVE
    assert made.commit(opened(record, NOW), {"global": {}}, NOW, Random()) is CLEAR


def test_a_deadline_slides_by_a_tenth_and_never_by_a_slow_answer() -> None:
    made = manager()
    record = made.open([sealed(made, {"a": 1})], NOW).record
    for asked, answered, slides in ((719, 719, False), (720, 720, True), (720, 1439, True), (720, 1440, False)):
        verdict = made.commit(opened(record, NOW + asked), {"global": {"a": 1}}, NOW + answered, Random())
        assert (verdict.action is Action.SET) is slides
    again = made.commit(opened(record, NOW + 720), {"global": {"a": 1}}, NOW + 720, Random("2"))
    slid = made.open([again.value], NOW + 720).record
    assert slid is not None
    assert record is not None
    assert (slid.id, slid.expires_at, slid.absolute_expires_at) == (record.id, NOW + 7920, NOW + 604800)


def test_recheck() -> None:
    made = manager()
    record = made.open([sealed(made, {"a": 1})], NOW).record
    assert record is not None
    assert made.recheck(record, NOW + 7199, active=True) is record
    assert made.recheck(record, NOW + 7200, active=True) is None


def test_everything_of_a_record_travels() -> None:
    app = App("cookie")
    with app.request(headers={"user-agent": "UA"}) as s:
        s.login(user_id="ann")
        s["a"] = "ü"
        s.set_to("b", (1,), "other")
        s.attempt()
    record = app.layer.home.manager.open(list(app.browser.cookies.values()), int(app.clock.now)).record
    assert (record.user_id, record.login_user_agent, record.login_ip) == ("ann", "UA", "203.0.113.9")
    with app.request() as s:
        assert (s["a"], s.get_from("other", "b"), s.attempts) == ("ü", (1,), 1)


def test_signed_is_readable_and_sealed_is_not() -> None:
    import base64

    def shown(text: str) -> bytes:
        return b"".join(base64.urlsafe_b64decode(part + "==") for part in text.split(".") if len(part) % 4 != 1)

    assert b"plain" in shown(sealed(manager(encrypt_cookie_data=False), {"a": "plain"}))
    assert b"plain" not in shown(sealed(manager(), {"a": "plain"}))


def test_too_large_says_the_arithmetic_before_anything_is_sent() -> None:
    app = App("cookie")
    with pytest.raises(SessionTooLargeError) as refused, app.request() as s:
        s["a"] = "x" * 4000
    assert refused.value.limit == 3900
    assert refused.value.size > 3900
    assert app.sent == []
    chunked = App("cookie", cookie_max_bytes=7600)
    with chunked.request() as s:
        s["a"] = "x" * 4000
    assert len(chunked.browser.cookies) == 2
    assert chunked.look() == {"a": "x" * 4000}


def test_what_follows_a_destroy_is_sealed_under_another_id() -> None:
    app = App("cookie")
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        before = s.session_id
        s.destroy()
        s["b"] = 2
    with app.request() as s:
        assert s == {"b": 2}
        assert s.session_id != before
