"""What Django tests of its own ``SessionMiddleware``, told again with our engine under it; each bears Django's name.

Django's are ``SessionMiddlewareTests`` in ``tests/sessions_tests/tests.py``. Each is told twice: with Django's
middleware alone, and with ``StoreErrorMiddleware`` right above it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT
from django.conf import settings
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django_engine import test_sessionbase

from session_mw.django import SessionStore, StoreErrorMiddleware

DIFFERS = {
    "test_empty_session_saved",
    "test_save_every_request_with_non_empty_session_renews_session_cookie",
}
NAME = settings.SESSION_COOKIE_NAME
View = Callable[[Any], Any]


def test_the_docs_list_what_differs() -> None:
    page = (ROOT / "docs" / "frameworks" / "django.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(test_\w+)`", page, re.MULTILINE))
    assert listed == DIFFERS | test_sessionbase.DIFFERS
    for name in DIFFERS:
        assert "Differs:" in (globals()[name].__doc__ or "")


class Around:
    """The middlewares around a view."""

    def __init__(self, ours: bool) -> None:
        self.ours = ours
        self.request = RequestFactory().get("/")

    def __call__(self, view: View) -> Any:
        djangos = SessionMiddleware(view)
        return (StoreErrorMiddleware(djangos) if self.ours else djangos)(self.request)


@pytest.fixture(params=[False, True], ids=["Django's alone", "with StoreErrorMiddleware"])
def around(request: pytest.FixtureRequest) -> Around:
    return Around(request.param)


def writes(request: Any) -> HttpResponse:
    request.session["hello"] = "world"
    return HttpResponse("written")


def flushes(request: Any) -> HttpResponse:
    request.session.flush()
    return HttpResponse("ended")


@override_settings(SESSION_COOKIE_SECURE=True)
def test_secure_session_cookie(around: Around) -> None:
    assert around(writes).cookies[NAME]["secure"] is True


@override_settings(SESSION_COOKIE_HTTPONLY=True)
def test_httponly_session_cookie(around: Around) -> None:
    cookie = around(writes).cookies[NAME]
    assert cookie["httponly"] is True
    assert "HttpOnly" in str(cookie)


@override_settings(SESSION_COOKIE_SAMESITE="Strict")
def test_samesite_session_cookie(around: Around) -> None:
    assert around(writes).cookies[NAME]["samesite"] == "Strict"


@override_settings(SESSION_COOKIE_HTTPONLY=False)
def test_no_httponly_session_cookie(around: Around) -> None:
    cookie = around(writes).cookies[NAME]
    assert cookie["httponly"] == ""
    assert "HttpOnly" not in str(cookie)


def not_saved(around: Around, status: int) -> None:
    def fails(request: Any) -> HttpResponse:
        writes(request)
        return HttpResponse("failed", status=status)

    assert NAME not in around(fails).cookies
    assert "hello" not in around.request.session.load()


def test_session_save_on_500(around: Around) -> None:
    not_saved(around, 500)


def test_session_save_on_5xx(around: Around) -> None:
    not_saved(around, 503)


def test_session_update_error_redirect(around: Around) -> None:
    def ends(request: Any) -> HttpResponse:
        request.session = SessionStore()
        request.session.save(must_create=True)
        request.session.delete()
        return HttpResponse()

    with pytest.raises(SessionInterrupted, match="session was deleted before the request completed"):
        around(ends)


def test_session_delete_on_end(around: Around) -> None:
    around.request.COOKIES[NAME] = "abc"
    response = around(flushes)
    cookie = response.cookies[NAME]
    assert (cookie.value, cookie["max-age"], cookie["path"], cookie["domain"]) == ("", 0, "/", "")
    assert (cookie["expires"], cookie["samesite"]) == ("Thu, 01 Jan 1970 00:00:00 GMT", "Lax")
    assert response.headers["Vary"] == "Cookie"


@override_settings(SESSION_COOKIE_DOMAIN=".example.local", SESSION_COOKIE_PATH="/example/")
def test_session_delete_on_end_with_custom_domain_and_path(around: Around) -> None:
    around.request.COOKIES[NAME] = "abc"
    cookie = around(flushes).cookies[NAME]
    assert (cookie.value, cookie["max-age"]) == ("", 0)
    assert (cookie["path"], cookie["domain"]) == ("/example/", ".example.local")


def test_flush_empty_without_session_cookie_doesnt_set_cookie(around: Around) -> None:
    response = around(flushes)
    assert response.cookies == {}
    assert response.headers["Vary"] == "Cookie"


@override_settings(SESSION_SAVE_EVERY_REQUEST=True)
def test_save_every_request_with_non_empty_session_renews_session_cookie(around: Around) -> None:
    """Differs: under StoreErrorMiddleware the use counts, and the cookie, which is no news, is not sent again."""
    made = around(writes).cookies[NAME].value
    again = Around(around.ours)
    again.request.COOKIES[NAME] = made
    response = again(lambda request: HttpResponse("untouched"))
    assert SessionStore(made)["hello"] == "world"
    if around.ours:
        assert NAME not in response.cookies
    else:
        assert response.cookies[NAME].value == made
        assert response.headers["Vary"] == "Cookie"


def test_empty_session_saved(around: Around) -> None:
    """Differs: Django's test looks for the session in the table of another engine; here the engine is asked."""
    made = around(writes)
    session = around.request.session
    assert dict(session.items()) == {"hello": "world"}
    assert f"Set-Cookie: {NAME}={session.session_key}" in str(made.cookies)
    assert made.headers["Vary"] == "Cookie"
    del session["hello"]
    emptied = SessionMiddleware(writes).process_response(around.request, HttpResponse())
    key = session.session_key
    assert SessionStore().exists(key) is True
    assert SessionStore(key).load() == {}
    assert f"Set-Cookie: {NAME}={key}" in str(emptied.cookies)
    assert emptied.headers["Vary"] == "Cookie"
