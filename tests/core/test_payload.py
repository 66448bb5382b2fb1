"""Two segments and a border."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_mw.core import codec
from session_mw.core.login import new_login
from session_mw.core.payload import EMPTY_META, Meta, join, read_meta, split, write_meta

LOGIN = new_login(1, b"r" * 36, "192.0.2.1", "agent", bound=False)
FULL = Meta({"global": LOGIN}, {"admin": 2}, {"admin": msgspec.Raw(b'{"a":1}')}, "f" * 32, True, "192.0.2.1")


def test_both_segments_come_back() -> None:
    assert split(join(b'{"a":1}', b'{"p":true}')) == (b'{"a":1}', b'{"p":true}')
    assert split(join(b"{}", b"")) == (b"{}", b"")


@given(st.dictionaries(st.text(), st.text()))
@settings(max_examples=50)
def test_data_never_holds_the_border(data: dict[str, str]) -> None:
    raw = codec.encode({key: value for key, value in data.items() if _encodable(key + value)})
    assert split(join(raw, b"rest")) == (raw, b"rest")


def _encodable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@pytest.mark.parametrize("payload", [b"", b"2{}\n", b"\x00", b"[]\n"])
def test_another_format_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="payload"):
        split(payload)


def test_meta() -> None:
    assert read_meta(b"") is EMPTY_META
    assert write_meta(EMPTY_META) == write_meta(Meta()) == b""
    back = read_meta(write_meta(FULL))
    assert (back.logins, back.attempts, back.former, back.persistent, back.ip) == (
        {"global": LOGIN},
        {"admin": 2},
        "f" * 32,
        True,
        "192.0.2.1",
    )
    assert bytes(back.storages["admin"]) == b'{"a":1}'
    assert LOGIN.token not in repr(FULL) + repr(LOGIN)


DEEP = 100_000
FAR_TOO_DEEP = b'{"s":{"x":' + b"[" * DEEP + b"]" * DEEP + b"}}"


@pytest.mark.parametrize(
    "rest", [b"{", b"[]", b'{"l":1}', b'{"unknown":1}', b"\xff", FAR_TOO_DEEP], ids=lambda rest: repr(rest[:12])
)
def test_damage_is_a_value_error(rest: bytes) -> None:
    with pytest.raises(ValueError):
        read_meta(rest)
