"""Settings, one at a time: their names, what each accepts, and how text or a nested mapping spells them.

``Settings`` is the list of names; its annotations and texts are the configuration page of the docs. A ``Kind`` is one
sort of value: what it accepts, what it makes of it, how it reads text. How settings go together is ``config``'s.

No message built here shows a text value: any of them may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .core.account import IpCallback
    from .core.event import Event
    from .core.keys import KeyRing
    from .core.operations import AsyncStore, Store
    from .core.record import SessionRecord
    from .legacy import LegacyReader
    from .profiles import Profile

__all__ = [
    "KINDS",
    "Kind",
    "Settings",
    "collect",
    "from_text",
    "is_async",
    "name_of",
    "named_in",
    "scheme_of",
    "unknown",
]


class Settings(TypedDict, total=False):
    """Every setting, with the type a caller may give; ``None`` always means "not given"."""

    secret_key: str | bytes | Sequence[str | bytes] | KeyRing | None
    """Seals cookies and payloads; newest first. At least 32 bytes each."""
    store: str | Store | AsyncStore | None
    """Where sessions are kept on the server: a URL or a store."""
    migrate_from: str | Store | AsyncStore | None
    """The store (or its URL) that sessions are moved out of, one by one, as they are used; needs `store`."""
    save_path: str | None
    """Directory of a `file:` store."""
    table_index: str | None
    """The application: part of the cookie name, of every seal and of where a store's URL leads."""
    cookie_name: str | None
    """With another `table_index`: `__Host-session-<table_index>`. Under `DEVELOPMENT` without `__Host-`."""
    cookie_path: str | None
    """Path attribute."""
    cookie_domain: str | None
    """Domain attribute; none keeps the cookie on this one host."""
    cookie_secure: bool | Literal["auto"] | None
    """Secure attribute; `"auto"`: whenever the request came over https."""
    cookie_httponly: bool | None
    """HttpOnly attribute."""
    same_site: str | None
    """`"lax"`, `"strict"` or `"none"`."""
    partitioned: bool | None
    """Partitioned attribute (CHIPS)."""
    cookie_max_bytes: int | None
    """Bytes of name and value; above 3900 the cookie is split, up to 7600."""
    persistent: bool | None
    """Send Max-Age: the cookie outlives the browser window."""
    idle_timeout: int | timedelta | None
    """Seconds of disuse after which a session ends; slides."""
    absolute_timeout: int | timedelta | None
    """Seconds from creation after which it ends in any case; raised to `idle_timeout` unless given."""
    touch_interval: int | timedelta | None
    """How often use is written down. Not given: a tenth of the idle timeout, in a store at most 60."""
    clock_skew: int | timedelta | None
    """Seconds by which a seal may come from the future."""
    profile: Profile | str | None
    """Times of a published rule, by name; settings given beside it win."""
    encrypt_cookie_data: bool | None
    """False: the cookie is signed and readable. Client-kept sessions only."""
    encryption: bool | None
    """Payloads are sealed at rest; needs `secret_key`."""
    revocation: str | Store | AsyncStore | None
    """Client-kept sessions: a store (or URL) that remembers which ended before their time, and forgets none sooner."""
    revocation_staleness: int | timedelta | None
    """Seconds of use for which a seal is not asked about again; 0: at every opening."""
    strict_session_ip: bool | None
    """A login is bound to the address it came from."""
    session_ip: bool | None
    """A session is bound to the address that created it."""
    ip_prefix: tuple[int, int] | None
    """Bits of an address that count, v4 and v6."""
    trusted_proxies: Sequence[str] | None
    """Addresses, networks or `"unix"` whose forwarding headers are believed."""
    owner_key: str | None
    """Key of the default storage that is the login: whoever sets it logs in, whoever takes it out logs out."""
    max_sessions_per_user: int | None
    """Live sessions one user may have at once; needs `store`."""
    on_session_limit: str | None
    """What a login beyond `max_sessions_per_user` does: `"evict"` ends the least recently used, `"refuse"` raises."""
    on_event: Callable[[Event], object] | None
    """Hears every event."""
    on_ip_changed: IpCallback | None
    """Decides about a strict login whose address changed."""
    on_open: Callable[[Event], object] | None
    """Hears that a session was opened."""
    on_create: Callable[[Event], object] | None
    """Hears that a session was created."""
    on_validate: Callable[[SessionRecord], bool | Awaitable[bool]] | None
    """May veto a session that would open, or whose websocket is open."""
    on_close: Callable[[Event], object] | None
    """Hears that a session was committed and closed."""
    on_destroy: Callable[[Event], object] | None
    """Hears that a session was destroyed."""
    autoload: bool | Callable[[Any], bool] | None
    """Whether a store that must be awaited is read before the handler; or a predicate on the ASGI scope."""
    websocket_check: int | timedelta | None
    """Seconds between two looks whether the session of an open websocket still lives."""
    store_error_response: int | Callable[[Any], tuple[int, Sequence[tuple[str, str]], bytes]] | None
    """Answer to a failed store: a status from 500 to 599, or `(scope or environ) -> (status, headers, body)`."""
    legacy: Sequence[LegacyReader] | None
    """Readers of other libraries' cookies, such as `StarletteCookie`: their sessions go on as ours."""
    clock: Callable[[], float] | None
    """Tells the time in Unix seconds."""


