"""One login, as a value."""

from __future__ import annotations

import pytest

from session_mw.core.login import (
    LOGIN_RANDOM_BYTES,
    MAX_IP_CHANGES,
    IpChange,
    Login,
    fingerprint,
    former_digest,
    iso,
    metadata,
    new_login,
    owner_id,
    with_ip_change,
)

LOGIN = new_login(100, bytes(range(LOGIN_RANDOM_BYTES)), "192.0.2.1", "agent", bound=True)


def test_a_new_login() -> None:
    assert LOGIN.token == bytes(range(36)).hex()
    assert (LOGIN.at, LOGIN.ip, LOGIN.agent) == (100, "192.0.2.1", "agent")
    assert (LOGIN.bound, LOGIN.ip_changes, LOGIN.origin) == (True, (), None)
    assert repr(LOGIN) == "<Login at=100>"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((Login(0, "t", "1", "1agent"), "app"), (Login(0, "t", "11", "agent"), "app")),
        ((Login(0, "t", None, "x"), "app"), (Login(0, "t", "x", None), "app")),
        ((Login(0, "t", "1", "a"), "app"), (Login(0, "u", "1", "a"), "app")),
        ((Login(0, "t", "1", "a"), "app"), (Login(0, "t", "1", "a"), "other")),
    ],
)
def test_fingerprints_are_keyed_and_separated(a: tuple[Login, str], b: tuple[Login, str]) -> None:
    assert fingerprint(*a) != fingerprint(*b)


def test_moving_keeps_a_bounded_history() -> None:
    login = LOGIN
    for number in range(MAX_IP_CHANGES + 3):
        login = with_ip_change(login, f"192.0.2.{number}", number)
    assert len(login.ip_changes) == MAX_IP_CHANGES
    assert login.ip_changes[-1] == IpChange(login.ip or "", MAX_IP_CHANGES + 2)
    assert (login.token, login.origin) == (LOGIN.token, LOGIN.ip)


@pytest.mark.parametrize("origin", ["192.0.2.1", None])
def test_a_fingerprint_outlasts_every_move(origin: str | None) -> None:
    made = login = new_login(100, bytes(LOGIN_RANDOM_BYTES), origin, "agent", bound=True)
    for address in ("192.0.2.2", "192.0.2.3", origin or "192.0.2.4"):
        login = with_ip_change(login, address, 200)
        assert login.ip == address
        assert fingerprint(login, "app") == fingerprint(made, "app") == metadata(login, "app", 0, 0)["fingerprint"]


def test_metadata() -> None:
    assert metadata(None, "app", 0, 5) == {}
    assert metadata(None, "app", 2, 5) == {"attempts": 2}
    assert metadata(LOGIN, "app", 0, 5)["last_activity"] == 100
    assert metadata(LOGIN, "app", 0, 500)["last_activity"] == 500


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
