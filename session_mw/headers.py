"""What a session adds to a response: ``Set-Cookie``, and what caches must be told.

* ``Vary: Cookie`` on every response whose handler looked at the session (RFC 9110 §12.5.5)
* ``Cache-Control: no-store`` beside a session cookie (RFC 9111 §7.3: Set-Cookie alone does not stop caching), and no
  field for some caches alone that says otherwise (``CDN-Cache-Control`` and the like, RFC 9213: they ignore the former)

One rule for bytes (ASGI) and text (WSGI) headers. The list given is never changed: a response object may be reused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from .core.cookies import cache_control, vary_cookie

__all__ = ["ASGI_HEADERS", "WSGI_HEADERS", "HeaderRule", "lets_some_store", "log_replaced"]

logger = logging.getLogger("session_mw")
H = TypeVar("H", str, bytes)
_VARY, _CACHE_CONTROL = len("vary"), len("cache-control")
_TARGETED = ("-cache-control", "surrogate-control")
_SHORTEST = len("cdn-cache-control")  # of those


def lets_some_store(name: str, value: str) -> bool:
    """Whether a header field makes some caches ignore Cache-Control (RFC 9213 §2.2), and store what is not for them."""
    return name.lower().endswith(_TARGETED) and cache_control(value)[1]


def log_replaced() -> None:
    """Say that what the app had told caches was not to be."""
    logger.warning("session_mw: the app's Cache-Control on a response that sets a session cookie was replaced")


class HeaderRule(Generic[H]):
    """The rule, for headers of one type."""

    def __init__(self, encode: Callable[[str], H], decode: Callable[[H], str], names: tuple[str, str, str]) -> None:
        self._encode: Callable[[str], H] = encode
        self._decode: Callable[[H], str] = decode
        self._vary: H = encode(names[0])
        self._cache: H = encode(names[1])
        self._cookie: H = encode(names[2])
        self._vary_key: H = encode("vary")
        self._cache_key: H = encode("cache-control")
        self._control: H = encode("-control")
        self._vary_alone: tuple[H, H] = (self._vary, encode("Cookie"))
        self._no_store: tuple[H, H] = (self._cache, encode(cache_control(None)[0]))

    def applied(self, headers: Iterable[tuple[H, H]], cookies: Sequence[str]) -> list[tuple[H, H]]:
        """*headers* of a response whose session was looked at, with its *cookies*."""
        kept = list(headers)
        varies = cached = targeted = False
        for name, _ in kept:
            length = len(name)  # tells nearly all apart
            if length == _VARY and name.lower() == self._vary_key:
                varies = True
            elif length == _CACHE_CONTROL and name.lower() == self._cache_key:
                cached = True
            elif length >= _SHORTEST and cookies and name.lower().endswith(self._control):
                targeted = True
        if varies:
            kept.append((self._vary, self._encode(vary_cookie(self._taken(kept, self._vary_key)))))
        else:
            kept.append(self._vary_alone)
        if cookies:
            if targeted:
                kept = self._untargeted(kept)
            kept.append(self._private(kept) if cached else self._no_store)
            kept += [(self._cookie, self._encode(cookie)) for cookie in cookies]
        return kept

    def _private(self, headers: list[tuple[H, H]]) -> tuple[H, H]:
        """The Cache-Control in place of the app's own, which *headers* no longer have."""
        value, replaced = cache_control(self._taken(headers, self._cache_key))
        if replaced:
            log_replaced()
        return self._cache, self._encode(value)

    def _untargeted(self, headers: list[tuple[H, H]]) -> list[tuple[H, H]]:
        """*headers* without those that let some caches store the cookie."""
        decode, control = self._decode, self._control
        kept = [
            item
            for item in headers
            if not item[0].lower().endswith(control) or not lets_some_store(decode(item[0]), decode(item[1]))
        ]
        if len(kept) < len(headers):
            log_replaced()
        return kept

    def _taken(self, headers: list[tuple[H, H]], key: H) -> str:
        """The values of header *key*, joined; *headers* no longer have it."""
        values = [self._decode(value) for name, value in headers if name.lower() == key]
        headers[:] = [item for item in headers if item[0].lower() != key]
        return ", ".join(values)


ASGI_HEADERS: HeaderRule[bytes] = HeaderRule(
    lambda text: text.encode("latin-1"),
    lambda raw: raw.decode("latin-1"),
    ("vary", "cache-control", "set-cookie"),
)
WSGI_HEADERS: HeaderRule[str] = HeaderRule(str, str, ("Vary", "Cache-Control", "Set-Cookie"))
