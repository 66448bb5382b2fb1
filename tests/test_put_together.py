"""What is put together wrong, under every framework: one clear error, which says what to write, and shows no secret.

Mistakes of settings are ``test_bad_input``'s and each framework's own tests'. Where a framework answers a mistake
itself (Starlette's ``request.session`` without any middleware, Django's users above its sessions), so does it here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_engine.project as project
import flask
import pytest
from asgi_driver import SECRET, Client
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import Client as DjangoClient
from django.test import override_settings
from django_engine.test_site import ask
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from wsgi_driver import WSGIClient

from session_mw import ConfigurationError, SessionStateError, asgi, current_session, wsgi
from session_mw.access import login_required
from session_mw.fastapi import OnlineSession
from session_mw.flask import SessionMW
from session_mw.guard import ASGIGuard, WSGIGuard
from session_mw.starlette import SessionBackend, SessionMiddleware, session_of

WEAK = "hunter2"


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse(str(current_session().user_id))(scope, receive, send)


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    body = str(current_session().user_id).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]


def me(request: Request) -> Response:
    return PlainTextResponse(str(session_of(request).user_id))


@login_required
def account(request: Request) -> Response:
    return PlainTextResponse("in")


def ask_asgi(app: Any) -> Any:
    return Client(app).get()


def ask_wsgi(app: Any) -> Any:
    return WSGIClient(app, checked=False).get()


def ask_starlette(*middleware: Middleware, path: str = "/me") -> Any:
    routes = [Route("/me", me), Route("/account", account)]
    return TestClient(Starlette(routes=routes, middleware=list(middleware))).get(path)


def ask_fastapi(*settings: dict[str, Any], guard: bool = False) -> Any:
    api = FastAPI()

    def who(session: OnlineSession) -> str | None:
        return session.user_id

    api.get("/")(login_required(lambda: "in") if guard else who)
    for each in settings:
        api.add_middleware(SessionMiddleware, **each)
    return TestClient(api).get("/")


def ask_flask(config: dict[str, Any], install: Callable[[flask.Flask], Any], guard: bool = False) -> Any:
    app = flask.Flask("wrong")
    app.config.update({"TESTING": False, "PROPAGATE_EXCEPTIONS": True, **config})
    install(app)
    view = login_required(lambda: "in") if guard else lambda: str(dict(current_session()))
    app.add_url_rule("/", view_func=view, endpoint="it")
    return app.test_client().get("/")


def ask_django(guard: bool = False, middleware: list[str] | None = None, **settings: Any) -> Any:
    view = login_required(lambda request: "in") if guard else lambda request: str(current_session().user_id)
    listed = middleware if middleware is not None else [project.OURS, project.DJANGOS, *project.REST]
    with override_settings(MIDDLEWARE=listed, **settings):
        return ask(DjangoClient(), view)


def check_django(middleware: list[str], **settings: Any) -> Any:
    """What ``manage.py check`` says, raised."""
    with override_settings(MIDDLEWARE=middleware, **settings):
        found = run_checks(tags=["security"])
    raise ConfigurationError("\n".join(f"{each.id} {each.msg} {each.hint}" for each in found))


def twice(app: flask.Flask) -> None:
    SessionMW(app)
    SessionMW(app)


def around(app: flask.Flask) -> None:
    SessionMW(app)
    app.wsgi_app = wsgi.SessionMiddleware(app.wsgi_app, store="memory:", cookie_name="session", cookie_secure="auto")  # type: ignore[method-assign]


OURS = Middleware(SessionMiddleware, secret_key=SECRET)
USERS = Middleware(AuthenticationMiddleware, backend=SessionBackend())
KEY = {"SECRET_KEY": SECRET}
MISSING, TWICE, UNGUARDED, ORDER, WEAK_KEY = "missing", "twice", "guard without", "wrong order", "weak key"
NO_MIDDLEWARE: Any = lambda app: None  # noqa: E731

WRONG: list[tuple[str, str, Callable[[], Any], type[Exception], str]] = [
    ("asgi", MISSING, lambda: ask_asgi(asgi_app), SessionStateError, "app = SessionMiddleware(app, secret_key="),
    ("wsgi", MISSING, lambda: ask_wsgi(wsgi_app), SessionStateError, "app = SessionMiddleware(app, secret_key="),
    ("starlette", MISSING, ask_starlette, SessionStateError, "app.add_middleware(SessionMiddleware, secret_key="),
    ("fastapi", MISSING, ask_fastapi, SessionStateError, "app.add_middleware(SessionMiddleware, secret_key="),
    ("flask", MISSING, lambda: ask_flask(KEY, NO_MIDDLEWARE), SessionStateError, "SessionMW(app)"),
    ("django", MISSING, lambda: ask_django(middleware=[project.DJANGOS]), SessionStateError, "session_mw.django.Store"),
    (
        "django",
        MISSING,
        lambda: check_django([project.OURS]),
        ConfigurationError,
        f"put '{project.DJANGOS}' right below",
    ),
    (
        "django",
        MISSING,
        lambda: check_django([project.DJANGOS]),
        ConfigurationError,
        f"put '{project.OURS}' right above",
    ),
    (
        "asgi",
        TWICE,
        lambda: ask_asgi(asgi.SessionMiddleware(asgi.SessionMiddleware(asgi_app, secret_key=SECRET), store="memory:")),
        ConfigurationError,
        "remove one, or give one of them another table_index= or cookie_name=",
    ),
    (
        "wsgi",
        TWICE,
        lambda: ask_wsgi(wsgi.SessionMiddleware(wsgi.SessionMiddleware(wsgi_app, secret_key=SECRET), store="memory:")),
        ConfigurationError,
        "remove one, or give one of them another table_index= or cookie_name=",
    ),
    ("starlette", TWICE, lambda: ask_starlette(OURS, OURS), ConfigurationError, "remove one, or give one"),
    (
        "fastapi",
        TWICE,
        lambda: ask_fastapi(*[{"secret_key": SECRET}] * 2),
        ConfigurationError,
        "remove one, or give one",
    ),
    ("flask", TWICE, lambda: ask_flask(KEY, twice), ConfigurationError, "take one SessionMW(app) out"),
    ("flask", TWICE, lambda: ask_flask(KEY, around), ConfigurationError, "remove one, or give one of them"),
    (
        "django",
        TWICE,
        lambda: check_django([project.OURS, project.DJANGOS, project.DJANGOS]),
        ConfigurationError,
        f"Take one '{project.DJANGOS}' out",
    ),
    (
        "asgi",
        UNGUARDED,
        lambda: ask_asgi(ASGIGuard(asgi_app)),
        SessionStateError,
        "app = SessionMiddleware(app, secret_key=",
    ),
    (
        "wsgi",
        UNGUARDED,
        lambda: ask_wsgi(WSGIGuard(wsgi_app)),
        SessionStateError,
        "app = SessionMiddleware(app, secret_key=",
    ),
    ("starlette", UNGUARDED, lambda: ask_starlette(path="/account"), SessionStateError, "app.add_middleware(Session"),
    ("fastapi", UNGUARDED, lambda: ask_fastapi(guard=True), SessionStateError, "app.add_middleware(SessionMiddleware"),
    ("flask", UNGUARDED, lambda: ask_flask(KEY, NO_MIDDLEWARE, guard=True), SessionStateError, "SessionMW(app)"),
    (
        "django",
        UNGUARDED,
        lambda: ask_django(guard=True, middleware=[project.DJANGOS]),
        SessionStateError,
        f'MIDDLEWARE = ["{project.OURS}", …]',
    ),
    (
        "asgi",
        ORDER,
        lambda: ask_asgi(ASGIGuard(asgi.SessionMiddleware(asgi_app, secret_key=SECRET))),
        SessionStateError,
        "add the line, around the guarded app",
    ),
    (
        "wsgi",
        ORDER,
        lambda: ask_wsgi(WSGIGuard(wsgi.SessionMiddleware(wsgi_app, secret_key=SECRET))),
        SessionStateError,
        "add the line, around the guarded app",
    ),
    ("starlette", ORDER, lambda: ask_starlette(USERS, OURS), SessionStateError, "before AuthenticationMiddleware in"),
    (
        "django",
        ORDER,
        lambda: ask_django(guard=True, middleware=[project.DJANGOS, project.OURS]),
        SessionStateError,
        f'MIDDLEWARE = ["{project.OURS}", …]                  # above Django\'s SessionMiddleware',
    ),
    (
        "django",
        ORDER,
        lambda: check_django([project.DJANGOS, project.OURS]),
        ConfigurationError,
        f"put '{project.OURS}' right above '{project.DJANGOS}'",
    ),
    (
        "django",
        ORDER,
        lambda: ask_django(middleware=[project.OURS, project.REST[1], project.DJANGOS]),
        ImproperlyConfigured,  # Django's own
        "SessionMiddleware' before 'django.contrib.auth",
    ),
    (
        "asgi",
        WEAK_KEY,
        lambda: asgi.SessionMiddleware(asgi_app, secret_key=WEAK),
        ConfigurationError,
        "session-mw keygen",
    ),
    (
        "wsgi",
        WEAK_KEY,
        lambda: wsgi.SessionMiddleware(wsgi_app, secret_key=WEAK),
        ConfigurationError,
        "session-mw keygen",
    ),
    (
        "starlette",
        WEAK_KEY,
        lambda: ask_starlette(Middleware(SessionMiddleware, WEAK)),
        ConfigurationError,
        'app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET"])',
    ),
    (
        "fastapi",
        WEAK_KEY,
        lambda: ask_fastapi({"secret_key": WEAK}),
        ConfigurationError,
        'app.add_middleware(SessionMiddleware, secret_key=os.environ["SECRET"])',
    ),
    (
        "flask",
        WEAK_KEY,
        lambda: ask_flask({"SECRET_KEY": WEAK}, SessionMW),
        ConfigurationError,
        'app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]',
    ),
    (
        "django",
        WEAK_KEY,
        lambda: ask_django(SESSION_MW={"store": "memory:", "encryption": True}, SECRET_KEY=WEAK),
        ConfigurationError,
        'SESSION_MW = {"secret_key": os.environ["SECRET"]}',
    ),
]


@pytest.mark.parametrize(
    ("build", "error", "advice"),
    [row[2:] for row in WRONG],
    ids=[f"{number}-{framework}-{mistake}" for number, (framework, mistake, *_) in enumerate(WRONG)],
)
def test_one_error_says_what_to_do(build: Callable[[], Any], error: type[Exception], advice: str) -> None:
    with pytest.raises(error) as caught:
        build()
    said = str(caught.value)
    assert advice in said
    assert SECRET not in said
    assert WEAK not in said


def test_no_framework_is_forgotten() -> None:
    covered = {(framework, mistake) for framework, mistake, *_ in WRONG}
    everywhere = {"asgi", "wsgi", "starlette", "fastapi", "flask", "django"}
    for mistake in (MISSING, TWICE, UNGUARDED, WEAK_KEY):
        assert {framework for framework in everywhere if (framework, mistake) in covered} == everywhere
    # FastAPI's order is Starlette's; under Flask there is nothing to put in order


def test_an_extension_may_be_told_of_its_app_again() -> None:
    app = flask.Flask("again")
    sessions = SessionMW(app)
    sessions.init_app(app)
    assert app.session_interface is sessions.interface
