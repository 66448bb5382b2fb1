"""config, settings, profiles: what is accepted, what gives way to what, and that every refusal says what mends it.

``python tests/test_config.py`` writes the tables of docs/configuration.md anew.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from session_mw import profiles as profiles_module
from session_mw import settings as settings_module
from session_mw.config import SessionConfig, missing_home_error
from session_mw.core.cookies import CookieSpec
from session_mw.core.keys import KeyRing
from session_mw.core.tokens import ID_LENGTH, SECRET_LENGTH
from session_mw.errors import ConfigurationError
from session_mw.profiles import BANKING, DEVELOPMENT, NIST_AAL1, NIST_AAL2, NIST_AAL3, PROFILES, SOCIAL, Profile
from session_mw.settings import KINDS, Settings

SECRET = "correct-horse-battery-staple-0123456789-abc"
OTHER = "another-secret-of-decent-length-9876543210"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

DEFAULTS: dict[str, Any] = {
    "secret_key": None,
    "store": None,
    "migrate_from": None,
    "save_path": None,
    "table_index": "default",
    "cookie_name": "__Host-session",
    "cookie_path": "/",
    "cookie_domain": None,
    "cookie_secure": True,
    "cookie_httponly": True,
    "same_site": "lax",
    "partitioned": False,
    "cookie_max_bytes": 3900,
    "persistent": False,
    "idle_timeout": 7200,
    "absolute_timeout": 7 * 86400,
    "touch_interval": None,
    "clock_skew": 60,
    "profile": None,
    "encrypt_cookie_data": True,
    "encryption": False,
    "revocation": None,
    "revocation_staleness": 0,
    "strict_session_ip": False,
    "session_ip": False,
    "ip_prefix": (32, 128),
    "trusted_proxies": (),
    "owner_key": None,
    "max_sessions_per_user": None,
    "on_session_limit": "evict",
    "on_event": None,
    "on_ip_changed": None,
    "on_open": None,
    "on_create": None,
    "on_validate": None,
    "on_close": None,
    "on_destroy": None,
    "autoload": True,
    "websocket_check": 30,
    "store_error_response": 503,
    "legacy": (),
    "clock": time.time,
}
CALLBACKS = ("on_event", "on_ip_changed", "on_open", "on_create", "on_validate", "on_close", "on_destroy")


class FakeStore:
    """Has every method of a store; none is called here."""

    can_rotate = True

    def load(self, *args: object) -> None: ...

    create = save = touch = delete = close = rotate = list_user = delete_user = purge = load
    initialize = teardown = load


async def coroutine(*args: object) -> bool:
    return True


class AsyncCall:
    async def __call__(self, *args: object) -> bool:
        return True


def refused(**settings: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        SessionConfig(**settings)
    return str(caught.value)


# -- the list of settings


def test_every_list_of_settings_is_the_same() -> None:
    names = [field.name for field in dataclasses.fields(SessionConfig)]
    assert names == list(DEFAULTS)
    assert list(Settings.__annotations__) == names
    assert sorted(KINDS) == sorted(names)
    assert len(KINDS) == sum(len(names.split()) for names, _ in settings_module._TABLE)


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_defaults(name: str, default: Any) -> None:
    assert getattr(SessionConfig(), name) == default
    assert getattr(SessionConfig(**{name: None}), name) == default  # None: not given
    assert SessionConfig(**{name: None}).named == frozenset()


def test_a_config_does_not_change() -> None:
    config = SessionConfig()
    for name in ("idle_timeout", "cookie", "novelty"):
        with pytest.raises(AttributeError, match="does not change"):
            setattr(config, name, 1)
        with pytest.raises(AttributeError, match="does not change"):
            delattr(config, name)
    assert not hasattr(config, "__dict__")


def test_configs_compare_by_their_settings() -> None:
    assert SessionConfig(secret_key=SECRET) == SessionConfig(secret_key=SECRET.encode())
    assert SessionConfig(secret_key=SECRET) != SessionConfig(secret_key=OTHER)
    assert len({SessionConfig(idle_timeout=60), SessionConfig(idle_timeout=timedelta(minutes=1))}) == 1


# -- unknown names

WEAKER = ("sid_entropy_bits", "sid_bytes", "id_bits", "session_id_length", "token_bytes", "secret_len", "entropy")
STRONG = f"ids always have {ID_LENGTH * 6} random bits, and secrets {SECRET_LENGTH * 6}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("coookie_name", "unknown setting 'coookie_name'; did you mean 'cookie_name'?"),
        ("idle", "unknown setting 'idle'"),
        ("keys", "unknown setting 'keys'"),
        ("_given", "unknown setting '_given'"),
        ("zzz", "unknown setting 'zzz'"),
        *((name, f"unknown setting {name!r}: {STRONG}; leave it out") for name in WEAKER),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    assert refused(**{name: 1}) == message
    assert refused(**{name: None}) == message
    for build in (SessionConfig.from_mapping, lambda mapping: SessionConfig().replace(**mapping)):
        with pytest.raises(ConfigurationError) as caught:
            build({name: 1})
        assert str(caught.value) == message


# -- one setting at a time

WRONG = [
    ("store", 5, "store must be a URL such as sqlite:///sessions.db, or a store (an instance, not its class), not 5"),
    ("store", "sessions.db", "store must be a URL"),
    ("store", FakeStore, "not type"),
    ("store", object(), "not object"),
    ("save_path", "", "save_path must be a text, not empty"),
    ("table_index", "Shop", "table_index must be 1 to 32 of a-z, 0-9 and -"),
    ("table_index", "", "table_index must be"),
    ("table_index", "-a", "table_index must be"),
    ("table_index", "a" * 33, "table_index must be"),
    ("table_index", "a\n", "table_index must be"),
    ("table_index", "a:b", "table_index must be"),
    ("table_index", 7, "table_index must be 1 to 32 of a-z, 0-9 and -, not beginning with -, not 7"),
    ("cookie_name", 5, "cookie_name"),
    ("cookie_name", "a b", "cookie_name"),
    ("cookie_path", "x", "cookie_path"),
    ("cookie_domain", "", "cookie_domain"),
    ("cookie_secure", "yes", "cookie_secure"),
    ("cookie_httponly", 1, "cookie_httponly"),
    ("same_site", "laxx", 'did you mean "lax"'),
    ("same_site", True, "same_site"),
    ("partitioned", "x", "partitioned"),
    ("cookie_max_bytes", 7601, "cookie_max_bytes"),
    ("persistent", 1, "persistent must be true or false, not 1"),
    ("persistent", "true", "persistent must be true or false"),
    ("idle_timeout", 0, "idle_timeout must be a whole number of seconds above 0 (int or timedelta), not 0"),
    ("idle_timeout", -1, "not -1"),
    ("idle_timeout", True, "not True"),
    ("idle_timeout", 1.5, "not 1.5"),
    ("idle_timeout", float("nan"), "not nan"),
    ("idle_timeout", float("inf"), "not inf"),
    ("idle_timeout", "60", "idle_timeout must be a whole number of seconds above 0 (int or timedelta)"),
    ("idle_timeout", 2**31, "not 2147483648"),
    pytest.param("idle_timeout", 10**5000, "idle_timeout must be a whole number", id="enormous"),
    ("idle_timeout", timedelta(milliseconds=1500), "not timedelta"),
    ("absolute_timeout", timedelta(0), "not timedelta"),
    ("touch_interval", 0, "touch_interval must be"),
    ("clock_skew", -1, "clock_skew must be a whole number of seconds, 0 or more (int or timedelta), not -1"),
    ("profile", "BANK", "profile must be a Profile or one of BANKING, SOCIAL, NIST_AAL1, NIST_AAL2"),
    ("profile", 1, "profile must be a Profile or one of"),
    ("encrypt_cookie_data", 0, "encrypt_cookie_data must be true or false"),
    ("encryption", 1, "encryption must be true or false"),
    ("strict_session_ip", "on", "strict_session_ip must be true or false"),
    ("session_ip", 1, "session_ip must be true or false"),
    ("ip_prefix", 24, "ip_prefix"),
    ("ip_prefix", (24,), "ip_prefix"),
    ("ip_prefix", (24, "64"), "ip_prefix"),
    ("ip_prefix", (33, 64), "ip_prefix"),
    ("trusted_proxies", 5, "trusted_proxies"),
    ("trusted_proxies", [5], "trusted_proxies"),
    ("trusted_proxies", "10.0.0.0/8", "trusted_proxies is a sequence"),
    ("trusted_proxies", ["nonsense"], "trusted_proxies"),
    ("owner_key", "", "owner_key must be a text, not empty"),
    ("owner_key", 5, "owner_key must be a text"),
    *((name, "print", f"{name} must be callable") for name in CALLBACKS),
    ("autoload", 1, "autoload must be true, false or a predicate"),
    ("autoload", coroutine, "no coroutine function"),
    ("websocket_check", 0, "websocket_check must be a whole number of seconds above 0"),
    ("store_error_response", 499, "store_error_response must be a status from 500 to 599"),
    ("store_error_response", 600, "store_error_response must be a status from 500 to 599"),
    ("store_error_response", AsyncCall(), "not AsyncCall"),
    ("clock", 5, "clock must be callable, and no coroutine function, not 5"),
    ("clock", functools.partial(coroutine), "not partial"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_wrong_values_are_refused(name: str, value: Any, message: str) -> None:
    assert message in refused(**{name: value})


def test_no_text_is_shown_in_a_refusal() -> None:
    for name in KINDS.keys() - {"owner_key", "secret_key", "save_path", "trusted_proxies"}:
        assert "hunter2" not in refused(**{name: " hunter2\r"})


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("idle_timeout", timedelta(minutes=15), 900),
        ("idle_timeout", 900.0, 900),
        ("clock_skew", 0, 0),
        ("clock_skew", timedelta(0), 0),
        ("table_index", "a" * 32, "a" * 32),
        ("table_index", "9-", "9-"),
        ("same_site", "Strict", "strict"),
        ("trusted_proxies", ["10.0.0.0/8", "unix"], ("10.0.0.0/8", "unix")),
        ("ip_prefix", [24, 56], (24, 56)),
        ("store", "SQLite:///x.db", "SQLite:///x.db"),
        ("store_error_response", print, print),
        ("store_error_response", 599, 599),
        ("autoload", callable, callable),
        ("autoload", False, False),
        ("clock", time.monotonic, time.monotonic),
        ("profile", "nist-aal2", NIST_AAL2),
        ("profile", SOCIAL, SOCIAL),
        ("on_event", coroutine, coroutine),
    ],
)
def test_values_are_normalised(name: str, value: Any, meaning: Any) -> None:
    config = SessionConfig(**{name: value})
    assert getattr(config, name) == meaning
    assert type(getattr(config, name)) is type(meaning)
    assert config.named == {name}


def test_a_store_object_is_accepted() -> None:
    store: Any = FakeStore()
    assert SessionConfig(store=store).store is store


# -- times


@pytest.mark.parametrize(
    ("settings", "idle", "absolute"),
    [
        ({"idle_timeout": 30 * 86400}, 30 * 86400, 30 * 86400),  # absolute not named: raised
        ({"absolute_timeout": 600}, 600, 600),  # idle not named: never beyond
        ({"idle_timeout": 600, "absolute_timeout": 600}, 600, 600),
        ({"profile": BANKING}, 900, 8 * 3600),
        ({"profile": BANKING, "idle_timeout": 300}, 300, 8 * 3600),
        ({"profile": BANKING, "absolute_timeout": 600}, 600, 600),
        ({"profile": BANKING, "idle_timeout": 86400, "absolute_timeout": 86400}, 86400, 86400),
        ({"profile": NIST_AAL1}, 7200, 30 * 86400),
        ({"profile": DEVELOPMENT}, 7200, 7 * 86400),
    ],
)
def test_what_nobody_named_gives_way(settings: dict[str, Any], idle: int, absolute: int) -> None:
    config = SessionConfig(**settings)
    assert (config.idle_timeout, config.absolute_timeout) == (idle, absolute)


def test_times_that_contradict_are_refused() -> None:
    assert refused(idle_timeout=601, absolute_timeout=600) == (
        "idle_timeout (601) is longer than absolute_timeout (600)"
    )
    assert "absolute_timeout (43200)" in refused(profile=NIST_AAL3, idle_timeout=86400)  # a SHALL is not passed over
    assert refused(idle_timeout=60, touch_interval=60) == "touch_interval (60) must be shorter than idle_timeout (60)"
    assert SessionConfig(idle_timeout=60, touch_interval=59).touch_interval == 59


@pytest.mark.parametrize(
    ("settings", "stored", "kept"),
    [
        ({}, 60, 720),
        ({"idle_timeout": 300}, 30, 30),
        ({"idle_timeout": 9}, 1, 1),
        ({"touch_interval": 100}, 100, 100),
        ({"profile": Profile(name="X", authority="us", touch_interval=5)}, 5, 5),
    ],
)
def test_touch_after(settings: dict[str, Any], stored: int, kept: int) -> None:
    config = SessionConfig(**settings)
    assert (config.touch_after(stored=True), config.touch_after(stored=False)) == (stored, kept)


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1) | st.none())
@hypothesis_settings(max_examples=50)
def test_the_absolute_limit_is_never_the_shorter(idle: int, absolute: int | None) -> None:
    if absolute is not None and absolute < idle:
        refused(idle_timeout=idle, absolute_timeout=absolute)
        return
    config = SessionConfig(idle_timeout=idle, absolute_timeout=absolute)
    assert config.idle_timeout == idle
    assert config.absolute_timeout >= idle
    if idle > 1:
        assert 1 <= config.touch_after(stored=True) <= config.touch_after(stored=False) < idle


# -- profiles


def test_profiles_hold_the_published_figures() -> None:
    day, hour, minute = 86400, 3600, 60
    figures = {name: (profile.idle_timeout, profile.absolute_timeout) for name, profile in PROFILES.items()}
    assert figures == {
        "BANKING": (15 * minute, 8 * hour),
        "SOCIAL": (24 * hour, 30 * day),
        "NIST_AAL1": (None, 30 * day),
        "NIST_AAL2": (hour, 24 * hour),
        "NIST_AAL3": (15 * minute, 12 * hour),
        "DEVELOPMENT": (None, None),
    }
    for name, profile in PROFILES.items():
        assert profile is getattr(profiles_module, name)
        assert profile.name == name
        assert profile.authority
        assert profile.relaxed is (name == "DEVELOPMENT")
        assert SessionConfig(profile=name.lower()) == SessionConfig(profile=profile)


def test_a_profile_of_your_own() -> None:
    five_minutes: Any = timedelta(minutes=5)
    mine = Profile(name="MINE", authority="our auditor", idle_timeout=five_minutes, touch_interval=10)
    assert mine.idle_timeout == 300
    config = SessionConfig(profile=mine)
    assert (config.idle_timeout, config.touch_interval, config.relaxed) == (300, 10, False)
    with pytest.raises(ConfigurationError, match="idle_timeout of profile X must be a whole number of seconds"):
        Profile(name="X", authority="", idle_timeout=0)
    with pytest.raises(ConfigurationError, match=re.escape("idle_timeout (9) of profile X is longer than")):
        Profile(name="X", authority="", idle_timeout=9, absolute_timeout=8)
    with pytest.raises(AttributeError):
        setattr(mine, "idle_timeout", 1)  # noqa: B010


# -- keys and homes


def test_the_key_ring_is_built() -> None:
    assert SessionConfig().keys is None
    assert SessionConfig(secret_key=SECRET).keys == KeyRing(SECRET)
    assert SessionConfig(secret_key=[SECRET, OTHER]).keys == KeyRing(SECRET, OTHER)
    ring = KeyRing(SECRET)
    assert SessionConfig(secret_key=ring).keys is ring
    assert SessionConfig(secret_key=ring).secret_key is ring


@pytest.mark.parametrize("secret", ["hunter2", b"hunter2", "", [], ["hunter2" * 9], 5, [SECRET, "hunter2"], {"a": 1}])
def test_weak_secrets_are_refused_and_not_shown(secret: Any) -> None:
    message = refused(secret_key=secret)
    assert message.startswith("secret_key: ")
    assert "hunter2" not in message


def test_development_accepts_a_weak_secret_and_production_does_not_take_it_over() -> None:
    config = SessionConfig(secret_key="dev", profile=DEVELOPMENT)
    assert config.keys == KeyRing("dev", minimum=1)
    with pytest.raises(ConfigurationError, match="secret_key: "):
        config.replace(profile=None)
    with pytest.raises(ConfigurationError, match="secret_key: "):
        SessionConfig.build(config, profile="BANKING")


def test_what_depends_on_a_home() -> None:
    assert SessionConfig(store="file:", save_path="/var/lib/x").save_path == "/var/lib/x"
    assert SessionConfig(store="FILE:", save_path="/var/lib/x").save_path == "/var/lib/x"
    for store in ("sqlite:///x.db", FakeStore(), None):
        assert refused(store=store, save_path="/x").startswith("save_path is the directory of a file store")
    assert SessionConfig(store="file:?durable=0", save_path="/x").save_path == "/x"
    assert refused(store="file:///y", save_path="/x").startswith("save_path and store both name a directory")
    assert "add secret_key=" in refused(store="memory:", encryption=True)
    assert SessionConfig(store="memory:", encryption=True, secret_key=SECRET).encryption is True
    assert "kept by the client" in refused(store="memory:", secret_key=SECRET, encrypt_cookie_data=False)
    assert SessionConfig(secret_key=SECRET, encrypt_cookie_data=False).encrypt_cookie_data is False


def test_the_missing_home_shows_both_lines() -> None:
    error = missing_home_error()
    assert isinstance(error, ConfigurationError)
    assert 'secret_key=os.environ["SECRET"]' in str(error)
    assert 'store="sqlite:///sessions.db"' in str(error)


# -- the cookie


def test_the_cookie_is_built_of_the_settings() -> None:
    config = SessionConfig(
        cookie_name="__Secure-x",
        cookie_path="/app",
        cookie_domain=".Example.com",
        cookie_httponly=False,
        same_site="None",
        partitioned=True,
        cookie_max_bytes=7600,
    )
    assert config.cookie == CookieSpec(
        "__Secure-x",
        path="/app",
        domain="example.com",
        secure=True,
        httponly=False,
        same_site="none",
        partitioned=True,
        max_bytes=7600,
    )
    assert config.cookie_domain == "example.com"
    assert SessionConfig(cookie_name="x", cookie_secure="auto").cookie.secure == "auto"


def test_the_default_name_carries_the_application() -> None:
    assert SessionConfig(table_index="shop").cookie_name == "__Host-session-shop"
    assert SessionConfig(table_index="shop").cookie.name == "__Host-session-shop"
    assert SessionConfig(table_index="shop", cookie_name="x").cookie_name == "x"
    assert SessionConfig(table_index="default").cookie_name == "__Host-session"


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"cookie_secure": False}, "session"),
        ({"cookie_secure": "auto"}, "session"),
        ({"cookie_domain": "example.com"}, "__Secure-session"),
        ({"cookie_path": "/app"}, "__Secure-session"),
        ({"cookie_path": "/app", "cookie_secure": False}, "session"),
        ({"cookie_path": "/app", "table_index": "shop"}, "__Secure-session-shop"),
        ({"cookie_secure": False, "table_index": "shop"}, "session-shop"),
    ],
)
def test_a_default_name_that_does_not_fit_is_refused_with_the_one_to_add(settings: dict[str, Any], name: str) -> None:
    message = refused(**settings)
    assert message.endswith(f'is the default name: add cookie_name="{name}"')
    assert SessionConfig(**settings, cookie_name=name).cookie_name == name


def test_a_mix_no_name_mends_and_a_name_that_was_named_are_the_cookies_own_refusal() -> None:
    assert "add cookie_name" not in refused(cookie_secure=False, same_site="none")
    assert "is the default name" not in refused(cookie_secure=False, cookie_name="__Host-session")


def test_development_runs_on_plain_http() -> None:
    config = SessionConfig(profile="development")
    assert (config.cookie_name, config.cookie_secure, config.relaxed) == ("session", "auto", True)
    assert SessionConfig(profile=DEVELOPMENT, table_index="shop").cookie_name == "session-shop"
    assert SessionConfig(profile=DEVELOPMENT, cookie_secure=True).cookie_secure is True
    assert SessionConfig(profile=DEVELOPMENT, cookie_secure=True, cookie_name="__Host-x").cookie_name == "__Host-x"


# -- addresses and callbacks


def test_the_client_rules_are_built() -> None:
    trusting = SessionConfig(trusted_proxies=["10.0.0.0/8"], ip_prefix=(24, 56))
    assert type(trusting.client).__name__ == "ClientRules"
    assert SessionConfig().client is not None


@pytest.mark.parametrize("name", CALLBACKS)
def test_coroutine_callbacks_are_noticed(name: str) -> None:
    callback: Any
    for callback in (coroutine, functools.partial(coroutine, 1), AsyncCall(), functools.partial(AsyncCall(), 1)):
        assert SessionConfig(**{name: callback}).awaits is True
    for callback in (print, functools.partial(print, 1), FakeStore):
        assert SessionConfig(**{name: callback}).awaits is False
    assert SessionConfig().awaits is False


# -- mappings


@pytest.mark.parametrize(
    "mapping",
    [
        {"cookie_name": "x", "idle_timeout": 60},
        {"cookie": {"name": "x"}, "idle": {"timeout": 60}},
        {"cookie.name": "x", "idle.timeout": 60},
        {"COOKIE_NAME": "x", "Idle_Timeout": 60},
        {"COOKIE": {"NAME": "x"}, "idle_timeout": timedelta(minutes=1)},
    ],
)
def test_every_spelling_of_a_mapping_is_the_same(mapping: dict[str, Any]) -> None:
    assert SessionConfig.from_mapping(mapping) == SessionConfig(cookie_name="x", idle_timeout=60)


def test_deep_nesting_and_nothing_at_all() -> None:
    assert SessionConfig.from_mapping({"strict": {"session": {"ip": True}}}).strict_session_ip is True
    assert SessionConfig.from_mapping({}) == SessionConfig()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"cookie": {"nmae": "x"}}, "unknown setting 'cookie.nmae'; did you mean 'cookie_name'?"),
        ({"cookie": {"legacy": 1}}, "unknown setting 'cookie.legacy'"),
        ({"cookie_name": "x", "cookie.name": "y"}, "cookie_name is given twice: as cookie_name and as cookie.name"),
        (
            {"cookie": {"name": "x"}, "COOKIE_NAME": "y"},
            "cookie_name is given twice: as cookie.name and as COOKIE_NAME",
        ),
        ({5: "x"}, "the name of a setting must be a text, not int"),
        ({"cookie": {None: "x"}}, "the name of a setting must be a text, not NoneType"),
        ([("cookie_name", "x")], "settings must be a mapping, not list"),
        ({"idle_timeout": "60"}, "idle_timeout must be a whole number of seconds above 0 (int or timedelta)"),
    ],
)
def test_wrong_mappings_are_refused(mapping: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionConfig.from_mapping(mapping)
    assert str(caught.value).startswith(message)


@given(st.data())
@hypothesis_settings(max_examples=50)
def test_any_way_to_nest_a_name_is_the_same(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(DEFAULTS.keys() - {"secret_key", "profile", "clock", "save_path"})))
    value: Any = {"store": "memory:", "owner_key": "uid", "touch_interval": 5}.get(name, DEFAULTS[name])
    parts = name.split("_")
    mapping: Any = value
    key = parts.pop()
    while parts:
        join = data.draw(st.sampled_from(["_", ".", ""]))
        if join:
            key = parts.pop() + join + key
        else:
            mapping, key = {key: mapping}, parts.pop()
    config = SessionConfig.from_mapping({data.draw(st.sampled_from([key, key.upper()])): mapping})
    assert config == SessionConfig(**{name: value})


# -- the environment


def test_variables_are_read_by_what_the_setting_is() -> None:
    environ = {
        "PATH": "/bin",
        "SESSION_MW_SECRET_KEY": f'["{SECRET}", "{OTHER}"]',
        "SESSION_MW_STORE": "file:",
        "SESSION_MW_SAVE_PATH": "/tmp/x",  # noqa: S108
        "SESSION_MW_COOKIE_SECURE": "auto",
        "SESSION_MW_COOKIE_HTTPONLY": "Off",
        "SESSION_MW_COOKIE_NAME": "5",
        "SESSION_MW_COOKIE_MAX_BYTES": "7600",
        "SESSION_MW_IDLE_TIMEOUT": "900",
        "SESSION_MW_PROFILE": "BANKING",
        "SESSION_MW_ENCRYPTION": "1",
        "SESSION_MW_IP_PREFIX": "[24, 56]",
        "SESSION_MW_TRUSTED_PROXIES": '["10.0.0.0/8"]',
        "SESSION_MW_AUTOLOAD": "no",
        "SESSION_MW_STORE_ERROR_RESPONSE": "500",
        "SESSION_MW_SAME": '{"site": "Strict"}',
        "session_mw_novelty": "not ours",
    }
    assert SessionConfig.from_env(environ) == SessionConfig(
        secret_key=[SECRET, OTHER],
        store="file:",
        save_path="/tmp/x",  # noqa: S108
        cookie_secure="auto",
        cookie_httponly=False,
        cookie_name="5",
        cookie_max_bytes=7600,
        idle_timeout=900,
        profile=BANKING,
        encryption=True,
        ip_prefix=(24, 56),
        trusted_proxies=("10.0.0.0/8",),
        autoload=False,
        store_error_response=500,
        same_site="strict",
    )


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on", " ON "])
def test_words_for_yes(text: str) -> None:
    assert SessionConfig.from_env({"SESSION_MW_PERSISTENT": text}).persistent is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off"])
def test_words_for_no(text: str) -> None:
    assert SessionConfig.from_env({"SESSION_MW_ENCRYPT_COOKIE_DATA": text}).encrypt_cookie_data is False


def test_another_prefix_and_the_real_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SessionConfig.from_env({"APP_IDLE_TIMEOUT": "60", "SESSION_MW_X": "y"}, prefix="APP_").idle_timeout == 60
    monkeypatch.setenv("SESSION_MW_IDLE_TIMEOUT", "61")
    assert SessionConfig.from_env().idle_timeout == 61
    assert SessionConfig().idle_timeout == 7200


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"COOOKIE_NAME": "x"}, "unknown variable 'SESSION_MW_COOOKIE_NAME'; did you mean 'SESSION_MW_COOKIE_NAME'?"),
        (
            {"COOKIE": '{"nmae": 1}'},
            "unknown variable 'SESSION_MW_COOKIE.nmae'; did you mean 'SESSION_MW_COOKIE_NAME'?",
        ),
        (
            {"LEGACY": "x"},
            "legacy must be a list of readers such as StarletteCookie(secret, until=…) (from",
        ),
        ({"ENCRYPTION": ""}, "SESSION_MW_ENCRYPTION is empty: unset it, or give it a value"),
        ({"IP_PREFIX": "[24"}, "SESSION_MW_IP_PREFIX begins like JSON, and is none"),
        ({"IP_PREFIX": "[" * 100_000}, "SESSION_MW_IP_PREFIX begins like JSON, and is none"),
        (
            {"IDLE_TIMEOUT": "1h", "COOKIE_PATH": "/"},
            "idle_timeout must be a whole number of seconds above 0 (int or timedelta) (from SESSION_MW_IDLE_TIMEOUT)",
        ),
        ({"IDLE_TIMEOUT": "٣"}, "idle_timeout must be"),
        ({"IDLE_TIMEOUT": "9" * 5000}, "idle_timeout must be"),
        ({"IDLE_TIMEOUT": "-5"}, "idle_timeout must be a whole number of seconds above 0 (int or timedelta), not -5"),
        ({"PERSISTENT": "maybe"}, "persistent must be true or false (from SESSION_MW_PERSISTENT)"),
        (
            {"STRICT_SESSION_IP": "x", "SESSION_IP": "1"},
            "strict_session_ip must be true or false (from SESSION_MW_STRICT_SESSION_IP)",
        ),
        ({"ON_EVENT": "print"}, "on_event must be callable (from SESSION_MW_ON_EVENT)"),
        ({"SECRET_KEY": "hunter2"}, "secret_key: "),
        (
            {"COOKIE_NAME": "x", "COOKIE": '{"name": "y"}'},
            "cookie_name is given twice: as SESSION_MW_COOKIE_NAME and as SESSION_MW_COOKIE.name",
        ),
    ],
)
def test_wrong_variables_are_refused_by_name(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionConfig.from_env({f"SESSION_MW_{name}": text for name, text in environ.items()})
    assert str(caught.value).startswith(message)
    assert f"SESSION_MW_{next(iter(environ))}" in str(caught.value)


def test_an_error_that_names_no_setting_names_every_variable() -> None:
    class Picky(SessionConfig):
        __slots__ = ()

        def __init__(self, **settings: Any) -> None:
            raise ConfigurationError("not today")

    with pytest.raises(ConfigurationError, match=r"^not today \(from SESSION_MW_STORE, SESSION_MW_COOKIE_PATH\)$"):
        Picky.from_env({"SESSION_MW_STORE": "memory:", "SESSION_MW_COOKIE_PATH": "/"})


# -- secrets stay secret


def everything_said(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error!r} {error} {vars(error)} {getattr(error, 'doc', '')}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "environ",
    [
        {"SECRET_KEY": "hunter2"},
        {"SECRET_KEY": '["hunter2"'},
        {"SECRET_KEY": '["hunter2", 5]'},
        {"SECRET_KEY": '[{"hunter2": 5}]'},
        {"STORE": "hunter2"},
        {"STORE": "redis://:hunter2@h/0", "SAVE_PATH": "/x"},
        {"SECRET_KEY": f"{SECRET}hunter2", "IDLE_TIMEOUT": "x"},
    ],
)
def test_no_error_carries_a_secret(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SessionConfig.from_env({f"SESSION_MW_{name}": text for name, text in environ.items()})
    assert "hunter2" not in " ".join(everything_said(caught.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@host/0", "redis:…"),
        ("postgresql+psycopg://u:hun?ter2@host/db", "postgresql+psycopg:…"),
        ("postgresql://host/db?password=hunter2", "postgresql:…"),
        ("redis://host/0", "redis://host/0"),
        ("sqlite:///sessions.db", "sqlite:///sessions.db"),
    ],
)
def test_repr_masks_store_urls(url: str, shown: str) -> None:
    assert repr(SessionConfig(store=url)) == f"SessionConfig(store='{shown}')"


def test_repr_shows_what_differs_and_no_secret() -> None:
    assert repr(SessionConfig()) == "SessionConfig()"
    assert repr(SessionConfig(secret_key=SECRET, idle_timeout=7200)) == "SessionConfig()"
    store: Any = FakeStore()
    config = SessionConfig(
        store=store,
        profile=BANKING,
        trusted_proxies=["unix"],
        on_event=functools.partial(print, SECRET),
        clock=time.monotonic,
    )
    assert repr(config) == (
        "SessionConfig(store=<FakeStore>, idle_timeout=900, absolute_timeout=28800, profile=BANKING, "
        "trusted_proxies=('unix',), on_event=<partial>, clock=<monotonic>)"
    )
    assert SECRET not in repr(dataclasses.asdict(SessionConfig(secret_key=SECRET)))


def test_a_config_is_not_pickled_and_is_its_own_copy() -> None:
    config = SessionConfig(secret_key=SECRET)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(config)
    assert copy.copy(config) is config
    assert copy.deepcopy({"config": config})["config"] is config


# -- building on another


def suggested(name: str) -> str | None:
    found = re.search(r"did you mean '(\w+)'", refused(**{name: 1}))
    return found[1] if found else None


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_misspelling_is_recognised(name: str) -> None:
    for misspelt in (name.replace("_", ""), name[1:], name + "s", name[0] + name[2] + name[1] + name[3:]):
        assert suggested(misspelt) == name or misspelt in KINDS or len(name) < 6


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("secure", "cookie_secure"),
        ("domain", "cookie_domain"),
        ("httponly", "cookie_httponly"),
        ("timeout", "idle_timeout"),
    ],
)
def test_the_end_of_a_name_will_do_to_be_told_the_whole(name: str, ours: str) -> None:
    assert suggested(name) == ours


@pytest.mark.parametrize(
    "name",
    [
        *("lifetime", "session_lifetime", "expiration", "sessionPath", "sessionDomain", "csrfStorage", "columnPrefix"),
        *("session_driver", "storage_directory", "max_age", "session_cookie", "cookie_max_age", "cookie_samesite"),
        *("session_store", "session_timeout", "permanent", "session", "ttl"),
    ],
)
def test_what_others_call_a_setting_is_taken_for_none_of_ours(name: str) -> None:
    """The seeds' names, and frameworks'. docs/coming-from.md tells what is what."""
    assert suggested(name.lower()) is None
    assert suggested(name) is None


def test_replace_works_out_anew_what_was_not_named() -> None:
    config = SessionConfig(secret_key=SECRET, idle_timeout=30 * 86400, profile="SOCIAL")
    assert config.named == {"secret_key", "idle_timeout", "profile"}
    changed = config.replace(idle_timeout=60, table_index="shop", profile=None)
    assert (changed.absolute_timeout, changed.cookie_name) == (7 * 86400, "__Host-session-shop")
    assert changed.keys == config.keys
    assert config.replace(idle_timeout=None).idle_timeout == 86400
    assert config.replace() == config
    misspelt: dict[str, Any] = {"idle_timeuot": 60}
    with pytest.raises(ConfigurationError, match="did you mean 'idle_timeout'"):
        config.replace(**misspelt)


def test_build_merges() -> None:
    config = SessionConfig(idle_timeout=60)
    assert SessionConfig.build(config) is config
    assert SessionConfig.build(config, persistent=True) == SessionConfig(idle_timeout=60, persistent=True)
    assert SessionConfig.build(persistent=True) == SessionConfig(persistent=True)
    assert SessionConfig.build() == SessionConfig()
    secret: Any = SECRET
    with pytest.raises(ConfigurationError) as caught:
        SessionConfig.build(secret)
    assert str(caught.value) == "config must be a SessionConfig, not str; settings are keyword arguments"


def test_a_subclass_stays_one() -> None:
    class Mine(SessionConfig):
        __slots__ = ()

    assert type(Mine(idle_timeout=60).replace(idle_timeout=61)) is Mine
    assert type(Mine.from_mapping({})) is Mine


# -- import


def test_importing_reads_no_environment_and_loads_no_more_than_needed() -> None:
    program = (
        "import sys; before = set(sys.modules); from session_mw.config import SessionConfig; c = SessionConfig();"
        "lazy = {'difflib', 'json', 'ipaddress', 'asyncio'};"
        "print(c.idle_timeout, sorted(lazy & set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "SESSION_MW_IDLE_TIMEOUT": "5", "SESSION_MW_NONSENSE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "7200 []\n"


# -- the page


def settings_table() -> str:
    """The table of settings: names and texts from Settings, defaults from SessionConfig."""
    defaults = {field.name: field.default for field in dataclasses.fields(SessionConfig)}
    body = next(
        node.body
        for node in ast.parse(inspect.getsource(settings_module)).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    rows = ["| Setting | Accepts | Default | Meaning |", "|---|---|---|---|"]
    for entry, text in zip(body[1::2], body[2::2], strict=True):
        assert isinstance(entry, ast.AnnAssign)
        assert isinstance(entry.target, ast.Name)
        assert isinstance(text, ast.Expr)
        default = defaults[entry.target.id]
        shown = "`time.time`" if default is time.time else "none" if default is None else f"`{default!r}`"
        meaning = ast.literal_eval(text.value)
        rows.append(f"| `{entry.target.id}` | {', '.join(accepted(entry.annotation))} | {shown} | {meaning} |")
    return "\n".join(rows)


def accepted(annotation: ast.expr) -> Iterator[str]:
    if isinstance(annotation, ast.BinOp):
        yield from accepted(annotation.left)
        yield from accepted(annotation.right)
    elif ast.unparse(annotation).startswith("Callable[") or ast.unparse(annotation).endswith("Callback"):
        yield "function"
    elif isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        yield f'`"{ast.literal_eval(annotation.slice)}"`'
    elif isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Sequence":
        yield "sequence of " + " or ".join(accepted(annotation.slice))
    elif not isinstance(annotation, ast.Constant):
        yield f"`{ast.unparse(annotation)}`"


def profiles_table() -> str:
    rows = ["| Profile | Idle | Absolute | Authority |", "|---|---|---|---|"]
    for name, profile in PROFILES.items():
        idle, absolute = (
            str(value) if value else "default" for value in (profile.idle_timeout, profile.absolute_timeout)
        )
        rows.append(f"| `{name}` | {idle} | {absolute} | {profile.authority} |")
    return "\n".join(rows)


def with_tables(page: str) -> str:
    for name, table in (("settings", settings_table()), ("profiles", profiles_table())):
        start, end = f"<!-- {name}: written by tests/test_config.py -->\n", f"\n<!-- /{name} -->"
        head, _, rest = page.partition(start)
        assert rest, f"docs/configuration.md lacks its mark for {name}"
        page = f"{head}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def test_the_page_is_in_step() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "run: python tests/test_config.py"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
