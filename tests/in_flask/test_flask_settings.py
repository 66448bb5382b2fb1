"""Flask's settings and ours: which wins, what is refused, and when they are read."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import flask
import pytest
from flask_site import KEY, both, cookies, site

from session_mw import BANKING, ConfigurationError
from session_mw.flask import SessionInterface, SessionMW
from session_mw.flask_settings import COOKIE_METHODS, Given, flask_config, permanent_limit, spelt
from session_mw.stores.memory import MemoryStore
from session_mw.takeover import framework_keys


def given(interface: SessionInterface | None = None, **config: Any) -> Given:
    app = flask.Flask("settings")
    app.config.update({"SECRET_KEY": KEY, **config})
    return Given.of(interface or SessionInterface(), app)


def built(**config: Any) -> Any:
    return flask_config(given(**config))


def test_flasks_defaults() -> None:
    config = built()
    assert (config.cookie_name, config.cookie_path, config.cookie_domain) == ("session", "/", None)
    assert (config.cookie_secure, config.cookie_httponly, config.same_site) == ("auto", True, "lax")
    assert (config.idle_timeout, config.absolute_timeout) == (31 * 86400, 31 * 86400)
    assert not config.persistent
    assert config.profile is None
    assert permanent_limit(given(), config) is None


def test_flasks_settings_are_ours() -> None:
    config = built(
        SESSION_COOKIE_NAME="__Secure-shop",
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/shop",
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="None",
        SESSION_COOKIE_PARTITIONED=True,
        PERMANENT_SESSION_LIFETIME=600,
    )
    assert (config.cookie_name, config.cookie_path, config.cookie_domain) == ("__Secure-shop", "/shop", "example.com")
    assert (config.cookie_secure, config.cookie_httponly, config.same_site) == (True, False, "none")
    assert config.partitioned
    assert (config.idle_timeout, config.absolute_timeout) == (600, 604800)


def test_the_application_root_is_the_path() -> None:
    assert built(APPLICATION_ROOT="/shop").cookie_path == "/shop"


def test_our_settings_nested_dotted_and_in_capitals() -> None:
    ours = {"cookie": {"name": "a"}, "IDLE_TIMEOUT": 60, "touch.interval": 5, "store": None}
    config = built(SESSION_MW=ours)
    assert (config.cookie_name, config.idle_timeout, config.touch_interval, config.store) == ("a", 60, 5, None)


def test_another_table_index_has_another_cookie() -> None:
    assert built(SESSION_MW={"table_index": "shop"}).cookie_name == "session-shop"
    assert built(SESSION_MW={"table_index": "shop"}, SESSION_COOKIE_NAME="mine").cookie_name == "mine"


def test_a_prefixed_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_SESSION_MW__COOKIE__NAME", "from-the-environment")
    monkeypatch.setenv("FLASK_SESSION_MW__IDLE_TIMEOUT", "60")
    app = flask.Flask("environment")
    app.config.from_prefixed_env()
    app.secret_key = KEY
    SessionMW(app)
    config = app.session_interface.config_for(app)  # type: ignore[attr-defined]
    assert (config.cookie_name, config.idle_timeout) == ("from-the-environment", 60)


# -- lifetimes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "idle", "absolute", "permanent"),
    [
        ({"SESSION_MW": {"idle_timeout": 900}}, 900, 604800, None),  # ours wins; nothing was said about permanent ones
        ({"SESSION_MW": {"idle_timeout": 900}, "PERMANENT_SESSION_LIFETIME": 3600}, 900, 604800, 3600),
        ({"SESSION_MW": {"idle_timeout": 9, "absolute_timeout": 18}, "PERMANENT_SESSION_LIFETIME": 36}, 9, 18, 18),
        ({"SESSION_MW": {"absolute_timeout": 1800}}, 1800, 1800, None),
        ({"SESSION_MW": {"absolute_timeout": timedelta(hours=1)}, "PERMANENT_SESSION_LIFETIME": 60}, 60, 3600, None),
        ({"SESSION_MW": {"profile": "BANKING"}}, 900, 28800, None),
        ({"SESSION_MW": {"profile": BANKING}, "PERMANENT_SESSION_LIFETIME": 300}, 300, 28800, None),
        ({"SESSION_MW": {"profile": "NIST_AAL1"}}, 30 * 86400, 30 * 86400, None),
        ({"PERMANENT_SESSION_LIFETIME": timedelta(days=60)}, 60 * 86400, 60 * 86400, None),
    ],
)  # fmt: skip
def test_lifetimes(config: dict[str, Any], idle: int, absolute: int, permanent: int | None) -> None:
    seen = given(**config)
    made: Any = flask_config(seen)
    assert (made.idle_timeout, made.absolute_timeout, permanent_limit(seen, made)) == (idle, absolute, permanent)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_middling_key_works_with_one_log_record(caplog: pytest.LogCaptureFixture) -> None:
    key = "0123456789abcdef-log"
    for _ in range(3):
        assert built(SECRET_KEY=key).keys is not None
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("session_mw", logging.WARNING)
    assert "SECRET_KEY" in record.message
    assert key not in record.message


@pytest.mark.parametrize("key", ["dev", "0123456789abcde", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])
def test_a_weak_key_is_refused_with_the_lines_that_mend_it(key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        built(SECRET_KEY=key)
    text = str(refused.value)
    for line in ('app.config["SECRET_KEY"] =', '{"store": "sqlite:///sessions.db"}', '{"profile": "DEVELOPMENT"}'):
        assert line in text
    assert key not in text


@pytest.mark.parametrize("config", [{"DEBUG": True}, {"TESTING": True}, {"SESSION_MW": {"profile": "DEVELOPMENT"}}])
def test_any_key_will_do_in_development(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    made = built(SECRET_KEY="dev", **config)
    assert made.profile.name == "DEVELOPMENT"
    assert caplog.records == []


def test_debug_keeps_a_profile_that_was_chosen() -> None:
    assert built(SECRET_KEY="dev", DEBUG=True, SESSION_MW={"profile": "BANKING"}).profile is BANKING


def test_fallbacks_follow_the_key_and_count_once() -> None:
    old = "an older key of the app, of 32 bytes and more"
    assert repr(built(SECRET_KEY_FALLBACKS=[old, KEY, old]).keys) == "<KeyRing of 2 keys>"
    with pytest.raises(ConfigurationError, match="retired key 1 is too short"):
        built(SECRET_KEY_FALLBACKS=["old"])


def test_a_key_of_our_own_is_held_to_our_own_rule() -> None:
    assert built(SECRET_KEY="dev", SESSION_MW={"secret_key": KEY}).keys is not None
    with pytest.raises(ConfigurationError, match="32 bytes are the least"):
        built(SESSION_MW={"secret_key": "0123456789abcdef"})


def test_a_store_needs_no_key_and_encryption_takes_flasks() -> None:
    assert built(SECRET_KEY="dev", SESSION_MW={"store": "memory:"}).keys is None
    assert built(SESSION_MW={"store": "memory:", "encryption": True}).keys is not None


def test_neither_key_nor_store_is_no_configuration() -> None:
    assert built(SECRET_KEY=None) is None
    assert built(SECRET_KEY="") is None


def test_framework_keys_of_no_kind_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no key"):
        framework_keys([], name="K", remedies="")
    with pytest.raises(ConfigurationError, match="of type int"):
        framework_keys([1], name="K", remedies="", relaxed=True)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"SESSION_MW": {"idle_timout": 5}}, "did you mean 'idle_timeout'"),
        ({"SESSION_MW": {"cookie": {"nmae": "x"}}}, "did you mean 'cookie_name'"),
        ({"SESSION_MW": "sqlite:///x.db"}, 'SESSION_MW"] must be a mapping such as .*, not str'),
        ({"SESSION_MW": ["store"]}, "not list"),
        ({"SESSION_MW": {"cookie_name": "a"}, "SESSION_COOKIE_NAME": "b"}, 'differently: .*"SESSION_COOKIE_NAME"'),
        ({"SESSION_MW": {"cookie_secure": False}, "SESSION_COOKIE_SECURE": True}, "SESSION_COOKIE_SECURE"),
        ({"SESSION_MW": {"same_site": "strict"}, "SESSION_COOKIE_SAMESITE": "Lax"}, "SESSION_COOKIE_SAMESITE"),
        ({"SESSION_COOKIE_SAMESITE": "None"}, 'here cookie_secure is app.config."SESSION_COOKIE_SECURE"'),
        ({"SESSION_COOKIE_NAME": "__Host-session"}, "SESSION_COOKIE_SECURE"),
        ({"SESSION_COOKIE_SAMESITE": "laxx"}, 'did you mean "lax"'),
        ({"PERMANENT_SESSION_LIFETIME": timedelta(0)}, 'here idle_timeout is app.config."PERMANENT_SESSION_LIFETIME"'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        built(**config)


def test_the_same_thing_said_twice_is_no_conflict() -> None:
    config = {"SESSION_COOKIE_SAMESITE": "Strict", "SESSION_COOKIE_SECURE": True}
    assert built(SESSION_MW={"same_site": "strict", "cookie_secure": True}, **config).same_site == "strict"


def test_a_setting_beside_the_mapping_is_refused() -> None:
    app = site(config={"SESSION_MW_STORE": "memory:"})
    app.testing = True
    with pytest.raises(ConfigurationError, match=r'SESSION_MW_STORE.*as "store"'):
        app.test_client().get("/")


# -- when they are read ------------------------------------------------------------------------------------------------


@both
def test_settings_are_read_at_each_request(kind: str) -> None:
    app = site(kind)
    client = app.test_client()
    assert "SameSite=Lax" in cookies(client.get("/set/a/1"))[0]
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    assert "SameSite=Strict" in cookies(app.test_client().get("/set/a/1"))[0]
    assert client.get("/").json == {"a": "1"}
    app.config["SESSION_MW"]["idle_timeout"] = 50  # in place
    assert app.session_interface.config_for(app).idle_timeout == 50
    assert client.get("/").json == {"a": "1"}


class Noting(flask.Config):
    """Remembers what was asked of it."""

    def __init__(self, config: flask.Config) -> None:
        super().__init__(config.root_path, dict(config))
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


def test_what_is_compared_at_each_request_is_all_that_is_read() -> None:
    app = flask.Flask("noted")
    noting = {name: Noting(app.config) for name in ("read", "compared")}
    app.config = noting["read"]
    Given.of(SessionInterface(), app)
    spelt(noting["compared"])
    assert noting["read"].asked <= noting["compared"].asked
    assert {name for name in dir(SessionInterface) if name.startswith("get_cookie_")} == set(COOKIE_METHODS)


def test_one_store_stays_one_store_whatever_else_changes() -> None:
    app = flask.Flask("one")
    app.config["SESSION_MW"] = {"store": "memory:"}
    SessionMW(app)

    @app.get("/count")
    def count() -> str:
        return str(flask.session.update_with("n", lambda n: n + 1, 0))  # type: ignore[attr-defined]

    client = app.test_client()
    assert client.get("/count").text == "1"
    for name in [f"SESSION_COOKIE_{attribute}" for attribute in ("HTTPONLY", "SECURE")]:
        app.config[name] = not app.config[name]
        with client.session_transaction(base_url="https://localhost") as session:
            assert session["n"] == 1


def test_two_first_requests_at_once_share_a_layer() -> None:
    app = site("store")
    interface = app.session_interface
    built: list[Any] = []

    class Meanwhile:
        """A lock that is free only when another request has built the layer."""

        def __enter__(self) -> None:
            interface._lock = threading.Lock()
            built.append(interface._layer(app))

        def __exit__(self, *_: object) -> None:
            pass

    interface._lock = Meanwhile()
    assert interface._layer(app) is built[0]


def test_a_revocable_cookie_keeps_its_list() -> None:
    app = site("cookie", revocation=MemoryStore(evict=False))
    client = app.test_client()
    client.get("/set/a/1")
    first = app.session_interface._layer(app).home.manager.consults
    app.config["SESSION_COOKIE_HTTPONLY"] = False
    assert app.session_interface._layer(app).home.manager.consults is first
    assert client.get("/").json == {"a": "1"}


def test_one_interface_serves_many_apps() -> None:
    interface = SessionInterface()
    apps = [site("cookie"), site("store")]
    for app in apps:
        app.session_interface = interface
    for app in apps:
        assert app.test_client().get("/set/a/1").status_code == 200
    sealed, stored = (interface.config_for(app) for app in apps)
    assert (sealed.store, stored.store) == (None, apps[1].faults)  # type: ignore[union-attr]


def test_a_subclass_may_choose_the_cookie_by_request() -> None:
    class ByPath(SessionInterface):
        def get_cookie_name(self, app: flask.Flask) -> str:
            return "other" if flask.request.path.startswith("/set/b") else super().get_cookie_name(app)

    app = site("store")
    app.session_interface = ByPath()
    client = app.test_client()
    for path in ("/set/a/1", "/set/b/2", "/set/a/3"):
        client.get(path)
    assert client.get_cookie("session") is not None
    assert client.get_cookie("other") is not None
    assert client.get("/").json == {"a": "3"}


def test_the_service_shares_the_apps_store() -> None:
    app = site("store")

    @app.get("/in")
    def log_in() -> str:
        flask.session.login(user_id="ada")  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.get("/in")
    with app.app_context():
        service = app.extensions["session_mw"].service()
    assert len(service.list_sessions("ada")) == 1
    service.destroy_user_sessions("ada")
    assert client.get("/").json == {}
    sealed = site("cookie")
    with pytest.raises(ConfigurationError, match=r'nothing is kept on the server; add app.config."SESSION_MW"'):
        sealed.session_interface.service_for(sealed)
    nowhere = flask.Flask("nowhere")
    assert SessionInterface().config_for(nowhere) is None
