"""SessionConfig: every setting, checked once, together.

Decided here: defaults, which setting gives way to which, and what contradicts what. One setting by itself is
``settings``' matter; what a key, a cookie or an address rule may be is asked of ``core.keys``, ``core.cookies`` and
``core.client``, which a configuration holds ready built. Where sessions are kept is built elsewhere.

Explicit settings beat the profile, the profile beats the defaults, and what nobody named gives way. Nothing is read at
import; no secret is in a ``repr`` or an error.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, Unpack, cast

from .core.client import ClientRules
from .core.cookies import CookieSpec, SameSite
from .core.keys import KeyRing, refuse_pickling
from .errors import ConfigurationError
from .profiles import Profile, check_times
from .settings import KINDS, Settings, collect, from_text, is_async, named_in, scheme_of, unknown

if TYPE_CHECKING:
    from .core.account import IpCallback
    from .core.event import Event
    from .core.record import SessionRecord
    from .legacy import LegacyReader

__all__ = ["SessionConfig", "missing_home_error"]

_CALLBACKS = ("on_event", "on_ip_changed", "on_open", "on_create", "on_validate", "on_close", "on_destroy")


def missing_home_error() -> ConfigurationError:
    """The error for a configuration with neither ``store`` nor ``secret_key``: there is nowhere to keep a session."""
    return ConfigurationError(
        "sessions have nowhere to live; give one of\n"
        '    secret_key=os.environ["SECRET"]            # kept by the client, sealed in the cookie\n'
        '    store="sqlite:///sessions.db"              # kept on the server; needs no secret'
    )


class _Built:
    """What a configuration holds beside its settings; a base class, so that none of it counts as a setting."""

    __slots__ = ("_given", "awaits", "client", "cookie")

    cookie: CookieSpec
    client: ClientRules
    awaits: bool
    _given: Mapping[str, Any]


@dataclass(slots=True, init=False, repr=False, unsafe_hash=True)  # hashable: __setattr__ below keeps it frozen
class SessionConfig(_Built):
    """Every setting of session_mw, valid together. Immutable; keyword arguments only, see ``Settings``.

    Times are whole seconds. ``None`` for any setting means "not given". Raises ``ConfigurationError`` for an unknown
    name (with the nearest one), a value of the wrong kind, and settings that contradict each other.

    Beside the settings: ``cookie``, ``client`` and ``keys``, the rules built of them, and ``awaits``: whether any
    callback is a coroutine function (then only ASGI will do).
    """

    secret_key: KeyRing | None = None
    store: Any = None
    migrate_from: Any = None
    save_path: str | None = None
    table_index: str = "default"
    cookie_name: str = "__Host-session"
    cookie_path: str = "/"
    cookie_domain: str | None = None
    cookie_secure: bool | Literal["auto"] = True
    cookie_httponly: bool = True
    same_site: SameSite = "lax"
    partitioned: bool = False
    cookie_max_bytes: int = 3900
    persistent: bool = False
    idle_timeout: int = 7200
    absolute_timeout: int = 604800
    touch_interval: int | None = None
    clock_skew: int = 60
    profile: Profile | None = None
    encrypt_cookie_data: bool = True
    encryption: bool = False
    revocation: Any = None
    revocation_staleness: int = 0
    strict_session_ip: bool = False
    session_ip: bool = False
    ip_prefix: tuple[int, int] = (32, 128)
    trusted_proxies: tuple[str, ...] = ()
    owner_key: str | None = None
    max_sessions_per_user: int | None = None
    on_session_limit: Literal["evict", "refuse"] = "evict"
    on_event: Callable[[Event], object] | None = None
    on_ip_changed: IpCallback | None = None
    on_open: Callable[[Event], object] | None = None
    on_create: Callable[[Event], object] | None = None
    on_validate: Callable[[SessionRecord], bool | Awaitable[bool]] | None = None
    on_close: Callable[[Event], object] | None = None
    on_destroy: Callable[[Event], object] | None = None
    autoload: bool | Callable[[Any], bool] = True
    websocket_check: int = 30
    store_error_response: int | Callable[[Any], Any] = 503
    legacy: tuple[LegacyReader, ...] = ()
    clock: Callable[[], float] = time.time

    def __init__(self, **settings: Unpack[Settings]) -> None:
        given: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in KINDS:
                raise unknown(name)
            if value is not None:
                given[name] = KINDS[name].check(name, value)
        profile = Profile.of(given["profile"]) if "profile" in given else None
        relaxed = profile is not None and profile.relaxed
        fixed = {**(profile.settings if profile else {}), **given}
        values = {**_DEFAULTS, **fixed, "profile": profile}

        if values["idle_timeout"] > values["absolute_timeout"]:  # what nobody named gives way
            if "absolute_timeout" not in fixed:
                values["absolute_timeout"] = values["idle_timeout"]
            elif "idle_timeout" not in given:
                values["idle_timeout"] = values["absolute_timeout"]
        check_times(values)
        if "secret_key" in given:
            given["secret_key"] = values["secret_key"] = _key_ring(given["secret_key"], relaxed=relaxed)
        _check_home(values)
        cookie = _cookie(values, named="cookie_name" in given, relaxed=relaxed)
        values.update(cookie_name=cookie.name, cookie_domain=cookie.domain)
        _check_legacy(values["legacy"], cookie.name)

        built = {
            "cookie": cookie,
            "client": ClientRules(values["trusted_proxies"], values["ip_prefix"]),
            "awaits": any(is_async(given[name]) for name in _CALLBACKS if name in given),
            "_given": given,
        }
        for name, value in {**values, **built}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def build(cls, config: SessionConfig | None = None, **settings: Unpack[Settings]) -> SessionConfig:
        """*config* with *settings* laid over it; either may be missing. Raises ``ConfigurationError``."""
        if config is None:
            return cls(**settings)
        if not isinstance(config, SessionConfig):
            raise ConfigurationError(
                f"config must be a SessionConfig, not {type(config).__name__}; settings are keyword arguments"
            )
        return config.replace(**settings) if settings else config

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> SessionConfig:
        """The configuration *mapping* spells, nested, dotted or flat, in lower or upper case.

        ``{"cookie": {"name": "x"}}``, ``{"cookie.name": "x"}`` and ``{"COOKIE_NAME": "x"}`` are the same.
        Raises ``ConfigurationError`` as the constructor does, and for a setting given twice.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigurationError(f"settings must be a mapping, not {type(mapping).__name__}")
        return cls(**cast("Settings", collect(mapping, ".".join, str, "setting")[0]))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, prefix: str = "SESSION_MW_") -> SessionConfig:
        """The configuration of the variables that begin with *prefix*: ``SESSION_MW_IDLE_TIMEOUT=900``.

        true/false, yes/no, on/off, 1/0 for flags; whole seconds for times; JSON where a value begins with ``[`` or
        ``{``. *environ* is ``os.environ`` unless given. Raises ``ConfigurationError`` naming the variable.
        """
        if environ is None:
            import os

            environ = os.environ
        texts = {name[len(prefix) :]: text for name, text in environ.items() if name.startswith(prefix)}
        mapping = {name: from_text(prefix + name, text) for name, text in texts.items()}
        settings, written = collect(
            mapping,
            lambda path: prefix + path[0] + "".join(f".{part}" for part in path[1:]),
            lambda name: prefix + name.upper(),
            "variable",
        )
        read = {name: KINDS[name].read(value) if isinstance(value, str) else value for name, value in settings.items()}
        try:
            return cls(**cast("Settings", read))
        except ConfigurationError as error:
            at_fault = [written[name] for name in named_in(str(error), written)]
            raise ConfigurationError(f"{error} (from {', '.join(at_fault or written.values())})") from error

    def replace(self, **changes: Unpack[Settings]) -> Self:
        """A new configuration with *changes*, validated as a whole; ``None`` takes a setting back to its default.

        What was never named is worked out anew. Raises ``ConfigurationError`` as the constructor does.
        """
        given = dict(self._given)
        if self.relaxed and self.secret_key is not None:  # to be judged again: it may be weak
            given["secret_key"] = self.secret_key._keys
        return type(self)(**cast("Settings", {**given, **changes}))

    @property
    def named(self) -> frozenset[str]:
        """The settings the caller named, as opposed to those a default or the profile filled in."""
        return frozenset(self._given)

    @property
    def keys(self) -> KeyRing | None:
        """The key ring of ``secret_key``."""
        return self.secret_key

    @property
    def relaxed(self) -> bool:
        """Whether the profile is one for development."""
        return self.profile is not None and self.profile.relaxed

    def touch_after(self, stored: bool) -> int:
        """Seconds between two writings of a sliding deadline, for a session in a store or kept by the client."""
        if self.touch_interval is not None:
            return self.touch_interval
        tenth = max(1, self.idle_timeout // 10)
        return min(tenth, 60) if stored else tenth

    def __repr__(self) -> str:
        shown = []
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if name != "secret_key" and value != default:
                shown.append(f"{name}={_shown(name, value)}")
        return f"SessionConfig({', '.join(shown)})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a SessionConfig does not change; replace() makes another")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a SessionConfig does not change; replace() makes another")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)


