"""The layout of Redis values: vectors, what comes back, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from session_mw.core.record import Record
from session_mw.errors import ConfigurationError
from session_mw.stores import closed_record
from session_mw.stores.redis_layout import MARGIN, MAX_TTL, UNSTORABLE, Keys, decode, encode, stamp, ttl

ID = "i" * 24
LIVE = Record(ID, b"\xdd" * 4, "é", 1, 3, 2, 4, None, "::1", None, 5, b"{}")
VALUE = bytes.fromhex(
    "0100000000000005"  # format 1, live; version 5
    "0000000000000002"  # expires_at
    "0000000000000003"  # last_activity
    "04"  # of digest
    "0002"  # of user
    "dddddddd"
    "c3a9"
    "96"  # six more
    "01"  # created_at
    "04"  # absolute_expires_at
    "c4027b7d"  # payload
    "c0"  # lifetime
    "a33a3a31"  # login_ip
    "c0"  # login_user_agent
)
SHORT = VALUE[:33] + bytes.fromhex("930104c4027b7d")  # what has none of the last three
CLOSED = bytes.fromhex("810000000000000000000000000000090000000000000000020000dddd6e6578743a39")


def test_vectors():
    assert encode(LIVE) == VALUE
    assert decode(ID, VALUE) == LIVE
    assert encode(structs.replace(LIVE, login_ip=None)) == SHORT
    assert decode(ID, SHORT) == structs.replace(LIVE, login_ip=None)
    assert decode(ID, CLOSED) == closed_record(ID, b"\xdd\xdd", until=9, successor="next:9")
    assert decode(ID, CLOSED[:29]) == closed_record(ID, b"\xdd\xdd", until=9)
    assert stamp(5) == VALUE[:8]


times = st.integers(0, 2**63 - 1)
texts = st.none() | st.text(min_size=1, max_size=255)
records = st.builds(
    Record,
    id=st.just(ID),
    digest=st.binary(max_size=255),
    user_id=texts,
    created_at=times,
    last_activity=times,
    expires_at=times,
    absolute_expires_at=times,
    lifetime=st.none() | times,
    login_ip=texts,
    login_user_agent=texts,
    version=st.integers(0, 2**56 - 1),
    payload=st.binary(),
)


@given(records)
@settings(max_examples=30)
def test_records_come_back(record):
    value = encode(record)
    assert decode(ID, value) == record
    assert value[:8] == stamp(record.version)


@given(st.binary(max_size=60) | st.builds(lambda cut: VALUE[:cut], st.integers(0, len(VALUE) - 1)))
def test_what_is_no_record_is_a_value_error(value):
    try:
        found = decode(ID, value)
    except ValueError:
        return
    assert encode(found) == value if value[0] == 0x01 else found.closed


@pytest.mark.parametrize(
    "value", [b"", b"\x01", b"\x02" + VALUE[1:], VALUE[:-1], VALUE[:31] + b"\xff\xff" + VALUE[33:]]
)
def test_what_is_damaged_is_refused(value):
    with pytest.raises(ValueError, match="not a record of format 1"):
        decode(ID, value)


@pytest.mark.parametrize("version", [-1, 2**56])
def test_a_version_has_seven_bytes(version):
    with pytest.raises(UNSTORABLE):
        stamp(version)


def test_a_key_lives_as_long_as_its_record_and_a_margin():
    assert ttl(1000, 400) == 600 + MARGIN
    assert ttl(400, 1000) == MARGIN
    assert ttl(2**60, 0) == MAX_TTL


def test_keys():
    keys = Keys("web-2")
    assert keys.record(ID) == f"web-2:{{{ID}}}"
    assert keys.user("a}b") == "web-2:user:{a}b}"


@pytest.mark.parametrize("name", ["", "-a", "A", "a" * 33, "a:b", "a{", "a\n", None, b"a"])
def test_a_table_index_is_a_plain_name(name):
    with pytest.raises(ConfigurationError, match="table_index"):
        Keys(name)
