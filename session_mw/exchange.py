"""Exchange: what a middleware reads of a request and adds to its response, around one session.

Who is calling, as far as trusted proxies vouch for it; the cookies a verdict sets or clears; the answer while the store
fails. A ``Reader`` says where an integration's requests keep these things.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from .config import SessionConfig
from .core.client import clean_user_agent
from .managers import Action, Verdict

__all__ = ["AccessRefused", "Answer", "Exchange", "Past", "Reader", "unavailable"]

logger = logging.getLogger("session_mw")
_SECURE_SCHEMES = ("https", "wss")


class Answer(NamedTuple):
    """A whole response without a framework; header names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def messages(self, scope: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """As ASGI sends it in answer to *scope*; on a websocket, as its denial."""
        kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        body = b"" if scope.get("method") == "HEAD" else self.body
        start = {"type": f"{kind}.start", "status": self.status, "headers": headers}
        return start, {"type": f"{kind}.body", "body": body}


class AccessRefused(Exception):  # noqa: N818 - no error: the middlewares send ``answer``, and log nothing
    """Raised by a guard where no framework makes a response of its ``answer``. An app may catch it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"refused with status {answer.status}")
        self.answer = answer


class Reader(Protocol):
    """How an integration's request (*source*) is read."""

    def cookies(self, source: Any, /) -> str:
        """Every Cookie header, joined by ``"; "``; a character for each byte."""
        ...

    def header(self, source: Any, name: str, /) -> str | None:
        """One header by lower-case name; several joined by ``", "``."""
        ...

    def peer(self, source: Any, /) -> str | None:
        """The address the server gives: an IP, or ``"unix"``; ``None`` when it does not know, ``""`` when it names no
        address of anybody, as some do on a unix socket."""
        ...

    def scheme(self, source: Any, /) -> str:
        """``http``, ``https``, ``ws`` or ``wss``, as the server gives it."""
        ...

    def method(self, source: Any, /) -> str:
        """``GET`` and the like; empty for a websocket."""
        ...

    def target(self, source: Any, /) -> str:
        """Path and query as the client asked for them, percent-encoded."""
        ...


class Past(dict[str, Any]):
    """What is left of a request after the app failed: enough for its error page, outside, to read the session."""


class Exchange:
    """One per middleware. *source* is a request of the integration's own type."""

    def __init__(self, config: SessionConfig, reader: Reader) -> None:
        self._config = config
        self.reader = self._reader = reader
        self._client = config.client
        self._cookie = config.cookie
        self._cookies, self._read = reader.cookies, config.cookie.read
        self._scheme = reader.scheme
        self._warned_insecure = False

    def claim(self, source: Any) -> list[str]:
        """What the client sent under our cookie name."""
        return self._read(self._cookies(source))

    def address(self, source: Any) -> str | None:
        """The client's address, as far as trusted proxies vouch for it; unknown once the request is over."""
        if source is None:
            return None
        peer = self._reader.peer(source)
        if not self._client.believes:
            return self._client.address(peer)
        header = self._reader.header
        return self._client.address(peer, header(source, "forwarded"), header(source, "x-forwarded-for"))

    def same_address(self, source: Any, address: str) -> bool:
        """Whether the client calls from *address*, under ``ip_prefix``; an unknown one is another."""
        return self._client.same(self.address(source), address)

    def user_agent(self, source: Any) -> str | None:
        """The user agent, fit to be kept."""
        return clean_user_agent(self._reader.header(source, "user-agent"))

    def is_secure(self, source: Any) -> bool:
        """Whether the request came over https (or wss), as far as trusted proxies vouch for it."""
        scheme = self._scheme(source)
        if not self._client.believes:
            return scheme in _SECURE_SCHEMES
        header = self._reader.header
        plain = "https" if scheme in _SECURE_SCHEMES else "http"
        forwarded, proto = header(source, "forwarded"), header(source, "x-forwarded-proto")
        return self._client.scheme(self._reader.peer(source), plain, forwarded, proto) == "https"

    def set_cookies(self, source: Any, verdict: Verdict, header: str | None = None) -> list[str]:
        """The Set-Cookie values of *verdict*. *header*: the request's Cookie header, where it was read before.

        Raises ``SessionTooLargeError`` for a cookie over its budget.
        """
        action = verdict.action
        if action is Action.LEAVE:
            return []
        cookie, secure = self._cookie, self.is_secure(source)
        if header is None:
            header = self._cookies(source)
        if action is Action.CLEAR:
            return cookie.clear(header, secure=secure)
        if not secure and cookie.secure is True and not self._warned_insecure:
            self._warn_insecure(source)
        return cookie.write(verdict.value, header, verdict.max_age, secure)

    def _warn_insecure(self, source: Any) -> None:
        """Once: browsers keep a Secure cookie over plain http only on hosts they trust (W3C Secure Contexts §3.1)."""
        host = (self._reader.header(source, "host") or "").lower()
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127."):
            return
        self._warned_insecure = True
        logger.warning(
            "session_mw: a Secure cookie was set over plain http; browsers will not send it back. Serve https, "
            "name your proxy in trusted_proxies, or for development use profile='DEVELOPMENT'."
        )


def unavailable(config: SessionConfig, request: Any) -> Answer:
    """The answer while the store fails (RFC 9110 §15.6.4)."""
    answer = config.store_error_response
    if callable(answer):
        status, headers, body = answer(request)
        return Answer(status, tuple(headers), body)
    text = b"The session store is unavailable; please try again shortly.\n"
    lines = (
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(text))),
        ("retry-after", "5"),
        ("cache-control", "no-store"),
    )
    return Answer(answer, lines, text)