_DEFAULTS: Mapping[str, Any] = {setting.name: setting.default for setting in fields(SessionConfig)}


def _key_ring(value: Any, *, relaxed: bool) -> KeyRing:
    try:
        return KeyRing.of(value, minimum=1) if relaxed else KeyRing.of(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"secret_key: {error}") from error


def _check_home(values: Mapping[str, Any]) -> None:
    store = values["store"]
    if values["save_path"] is not None and not (isinstance(store, str) and scheme_of(store) == "file"):
        raise ConfigurationError('save_path is the directory of a file store: add store="file:"')
    if values["save_path"] is not None and store.partition(":")[2].partition("?")[0]:
        raise ConfigurationError('save_path and store both name a directory: keep one, or store="file:"')
    old = values["migrate_from"]
    if old is not None and store is None:
        raise ConfigurationError("migrate_from= is the store that sessions are moved out of: add store=, where they go")
    if old is not None and (old is store or (isinstance(old, str) and old == store)):
        raise ConfigurationError("migrate_from and store are the same: migrate_from= is the old one")
    if values["encryption"] and values["secret_key"] is None:
        raise ConfigurationError("encryption seals payloads at rest and needs a key: add secret_key=")
    if values["revocation"] is not None and (store is not None or values["secret_key"] is None):
        raise ConfigurationError(
            "revocation= is for sessions kept by the client, in a cookie sealed with secret_key=; "
            "with store= every session can be ended already"
        )
    if values["revocation_staleness"] and values["revocation"] is None:
        raise ConfigurationError("revocation_staleness says how often revocation= is asked: add it")
    if values["max_sessions_per_user"] is not None and store is None:
        raise ConfigurationError("max_sessions_per_user counts what is kept on the server: add store=")
    if values["on_session_limit"] == "refuse" and values["max_sessions_per_user"] is None:
        raise ConfigurationError("on_session_limit says what max_sessions_per_user= does: add it")
    if not values["encrypt_cookie_data"] and store is not None:
        raise ConfigurationError(
            "encrypt_cookie_data=False is for sessions kept by the client; with store= the cookie holds no data"
        )


