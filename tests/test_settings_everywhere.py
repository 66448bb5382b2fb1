"""The same settings, spelled in each framework's way, give the same behaviour: cookie, deadlines, limit, sealing.

All apps here keep their sessions in one store, under one name and key: what the one begins opens in every other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import django_engine.project  # noqa: F401 - sets Django up
import flask
import httpx
import pytest
from asgi_driver import SECRET
from django.http import HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django_engine.test_site import ask as ask_django
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.config import Config
from starlette.datastructures import Secret
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from session_mw import SessionConfig, SessionService, asgi, current_session, wsgi
from session_mw.fastapi import CurrentSession
from session_mw.flask import SessionMW
from session_mw.starlette import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

URL, NAME = "https://shop.test", "__Host-shop"
IDLE, ABSOLUTE = 900, 3600

Ask = Callable[[str, str], tuple[str, str]]
"""``ask(path, cookie)``: what the app says, and the Set-Cookie it sends."""


class Place:
    """What all spellings share: the store and the clock, which cannot be written as text."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.service = SessionService(store=self.store, clock=self.clock, secret_key=SECRET, encryption=True)

    @property
    def things(self) -> dict[str, Any]:
        return {"store": self.store, "clock": self.clock}


FLAT: dict[str, Any] = {
    "secret_key": SECRET,
    "encryption": True,
    "cookie_name": NAME,
    "same_site": "strict",
    "idle_timeout": IDLE,
    "absolute_timeout": timedelta(hours=1),
    "max_sessions_per_user": 2,
}
NESTED: dict[str, Any] = {
    "SECRET_KEY": SECRET,
    "encryption": True,
    "cookie": {"name": NAME},
    "same.site": "strict",
    "idle": {"timeout": IDLE},
    "Absolute_Timeout": ABSOLUTE,
    "max_sessions": {"per.user": 2},
}
ENVIRONMENT = {
    "SESSION_MW_SECRET_KEY": SECRET,
    "SESSION_MW_STORE": "memory:",  # where the store of all takes its place
    "SESSION_MW_ENCRYPTION": "yes",
    "SESSION_MW_COOKIE_NAME": NAME,
    "SESSION_MW_SAME_SITE": "strict",
    "SESSION_MW_IDLE_TIMEOUT": str(IDLE),
    "SESSION_MW_ABSOLUTE_TIMEOUT": str(ABSOLUTE),
    "SESSION_MW_MAX_SESSIONS_PER_USER": "2",
}
DJANGOS: dict[str, Any] = {
    "SESSION_COOKIE_NAME": NAME,
    "SESSION_COOKIE_SECURE": True,
    "SESSION_COOKIE_SAMESITE": "Strict",
    "SESSION_EXPIRE_AT_BROWSER_CLOSE": True,
    "SESSION_SAVE_EVERY_REQUEST": True,  # there reading is no use of a session otherwise
}


def act(session: Any, path: str) -> str:
    if path == "/login":
        session.login(user_id="ada")
    return str(session.user_id)


def over_http(transport: Any) -> Ask:
    def ask(path: str, cookie: str) -> tuple[str, str]:
        with httpx.Client(transport=transport, base_url=URL) as client:
            reply = client.get(path, headers={"Cookie": cookie} if cookie else {})
        return reply.text, reply.headers.get("set-cookie", "")

    return ask


def in_wsgi(config: SessionConfig) -> Ask:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        said = act(current_session(), environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [said.encode()]

    return over_http(httpx.WSGITransport(app=wsgi.SessionMiddleware(app, config)))


def in_asgi(config: SessionConfig) -> Ask:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(act(scope["session"], scope["path"]))(scope, receive, send)

    served = asgi.SessionMiddleware(app, config)

    def ask(path: str, cookie: str) -> tuple[str, str]:
        reply = TestClient(served, base_url=URL).get(path, headers={"Cookie": cookie} if cookie else {})
        return reply.text, reply.headers.get("set-cookie", "")

    return ask


def in_starlette(**settings: Any) -> Ask:
    async def view(request: Any) -> PlainTextResponse:
        return PlainTextResponse(act(request.session, request.url.path))

    app = Starlette(
        routes=[Route("/login", view), Route("/me", view)], middleware=[Middleware(SessionMiddleware, **settings)]
    )

    def ask(path: str, cookie: str) -> tuple[str, str]:
        reply = TestClient(app, base_url=URL).get(path, headers={"Cookie": cookie} if cookie else {})
        return reply.text, reply.headers.get("set-cookie", "")

    return ask


def in_fastapi(**settings: Any) -> Ask:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, **settings)

    @app.get("/{path}")
    def view(path: str, session: CurrentSession) -> str:
        return act(session, f"/{path}")

    def ask(path: str, cookie: str) -> tuple[str, str]:
        reply = TestClient(app, base_url=URL).get(path, headers={"Cookie": cookie} if cookie else {})
        return reply.json(), reply.headers.get("set-cookie", "")

    return ask


def in_flask(config: dict[str, Any], environ: dict[str, str] | None = None) -> Ask:
    app = flask.Flask("shop")
    if environ:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            app.config.from_prefixed_env()
    app.config.setdefault("SESSION_MW", {}).update(config.pop("SESSION_MW"))
    app.config.update(config)
    SessionMW(app)

    @app.get("/<path>")
    def view(path: str) -> str:
        return act(current_session(), f"/{path}")

    return over_http(httpx.WSGITransport(app=app))


