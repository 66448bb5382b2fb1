"""Flask's settings, and ours in ``app.config["SESSION_MW"]``, as one ``SessionConfig``.

Decided here: what Flask's settings mean to us, and which gives way.

* Flask's defaults Secure=False and SameSite=None mean ``"auto"`` (true where our settings need it) and ``lax``
* ``PERMANENT_SESSION_LIFETIME`` is the idle timeout and raises the absolute one, unless our settings name them
* ``SECRET_KEY`` and its fallbacks seal where sessions need a key; in debug and testing a weak one will do
* a cookie setting given in both spellings, differently, is refused
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .config import SessionConfig
from .errors import ConfigurationError
from .profiles import Profile
from .settings import KINDS, Settings, collect, named_in
from .takeover import framework_keys, framework_lifetime, insists_on_secure

if TYPE_CHECKING:
    from flask import Flask
    from flask.sessions import SessionInterface

__all__ = ["CONFIG_KEY", "COOKIE_METHODS", "Given", "flask_config", "kept", "permanent_limit", "spelt"]

CONFIG_KEY = "SESSION_MW"

_SPELT = {  # ours: Flask's
    "cookie_name": "SESSION_COOKIE_NAME",
    "cookie_domain": "SESSION_COOKIE_DOMAIN",
    "cookie_path": "SESSION_COOKIE_PATH",
    "cookie_httponly": "SESSION_COOKIE_HTTPONLY",
    "cookie_secure": "SESSION_COOKIE_SECURE",
    "same_site": "SESSION_COOKIE_SAMESITE",
    "partitioned": "SESSION_COOKIE_PARTITIONED",
    "idle_timeout": "PERMANENT_SESSION_LIFETIME",
}
_named = itemgetter(
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "APPLICATION_ROOT", "SESSION_REFRESH_EACH_REQUEST", "DEBUG", "TESTING"),
    *_SPELT.values(),
)
COOKIE_METHODS = tuple(
    f"get_cookie_{word}" for word in ("name", "domain", "path", "httponly", "secure", "samesite", "partitioned")
)
"""What a subclass of Flask's interface may override; each reads ``app.config`` otherwise."""

_FLASK_NAME = "session"  # Flask's defaults
_FLASK_LIFETIME = timedelta(days=31)

_REMEDIES = """one of these lines mends it:
    app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]               # 32 random bytes or more
    app.config["SESSION_MW"] = {"store": "sqlite:///sessions.db"}     # kept on the server; needs no key
    app.config["SESSION_MW"] = {"profile": "DEVELOPMENT"}             # on your own machine only"""


def spelt(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """All that a site's settings depend on, as it stands in ``app.config`` now; equal means nothing changed."""
    return (*_named(config), config.get(CONFIG_KEY))


def kept(said: tuple[Any, ...]) -> tuple[Any, ...]:
    """A copy that later changes in place do not reach."""
    return tuple(map(_copied, said))


class Given(NamedTuple):
    """The same, understood: ``COOKIE_METHODS`` called, for a subclass may say something else in each request."""

    secret_key: Any
    fallbacks: Any
    name: Any
    domain: Any
    path: Any
    httponly: Any
    secure: Any
    same_site: Any
    partitioned: Any
    lifetime: timedelta
    refresh: bool
    development: bool
    ours: Any

    @classmethod
    def of(cls, interface: SessionInterface, app: Flask) -> Given:
        """What *app* says; the cookie's part by the methods of *interface*, which a subclass may override."""
        config = app.config
        return cls(
            config["SECRET_KEY"],
            config["SECRET_KEY_FALLBACKS"],
            interface.get_cookie_name(app),
            interface.get_cookie_domain(app),
            interface.get_cookie_path(app),
            interface.get_cookie_httponly(app),
            interface.get_cookie_secure(app),
            interface.get_cookie_samesite(app),
            interface.get_cookie_partitioned(app),
            app.permanent_session_lifetime,
            config["SESSION_REFRESH_EACH_REQUEST"],
            config["DEBUG"] or config["TESTING"],
            config.get(CONFIG_KEY),
        )


def flask_config(given: Given) -> SessionConfig | None:
    """The configuration *given* spells; ``None`` without a key and without a store.

    Raises ``ConfigurationError`` as ``SessionConfig`` does, in Flask's names, and for a setting given twice.
    """
    ours = _ours(given)
    settings = _cookie(given, ours)
    if "profile" not in ours and given.development:
        ours["profile"] = "DEVELOPMENT"
    profile = Profile.of(ours["profile"]) if "profile" in ours else None
    settings.update(_times(given, ours, profile), **ours)
    needs_key = "store" not in ours or ours.get("encryption")
    if needs_key and given.secret_key and "secret_key" not in ours:
        keys = [given.secret_key, *(given.fallbacks or ())]
        relaxed = given.development or (profile is not None and profile.relaxed)
        settings["secret_key"] = framework_keys(keys, name="SECRET_KEY", remedies=_REMEDIES, relaxed=relaxed)
    if "secret_key" not in settings and "store" not in settings:
        return None
    try:
        return SessionConfig(**cast("Settings", settings))
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}{_translated(str(error), ours)}") from error


