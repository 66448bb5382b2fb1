"""One login, as a value."""

from __future__ import annotations

import pytest

from session_mw.core.login import (
    LOGIN_RANDOM_BYTES,
    MAX_IP_CHANGES,
    IpChange,
    fingerprint,
    former_digest,
    iso,
    metadata,
    new_login,
    owner_id,
    with_ip_change,
)

LOGIN = new_login(100, bytes(range(LOGIN_RANDOM_BYTES)), "app", "192.0.2.1", "agent", bound=True)


def test_a_new_login() -> None:
    assert LOGIN.token == bytes(range(36)).hex()
    assert LOGIN.fingerprint == fingerprint(LOGIN.token, "app", "192.0.2.1", "agent")
    assert (LOGIN.at, LOGIN.bound, LOGIN.ip_changes) == (100, True, ())
    assert repr(LOGIN) == "<Login at=100>"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("t", "app", "1", "1agent"), ("t", "app", "11", "agent")),
        (("t", "app", None, "x"), ("t", "app", "x", None)),
        (("t", "app", "1", "a"), ("u", "app", "1", "a")),
        (("t", "app", "1", "a"), ("t", "other", "1", "a")),
    ],
)
def test_fingerprints_are_keyed_and_separated(a: tuple[str, ...], b: tuple[str, ...]) -> None:
    assert fingerprint(*a) != fingerprint(*b)


def test_moving_keeps_a_bounded_history() -> None:
    login = LOGIN
    for number in range(MAX_IP_CHANGES + 3):
        login = with_ip_change(login, f"192.0.2.{number}", number)
    assert len(login.ip_changes) == MAX_IP_CHANGES
    assert login.ip_changes[-1] == IpChange(login.ip or "", MAX_IP_CHANGES + 2)
    assert (login.token, login.fingerprint) == (LOGIN.token, LOGIN.fingerprint)


def test_metadata() -> None:
    assert metadata(None, 0, 5) == {}
    assert metadata(None, 2, 5) == {"attempts": 2}
    assert metadata(LOGIN, 0, 5)["last_activity"] == 100
    assert metadata(LOGIN, 0, 500)["last_activity"] == 500


def test_owner_ids_are_told_apart_from_everything_else() -> None:
    assert owner_id(-1) == "-1"
    assert owner_id("x" * 255) == "x" * 255
    for impossible in (None, False, b"x", "", "x" * 256, "\udfff"):
        with pytest.raises(ValueError, match="user_id"):
            owner_id(impossible)


def test_a_former_owner_is_known_again_but_not_told() -> None:
    assert former_digest("ann") == former_digest("ann") != former_digest("bob")
    assert len(former_digest("ann")) == 32
    assert "ann" not in former_digest("ann")
    assert iso(0) == "1970-01-01T00:00:00+00:00"
