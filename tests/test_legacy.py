"""The readers of legacy cookies: genuine ones by the libraries' own code, and all that is none."""

from __future__ import annotations

import base64
import pickle
import time
from datetime import UTC, date, datetime, timedelta
from hashlib import sha1
from typing import Any
from uuid import UUID

import flask
import legacy_cookies
import pytest
from asgi_driver import Client, respond
from itsdangerous.encoding import base64_decode, base64_encode
from legacy_cookies import LATE, OLD, django_cookie, flask_cookie, starlette_cookie
from markupsafe import Markup
from starlette.middleware.sessions import SessionMiddleware as Starlettes

from session_mw.config import SessionConfig
from session_mw.errors import ConfigurationError
from session_mw.legacy import DjangoCookie, FlaskCookie, LegacyCookie, LegacyReader, LegacyRefused, StarletteCookie

NOW = 2_000_000_000
DATA = {"user_id": 7, "cart": [1, {"a": None}], "ä": "ö", "pi": 3.5}
KINDS = {
    "starlette": (StarletteCookie, starlette_cookie),
    "flask": (FlaskCookie, flask_cookie),
    "django": (DjangoCookie, django_cookie),
}
each = pytest.mark.parametrize("kind", list(KINDS))


def reader(kind: str, secret: Any = OLD, **options: Any) -> Any:
    return KINDS[kind][0](secret, **{"until": LATE, **options})


def cookie(kind: str, data: Any = DATA, at: int = NOW, **options: Any) -> str:
    return KINDS[kind][1](data, at, **options)


def refused(found: Any, value: str, now: int = NOW) -> str:
    with pytest.raises(LegacyRefused) as caught:
        found.read(value, now)
    return caught.value.reason


# -- genuine


@each
def test_a_genuine_cookie_is_read(kind: str) -> None:
    session = reader(kind).read(cookie(kind), NOW + 60)
    assert session.data == DATA
    assert session.issued_at == NOW
    assert session.user_id is None
    assert not session.persistent
    assert reader(kind, owner_key="user_id").read(cookie(kind), NOW).user_id == 7


@each
def test_a_long_one_that_was_deflated_is_read(kind: str) -> None:
    data = {"text": "so " * 500}
    assert (cookie(kind, data)[0] == ".") is (kind != "starlette")
    assert reader(kind).read(cookie(kind, data), NOW).data == data


@each
def test_any_of_several_secrets_will_do(kind: str) -> None:
    for secret in ("new", b"new", OLD):
        text = secret if isinstance(secret, str) else secret.decode()
        assert reader(kind, ["other", secret]).read(cookie(kind, secret=text), NOW).data == DATA
    assert refused(reader(kind, ["other", "new"]), cookie(kind)) == "forged"


@each
def test_its_age_limit_holds(kind: str) -> None:
    limited = reader(kind, max_age=100)
    assert limited.read(cookie(kind), NOW + 100).data == DATA
    assert refused(limited, cookie(kind), NOW + 101) == "expired"
    assert reader(kind, max_age=None).read(cookie(kind), NOW + 10**8).data == DATA
    assert refused(reader(kind, max_age=timedelta(minutes=1)), cookie(kind), NOW + 61) == "expired"


def test_each_default_age_is_the_library_s_own() -> None:
    for kind, days in (("starlette", 14), ("flask", 31), ("django", 14)):
        age = days * 86400
        assert reader(kind).read(cookie(kind), NOW + age).data == DATA
        assert refused(reader(kind), cookie(kind), NOW + age + 1) == "expired"


def test_what_starlette_itself_sets_is_read() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].update(DATA)
        await respond(send)

    client = Client(Starlettes(app, OLD))
    value = client.get().cookies[0].partition("=")[2].partition(";")[0]
    session = reader("starlette").read(value, int(time.time()))
    assert session.data == DATA
    assert abs(session.issued_at - time.time()) < 60


