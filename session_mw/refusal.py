"""Refusal: what a client is told who may not go on, framework-free.

A browser that navigates is sent to the login page, with the way back in ``next``; everybody else gets a status and a
problem (RFC 9457). Decided here: who is which, and which way back stays on this site. Who is refused is ``access``'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from .errors import ConfigurationError
from .exchange import Answer, Reader

__all__ = ["CHECK", "LOGIN", "STALE", "Fault", "check_login_page", "refusal", "safe_next", "wants_page"]

LoginPage = str | Callable[[], str]


class Fault(NamedTuple):
    """Why somebody is refused; ``curable``: whether logging in would help."""

    status: int
    title: str
    detail: str
    curable: bool


LOGIN = Fault(401, "Unauthorized", "Log in first.", True)
STALE = Fault(401, "Unauthorized", "Log in again: the last login is too long ago.", True)
CHECK = Fault(403, "Forbidden", "This is not for you.", False)

_LONGEST = 2000  # characters of a way back
_LAYERS = 5  # of percent-encoding; a path of more says nothing that anybody means, and each costs a pass
_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0\\]")  # browsers drop some of these, and take "\" for "/" (WHATWG URL 4.4)
_NEVER_DECODED = re.compile(r"//|[\x00-\x1f\x7f\\]")
_NEGOTIATED = "Accept, Sec-Fetch-Mode, X-Requested-With"


def safe_next(value: object, default: str = "/") -> str:
    """*value* where it is a path on this very site, fit for a Location header; *default* for anything else.

    What a login page does with the ``next`` it was sent: anybody may have written it. Never raises.
    """
    if not isinstance(value, str) or not value.startswith("/") or len(value) > _LONGEST or _NEVER.search(value):
        return default
    path = re.split("[?#]", value, maxsplit=1)[0]
    for _ in range(_LAYERS):  # also as those see it who decode once too often
        if _NEVER_DECODED.search(path):
            return default
        decoded = unquote(path)
        if decoded == path:
            break
        path = decoded
    else:
        return default
    try:
        return quote(value, safe="/?#[]@!$&'()*+,;=:%~")
    except UnicodeEncodeError:
        return default


def check_login_page(value: object) -> str:
    """*value*, a path of this site to send browsers to. Raises ``ConfigurationError`` for anything else."""
    if isinstance(value, str) and value and safe_next(value, "") == value and "#" not in value:
        return value
    raise ConfigurationError('redirect_to must be a path on this site, such as "/login"')


def refusal(fault: Fault, reader: Reader, source: Any, login_page: LoginPage | None, status: int | None) -> Answer:
    """The answer to request *source*; *status* in place of the fault's own."""
    page = wants_page(reader, source)
    if page and fault.curable and login_page is not None:
        location = _way(check_login_page(login_page() if callable(login_page) else login_page), reader, source)
        if location:
            return Answer(303, (*_headers("text/plain; charset=utf-8", b""), ("location", location)), b"")
    status = status or fault.status
    if page:
        kind, body = "text/plain; charset=utf-8", f"{fault.detail}\n".encode()
    else:
        title = fault.title if status == fault.status else "Refused"
        problem = {"type": "about:blank", "title": title, "status": status, "detail": fault.detail}
        kind, body = "application/problem+json", json.dumps(problem).encode()
    headers = _headers(kind, body)
    if status == 401:  # must name a way in (RFC 9110 §15.5.2); no browser opens a dialogue for this one
        headers.append(("www-authenticate", "Cookie"))
    return Answer(status, tuple(headers), body)


def _headers(kind: str, body: bytes) -> list[tuple[str, str]]:
    return [
        ("cache-control", "no-store"),
        ("vary", _NEGOTIATED),
        ("content-type", kind),
        ("content-length", str(len(body))),
    ]


def _way(login_page: str, reader: Reader, source: Any) -> str:
    """*login_page*, with the way back where this request can be repeated; nothing when it is the login page itself."""
    target = safe_next(reader.target(source), "")
    if target.partition("?")[0] == login_page.partition("?")[0]:
        return ""
    if not target or reader.method(source) not in ("GET", "HEAD"):
        return login_page
    return f"{login_page}{'&' if '?' in login_page else '?'}next={quote(target, safe='/')}"


def wants_page(reader: Reader, source: Any) -> bool:
    """Whether a browser shows the answer as a page: it says that it navigates, or asks for HTML before JSON."""
    if not reader.method(source):
        return False  # a websocket
    mode = reader.header(source, "sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"  # Fetch Metadata §2.2; no script can set it
    if (reader.header(source, "x-requested-with") or "").lower() == "xmlhttprequest":
        return False
    page, data = 0.0, 0.0
    for part in (reader.header(source, "accept") or "").split(","):
        kind, _, rest = part.partition(";")
        kind, quality = kind.strip().lower(), _quality(rest)
        if kind in ("text/html", "application/xhtml+xml"):
            page = max(page, quality)
        elif kind == "application/json" or kind.endswith("+json"):
            data = max(data, quality)
    return page > 0 and page >= data


def _quality(parameters: str) -> float:
    """The weight of an entry of Accept (RFC 9110 §12.4.2)."""
    match = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters, re.IGNORECASE)
    return float(match[1]) if match else 1.0