_REFUSED: Any = object()


class Kind(NamedTuple):
    """One sort of value: ``accept`` gives its meaning or ``_REFUSED``, ``read`` makes a value of text if it can."""

    expected: str
    accept: Callable[[Any], Any]
    read: Callable[[str], Any] = str

    def check(self, name: str, value: Any) -> Any:
        """What *value* means for the setting *name*. Raises ``ConfigurationError`` naming what is expected."""
        accepted = self.accept(value)
        if accepted is not _REFUSED:
            return accepted
        if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**18):
            instead = f", not {value!r}"
        else:
            instead = "" if isinstance(value, str) else f", not {type(value).__name__}"
        raise ConfigurationError(f"{name} must be {self.expected}{instead}")


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_DIGITS = re.compile(r"[+-]?[0-9]{1,18}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_LONGEST = 2**31 - 1  # seconds, 68 years: deadlines stay within what every store's integers hold


def _words(text: str) -> bool | str:
    return _WORDS.get(text.strip().lower(), text)


def _digits(text: str) -> int | str:
    return int(text) if _DIGITS.fullmatch(text) else text


def _either(read: Callable[[str], Any], function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: function(value) if callable(value) else read(value)


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else _REFUSED


def _whole(lowest: int, highest: int) -> Callable[[Any], Any]:
    def accept(value: Any) -> Any:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole and lowest <= value <= highest else _REFUSED

    return accept


def _seconds(lowest: int) -> Callable[[Any], Any]:
    whole = _whole(lowest, _LONGEST)

    def accept(value: Any) -> Any:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        return whole(int(value) if isinstance(value, float) and value.is_integer() else value)

    return accept


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _sequence(value: Any) -> Any:
    return _frozen(value) if isinstance(value, Sequence) else _REFUSED


def _callback(value: Any) -> Any:
    return value if callable(value) else _REFUSED


def _function(value: Any) -> Any:
    return value if callable(value) and not is_async(value) else _REFUSED


def _store(value: Any) -> Any:
    if isinstance(value, str):
        return value if _SCHEME.match(value) else _REFUSED
    from .core.operations import Store  # both faces have the same names, so this recognises an AsyncStore too

    return value if isinstance(value, Store) and not isinstance(value, type) else _REFUSED


def _readers(value: Any) -> Any:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return _REFUSED
    from .legacy import LegacyReader  # here: few configurations hold one

    fit = all(isinstance(reader, LegacyReader) and not isinstance(reader, type) for reader in value)
    return tuple(value) if fit else _REFUSED


def _text(grammar: str) -> Callable[[Any], Any]:
    fits = re.compile(grammar, re.DOTALL).fullmatch  # fullmatch: "$" would let a trailing newline through
    return lambda value: value if isinstance(value, str) and fits(value) else _REFUSED


def _anything(value: Any) -> Any:
    return value


_TABLE: tuple[tuple[str, Kind], ...] = (
    ("secret_key profile cookie_name cookie_path cookie_domain", Kind("", _anything)),  # KeyRing, Profile, CookieSpec
    ("cookie_secure cookie_httponly partitioned", Kind("", _anything, _words)),  # CookieSpec judges these too
    ("max_sessions_per_user", Kind("a whole number of sessions, 1 or more", _whole(1, 10**6), _digits)),
    ("on_session_limit", Kind('"evict" or "refuse"', _text("evict|refuse"))),
    ("cookie_max_bytes", Kind("", _anything, _digits)),
    ("same_site", Kind("", lambda value: value.lower() if isinstance(value, str) else value)),
    (
        "store migrate_from revocation",
        Kind("a URL such as sqlite:///sessions.db, or a store (an instance, not its class)", _store),
    ),
    ("save_path owner_key", Kind("a text, not empty", _text(".+"))),
    ("table_index", Kind("1 to 32 of a-z, 0-9 and -, not beginning with -", _text("[a-z0-9][a-z0-9-]{0,31}"))),
    ("persistent encrypt_cookie_data encryption strict_session_ip session_ip", Kind("true or false", _flag, _words)),
    (
        "idle_timeout absolute_timeout touch_interval websocket_check",
        Kind("a whole number of seconds above 0 (int or timedelta)", _seconds(1), _digits),
    ),
    (
        "clock_skew revocation_staleness",
        Kind("a whole number of seconds, 0 or more (int or timedelta)", _seconds(0), _digits),
    ),
    ("trusted_proxies", Kind("a sequence of addresses and networks", _sequence)),  # and ClientRules judges both
    ("ip_prefix", Kind("", _frozen)),
    ("on_event on_ip_changed on_open on_create on_validate on_close on_destroy", Kind("callable", _callback)),
    ("legacy", Kind("a list of readers such as StarletteCookie(secret, until=…)", _readers)),
    ("clock", Kind("callable, and no coroutine function", _function)),
    ("autoload", Kind("true, false or a predicate that is no coroutine function", _either(_flag, _function), _words)),
    (  # never a 4xx: a failed store must not look like a logged-out user
        "store_error_response",
        Kind("a status from 500 to 599 or a plain function", _either(_whole(500, 599), _function), _digits),
    ),
)
KINDS: Mapping[str, Kind] = {name: kind for names, kind in _TABLE for name in names.split()}
"""What each setting accepts, by its name."""


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling *function* gives a coroutine: ``async def``, partials of one, objects whose call is one."""
    import functools
    import inspect  # here: few configurations hold a callback

    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def name_of(function: Callable[..., Any]) -> str:
    """What to call *function* in a log."""
    return getattr(function, "__qualname__", type(function).__name__)


def named_in(text: str, names: Iterable[str]) -> list[str]:
    """Those of *names* that *text*, an error's, speaks of."""
    return [name for name in names if re.search(rf"\b{name}\b", text)]


def scheme_of(url: str) -> str:
    """The scheme of a store URL that was accepted, in lower case (RFC 3986 section 3.1)."""
    return url.partition(":")[0].lower()


def from_text(name: str, text: str) -> Any:
    """The value *text* spells: JSON when it begins with ``[`` or ``{``, else itself, for its kind to read.

    Raises ``ConfigurationError`` naming *name* when it is empty or no JSON.
    """
    if not text:
        raise ConfigurationError(f"{name} is empty: unset it, or give it a value")
    if text[0] not in "[{":
        return text
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # raised below, out of reach of this error: it carries the whole text, perhaps a secret
    raise ConfigurationError(f"{name} begins like JSON, and is none")


def _flatten(mapping: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings of a nested or dotted mapping as (path, value): ``{"cookie": {"name": …}}`` is ``cookie_name``."""
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise ConfigurationError(f"the name of a setting must be a text, not {type(key).__name__}")
        here = (*path, *key.split("."))
        if isinstance(value, Mapping):
            yield from _flatten(value, here)
        else:
            yield here, value


def collect(
    mapping: Mapping[Any, Any],
    write: Callable[[tuple[str, ...]], str],
    spell: Callable[[str], str],
    what: str,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of a nested, dotted or flat mapping by name, and how each was written: by *write*, from its path.

    *spell* writes the name of a setting the same way. Raises ``ConfigurationError`` for a key that is no text, a name
    that is none, and a setting given twice.
    """
    settings: dict[str, Any] = {}
    written: dict[str, str] = {}
    for path, value in _flatten(mapping):
        name = "_".join(path).lower()
        if name not in KINDS:
            raise unknown(name, write(path), spell, what)
        if name in written:
            raise ConfigurationError(f"{name} is given twice: as {written[name]} and as {write(path)}")
        settings[name], written[name] = value, write(path)
    return settings, written


_LIKE = 0.83  # how alike a misspelling is: less, and names of other libraries are taken for one
_is_about_entropy = re.compile(r"entropy|^(session_)?(s?id|token|secret)_(bits|bytes|len|length|size)$").search


def unknown(
    name: str, written: str | None = None, spell: Callable[[str], str] = str, what: str = "setting"
) -> ConfigurationError:
    """The error for a *name* that is none, with the nearest one; *written* and *spell*: how the caller writes names."""
    message = f"unknown {what} {name if written is None else written!r}"
    if _is_about_entropy(name):  # that of the seed's handlers could make ids weaker than a guess is worth
        return ConfigurationError(f"{message}: ids always have 144 random bits, and secrets 264; leave it out")
    import difflib

    nearest = difflib.get_close_matches(name, KINDS, n=1, cutoff=_LIKE)
    nearest = nearest or [known for known in KINDS if known.endswith(f"_{name}")]
    return ConfigurationError(message + (f"; did you mean {spell(nearest[0])!r}?" if nearest else ""))