def test_what_flask_itself_sets_is_read_with_its_types() -> None:
    app = flask.Flask("old")
    app.secret_key = OLD
    data = {
        **DATA,
        "tuple": (1, ("x",)),
        "bytes": b"\x00\xff",
        "id": UUID(int=5),
        "when": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
        "markup": Markup("<b>"),
        "looks": {" t": [1]},
        "looks more": {" t__": {" b": "x"}},
    }

    @app.get("/")
    def write() -> str:
        flask.session.update(data)
        flask.session.permanent = True
        flask.flash("hello", "info")
        return ""

    browser = app.test_client()
    browser.get("/")
    cookie = browser.get_cookie("session")
    assert cookie is not None
    session = reader("flask").read(cookie.value, int(time.time()))
    assert session.data == {**data, "_flashes": [("info", "hello")]}
    assert type(session.data["markup"]) is Markup
    assert session.persistent


# -- not genuine


@each
def test_every_changed_character_is_refused(kind: str) -> None:
    value, strict = cookie(kind), reader(kind)
    for place in range(len(value)):
        other = "A" if value[place] != "A" else "B"
        assert refused(strict, value[:place] + other + value[place + 1 :]) in ("forged", "malformed")
    for text in (value[:-1], value + "A", value + "=", value + "==", f'"{value}"', " " + value):
        assert refused(strict, text) in ("forged", "malformed")


@each
def test_one_cookie_has_one_spelling(kind: str) -> None:
    """The libraries take others too, with other bits at the end of the base64: each would be a session of its own."""
    value, alphabet = cookie(kind), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    taken = []
    for last in alphabet:
        try:
            reader(kind).read(value[:-1] + last, NOW)
        except LegacyRefused:
            continue
        taken.append(last)
    assert taken == [value[-1]]


@each
def test_of_another_secret_or_library_it_is_refused(kind: str) -> None:
    assert refused(reader(kind), cookie(kind, secret="another")) == "forged"
    for other in KINDS:
        if other != kind:
            assert refused(reader(kind), cookie(other)) in ("forged", "malformed")


@each
@pytest.mark.parametrize(
    "value",
    ["", ".", "..", ":", "::", "a.b.c", "a:b:c", "null", "\x00.\x01.\x02", "ä.b.c", "é:b:c", "a" * 9000, ".." * 5000],
)
def test_rubbish_is_refused(kind: str, value: str) -> None:
    assert refused(reader(kind), value) in ("forged", "malformed")


@each
@pytest.mark.parametrize("data", [[1], 1, "text", None, True])
def test_what_is_no_session_is_refused(kind: str, data: Any) -> None:
    assert refused(reader(kind), cookie(kind, data)) == "unreadable"


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('unpickled')",))


class PickleSerializer:
    """What old Flask and Django could be set to."""

    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        raise AssertionError


def test_a_pickle_is_never_opened() -> None:
    assert refused(reader("django"), django_cookie(Bomb(), NOW, serializer=PickleSerializer)) == "unreadable"
    assert refused(reader("flask"), flask_cookie(Bomb(), NOW, serializer=PickleSerializer())) == "unreadable"
    assert refused(reader("starlette"), starlette_cookie(pickle.dumps(Bomb()), NOW)) == "unreadable"


class Raw:
    """Signs bytes as they are."""

    def dumps(self, obj: Any) -> bytes:
        return obj  # type: ignore[no-any-return]

    def loads(self, data: bytes) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
        b'{"a": {" b": "not base64!"}}',
        b'{"a": {" b": 1}}',
        b'{"a": {" u": "no uuid"}}',
        b'{"a": {" u": 1}}',
        b'{"a": {" d": "no date"}}',
        b'{"a": {" d": null}}',
        b'{"a": {" t": 1}}',
        b'{"a": {" di": 1}}',
    ],
)
def test_signed_rubbish_is_refused_too(text: bytes) -> None:
    """It is signed, so it is the old app's own; still nothing of it may raise anything else."""
    assert refused(reader("flask"), flask_cookie(text, NOW, serializer=Raw())) == "unreadable"


