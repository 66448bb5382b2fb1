"""Flask-Login and Flask-WTF, unchanged, on our sessions."""

from __future__ import annotations

import re
from typing import Any

import flask
import flask_login
import pytest
from flask_site import KEY, both, cookies, site
from flask_wtf import CSRFProtect
from flask_wtf.csrf import generate_csrf

from session_mw.flask import session


class User(flask_login.UserMixin):
    def __init__(self, id: str) -> None:
        self.id = id


def login_site(kind: str, **ours: Any) -> Any:
    app = site(kind, config={"SECRET_KEY": KEY, "SESSION_PROTECTION": "strong"}, **ours)
    manager = flask_login.LoginManager(app)
    manager.login_view = "log_in"
    manager.user_loader(User)

    @app.get("/login")
    @app.get("/login/<name>")
    def log_in(name: str = "nobody") -> str:
        flask_login.login_user(User(name), remember="remember" in flask.request.args)
        return name

    @app.get("/logout")
    def log_out() -> str:
        flask_login.logout_user()
        return ""

    @app.get("/me")
    @flask_login.login_required
    def me() -> str:
        return f"{flask_login.current_user.id} {session.user_id} {flask_login.login_fresh()}"

    return app


@both
def test_flask_login(kind: str) -> None:
    app = login_site(kind)
    client = app.test_client()
    assert client.get("/me").status_code == 302
    client.get("/login/ada")
    assert client.get("/me").text == "ada None True"
    client.get("/logout")
    assert client.get("/me").status_code == 302


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # Flask-Login's own
@both
def test_remember_me_survives_the_session(kind: str) -> None:
    app = login_site(kind)
    client = app.test_client()
    client.get("/login/ada?remember")
    client.delete_cookie("session")
    assert client.get("/me").text == "ada None False"
    client.get("/logout")
    client.delete_cookie("session")
    assert client.get("/me").status_code == 302


@both
def test_session_protection_sees_another_browser(kind: str) -> None:
    client = login_site(kind).test_client()
    client.get("/login/ada")
    assert client.get("/me", headers={"User-Agent": "another"}).status_code == 302


def test_the_owner_follows_flask_login_when_told() -> None:
    """One setting gives Flask-Login new tokens at login, lists by user and log-out-everywhere."""
    app = login_site("store", owner_key="_user_id")
    client, thief = app.test_client(), app.test_client()
    with client.session_transaction() as transaction:
        transaction["cart"] = ["plum"]
    planted = client.get_cookie("session")
    thief.set_cookie("session", planted.value)
    client.get("/login/ada")
    assert client.get_cookie("session").value != planted.value
    assert thief.get("/me").status_code == 302  # fixation: the token from before the login opens nothing
    assert client.get("/me").text == "ada ada True"
    with app.app_context():
        service = app.extensions["session_mw"].service()
    assert len(service.list_sessions("ada")) == 1
    assert service.destroy_user_sessions("ada") == 1
    assert client.get("/me").status_code == 302


@both
def test_flask_wtf(kind: str) -> None:
    app = site(kind, config={"SECRET_KEY": KEY})
    CSRFProtect(app)

    @app.get("/form")
    def form() -> str:
        return flask.render_template_string('<input name="csrf_token" value="{{ csrf_token() }}">')

    @app.post("/form")
    def sent() -> str:
        return "taken"

    client = app.test_client()
    page = client.get("/form")
    assert page.headers["Vary"] == "Cookie"
    token = re.search('value="([^"]+)"', page.text)[1]  # type: ignore[index]
    assert cookies(client.get("/form")) == []  # the same token, so nothing is written again
    assert client.post("/form").status_code == 400
    assert client.post("/form", data={"csrf_token": token}).text == "taken"
    assert app.test_client().post("/form", data={"csrf_token": token}).status_code == 400
    with app.test_request_context():
        assert generate_csrf()


@pytest.mark.parametrize("kind", ["cookie"])
def test_the_form_of_flask_wtf_reads_our_session(kind: str) -> None:
    from flask_wtf import FlaskForm
    from wtforms import StringField

    class Note(FlaskForm):
        note = StringField()

    app = site(kind, config={"SECRET_KEY": KEY})

    @app.route("/note", methods=["GET", "POST"])
    def note() -> str:
        form = Note()
        return f"{form.validate_on_submit()} {form.csrf_token.current_token}"  # type: ignore[attr-defined]

    client = app.test_client()
    token = client.get("/note").text.split()[1]
    assert client.post("/note", data={"csrf_token": token}).text.startswith("True")
    assert client.post("/note", data={"csrf_token": "x"}).text.startswith("False")