def _check_legacy(readers: tuple[LegacyReader, ...], name: str) -> None:
    taken = {name: "our own"}
    for reader in readers:
        if reader.cookie.name in taken:
            raise ConfigurationError(
                f"legacy: the cookie {reader.cookie.name!r} is {taken[reader.cookie.name]} already; while old and new "
                'workers run side by side, ours needs another name: cookie_name="__Host-session"'
            )
        taken[reader.cookie.name] = "read"


def _cookie(values: Mapping[str, Any], *, named: bool, relaxed: bool) -> CookieSpec:
    """The cookie of *values*. A default name that does not go with them is refused with the one to ask for."""

    def spec(name: str) -> CookieSpec:
        return CookieSpec(
            name,
            path=values["cookie_path"],
            domain=values["cookie_domain"],
            secure=values["cookie_secure"],
            httponly=values["cookie_httponly"],
            same_site=values["same_site"],
            partitioned=values["partitioned"],
            max_bytes=values["cookie_max_bytes"],
        )

    def fits(name: str) -> bool:
        try:
            spec(name)
        except ConfigurationError:
            return False
        return True

    if named:
        return spec(values["cookie_name"])
    plain = "session" if values["table_index"] == "default" else f"session-{values['table_index']}"
    if relaxed:
        return spec(plain)
    try:
        return spec(f"__Host-{plain}")
    except ConfigurationError as error:
        weaker = next((name for name in (f"__Secure-{plain}", plain) if fits(name)), None)
        if weaker is None:
            raise
        raise ConfigurationError(f'{error}; __Host-{plain} is the default name: add cookie_name="{weaker}"') from error


def _shown(name: str, value: Any) -> str:
    if name in ("store", "migrate_from", "revocation") and isinstance(value, str) and ("@" in value or "?" in value):
        return f"'{scheme_of(value)}:…'"  # a password may stand before the "@" or behind the "?"
    if isinstance(value, (bool, int, str, tuple)):
        return repr(value)
    return value.name if isinstance(value, Profile) else f"<{getattr(value, '__qualname__', type(value).__name__)}>"