def test_what_inflates_beyond_measure_is_refused() -> None:
    huge = flask_cookie({"a": "x" * 1_000_000}, NOW)
    assert len(huge) < 8192
    assert refused(reader("flask"), huge) == "unreadable"
    huge = django_cookie({"a": "x" * 1_000_000}, NOW)
    assert len(huge) < 8192
    assert refused(reader("django"), huge) == "unreadable"


def test_a_deflated_stream_that_was_cut_off_is_refused() -> None:
    whole = flask_cookie({"a": "x" * 2000}, NOW).split(".")[1]
    half = "." + base64_encode(base64_decode(whole)[:-4]).decode()  # all data, and no checksum
    signer = legacy_cookies.signer_at(NOW)(OLD, salt="cookie-session", key_derivation="hmac", digest_method=sha1)
    assert refused(reader("flask"), signer.sign(half).decode()) == "unreadable"


# -- built


def test_until_is_a_date_to_its_end_or_a_moment() -> None:
    assert StarletteCookie(OLD, until=date(1970, 1, 1)).until == 86400
    assert StarletteCookie(OLD, until=datetime(1970, 1, 1, 1, tzinfo=UTC)).until == 3600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"until": datetime(2030, 1, 1)}, "until must say its time zone"),
        ({"until": "2030-01-01"}, "until must be a date or a datetime, not str"),
        ({"until": 5}, "until must be a date or a datetime, not int"),
        ({"secret_key": ""}, "give the old secret key"),
        ({"secret_key": []}, "give the old secret key"),
        ({"secret_key": ["a", None]}, "give the old secret key"),
        ({"max_age": 0}, "max_age must be whole seconds above 0, or None"),
        ({"max_age": True}, "max_age must be whole seconds above 0, or None"),
        ({"name": "a b"}, "cookie_name must be"),
        ({"path": "x"}, "cookie_path must begin"),
        ({"domain": "http://x"}, "cookie_domain must be"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    for kind in (StarletteCookie, FlaskCookie, DjangoCookie):
        with pytest.raises(ConfigurationError, match=message):
            kind(**{"secret_key": OLD, "until": LATE, **arguments})


@each
def test_no_secret_is_shown(kind: str) -> None:
    shown = reader(kind)
    assert OLD not in repr(shown)
    assert repr(shown).endswith("until 2099-01-02T00:00:00+00:00>")
    assert OLD not in repr(vars(shown))
    assert base64.b64encode(OLD.encode()).decode() not in repr(vars(shown))
    assert "7" not in repr(shown.read(cookie(kind, at=2), 2))
    assert OLD not in repr(SessionConfig(legacy=[shown]))


class Mine(LegacyCookie):
    def read(self, value: str, now: int) -> Any:
        raise LegacyRefused("forged")


@pytest.mark.parametrize(
    "legacy", ["x", 5, {"a": 1}, [5], [StarletteCookie], [object()], StarletteCookie(OLD, until=LATE)]
)
def test_only_readers_are_taken(legacy: Any) -> None:
    with pytest.raises(ConfigurationError, match="legacy must be a list of readers such as StarletteCookie"):
        SessionConfig(legacy=legacy)


def test_readers_of_your_own_are_taken() -> None:
    mine = Mine(name="theirs", until=LATE)
    assert isinstance(mine, LegacyReader)
    assert SessionConfig(legacy=[mine]).legacy == (mine,)
    with pytest.raises(NotImplementedError):
        LegacyCookie(name="x", until=LATE).read("", 0)


def test_a_name_is_read_once_and_never_our_own() -> None:
    with pytest.raises(ConfigurationError, match=r"the cookie 'session' is our own already.*needs another name"):
        SessionConfig(cookie_name="session", legacy=[StarletteCookie(OLD, until=LATE)])
    with pytest.raises(ConfigurationError, match="the cookie 'session' is read already"):
        SessionConfig(legacy=[StarletteCookie(OLD, until=LATE), FlaskCookie(OLD, until=LATE)])
