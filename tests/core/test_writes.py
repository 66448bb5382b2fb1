"""Writes are counted, so that a commit need not look at what nobody wrote; what comes back is what was written."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest
from harness import App, both
from hypothesis import given, settings
from hypothesis import strategies as st

from session_mw import Session

KEYS = st.sampled_from(["a", "b", "c", "ü"])
PLAIN = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text("xyü$", max_size=3)
RICH = st.sampled_from([(1, 2), {3}, b"raw", dt.date(2026, 11, 30), 1.5, [], {}, ["n"], {"$": 1}, {"k": ("t",)}, 2**70])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["set", "set", "update", "with", "put", "default"]), KEYS, PLAIN | RICH),
    st.tuples(st.sampled_from(["nest", "remove", "clear", "rotate", "commit", "respond", "next"]), KEYS, PLAIN),
)
BEFORE_THE_RESPONSE = {"remove", "clear", "rotate", "commit"}  # an emptied session has ended, and needs a new cookie


def step(session: Session, model: dict[str, Any], name: str, key: str, value: Any) -> None:
    """One write to *session*, and what it means for a dict."""
    mine, value = copy.deepcopy(value), copy.deepcopy(value)
    if name == "set":
        session[key], model[key] = mine, value
    elif name == "update":
        session.update({key: mine, "z": 1})
        model.update({key: value, "z": 1})
    elif name == "with" and value is not None:
        session.update_with(key, lambda _: mine)
        model[key] = value
    elif name == "put":
        session.put(key, mine)
        session.save()
        model[key] = value
    elif name == "default":
        session.setdefault(key, mine)
        model.setdefault(key, value)
    elif name == "nest" and isinstance(model.get(key), list):
        session[key].append(mine)
        model[key].append(value)
    elif name == "remove":
        session.remove(key)
        model.pop(key, None)
    elif name == "clear":
        session.clear()
        model.clear()
    elif name == "rotate":
        session.regenerate()


def shape(value: Any) -> Any:
    """*value* with its types, which ``==`` does not tell apart."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return type(value), [shape(item) for item in value] if isinstance(value, list | tuple) else value


@both
@settings(max_examples=150)
@given(steps=st.lists(STEPS, min_size=1, max_size=14))
def test_what_comes_back_is_what_was_written(kind: str, steps: list[tuple[str, str, Any]]) -> None:
    app, model = App(kind), {"a": 1, "b": "two"}
    with app.request() as session:
        session.update(model)
    exchange = app.begin()
    for name, key, value in [*steps, ("next", "", None)]:
        if name == "next":
            if not exchange.responded:
                exchange.respond()
            exchange.end()
            assert shape(app.look()) == shape(model)
            exchange = app.begin()
        elif exchange.responded and (kind == "cookie" or not model or name in BEFORE_THE_RESPONSE):
            continue  # refused then, as other tests show
        elif name == "respond":
            if not exchange.responded:
                exchange.respond()
        elif name == "commit":
            exchange.session.commit()
        else:
            step(exchange.session, model, name, key, value)


@both
@pytest.mark.parametrize("value", [(1, 2), dt.date(2026, 11, 30), b"raw", {"$": 1}])
def test_what_is_not_plain_is_looked_at_beside_what_is(kind: str, value: Any) -> None:
    app = App(kind)
    with app.request() as session:
        session["a"] = 1
    with app.request() as session:
        session.update(b=value)
        session["c"] = "plain"
    assert shape(app.look()) == shape({"a": 1, "b": value, "c": "plain"})


@pytest.mark.parametrize("first", ["commit", "respond"])
def test_what_changes_inside_after_a_commit_is_seen(first: str) -> None:
    app = App()
    with app.request() as session:
        session["a"] = 1
    with app.request() as session:
        session["list"] = [1]
        session.commit() if first == "commit" else app.respond()
        session["list"].append(2)
    assert app.look() == {"a": 1, "list": [1, 2]}


def test_a_session_begun_by_an_early_commit_gets_its_cookie() -> None:
    app = App()
    with app.request() as session:
        session.attempt()  # writes no item
        session.commit()
    assert app.browser
    with app.request() as session:
        assert session.attempts == 1