def in_django(**settings: Any) -> Ask:
    def view(request: Any) -> HttpResponse:
        if request.headers["X-Path"] == "/login":
            request.session.cycle_key()
            request.session["_auth_user_id"] = "ada"  # as django.contrib.auth.login() does
        return HttpResponse(str(request.session.user_id))

    def ask(path: str, cookie: str) -> tuple[str, str]:
        client = DjangoClient()
        client.cookies.load(cookie)
        with override_settings(**settings):
            reply = ask_django(client, view, **{"x-path": path})
        sent = reply.cookies.get(NAME)
        return reply.content.decode(), "" if sent is None else sent.OutputString()

    return ask


def starlettes(config: Config, place: Place) -> Ask:
    """By Starlette's own ``Config``, in Starlette's own words."""
    return in_starlette(
        secret_key=config("SESSION_MW_SECRET_KEY", cast=Secret),
        session_cookie=config("SESSION_MW_COOKIE_NAME"),
        same_site=config("SESSION_MW_SAME_SITE"),
        https_only=True,
        max_age=config("SESSION_MW_IDLE_TIMEOUT", cast=int),
        absolute_timeout=config("SESSION_MW_ABSOLUTE_TIMEOUT", cast=int),
        max_sessions_per_user=config("SESSION_MW_MAX_SESSIONS_PER_USER", cast=int),
        encryption=config("SESSION_MW_ENCRYPTION", cast=lambda value: value == "yes"),
        persistent=False,
        **place.things,
    )


SPELLINGS: dict[str, Callable[[Place], Ask]] = {
    "asgi, keywords": lambda place: in_asgi(SessionConfig(**FLAT, **place.things)),
    "wsgi, a mapping": lambda place: in_wsgi(SessionConfig.from_mapping({**NESTED, **place.things})),
    "asgi, the environment": lambda place: in_asgi(SessionConfig.from_env(ENVIRONMENT).replace(**place.things)),
    "starlette, our words": lambda place: in_starlette(**FLAT, **place.things, persistent=False),
    "starlette, its Config": lambda place: starlettes(Config(environ=ENVIRONMENT), place),
    "fastapi": lambda place: in_fastapi(**FLAT, **place.things, persistent=False),
    "flask, our words": lambda place: in_flask({"SESSION_MW": {**NESTED, **place.things}}),
    "flask, its words": lambda place: in_flask(
        {
            "SECRET_KEY": SECRET,
            "SESSION_COOKIE_NAME": NAME,
            "SESSION_COOKIE_SECURE": True,
            "SESSION_COOKIE_SAMESITE": "Strict",
            "PERMANENT_SESSION_LIFETIME": IDLE,
            "SESSION_MW": {
                "encryption": True, "absolute_timeout": ABSOLUTE, "max_sessions_per_user": 2, **place.things
            },
        }
    ),
    "flask, the environment": lambda place: in_flask(
        {"SESSION_MW": place.things},
        {
            f"FLASK_{name.replace('SESSION_MW_', 'SESSION_MW__')}": value if name.endswith("KEY") else json.dumps(value)
            for name, value in ENVIRONMENT.items()
            if name not in ("SESSION_MW_ENCRYPTION", "SESSION_MW_STORE")
        }
        | {"FLASK_SESSION_MW__ENCRYPTION": "true", "FLASK_SESSION_MW__IDLE_TIMEOUT": str(IDLE)}
        | {"FLASK_SESSION_MW__ABSOLUTE_TIMEOUT": str(ABSOLUTE), "FLASK_SESSION_MW__MAX_SESSIONS_PER_USER": "2"},
    ),
    "django": lambda place: in_django(
        **DJANGOS,
        SECRET_KEY=SECRET,
        SESSION_MW={
            "encryption": True, "idle_timeout": IDLE, "absolute": {"timeout": ABSOLUTE}, "max_sessions_per_user": 2,
            **place.things,
        },
    ),
}  # fmt: skip


def given(line: str) -> str:
    """The name and value of a Set-Cookie, as a client sends them back."""
    return line.partition(";")[0]


def attributes(line: str) -> set[str]:
    return {part.strip().lower() for part in line.split(";")[1:]}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_spelling_and_any_other_behave_alike(spelling: str) -> None:
    place = Place()
    ask = SPELLINGS[spelling](place)

    said, line = ask("/login", "")
    assert said in ("ada", "None")  # Django binds the owner when it saves
    assert list(SimpleCookie(line)) == [NAME]
    assert attributes(line) == {"path=/", "secure", "httponly", "samesite=strict"}
    cookie = given(line)
    assert ask("/me", cookie)[0] == "ada"

    place.clock.advance(IDLE - 1)
    assert ask("/me", cookie)[0] == "ada"  # and slides
    place.clock.advance(IDLE)
    assert ask("/me", cookie)[0] == "None"

    cookie = given(ask("/login", "")[1])
    for _ in range(ABSOLUTE // 600 - 1):
        place.clock.advance(600)
        assert ask("/me", cookie)[0] == "ada"
    place.clock.advance(599)
    assert ask("/me", cookie)[0] == "ada"
    place.clock.advance(1)
    assert ask("/me", cookie)[0] == "None"

    cookies = []
    for _ in range(3):
        cookies.append(given(ask("/login", "")[1]))
        place.clock.advance(1)
    assert [ask("/me", each)[0] for each in cookies] == ["None", "ada", "ada"]
    (newest, _) = place.service.list_sessions("ada")
    record = place.store.load(newest)
    assert record is not None
    assert b"_auth_user_id" not in record.payload  # sealed


def test_what_one_begins_every_other_opens() -> None:
    place = Place()
    asks = {name: make(place) for name, make in SPELLINGS.items()}
    for begins, ask in asks.items():
        cookie = given(ask("/login", "")[1])
        others = {name: other("/me", cookie)[0] for name, other in asks.items()}
        assert set(others.values()) == {"ada"}, (begins, others)
