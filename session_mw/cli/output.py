"""What ``session-mw`` prints: tables on a terminal, lines with tabs elsewhere, or one JSON document.

Decided here: how a time, a store and a text from outside are shown. User agents, users and data come from clients: no
control character of theirs reaches a terminal. Secrets are in none of what is handed to this module, but for URLs.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = [
    "age", "as_json", "compact_json", "iso", "lines", "moment", "on_terminal", "pairs", "plain", "shown_url", "table",
]  # fmt: skip

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_HOSTS = re.compile(r"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]{1,5})?(?:,[A-Za-z0-9.:_-]+)*")


def iso(seconds: int | None) -> str | None:
    """Unix *seconds* as ISO 8601 in UTC, such as ``2026-02-28T13:37:00Z``."""
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(seconds: int, now: int) -> str:
    """How long ago or ahead *seconds* is: ``3 hours ago``, ``in 1 day``, ``now``."""
    distance = abs(now - seconds)
    for size, unit in _UNITS:
        if distance >= size:
            words = f"{distance // size} {unit}{'' if distance // size == 1 else 's'}"
            return f"{words} ago" if seconds < now else f"in {words}"
    return "now"


def moment(seconds: int | None, now: int) -> str | None:
    """``iso`` and ``age``."""
    return None if seconds is None else f"{iso(seconds)} ({age(seconds, now)})"


def plain(value: object) -> str:
    """*value* as a text of printable characters; ``-`` for nothing."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text) or "-"


def as_json(document: object) -> None:
    """Print *document* as JSON in ASCII. Bytes become base64; times ISO 8601; UUID and Decimal text; sets lists."""
    click.echo(json.dumps(document, indent=2, default=_plainer))


def compact_json(document: object) -> str:
    """The same on one line."""
    return json.dumps(document, default=_plainer)


def _plainer(value: Any) -> Any:
    """A value of a session that JSON lacks, in JSON's types."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else str(value)


def on_terminal() -> bool:
    """Whether somebody looks at what is printed; ``FORCE_COLOR`` and ``TTY_COMPATIBLE`` decide as rich says."""
    return _console().is_terminal


def lines(rows: Sequence[Sequence[object]]) -> None:
    """Print *rows*, a line each, a tab between two values."""
    for row in rows:
        click.echo("\t".join(map(plain, row)))


def table(columns: Sequence[str], rows: Sequence[Sequence[Sequence[object]]]) -> None:
    """Print *rows* of cells, each of one or more lines. The first column is never wrapped, and nothing is cut off."""
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        made.add_row(*("\n".join(map(plain, cell)) for cell in row))
    _console().print(made)


def pairs(values: Mapping[str, object]) -> None:
    """Print names and values, a line each."""
    if not on_terminal():
        lines(list(values.items()))
        return
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(name, plain(value))
    _console().print(made)


def _console() -> Console:
    """A terminal on which what is shown is text, and never markup."""
    return Console(highlight=False, markup=False, emoji=False)


def shown_url(url: str) -> str:
    """*url* without user, password and options; only its scheme where one might hide elsewhere."""
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme}:…"
    hosts = parts.netloc.rpartition("@")[2]
    if "@" in url.replace(parts.netloc, "", 1) or not _HOSTS.fullmatch(hosts):
        return f"{scheme}:…"
    slashes = "//" if url.startswith("//", len(scheme) + 1) else ""
    return f"{scheme}:{slashes}{hosts}{parts.path}"
