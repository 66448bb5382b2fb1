"""Storages: items by name, the queue, updates that survive a conflict, and what is written when."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from harness import App, both

from session_mw.core.session import Session
from session_mw.errors import SessionClosedError, SessionSerializationError

# -- items ---------------------------------------------------------------------------------------------------------


@both
def test_get_set_add_has_remove(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.set("a", 1).set("none", None) is s
        assert s.add("b", 2) is True
        assert s.add("b", 3) is False
        assert s.add("none", 3) is False  # a stored None is there
    with app.request() as s:
        assert s.get("a") == 1
        assert s.get("none", "default") is None
        assert s.get("missing", "default") == "default"
        assert s.has("none")
        assert not s.has("missing")
        assert s.remove("a").remove("missing") is s
    assert app.look() == {"none": None, "b": 2}


@both
def test_falsy_and_number_like_keys_are_keys(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        for key in ("0", "", "5", "5"):
            s.set(key, key)
        s.remove("0").remove("")
        assert s == {"5": "5"}
    assert app.look() == {"5": "5"}


@both
def test_items_of_other_storages(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.set_to("theme", "dark", "prefs").set_to("a", 1, "global") is s
        assert s.storage == "global"
        assert s == {"a": 1}
    with app.request() as s:
        assert s.get_from("prefs", "theme") == "dark"
        assert s.get_from("prefs", "x", 7) == 7
        assert s.get_from("nowhere", "x") is None
        assert s.get_from("global", "a") == 1
        assert not s.modified
    assert app.sent == []


@pytest.mark.parametrize("end", [lambda app, s: app.respond(), lambda app, s: s.destroy(all_data=True)])
def test_an_item_of_another_storage_comes_too_late_as_any_does(end: Any) -> None:
    app = App("cookie")
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        assert s["a"]
        end(app, s)
        with pytest.raises(SessionClosedError):
            s.set_to("b", 1, "other")
        assert s.get_from("other", "b") is None


@both
def test_set_storage_switches_and_moves_by_reference(kind: str) -> None:
    app = App(kind)
    cart = [1]
    with app.request() as s:
        s["cart"] = cart
        assert s.set_storage("admin") is s
        assert s == {}
        s["level"] = 9
        assert s.get_from("global", "cart") is cart
        s.set_storage("global")
        assert s["cart"] is cart
        assert s.set_storage("global") == {"cart": [1]}
        s.set_storage("admin")
    with app.request() as s:
        assert s.storage == "global"  # a choice of one request
        assert s == {"cart": [1]}
        with s.using_storage("admin") as inside:
            assert inside is s
            assert s == {"level": 9}
            s["level"] = 10
        assert s.storage == "global"
        with pytest.raises(ZeroDivisionError), s.using_storage("admin"):
            raise ZeroDivisionError
        assert s == {"cart": [1]}
    with app.request() as s:
        assert s.get_result() == {"global": {"cart": [1]}, "admin": {"level": 10}}


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_storage_has_a_name(name: Any) -> None:
    app = App()
    with app.request() as s:
        for call in (s.set_storage, s.clear, lambda n: s.get_from(n, "a"), lambda n: s.set_to("a", 1, n)):
            if (call, name) == (s.clear, None):
                continue
            with pytest.raises(ValueError, match="storage name"):
                call(name)


@both
def test_results(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.get_result() == s.to_dict() == s.to_dict("missing") == {}
        s.update(a=1, profile={"name": "Ann", "tags": ["x", {"y": 2}, ({"z": 3},)]})
        s.set_to("b", 2, "other")
        s.login(user_id="ann")
        assert s.get_result() == {"global": dict(s), "other": {"b": 2}}
        objects = s.get_result("object")
        assert (objects.other.b, objects.__dict__["global"].profile.tags[1].y) == (2, 2)
        with pytest.raises(ValueError, match="format"):
            s.get_result("xml")  # type: ignore[arg-type]
        assert s.to_dict() == dict(s)
        assert s.to_dict("a") == {"a": 1}
        assert s.to_dict("profile") == s["profile"]
        assert s.to_object("profile") == SimpleNamespace(
            name="Ann", tags=["x", SimpleNamespace(y=2), (SimpleNamespace(z=3),)]
        )
        assert s.to_object("missing") == SimpleNamespace()
        assert s.to_object().a == 1
        s.set_storage("third")["c"] = 3
        assert s.get_result()["third"] == {"c": 3}  # the current one, though it is new
        assert "token" not in str(s.get_result())


@both
def test_a_result_is_the_callers_own(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        s.get_result()["global"]["b"] = s.to_dict()["b"] = 2
        assert s == {"a": 1}


@both
def test_clear_drops_exactly_one_storage_and_its_login(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
        s.set_to("b", 2, "admin")
        s.login(user_id="ann")
        with s.using_storage("admin"):
            s.login(user_id="ann")
    with app.request() as s:
        assert s.clear("admin") is s
        assert (s, s.get_from("admin", "b"), s.online(), s.online("admin")) == ({"a": 1}, None, True, False)
        s.set_to("late", 1, "admin")
    with app.request() as s:
        assert s.get_result() == {"global": {"a": 1}, "admin": {"late": 1}}
        assert (s.online(), s.online("admin"), s.user_id) == (True, False, "ann")
        before = s.opened_id
        s.clear()
        assert (s.online(), s.user_id) == (False, None)
    assert app.told("logout") == ["logout", "logout"]
    with app.request() as s:
        assert s.opened_id != before
        assert s.get_result() == {"admin": {"late": 1}}


# -- the queue -----------------------------------------------------------------------------------------------------


@both
def test_put_is_invisible_until_saved(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.save() is False
        assert s.put("a", 1) is s
        with s.using_storage("admin"):
            s.put("b", 2)
        assert (s.has("a"), s.get("a"), s.get_from("admin", "b")) == (False, None, None)
        assert s.save() is True
        assert (s.get("a"), s.get_from("admin", "b")) == (1, 2)  # where each was put
        assert s.save() is False
        s.put("c", 3).save("admin")
        assert (s.has("c"), s.get_from("admin", "c")) == (False, 3)
        assert s.put("d", 4).put("e", 5).dequeue() == 2
        assert s.dequeue() == 0
        s.put("f", 6)
    assert app.look() == {"a": 1, "f": 6}  # what was still queued is saved when all went well


@both
def test_a_queue_is_dropped_when_the_request_fails(kind: str) -> None:
    app = App(kind)
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        s.put("a", 1)
        raise ZeroDivisionError
    assert app.look() == {}


def test_a_queue_filled_after_the_response_start_is_saved_too() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        app.respond()
        s.put("b", 2)
    assert app.look() == {"a": 1, "b": 2}
    with pytest.raises(ZeroDivisionError), app.request() as s:  # noqa: PT012
        s["c"] = 3
        app.respond()
        s.put("d", 4)
        raise ZeroDivisionError
    assert app.look() == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("left", [{"a": 1}, {}])
@pytest.mark.parametrize("how", ["commit", "acommit"])
def test_a_late_commit_leaves_the_queue_to_the_end(how: str, left: dict[str, Any]) -> None:
    app = App()
    with app.request() as s:
        s.update({"gone": 1, **left})
    with app.request() as s:
        assert s["gone"]
        app.respond()
        s.put("b", 2)
        del s["gone"]
        s.commit() if how == "commit" else asyncio.run(s.acommit())
        assert "b" not in s
    assert app.look() == ({**left, "b": 2} if left else {})
    assert app.told("dropped") == ([] if left else ["dropped:late"])  # nothing was left to keep it in


@both
def test_a_queue_is_saved_as_a_whole_or_not_at_all(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        bad: list[Any] = [1]
        s.put("a", 1).put("bad", bad).put("b", 2)
        bad.append(object())
        with pytest.raises(SessionSerializationError, match="bad"):
            s.save()
        assert s == {}
        del bad[1]
        assert s.save()
    assert app.look() == {"a": 1, "bad": [1], "b": 2}


@pytest.mark.parametrize(
    "call",
    [
        lambda s, name: s.get_from(name, "a"),
        lambda s, name: s.set_to("a", 1, name),
        lambda s, name: s.clear(name),
        lambda s, name: s.put("a", 1).save(name),
        lambda s, name: s.online(name),
        lambda s, name: s.get_metadata(name),
        lambda s, name: s.get_meta("online", name),
        lambda s, name: s.ip_changed(name),
        lambda s, name: s.set_storage(name),
    ],
)
def test_an_empty_name_is_no_storage_and_not_the_current_one_either(call: Any) -> None:
    app = App()
    with app.request() as s:
        with pytest.raises(ValueError, match="non-empty"):
            call(s, "")
        s.dequeue()


# -- update_with, typed --------------------------------------------------------------------------------------------


@both
def test_update_with(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert s.update_with("n", lambda n: n + 1, 0) == 1
        assert s.update_with("n", lambda n: n + 1, 0) == 2
        assert s["n"] == 2
        with pytest.raises(ValueError, match="returned None"):
            s.update_with("cart", lambda cart: cart.append(1), [])
        assert "cart" not in s
    assert app.look() == {"n": 2}


def test_update_with_works_on_a_copy() -> None:
    app = App()
    default: list[int] = []
    with app.request() as s:
        s["cart"] = cart = [1]
        s.update_with("cart", lambda old: [*old, old.append(2) or 3])
        assert cart == [1]
        s.update_with("other", lambda old: old.append(1) or old, default)
        assert default == []


COUNT = 5


@pytest.mark.parametrize("first", [None, 10])
def test_counters_are_exact_when_requests_overlap(first: int | None) -> None:
    app = App()
    with app.request() as s:
        s["keep"] = 1
        if first is not None:
            s["n"] = first
    open_now = [app.begin() for _ in range(COUNT)]
    for exchange in open_now:
        exchange.session.update_with("n", lambda n: n + 1, 0)
    for exchange in open_now:
        exchange.respond()
        exchange.end()
    assert app.look() == {"keep": 1, "n": (first or 0) + COUNT}


def concurrent(app: App, mine: Any, theirs: Any) -> dict[str, Any]:
    """What is kept when *theirs* commits between the reading and the commit of *mine*."""
    with app.request() as s:
        mine(s)
        with app.request() as other:
            theirs(other)
    return app.look()


def plus(amount: int) -> Any:
    return lambda s: s.update_with("n", lambda n: n + amount, 0)


@pytest.mark.parametrize(
    ("mine", "kept"),
    [
        (lambda s: (s.set("n", 100), plus(1)(s)), 101),  # begins from my own value
        (lambda s: (plus(1)(s), s.set("n", 7)), 7),  # a later plain set discards it
        (lambda s: (plus(1)(s), s.pop("n")), None),
        (lambda s: (plus(1)(s), plus(2)(s)), 44),  # both again, on top of theirs
        (lambda s: (s.pop("n"), plus(5)(s)), 5),
        (lambda s: (s.set("n", 1), plus(1)(s)), 42),  # an equal value is no change
    ],
)
def test_update_with_beside_plain_sets(mine: Any, kept: Any) -> None:
    app = App()
    with app.request() as s:
        s["n"] = 1
    assert concurrent(app, mine, plus(40)).get("n") == kept


def test_a_set_to_after_update_with_holds_even_where_the_value_is_the_same() -> None:
    app = App()
    with app.request() as s:
        s.set_to("n", 1, "other")
    with app.request() as s:
        with s.using_storage("other"):
            s.update_with("n", lambda n: n + 1)
        s.set_to("n", 2, "other")
        with app.request(app.browser.copy()) as theirs:
            theirs.set_to("n", 10, "other")
    with app.request() as s:
        assert s.get_from("other", "n") == 2


def test_a_nested_change_after_update_with_survives_a_conflict() -> None:
    app = App()
    with app.request() as s:
        s["cart"] = ["a"]

    def mine(s: Session) -> None:
        s.update_with("cart", lambda cart: [*cart, "b"])
        s["cart"].append("c")

    assert concurrent(app, mine, lambda s: s.set("x", 1)) == {"cart": ["a", "b", "c"], "x": 1}


@dataclass
class Profile:
    name: str
    age: int = 0


class Point(msgspec.Struct):
    x: int


@both
def test_typed(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["profile"], s["point"] = Profile("Ann", 30), Point(1)
        s["when"] = dt.date(2026, 1, 2)
    with app.request() as s:
        assert s["profile"] == {"name": "Ann", "age": 30}
        assert s.typed("profile", Profile) == Profile("Ann", 30)
        assert s.typed("point", Point) == Point(1)
        assert s.typed("when", dt.date) == dt.date(2026, 1, 2)
        with pytest.raises(KeyError):
            s.typed("missing", Point)
        with pytest.raises(SessionSerializationError) as refused:
            s.typed("profile", Point)
        assert refused.value.path == "session['profile']"
        assert "Ann" not in str(refused.value)


@both
def test_a_change_inside_another_storage_is_seen_though_nobody_wrote(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s.set("a", 1).set_to("items", [1], "cart")
    with app.request() as s:
        s.get_from("cart", "items").append(2)
    with app.request() as s:
        assert s.get_result() == {"global": {"a": 1}, "cart": {"items": [1, 2]}}
