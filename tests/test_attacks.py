"""The attack corpus, in process: whatever a client sends is an anonymous visitor and one event, never an error.

``corpus/cookie_headers.json``: ``{name}`` and ``{good}`` stand for the cookie and a value that opens. Outcomes:
``opens``; ``refused``: ours, judged, one event; ``absent``: not ours at all.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from asgi_driver import NAME, SECRET, Client, Reply, Routes

from session_mw import ConfigurationError, Event, InvalidSessionIdError, SessionConfig, SessionSerializationError
from session_mw.asgi import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyStore

CORPUS = Path(__file__).parent / "corpus"
HEADERS = json.loads((CORPUS / "cookie_headers.json").read_text("utf-8"))
IDS = json.loads((CORPUS / "ids.json").read_text("utf-8"))
SETTINGS = json.loads((CORPUS / "settings.json").read_text("utf-8"))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
KINDS = ["cookie", "store"]

APP = Routes(
    login=lambda s: s.login(user_id="ada"),
    logout=lambda s: s.logout(),
    destroy=lambda s: s.destroy(),
    regenerate=lambda s: s.regenerate(grace=0),
    me=lambda s: s.user_id,
)


class Target:
    """An app with one user logged in, and what it tells."""

    def __init__(self, kind: str, **settings: Any) -> None:
        self.kind = kind
        self.clock = settings.setdefault("clock", Clock())
        self.store = FaultyStore(MemoryStore(clock=self.clock))
        self.events: list[Event] = []
        home = {"secret_key": SECRET} if kind == "cookie" else {"store": self.store}
        self.app = SessionMiddleware(APP, on_event=self.events.append, **{**home, **settings})
        self.client = Client(self.app)
        self.client.get("/login")
        self.name = self.app.config.cookie_name
        self.good = self.client.cookies[self.name]
        self.forget()

    def forget(self) -> None:
        self.events.clear()
        self.store.forget()

    def visit(self, cookie: bytes) -> Reply:
        self.forget()
        return Client(self.app).get("/me", cookie=cookie)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if event.name == "refused"]


@pytest.fixture(scope="module", params=KINDS)
def target(request: pytest.FixtureRequest) -> Target:
    return Target(request.param)


def secrets_of(value: str) -> list[str]:
    """What of a cookie value would be telling in a log."""
    return [part for part in re.split(r"[^A-Za-z0-9_-]+", value) if len(part) >= 16]


@pytest.mark.parametrize("case", HEADERS, ids=[f"{number}-{case['note']}" for number, case in enumerate(HEADERS)])
def test_cookie_headers(target: Target, case: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    header = case["header"].replace("{name}", target.name).replace("{good}", target.good).encode("latin-1")
    reply = target.visit(header)
    assert reply.status == 200
    assert reply.cookies == []
    opens = case["outcome"] == "opens"
    assert reply.text == ("ada" if opens else "None")
    assert len(target.reasons()) == (case["outcome"] == "refused")
    assert all(target.reasons())
    assert target.store.count() == (1 if opens and target.kind == "store" else 0)
    for secret in secrets_of(target.good):
        assert secret not in caplog.text
    assert target.client.get("/me").text == "ada"


@pytest.mark.parametrize("size", [64_000, 1_000_000])
def test_huge_headers(target: Target, size: int) -> None:
    """A server would refuse them; should one not, neither time nor memory explodes."""
    unit = f"{target.name}=x; ".encode()
    for header in (
        b"A" * size,
        b"; " * (size // 2),
        unit * (size // len(unit)),
        f"{target.name}=".encode() + b"=" * size,
    ):
        assert target.visit(header).text == "None"
        assert target.store.count() == 0


@pytest.mark.parametrize("first", [True, False])
def test_a_plain_name_may_be_shadowed_but_not_chosen(first: bool) -> None:
    """A sibling host may set a cookie of the same name: exactly one that verifies is accepted, of at most three."""
    for kind in KINDS:
        target = Target(kind, cookie_name="sid", cookie_secure="auto")
        good, junk = f"sid={target.good}", "sid=junk"
        header = f"{good}; {junk}" if first else f"{junk}; {good}"
        assert target.visit(header.encode()).text == "ada"
        assert target.reasons() == []
        assert target.visit(f"{junk}; {junk}; {junk}; {good}".encode()).text == "None"
        assert target.reasons() == ["doubled"]
        other = Client(target.app)
        other.get("/login")
        assert target.visit(f"{good}; sid={other.cookies['sid']}".encode()).text == "None"
        assert target.reasons() == ["doubled"]


# -- sealed values and tokens ------------------------------------------------------------------------------------------


def mutations(good: str) -> dict[str, str]:
    """Values close to a good one."""
    flipped = [good[:i] + ALPHABET[ALPHABET.index(c) ^ 1] + good[i + 1 :] for i, c in enumerate(good) if c in ALPHABET]
    cut = [good[:i] for i in range(1, len(good))]
    found = {f"cut at {i}": value for i, value in enumerate(cut)}
    found |= {f"flip {i}": value for i, value in enumerate(flipped)}
    found |= {f"append {tail!r}": good + tail for tail in ("A", "=", "==", ".", "AAAA", "%0a", "\\n")}
    found |= {
        "reversed": good[::-1],
        "case": good.swapcase(),
        "standard alphabet": good.replace("-", "+").replace("_", "/") if set("-_") & set(good) else good + "+",
        "doubled": good + good,
        "prefixed": "A" + good,
        "upper": good.upper(),
    }
    return {name: value for name, value in found.items() if value != good}


@pytest.mark.parametrize("kind", [*KINDS, "signed"])
def test_nothing_close_to_a_good_value_opens(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    target = Target("cookie", encrypt_cookie_data=False) if kind == "signed" else Target(kind)
    assert target.visit(f"{NAME}={target.good}".encode()).text == "ada"
    for name, value in mutations(target.good).items():
        reply = target.visit(f"{NAME}={value}".encode())
        assert (reply.status, reply.text, reply.cookies) == (200, "None", []), name
        assert len(target.reasons()) == 1, name
        if kind == "store":
            shaped = re.fullmatch(r"[A-Za-z0-9_-]{24}\.[A-Za-z0-9_-]{44}", value)
            assert target.store.count() == (1 if shaped else 0), name
    for secret in secrets_of(target.good):
        assert secret not in caplog.text
    assert target.client.get("/me").text == "ada"


@pytest.mark.parametrize("settings", [{}, {"encrypt_cookie_data": False}], ids=["sealed", "signed"])
def test_a_seal_is_for_one_name_one_app_one_key(settings: dict[str, Any]) -> None:
    good = Target("cookie", **settings).good
    for others in (
        {"cookie_name": "__Host-other"},
        {"table_index": "other", "cookie_name": NAME},
        {"secret_key": SECRET[::-1]},
        {"encrypt_cookie_data": not settings.get("encrypt_cookie_data", True)},
    ):
        other = Target("cookie", **{**settings, **others})
        assert other.visit(f"{other.name}={good}".encode()).text == "None"
        assert len(other.reasons()) == 1


def test_seals_in_time() -> None:
    target = Target("cookie", idle_timeout=100)
    now = target.clock.now
    header = f"{NAME}={target.good}".encode()
    for seconds, opens in ((99, True), (100, False), (-60, True), (-61, False)):
        target.clock.now = now + seconds
        assert target.visit(header).text == ("ada" if opens else "None"), seconds
        assert target.reasons() == ([] if opens else ["expired" if seconds > 0 else "future"])


def test_keys_in_rotation() -> None:
    old, new = SECRET + "-old", SECRET[::-1] + "-new"
    good = Target("cookie", secret_key=old).good
    assert Target("cookie", secret_key=[new, old]).visit(f"{NAME}={good}".encode()).text == "ada"
    removed = Target("cookie", secret_key=new)
    assert removed.visit(f"{NAME}={good}".encode()).text == "None"
    assert len(removed.reasons()) == 1


@pytest.mark.parametrize("path", ["/logout", "/destroy", "/regenerate", "/login"])
def test_a_stored_token_is_dead_after(path: str) -> None:
    target = Target("store")
    target.client.get(path)
    reply = target.visit(f"{NAME}={target.good}".encode())
    assert (reply.text, reply.cookies) == ("None", [])
    assert target.reasons() == ["stale_token"] or path == "/destroy"
    assert len(target.reasons()) == 1


def test_the_halves_of_two_tokens_do_not_mix() -> None:
    target = Target("store")
    other = Client(target.app)
    other.get("/login")
    our_id, secret = target.good.split(".")
    theirs_id, theirs_secret = other.cookies[NAME].split(".")
    for value in (f"{our_id}.{theirs_secret}", f"{theirs_id}.{secret}"):
        assert target.visit(f"{NAME}={value}".encode()).text == "None"
        assert target.reasons() == ["forged"]


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", IDS, ids=range(len(IDS)))
def test_no_store_sees_an_id_that_we_never_made(bad: str, target: Target) -> None:
    raw = bad.encode("utf-8")
    secret = b"B" * 44
    for value in (raw, raw + b"." + secret, b"A" * 24 + b"." + raw, target.good.encode() + b"\n"):
        reply = target.visit(target.name.encode() + b"=" + value)
        assert (reply.status, reply.text, reply.cookies) == (200, "None", [])
        known = re.fullmatch(rb"[A-Za-z0-9_-]{24}\.[A-Za-z0-9_-]{44}", value) is not None
        assert target.store.count() == int(known and target.kind == "store")
        assert len(target.reasons()) <= 1


@pytest.mark.parametrize("bad", IDS, ids=range(len(IDS)))
def test_start_adopts_only_what_is_shaped_like_a_token(bad: str) -> None:
    def adopt(session: Any) -> str:
        with pytest.raises(InvalidSessionIdError) as caught:
            session.start(bad)
        assert bad not in str(caught.value) or len(bad) < 3
        return "refused"

    store = FaultyStore(MemoryStore())
    assert Client(SessionMiddleware(Routes(index=adopt), store=store)).get().text == "refused"
    assert store.count("load") == 0


def test_only_the_cookie_carries_a_session(target: Target) -> None:
    client = Client(target.app)
    for options in (
        {"query_string": f"{target.name}={target.good}".encode()},
        {"headers": [(b"authorization", f"Bearer {target.good}".encode())]},
        {"headers": [(b"x-session", target.good.encode())]},
        {"headers": [(b"set-cookie", f"{target.name}={target.good}".encode())]},
        {"headers": [(b"cookie2", f"{target.name}={target.good}".encode())]},
    ):
        assert client.get("/me", **options).text == "None"


def test_an_unknown_id_is_never_adopted() -> None:
    target = Target("store")
    planted = "A" * 24 + "." + "B" * 44
    client = Client(target.app, {NAME: planted})
    client.get("/login")
    assert client.cookies[NAME].split(".")[0] != "A" * 24
    assert target.visit(f"{NAME}={planted}".encode()).text == "None"


def test_fixation() -> None:
    """Plant, wait for the login, reuse."""
    for kind in KINDS:
        app = SessionMiddleware(
            Routes(**APP.routes, set=lambda s: s.set("cart", 1)),
            **({"secret_key": SECRET} if kind == "cookie" else {"store": MemoryStore()}),
        )
        victim = Client(app)
        victim.get("/set")
        attacker = victim.copy()
        victim.get("/login")
        assert victim.cookies != attacker.cookies
        assert victim.get("/me").text == "ada"
        assert attacker.get("/me").text == "None"


# -- values ------------------------------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


REFUSED_VALUES = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "1e400": 1e400,
    "lone surrogate": "\ud800",
    "None key": {None: 1},
    "int key": {1: 1},
    "bool key": {True: 1},
    "too deep": deep(3000),
    "10**5000": 10**5000,
    "itself": circle(),
    "an object": object(),
    "a class": dict,
    "a function": len,
}
KEPT_VALUES = {
    "-0.0": -0.0,
    "2**53+1": 2**53 + 1,
    "2**64": 2**64,
    "NUL": "a\0b",
    "dunder": {"__class__": 1, "__proto__": {"x": 1}},
    "pickle": b"\x80\x04.",
    "msgpack bomb": b"\xdd\xff\xff\xff\xff",
    "header": "a\r\nSet-Cookie: b=1",
    "tag": {"$": "datetime"},
    "tagged": {"$date": "2020-01-01", "$bytes": "AA=="},
}


@pytest.mark.parametrize("name", REFUSED_VALUES)
def test_values_that_would_not_come_back_are_refused_where_they_are_set(name: str) -> None:
    def app(session: Any) -> str:
        with pytest.raises(SessionSerializationError):
            session["value"] = REFUSED_VALUES[name]
        return repr(dict(session))

    reply = Client(SessionMiddleware(Routes(index=app), secret_key=SECRET)).get()
    assert (reply.text, reply.cookies) == ("{}", [])


@pytest.mark.parametrize("name", KEPT_VALUES)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_values_come_back_as_themselves(kind: str, name: str) -> None:
    value = KEPT_VALUES[name]

    def app(session: Any) -> str:
        if "value" in session:
            found = session["value"]
            return str(type(found) is type(value) and repr(found) == repr(value))
        session["value"] = value
        return "set"

    settings: dict[str, Any] = {"secret_key": SECRET} if kind == "cookie" else {"store": MemoryStore()}
    client = Client(SessionMiddleware(Routes(index=app), **{"cookie_max_bytes": 7600, **settings}))
    reply = client.get()
    assert reply.text == "set"
    assert all("\r" not in value and "\n" not in value for _, value in reply.headers)
    assert client.get().text == "True"


# -- header injection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "value"), SETTINGS)
def test_settings_that_would_break_out_of_the_header_are_refused(setting: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionConfig(**{"secret_key": SECRET, "cookie_secure": True, setting: value})
    assert "\r" not in str(caught.value)


def test_no_path_of_a_request_reaches_the_cookie() -> None:
    target = Target("cookie")
    for options in (
        {"root_path": "/;Domain=evil"},
        {"headers": [(b"x-forwarded-prefix", b"/;Domain=evil")]},
        {"headers": [(b"x-forwarded-host", b"evil.example")]},
    ):
        (line,) = Client(target.app).get("/login", **options).cookies
        assert line.split("; ")[1:] == ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]
