"""Posted forms: only from our own pages, only small, only urlencoded.

A SameSite=Lax cookie keeps other *sites* from posting with our session, but a *site* knows no port: another app on
this machine is the same site. So every POST must prove its origin: ``Sec-Fetch-Site: same-origin`` (W3C Fetch
Metadata §2.3), or where a browser does not send that, an ``Origin`` that is ours (RFC 6454 §7).
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["MAX_BYTES", "FormError", "OwnPagesOnly", "is_loopback", "read_form"]

MAX_BYTES = 32_768
_MAX_FIELDS = 20


class FormError(Exception):
    """A body that no form of ours sends; ``status`` is the answer to it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether *host* is a name or address of this machine alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class OwnPagesOnly:
    """Refuse requests to foreign names of this machine (DNS rebinding), and posts that other pages sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(Request(scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            status, reason = refusal
            headers = {"cache-control": "no-store"}
            await PlainTextResponse(f"{reason}\n", status, headers)(scope, receive, send)


def _refusal(request: Request) -> tuple[int, str] | None:
    host = request.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        return 421, "This demo answers to localhost and loopback addresses only."  # RFC 9110 §15.5.20
    if request.method in ("GET", "HEAD"):
        return None
    site = request.headers.get("sec-fetch-site")
    ours = site == "same-origin" if site else request.headers.get("origin") == f"{request.url.scheme}://{host}"
    return None if ours else (403, "Refused: this form was not sent by a page of this demo.")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form; of a repeated one the last. Raises ``FormError``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormError(415, "Forms are sent urlencoded here.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise FormError(413, "That is too much for one form.")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise FormError(400, "That is not a form.") from None
    return dict(pairs)
