"""Changes are found by comparing: what is written, what is not, what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from harness import App, both

from session_mw.errors import SessionSerializationError, SessionTooLargeError

# -- changes are found by comparing --------------------------------------------------------------------------------


@both
def test_nested_changes_are_always_seen(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["cart"] = {"items": [{"n": 1}]}
        s.set_to("deep", {"x": []}, "other")
    with app.request() as s:
        s["cart"]["items"][0]["n"] = 2
        assert s.modified
        s.get_from("other", "deep")["x"].append(1)
    with app.request() as s:
        assert s.get_result() == {"global": {"cart": {"items": [{"n": 2}]}}, "other": {"deep": {"x": [1]}}}


@both
@pytest.mark.parametrize(
    "touch",
    [
        lambda s: s.set("a", 1),
        lambda s: s.update(a=1, b=[1, {"c": Decimal("1.0")}]),
        lambda s: s.set("x", 1).remove("x"),
        lambda s: (s["b"].append(1), s["b"].pop()),
        lambda s: (s.clear("nothing"), s.get_from("other", "z")),
        lambda s: s.update_with("a", lambda a: a),
        lambda s: s.put("a", 1),
        lambda s: s.set_storage("other").set_storage("global"),
    ],
)
def test_an_equal_value_is_never_written(kind: str, touch: Any) -> None:
    app = App(kind)
    with app.request() as s:
        s.update(a=1, b=[1, {"c": Decimal("1.0")}])
        s.set_to("z", 1, "other")
    with app.request() as s:
        touch(s)
        assert not s.modified
    assert app.sent == []
    assert app.told("save") == []


@both
@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), ([1], (1,)), ("1", 1), ({"a": 1}, {"a": 1.0})])
def test_another_type_is_another_value(kind: str, old: Any, new: Any) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = old
    with app.request() as s:
        s["a"] = new
        assert s.modified
    kept = app.look()["a"]
    assert (kept, type(kept)) == (new, type(new))


@both
def test_a_session_that_never_had_data_is_never_created(kind: str) -> None:
    app = App(kind)
    for touch in (len, lambda s: s.set("a", 1).remove("a"), lambda s: s.attempt(reset=True), lambda s: s.clear()):
        with app.request() as s:
            touch(s)
        assert app.sent == []
    assert app.told("create") == []
    if app.store is not None:
        assert repr(app.store) == "<MemoryStore 0 of 100000>"


@both
@pytest.mark.parametrize("emptied", [lambda s: s.clear(), lambda s: s.pop("a"), lambda s: s.remove("a")])
def test_an_emptied_session_is_deleted_and_its_cookie_cleared(kind: str, emptied: Any) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    thief = app.browser.copy()
    app.told()
    with app.request() as s:
        emptied(s)
    assert not app.browser
    assert len(app.sent) == 1
    assert app.told() == ["open", "destroy:empty", "close"]
    if kind == "store":
        assert app.look(thief) == {}


@both
def test_the_first_write_after_emptying_begins_again(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    with app.request() as s:
        s.clear()["b"] = 2
    assert app.look() == {"b": 2}


@both
def test_a_bad_value_slipped_into_a_nested_one_is_found_at_commit(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = {"list": [1]}
    with pytest.raises(SessionSerializationError) as refused, app.request() as s:  # noqa: PT012
        s["b"] = 1
        s["a"]["list"].append({"x": object()})
    assert refused.value.path == "session['a']['list'][1]['x']"
    assert app.look() == {"a": {"list": [1]}}  # nothing was saved
    with pytest.raises(SessionSerializationError), app.request() as s:
        s["a"]["self"] = s["a"]
    assert app.look() == {"a": {"list": [1]}}


@both
def test_a_session_beyond_its_budget_is_refused_before_anything_is_sent(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        s["a"] = 1
    size = 5000 if kind == "cookie" else 5 * 1024 * 1024
    with pytest.raises(SessionTooLargeError) as refused, app.request() as s:  # noqa: PT012
        s["a"] = "x" * 10
        s["list"] = lst = [1]
        lst.append("y" * size)  # type: ignore[arg-type]
    assert refused.value.size > refused.value.limit
    assert "yyy" not in str(refused.value)
    assert app.look() == {"a": 1}


@pytest.mark.parametrize("held", [[1], {"items": [1]}])
def test_a_held_value_changed_after_the_response_started_is_seen_though_nobody_touches_the_session(held: Any) -> None:
    app = App()
    with app.request() as s:
        s["cart"] = held
    exchange = app.begin()
    cart = exchange.session["cart"]
    exchange.respond()
    (cart if isinstance(cart, list) else cart["items"]).append(2)
    exchange.end()
    assert app.look()["cart"] in ([1, 2], {"items": [1, 2]})
