"""How the command line shows times, texts from outside, and URLs."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mw.cli import output

NOW = 1_700_000_000


def test_times_are_utc() -> None:
    assert output.iso(0) == "1970-01-01T00:00:00Z"
    assert output.iso(NOW) == "2023-11-14T22:13:20Z"
    assert output.iso(None) is None
    assert output.moment(None, NOW) is None
    assert output.moment(NOW - 90, NOW) == "2023-11-14T22:11:50Z (1 minute ago)"


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (0, "now"),
        (-1, "1 second ago"),
        (-59, "59 seconds ago"),
        (-60, "1 minute ago"),
        (-7199, "1 hour ago"),
        (-86399, "23 hours ago"),
        (-86400 * 400, "400 days ago"),
        (1, "in 1 second"),
        (3600, "in 1 hour"),
        (86400 * 2, "in 2 days"),
    ],
)
def test_ages(distance: int, words: str) -> None:
    assert output.age(NOW + distance, NOW) == words


@given(st.text())
def test_a_text_from_outside_is_printable(text: str) -> None:
    shown = output.plain(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == (text or "-")


def test_nothing_is_a_dash() -> None:
    assert (output.plain(None), output.plain(""), output.plain(0)) == ("-", "-", "0")


def test_every_value_of_a_session_becomes_json(capsys: pytest.CaptureFixture[str]) -> None:
    when = dt.datetime(2026, 2, 28, 13, 37, tzinfo=dt.UTC)
    key = uuid.UUID(int=7)
    values = {
        "big": 2**80,
        "bytes": b"\x00\xff",
        "date": when.date(),
        "datetime": when,
        "decimal": Decimal("1.10"),
        "frozenset": frozenset({"b", "a"}),
        "nested": [{"deep": {3, 1, 2}}],
        "odd": "\x7f\u202e",
        "time": when.time(),
        "tuple": (1, (2,)),
        "uuid": key,
    }
    expected = {
        "big": 2**80,
        "bytes": "AP8=",
        "date": "2026-02-28",
        "datetime": "2026-02-28T13:37:00+00:00",
        "decimal": "1.10",
        "frozenset": ["a", "b"],
        "nested": [{"deep": [1, 2, 3]}],
        "odd": "\x7f\u202e",
        "time": "13:37:00",
        "tuple": [1, [2]],
        "uuid": str(key),
    }
    output.as_json(values)
    text = capsys.readouterr().out
    assert json.loads(text) == expected
    assert text.replace("\n", "").isprintable()
    assert json.loads(output.compact_json(values)) == expected
    assert "\n" not in output.compact_json(values)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///sessions.db", "sqlite:///sessions.db"),
        ("sqlite:////var/lib/app/s.db?durable=1&table=x", "sqlite:////var/lib/app/s.db"),
        ("file:", "file:"),
        ("redis://cache:6379/0", "redis://cache:6379/0"),
        ("redis://:secret@cache:6379/0", "redis://cache:6379/0"),
        ("postgresql+psycopg://me:secret@db.example/shop?sslpassword=secret", "postgresql+psycopg://db.example/shop"),
        ("redis+sentinel://u:secret@one:26379,two:26379/main/0", "redis+sentinel://one:26379,two:26379/main/0"),
        ("mysql://me:secret@[::1]:3306/shop", "mysql://[::1]:3306/shop"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("redis://:se/cret@cache/0", "redis:…"),
        ("redis://:se?cret@cache/0", "redis:…"),
        ("redis://:se#cret@cache/0", "redis:…"),
        ("redis://:secret/0", "redis:…"),
        ("redis://me:se[cret@cache/0", "redis:…"),
        ("sqlite:///secret@home.db", "sqlite:…"),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert output.shown_url(url) == shown


@given(st.text(), st.text(), st.sampled_from(["redis://", "postgresql://me", "mysql:"]))
def test_no_password_is_ever_shown(before: str, after: str, start: str) -> None:
    url = f"{start}:{before}hunter2{after}@store.example/0"
    assert "hunter2" not in output.shown_url(url)
