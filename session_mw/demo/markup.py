"""Markup: text becomes HTML in one place, and so nothing reaches a page unescaped; and the frame around every page.

Everything but the panel is ready before the response starts; then the session is committed and the headers leave;
then the panel is written, which therefore tells what was really done.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .panel import Fact, facts
from .watch import current_story

__all__ = ["Html", "Page", "each", "framed", "html"]


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def html(template: str, **values: object) -> Html:
    """*template* with every ``{name}`` filled in, escaped unless it is ``Html``."""
    safe = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
    return Html(template.format(**safe))


def each(parts: Any) -> Html:
    """Pieces of markup, one after the other."""
    return Html("".join(parts))


@cache
def style() -> str:
    """The one stylesheet, inlined into every page."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


@cache
def headers() -> dict[str, str]:
    """No script, no frame, nothing from elsewhere; the stylesheet by its hash (CSP Level 3 §2.3.1)."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }


_NAV = (("/", "Start"), ("/note", "Note"), ("/cart", "Cart"), ("/devices", "Devices"), ("/vault", "Vault"))

_TOP = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · session_mw demo</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top">
<a class="brand" href="/"><img src="/icon.svg" alt="" width="28" height="28">session_mw</a>
<nav aria-label="Pages"><ul>{links}</ul></nav>
<div class="who">{who}</div>
</header>
<main id="main" tabindex="-1">
<h1>{title}</h1>
{notice}{content}
</main>
"""

_BOTTOM = """</body>
</html>
"""


def framed(title: str, content: Html, *, here: str, who: Html, notice: str = "") -> Html:
    """A whole page but its panel. *here*: the path that the navigation marks; *who*: its right-hand side."""
    links = each(
        html(
            '<li><a href="{path}"{current}>{name}</a></li>',
            path=path,
            name=name,
            current=Html(' aria-current="page"' if path == here else ""),
        )
        for path, name in _NAV
    )
    note = html('<p class="notice" role="status">{notice}</p>\n', notice=notice) if notice else Html("")
    return html(_TOP, title=title, style=Html(style()), links=links, who=who, notice=note, content=content)


class Page(Response):
    """A page: everything but the panel is given, the panel is written once the session is committed."""

    media_type = "text/html"

    def __init__(self, top: Html, status: int = 200) -> None:
        super().__init__(status_code=status, headers=headers())
        del self.headers["content-length"]
        self.top = top

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = f"{self.top}{_panel()}{_BOTTOM}".encode()
        await send({"type": "http.response.body", "body": body})


def _panel() -> Html:
    story = current_story()
    requests = each(
        html(
            "<li{now}><h3><code>{request}</code>{mark}</h3><dl>{facts}</dl></li>",
            now=Html(' class="now"' if trace is story[-1] else ""),
            request=f"{trace.method} {trace.path} → {trace.status}",
            mark=Html(' <span class="tag">this page</span>' if trace is story[-1] else ""),
            facts=each(map(_fact, facts(trace))),
        )
        for trace in reversed(story)
    )
    return html(
        '<aside class="panel" aria-labelledby="panel"><h2 id="panel">What the session layer just did</h2>'
        "<ol>{requests}</ol></aside>\n",
        requests=requests,
    )


def _fact(fact: Fact) -> Html:
    lines = each(html("<dd>{what} <small>{details}</small></dd>", what=what, details=more) for what, more in fact.lines)
    kind = "did" if fact.happened else "idle"
    return html('<div class="{kind}"><dt>{name}</dt>{lines}</div>', kind=kind, name=fact.name, lines=lines)
