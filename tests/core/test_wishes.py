"""Wishes: nothing wished is one shared object that stays as it is, and whoever wishes gets an own one."""

from __future__ import annotations

from typing import Any

import pytest

from session_mw.core.login import new_login
from session_mw.core.state import State
from session_mw.core.wishes import EMPTY, NOTHING, UNSET, Wishes

LOGIN = new_login(1000, b"r" * 36, None, None, bound=False)

# One value for each wish, and whether it changes the record by itself. What does not is about plain data, which is
# compared on its own, or says how something else is to be done.
WISHED: dict[str, tuple[Any, bool]] = {
    "attempts": ({"global": (False, 1)}, True),
    "bound": (True, True),
    "cleared": (frozenset({"global"}), False),
    "destroyed": (True, False),
    "ended": ({"global": True}, False),
    "grace": (30, False),
    "lifetime": (1800, True),
    "logged_in": (LOGIN, False),
    "logins": ({"global": LOGIN}, True),
    "owner": ("ann", True),
    "persistent": (True, False),
    "released": (True, False),
    "replays": ({"global": {}}, False),
    "rotating": (True, True),
    "wiped": (True, True),
}


def test_every_wish_is_in_the_table() -> None:
    assert set(WISHED) == set(Wishes.__struct_fields__)


@pytest.mark.parametrize("name", WISHED)
def test_nothing_is_read_only(name: str) -> None:
    before = getattr(NOTHING, name)
    with pytest.raises(AttributeError, match="immutable"):
        setattr(NOTHING, name, WISHED[name][0])
    assert getattr(NOTHING, name) is before


def test_nothing_takes_no_other_attribute_either() -> None:
    with pytest.raises(AttributeError):
        NOTHING.another = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        EMPTY["a"] = 1  # type: ignore[index]


def test_nothing_wishes_nothing() -> None:
    fresh = Wishes()
    assert all(getattr(NOTHING, name) == getattr(fresh, name) for name in WISHED)
    assert not NOTHING.change_record()
    assert not fresh.change_record()


@pytest.mark.parametrize("name", WISHED)
def test_which_wishes_change_the_record(name: str) -> None:
    value, changes = WISHED[name]
    wish = Wishes()
    setattr(wish, name, value)
    assert wish.change_record() is changes


@pytest.mark.parametrize("name", ["owner", "lifetime"])
def test_none_is_a_wish_too(name: str) -> None:
    wish = Wishes()
    assert getattr(wish, name) is UNSET
    setattr(wish, name, None)
    assert wish.change_record()


def test_wishing_gives_an_own_object_and_the_same_again() -> None:
    one, other = State(1000), State(1000)
    assert one.wish is other.wish is NOTHING
    assert not one.wishes()
    wish = one.wishing()
    wish.rotating = True
    assert one.wishing() is wish is one.wish
    assert one.wishes()
    assert other.wish is NOTHING
    assert other.wishing() is not wish
    assert not other.wishes()  # an own object in which nothing is wished yet
    one.rebase(None)
    assert one.wish is NOTHING
