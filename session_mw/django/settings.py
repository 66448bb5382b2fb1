"""What Django's settings mean to us: the configuration that ``settings.SESSION_MW`` and its neighbours spell.

Decided here: which of Django's own settings stand for which of ours, and which of ours are therefore not to be named.
A store named by a URL is built once a process, so that ``override_settings`` finds the sessions it began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY

from ..config import SessionConfig
from ..errors import ConfigurationError
from ..stores.faces import store_of
from ..takeover import framework_keys, framework_lifetime

__all__ = ["OWN", "READ", "configuration"]

OWN = {
    "cookie_name": "SESSION_COOKIE_NAME",
    "cookie_path": "SESSION_COOKIE_PATH",
    "cookie_domain": "SESSION_COOKIE_DOMAIN",
    "cookie_secure": "SESSION_COOKIE_SECURE",
    "cookie_httponly": "SESSION_COOKIE_HTTPONLY",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "persistent": "SESSION_EXPIRE_AT_BROWSER_CLOSE",
}
"""Our settings that Django has settings of its own for; they are not ours to name."""

READ = frozenset({"SESSION_MW", *OWN.values(), "SESSION_COOKIE_AGE", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "DEBUG"})
"""Every setting that is read here."""

_REMEDIES = (
    "mend it in one of these ways:\n"
    "    session-mw keygen                                # prints a new SECRET_KEY\n"
    '    SESSION_MW = {"secret_key": os.environ["SECRET"]}  # a key for sessions alone\n'
    "    DEBUG = True                                     # on your own machine"
)
_stores: dict[tuple[Any, ...], Any] = {}


def configuration() -> tuple[SessionConfig, frozenset[str]]:
    """The configuration that the settings spell now, and what ``SESSION_MW`` names of it."""
    ours = getattr(settings, "SESSION_MW", None)
    if ours is None:
        raise ConfigurationError(
            'sessions have nowhere to live; add to the settings\n    SESSION_MW = {"store": "sqlite:///sessions.db"}'
        )
    if not isinstance(ours, Mapping):
        raise ConfigurationError(f"SESSION_MW must be a mapping, not {type(ours).__name__}")
    config = SessionConfig.from_mapping({**ours, **_key(ours)})
    if config.store is None:
        raise ConfigurationError('under Django sessions are kept in a store: add SESSION_MW["store"]')
    taken = [f"{name} (Django: {OWN[name]})" for name in OWN if name in config.named]
    if taken:
        raise ConfigurationError(f"SESSION_MW names what Django has a setting for: {', '.join(taken)}")
    if config.legacy:
        raise ConfigurationError(
            "legacy: under Django a session is found by its key alone; take it out of SESSION_MW. To another store: "
            "migrate_from"
        )
    if "owner_key" in config.named:
        raise ConfigurationError(
            "owner_key: under Django the login is django.contrib.auth's; take it out of SESSION_MW"
        )
    if "partitioned" in config.named:
        raise ConfigurationError(
            "partitioned: under Django its own middleware sets the cookie, and has no such attribute; take it out of "
            "SESSION_MW"
        )
    whole = config.replace(
        store=_store(config), save_path=None, migrate_from=None, owner_key=SESSION_KEY, **_times(config), **_cookie()
    )
    return whole, config.named


def _store(config: SessionConfig) -> Any:
    if not isinstance(config.store, str) and config.migrate_from is None:
        return config.store
    named = (config.store, config.save_path, config.migrate_from, config.table_index)
    if named not in _stores:
        _stores[named] = store_of(config)
    return _stores[named]


def _times(config: SessionConfig) -> dict[str, Any]:
    """``SESSION_COOKIE_AGE`` is the idle timeout, unless ours or a profile names one."""
    ours = {name: getattr(config, name) for name in config.named}
    return framework_lifetime(settings.SESSION_COOKIE_AGE, {**(config.profile.times if config.profile else {}), **ours})


def _cookie() -> dict[str, Any]:
    same_site = settings.SESSION_COOKIE_SAMESITE
    return {
        "cookie_name": settings.SESSION_COOKIE_NAME,
        "cookie_path": settings.SESSION_COOKIE_PATH,
        "cookie_domain": settings.SESSION_COOKIE_DOMAIN,
        "cookie_secure": bool(settings.SESSION_COOKIE_SECURE),
        "cookie_httponly": bool(settings.SESSION_COOKIE_HTTPONLY),
        "same_site": same_site.lower() if same_site else "lax",  # sent by Django, which may leave it out
    }


def _key(ours: Mapping[str, Any]) -> dict[str, Any]:
    """``SECRET_KEY`` and its fallbacks, where payloads are to be sealed and no other key is named."""
    names = {str(name).lower(): value for name, value in ours.items()}
    if not names.get("encryption") or names.get("secret_key"):
        return {}
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return {"secret_key": framework_keys(keys, name="SECRET_KEY", remedies=_REMEDIES, relaxed=settings.DEBUG)}