def permanent_limit(given: Given, config: SessionConfig) -> int | None:
    """The idle limit of a permanent session in seconds; ``None`` where it is the same as any session's."""
    own = min(int(given.lifetime.total_seconds()), config.absolute_timeout)
    untouched = given.lifetime == _FLASK_LIFETIME  # and our settings named the idle timeout
    return None if untouched or own == config.idle_timeout else own


def _ours(given: Given) -> dict[str, Any]:
    """Our settings by name."""
    if given.ours is None:
        return {}
    if not isinstance(given.ours, Mapping):
        raise ConfigurationError(
            f'app.config["{CONFIG_KEY}"] must be a mapping such as {{"store": "sqlite:///sessions.db"}}, '
            f"not {type(given.ours).__name__}"
        )
    settings, _ = collect(given.ours, ".".join, str, f"setting of {CONFIG_KEY}")
    return {name: value for name, value in settings.items() if value is not None}


def _cookie(given: Given, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Flask's cookie settings as ours. Raises ``ConfigurationError`` where both spellings say something else."""
    said = {  # ours: what Flask says, and whether that is more than its default
        "cookie_name": (given.name, given.name != _FLASK_NAME),
        "cookie_domain": (given.domain or None, bool(given.domain)),
        "cookie_path": (given.path or "/", given.path not in (None, "/")),
        "cookie_httponly": (given.httponly, given.httponly is not True),
        "cookie_secure": (bool(given.secure or insists_on_secure(ours)) or "auto", bool(given.secure)),
        "same_site": (given.same_site or "lax", bool(given.same_site)),
        "partitioned": (given.partitioned, bool(given.partitioned)),
    }
    for name, (value, chosen) in said.items():
        if chosen and name in ours and KINDS[name].check(name, ours[name]) != KINDS[name].check(name, value):
            raise ConfigurationError(
                f'{name} is given twice, differently: as app.config["{_SPELT[name]}"] and in {CONFIG_KEY}; drop one'
            )
    settings = {name: value for name, (value, _) in said.items()}
    if "table_index" in ours and given.name == _FLASK_NAME:
        settings["cookie_name"] = f"{_FLASK_NAME}-{ours['table_index']}"
    return settings


def _times(given: Given, ours: Mapping[str, Any], profile: Profile | None) -> dict[str, Any]:
    """Flask's lifetime as the idle timeout; one that somebody chose comes before the profile's."""
    named = dict(profile.times) if profile else {}
    if given.lifetime != _FLASK_LIFETIME:
        named.pop("idle_timeout", None)
    return framework_lifetime(int(given.lifetime.total_seconds()), {**named, **ours})


def _translated(text: str, ours: Mapping[str, Any]) -> str:
    """What the settings named in *text* are called in Flask, where they came from there."""
    at_fault = [name for name in named_in(text, _SPELT) if name not in ours]
    return "".join(f'; here {name} is app.config["{_SPELT[name]}"]' for name in at_fault)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return list(value) if isinstance(value, list) else value
