"""client_cookie under Django: the user is logged in for Django too, in its own test client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import logout
from django.test import AsyncClient, Client, modify_settings, override_settings
from django_engine.test_site import ask

from session_mw import ConfigurationError, SessionConfig, SessionService
from session_mw.access import login_required
from session_mw.django import session_config
from session_mw.testing import Clock, aclient_cookie, client_cookie


def who(request: Any) -> Any:
    session = request.session
    return str(request.user), request.user.is_authenticated, session.online(), session.get("cart")


@login_required(fresh=60)
def pay(request: Any) -> str:
    return "paid"


def test_the_user_is_logged_in(users: dict[str, Any], clock: Clock) -> None:
    client = client_cookie(settings, {"cart": ["tea"]}, user_id=users["ada"].pk).into(Client())
    assert ask(client, who).content == repr(("ada", True, True, ["tea"])).encode()
    assert ask(client, pay).content == b"'paid'"
    assert client.session.user_id == str(users["ada"].pk)
    assert len(SessionService(session_config()).list_sessions(users["ada"].pk)) == 1
    assert client.get("/admin/").status_code == 200
    clock.advance(60)
    assert ask(client, pay).status_code == 401
    ask(client, lambda request: logout(request))
    assert ask(client, who).content == repr(("AnonymousUser", False, False, None)).encode()


def test_the_same_as_after_a_login_of_djangos_own(users: dict[str, Any]) -> None:
    ours, theirs = client_cookie(settings, user_id=users["eve"].pk).into(Client()), Client()
    theirs.force_login(users["eve"])
    assert dict(ours.session) == dict(theirs.session)


def test_nobody_and_another_storage(users: dict[str, Any]) -> None:
    client = client_cookie(settings, {"cart": ["tea"]}).into(Client())
    assert ask(client, who).content == repr(("AnonymousUser", False, False, ["tea"])).encode()
    client = client_cookie(settings, user_id=users["ada"].pk, storage="bank").into(Client())
    guarded = login_required(storage="bank")(who)
    assert ask(client, guarded).content == repr(("AnonymousUser", False, False, None)).encode()


def test_awaited(users: dict[str, Any]) -> None:
    cookie = asyncio.run(aclient_cookie(settings, {"cart": ["tea"]}, user_id=users["ada"].pk))
    assert ask(cookie.into(Client()), who).content == repr(("ada", True, True, ["tea"])).encode()
    assert list(cookie.into(AsyncClient()).cookies) == ["sessionid"]


def test_without_djangos_users() -> None:
    with modify_settings(INSTALLED_APPS={"remove": ["django.contrib.admin", "django.contrib.auth"]}):
        service = SessionService(session_config())
        for cookie in (
            client_cookie(settings, user_id=12),
            asyncio.run(aclient_cookie(settings, user_id=12)),
        ):
            record = service.authenticate(cookie["sessionid"])
            assert record is not None
            assert record.user_id == "12"


def test_what_cannot_be(users: dict[str, Any]) -> None:
    with pytest.raises(type(users["ada"]).DoesNotExist):
        client_cookie(settings, user_id=999)
    with override_settings(SESSION_MW=None), pytest.raises(ConfigurationError, match="SESSION_MW ="):
        client_cookie(settings, user_id=users["ada"].pk)
    with (
        override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"),
        pytest.raises(ConfigurationError, match=r"session_mw\.django"),
    ):
        client_cookie(settings, user_id=users["ada"].pk)
    assert isinstance(session_config(), SessionConfig)
