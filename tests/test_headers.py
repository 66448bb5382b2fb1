"""Header rules by themselves: bytes and text give the same, and what is given is never changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_mw.headers import ASGI_HEADERS, WSGI_HEADERS

names = st.sampled_from(["Vary", "VARY", "vary", "Cache-Control", "Set-Cookie", "X-Other", "Content-Type"])
values = st.sampled_from(
    ["", "*", "Cookie", "Accept, cookie", "no-store", "private", "public", "max-age=1", "a=1", '"', "é"]
)
cookies = st.lists(st.sampled_from(["s=1; Path=/", "s.0=1; Path=/"]), max_size=2)


@given(st.lists(st.tuples(names, values)), cookies)
def test_bytes_and_text_agree(headers: list[tuple[str, str]], cookies: list[str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    text = WSGI_HEADERS.applied(headers, cookies)
    same = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in ASGI_HEADERS.applied(raw, cookies)]
    assert [(name.lower(), value) for name, value in same] == [(name.lower(), value) for name, value in text]


@given(st.lists(st.tuples(names, values)), cookies)
def test_what_always_holds(headers: list[tuple[str, str]], cookies: list[str]) -> None:
    given_ = list(headers)
    result = WSGI_HEADERS.applied(headers, cookies)
    assert headers == given_
    assert result is not headers

    def lines(name: str, of: list[tuple[str, str]] = result) -> list[str]:
        return [value for key, value in of if key.lower() == name]

    (vary,) = lines("vary")
    assert {"*", "cookie"} & {part.strip().lower() for part in vary.split(",")}
    assert lines("set-cookie") == lines("set-cookie", given_) + cookies
    assert lines("x-other") == lines("x-other", given_)
    if cookies:
        (cache,) = lines("cache-control")
        assert {"no-store", "private"} & {part.strip().lower() for part in cache.split(",")}
    else:
        assert lines("cache-control") == lines("cache-control", given_)
    again = WSGI_HEADERS.applied(result, [])
    assert sorted(again) == sorted(result)


def test_a_replaced_cache_control_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    WSGI_HEADERS.applied([("Cache-Control", "public")], ["s=1"])
    assert ["was replaced" in record.message for record in caplog.records] == [True]
    WSGI_HEADERS.applied([("Cache-Control", "private")], ["s=1"])
    WSGI_HEADERS.applied([], ["s=1"])
    assert len(caplog.records) == 1


def test_headers_may_be_any_iterable() -> None:
    given_: Any = iter([(b"a", b"b")])
    assert ASGI_HEADERS.applied(given_, []) == [(b"a", b"b"), (b"vary", b"Cookie")]
    assert ASGI_HEADERS.applied(([b"a", b"b"],), [])[0] == [b"a", b"b"]  # type: ignore[comparison-overlap]
