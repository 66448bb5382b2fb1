"""A store from its URL, such as ``sqlite:///sessions.db?durable=1``.

Decided here: the schemes, and the module that serves each, imported when its scheme is asked for. Such a module has a
function ``from_url(url: StoreURL)``. A URL may hold a password, and where that is not percent-encoded it may end up as
a host, a path or an option. So no error shows more of a URL than its scheme and the names of its options, nor has a
cause that would; and an ``@`` stands nowhere but before the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from ..core.operations import AnyStore
from ..errors import ConfigurationError

__all__ = ["SCHEMES", "StoreURL", "file_path", "flag", "options", "read_url", "store_from_url"]

SCHEMES: dict[str, str] = {
    "file": "filesystem",
    "memory": "memory",
    "redis": "redis",
    "redis+cluster": "redis",
    "redis+sentinel": "redis",
    "rediss": "redis",
    "rediss+cluster": "redis",
    "rediss+sentinel": "redis",
    "sqlite": "sqlite",
    "postgresql": "sql",
    "postgresql+psycopg": "sql",
    "postgresql+asyncpg": "sql",
    "mysql": "sql",
    "mysql+pymysql": "sql",
    "mysql+asyncmy": "sql",
    "mariadb": "sql",
    "mariadb+pymysql": "sql",
    "mariadb+asyncmy": "sql",
    "unix": "redis",
}
"""Scheme -> module of this package."""


class StoreURL(NamedTuple):
    """A URL taken apart. ``query`` is its options as texts; ``text`` the whole, which may hold a password."""

    scheme: str
    netloc: str
    path: str
    query: dict[str, str]
    text: str
    table_index: str = "default"  # the application: stores that several may share keep theirs apart by it

    def __repr__(self) -> str:
        return f"<StoreURL {self.scheme}>"


def store_from_url(url: str, *, save_path: str | None = None, table_index: str = "default") -> AnyStore:
    """The store that *url* names, of the application *table_index*; in the directory *save_path* where it is ``file:``.

    Raises ConfigurationError for a scheme, option or value that nobody knows.
    """
    parts = read_url(url)._replace(table_index=table_index)
    if save_path is not None:
        from urllib.parse import quote

        if parts.scheme != "file" or parts.netloc or parts.path:
            raise ConfigurationError("save_path is the directory of a file: URL that has no path")
        parts = parts._replace(path="/" + quote(save_path, errors="surrogateescape"))
    try:
        module = import_module(f".{SCHEMES[parts.scheme]}", __package__)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"a {parts.scheme}: URL needs the package {error.name}: pip install 'session_mw[{_extra(parts.scheme)}]'"
        ) from error
    store: AnyStore = module.from_url(parts)
    return store


def _extra(scheme: str) -> str:
    """The extra of this package that brings what *scheme* needs."""
    module = SCHEMES[scheme]
    return scheme.partition("+")[0].replace("mariadb", "mysql") if module == "sql" else module


def read_url(url: str) -> StoreURL:
    """*url* taken apart. Raises ConfigurationError for a scheme that nobody knows, or one that cannot be read."""
    from urllib.parse import parse_qsl, urlsplit

    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in SCHEMES:
        shown = colon and scheme and (rest.startswith("//") or "@" not in url)  # else it may be a piece of a password
        what = f"unknown store scheme {scheme!r}" if shown else "a store URL starts with its scheme"
        raise ConfigurationError(f"{what}{_nearest(scheme if colon else '', SCHEMES)}; known: {_list(SCHEMES)}")
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigurationError(f"the {scheme}: URL cannot be read; percent-encode special characters") from None
    on_disk = not parts.netloc and parts.path.startswith("/")
    if not on_disk and url.count("@") > ("@" in parts.netloc):
        raise ConfigurationError(
            f"the {scheme}: URL has an @ that is not the one before its host; percent-encode special characters"
        )
    if parts.fragment:
        raise ConfigurationError(f"the {scheme}: URL has a fragment; write # as %23")
    query = dict(pairs)
    if len(query) != len(pairs):
        raise ConfigurationError(f"the {scheme}: URL gives an option twice")
    return StoreURL(scheme, parts.netloc, parts.path, query, url)


def options(url: StoreURL, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The options of *url* as keyword arguments: *known* maps each name to what makes a value of its text.

    Raises ConfigurationError for an unknown name or a text that is refused with ValueError.
    """
    made: dict[str, Any] = {}
    for name, text in url.query.items():
        if name not in known:
            torn = any("password" in other for other in url.query)  # perhaps, at an & in it
            shown = "such option" if torn else f"option {name!r}{_nearest(name, known)}"
            raise ConfigurationError(f"a {url.scheme}: URL has no {shown}; known: {_list(known)}")
        try:
            made[name] = known[name](text)
        except ValueError:
            raise ConfigurationError(f"the option {name!r} of a {url.scheme}: URL has a bad value") from None
    return made


def flag(text: str) -> bool:
    """``1``, ``true``, ``yes``, ``on`` or their opposites; else ValueError."""
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError("neither yes nor no")
    return known[text.lower()]


def file_path(url: StoreURL) -> str:
    """The path of ``scheme:///relative`` or ``scheme:////absolute``. Raises ConfigurationError."""
    if url.netloc or not url.path.startswith("/") or url.path == "/":
        raise ConfigurationError(
            f"a {url.scheme}: URL is {url.scheme}:///relative/path or {url.scheme}:////absolute/path"
        )
    from urllib.parse import unquote

    return unquote(url.path[1:], errors="surrogateescape")


def _nearest(name: str, known: Mapping[str, object]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _list(known: Mapping[str, object]) -> str:
    return ", ".join(sorted(known))
