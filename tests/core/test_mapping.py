"""The dict half of a session: every reader fills, every writer checks, nothing shows an empty session by mistake."""

from __future__ import annotations

import collections
import copy
import json
import pickle
import threading
import types
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from harness import App, both

from session_mw.core.session import Session
from session_mw.errors import SessionSerializationError, StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyStore

DATA = {"b": 1, "a": [2], "n": None}


class Kept(App):
    """An app whose browser has a session holding ``DATA``."""

    def __init__(self) -> None:
        super().__init__("cookie")
        with self.request() as session:
            session.update(DATA)
        self.told()


KEPT = Kept()


def unfilled() -> Session:
    return KEPT.begin().session


def matched(mapping: Any) -> Any:
    match mapping:
        case {"a": [two], **rest}:
            return two, rest
    return None


def keywords(**given: Any) -> dict[str, Any]:
    return given


READERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "getitem": (lambda s: s["b"], 1),
    "get": (lambda s: s.get("b"), 1),
    "get None": (lambda s: s.get("n", "default"), None),
    "get default": (lambda s: s.get("x", 7), 7),
    "in": (lambda s: "b" in s, True),
    "not in": (lambda s: "x" in s, False),
    "iter": (lambda s: [key for key in s], ["b", "a", "n"]),  # noqa: C416
    "iter()": (lambda s: next(iter(s)), "b"),
    "reversed": (lambda s: list(reversed(s)), ["n", "a", "b"]),
    "len": (len, 3),
    "bool": (bool, True),
    "not": (lambda s: not s, False),
    "keys": (lambda s: list(s.keys()), ["b", "a", "n"]),
    "values": (lambda s: list(s.values()), [1, [2], None]),
    "items": (lambda s: list(s.items()), list(DATA.items())),
    "views are sets": (lambda s: s.keys() & {"a", "x"}, {"a"}),
    "==": (lambda s: s == DATA, True),
    "== reflected": (lambda s: DATA == s, True),  # noqa: SIM300
    "!=": (lambda s: s != DATA, False),
    "!= reflected": (lambda s: DATA != s, False),  # noqa: SIM300
    "|": (lambda s: s | {"c": 3}, {**DATA, "c": 3}),
    "| reflected": (lambda s: {"c": 3} | s, {"c": 3, **DATA}),
    "copy": (lambda s: s.copy(), DATA),
    "copy.copy": (copy.copy, DATA),
    "deepcopy": (copy.deepcopy, DATA),
    "dict": (dict, DATA),
    "dict keywords": (lambda s: dict(s, c=3), {**DATA, "c": 3}),
    "{**s}": (lambda s: {**s}, DATA),
    "{**s} later": (lambda s: {"z": 0, **s}, {"z": 0, **DATA}),
    "f(**s)": (lambda s: keywords(**s), DATA),
    "f(x, **s)": (lambda s: keywords(z=0, **s), {"z": 0, **DATA}),
    "[*s]": (lambda s: [*s], ["b", "a", "n"]),
    "list": (list, ["b", "a", "n"]),
    "tuple": (tuple, ("b", "a", "n")),
    "set": (set, {"b", "a", "n"}),
    "sorted": (sorted, ["a", "b", "n"]),
    "max": (max, "n"),
    "join": (",".join, "b,a,n"),
    "enumerate": (lambda s: dict(enumerate(s)), {0: "b", 1: "a", 2: "n"}),
    "zip": (lambda s: list(zip(s, "xyz", strict=True)), [("b", "x"), ("a", "y"), ("n", "z")]),
    "fromkeys": (dict.fromkeys, {"b": None, "a": None, "n": None}),
    "unpack": (lambda s: (lambda first, *rest: (first, rest))(*s), ("b", ("a", "n"))),
    "match": (matched, (2, {"b": 1, "n": None})),
    "ChainMap": (lambda s: dict(collections.ChainMap({}, s)), DATA),
    "ChainMap get": (lambda s: collections.ChainMap({}, s)["b"], 1),
    "mappingproxy": (lambda s: types.MappingProxyType(s)["b"], 1),
    "mappingproxy len": (lambda s: len(types.MappingProxyType(s)), 3),
    "UserDict": (lambda s: collections.UserDict(s).data, DATA),
    "Counter": (lambda s: sorted(collections.Counter(list(s))), ["a", "b", "n"]),
    "update": (lambda s: keywords() | dict(s), DATA),
    "{}.update": (lambda s: (plain := {}, plain.update(s))[0], DATA),
    "|=": (lambda s: (plain := {}, plain.__ior__(s))[0], DATA),
    "json.dumps": (json.dumps, json.dumps(DATA)),
    "json.dumps indented": (lambda s: json.dumps(s, indent=1), json.dumps(DATA, indent=1)),
    "json.dumps sorted": (lambda s: json.dumps(s, sort_keys=True), json.dumps(DATA, sort_keys=True)),
    "json.dumps nested": (lambda s: json.dumps([s]), json.dumps([DATA])),
    "format_map": ("{b}-{a[0]}".format_map, "1-2"),
    "format": (lambda s: "{s[b]}".format(s=s), "1"),  # noqa: UP032
    "%": (lambda s: "%(b)s" % s, "1"),  # noqa: UP031
    "SimpleNamespace": (lambda s: types.SimpleNamespace(**s).b, 1),
    "eval locals": (lambda s: eval("b + 1", {}, s), 2),  # noqa: S307
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_fills_first(name: str) -> None:
    read, expected = READERS[name]
    session = unfilled()
    KEPT.told()
    assert read(session) == expected
    assert read(session) == expected  # and again, awake
    assert KEPT.told() == ["open"]


@pytest.mark.parametrize("name", ["copy", "copy.copy", "deepcopy", "|", "| reflected"])
def test_a_copy_is_a_plain_dict(name: str) -> None:
    session = unfilled()
    answer = READERS[name][0](session)
    assert type(answer) is dict
    answer["mine"] = 1
    assert "mine" not in session


def test_deepcopy_goes_deep_and_copy_does_not() -> None:
    session = unfilled()
    assert copy.deepcopy(session)["a"] is not session["a"]
    assert copy.copy(session)["a"] is session["a"]


@pytest.mark.parametrize("operator", ["__or__", "__ror__"])
def test_only_dicts_are_merged(operator: str) -> None:
    assert getattr(unfilled(), operator)([("a", 1)]) is NotImplemented
    with pytest.raises(TypeError):
        unfilled() | 7


@pytest.mark.parametrize("operator", ["__lt__", "__le__", "__gt__", "__ge__"])
def test_sessions_have_no_order(operator: str) -> None:
    assert getattr(unfilled(), operator)(DATA) is NotImplemented


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, orjson.dumps])
def test_readers_that_call_no_method_fail_loudly_and_never_show_an_empty_session(encode: Any) -> None:
    session = unfilled()
    with pytest.raises(TypeError) as refused:  # orjson.JSONEncodeError is one
        encode(session)
    assert not session.accessed
    assert "2" not in str(refused.value)
    session.get("b")
    assert encode(session) == encode(DATA)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_refused(protocol: int) -> None:
    asleep, awake = unfilled(), unfilled()
    assert len(awake)
    for session in (asleep, awake):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(session, protocol)


def test_a_session_is_unhashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(unfilled())


@both
def test_repr_never_loads_and_shows_no_value(kind: str) -> None:
    app = App(kind)
    with app.request() as s:
        assert repr(s) == str(s) == f"{s!r:>1}" == "<Session not loaded>"
        assert not s.accessed
        s["card"] = "4111-1111"
        assert repr(s) == "<Session new>"
        handle = s.session_id
        assert repr(s) == f"<Session {handle[:6]}…>"
    with app.request() as s:
        assert s["card"]
        assert repr(s) == f"<Session {handle[:6]}…>"
        assert s.session_id == handle


# -- writers -------------------------------------------------------------------------------------------------------


def deleted(s: Any, key: str) -> None:
    del s[key]


WRITERS: dict[str, tuple[Callable[[Any], Any], Any, dict[str, Any]]] = {
    "[]=": (lambda s: s.__setitem__("c", 3), None, {**DATA, "c": 3}),
    "[]= again": (lambda s: s.__setitem__("b", 3), None, {**DATA, "b": 3}),
    "del": (lambda s: deleted(s, "b"), None, {"a": [2], "n": None}),
    "pop": (lambda s: s.pop("b"), 1, {"a": [2], "n": None}),
    "pop default": (lambda s: s.pop("x", 9), 9, DATA),
    "popitem": (lambda s: s.popitem(), ("n", None), {"b": 1, "a": [2]}),
    "setdefault": (lambda s: s.setdefault("c", 3), 3, {**DATA, "c": 3}),
    "setdefault there": (lambda s: s.setdefault("n", 3), None, DATA),
    "update": (lambda s: s.update({"c": 3}, d=4), None, {**DATA, "c": 3, "d": 4}),
    "update pairs": (lambda s: s.update([("b", 0)]), None, {**DATA, "b": 0}),
    "update nothing": (lambda s: s.update(), None, DATA),
    "|=": (lambda s: s.__ior__({"c": 3}) is s, True, {**DATA, "c": 3}),
    "clear": (lambda s: s.clear() is s, True, {}),
}


@both
@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_fills_first_and_is_kept(kind: str, name: str) -> None:
    write, answer, expected = WRITERS[name]
    app = App(kind)
    with app.request() as s:
        s.update(DATA)
    with app.request() as s:
        assert write(s) == answer
        assert s == expected
        assert s.modified is (expected != DATA)
    assert bool(app.sent) is (expected == {} or (kind == "cookie" and expected != DATA))
    assert app.look() == expected


@pytest.mark.parametrize("missing", [lambda s: s.pop("x"), lambda s: deleted(s, "x"), lambda s: s.popitem()])
def test_removing_what_is_not_there_is_a_key_error(missing: Any) -> None:
    app = App()
    with app.request() as s, pytest.raises(KeyError):
        missing(s)
    assert app.sent == []


def test_update_is_all_or_nothing() -> None:
    app = App()
    with app.request() as s:
        s["a"] = 1
        with pytest.raises(SessionSerializationError) as refused:
            s.update(a=2, b={"deep": [object()]})
        assert refused.value.path == "session['b']['deep'][0]"
        with pytest.raises(SessionSerializationError):
            s |= {"c": 1, "d": float("nan")}
        assert s == {"a": 1}


@pytest.mark.parametrize(
    ("write", "path"),
    [
        (lambda s: s.__setitem__("k", object()), "session['k']"),
        (lambda s: s.__setitem__(7, 1), "session"),
        (lambda s: s.__setitem__("k", {"x": {1: 2}}), "session['k']['x']"),
        (lambda s: s.__setitem__("k", [1, float("inf")]), "session['k'][1]"),
        (lambda s: s.__setitem__("k", "\ud800"), "session['k']"),
        (lambda s: s.setdefault("k", object()), "session['k']"),
        (lambda s: s.set("k", object()), "session['k']"),
        (lambda s: s.put("k", object()), "session['k']"),
        (lambda s: s.update_with("k", lambda _: object()), "session['k']"),
        (lambda s: s.add("k", object()), "session['k']"),
    ],
)
def test_a_value_that_would_not_come_back_is_refused_at_assignment(write: Any, path: str) -> None:
    app = App()
    with app.request() as s:
        with pytest.raises(SessionSerializationError) as refused:
            write(s)
        assert refused.value.path == path
        assert s == {}
    assert app.sent == []


# -- twins and threads ---------------------------------------------------------------------------------------------


class Shop(Session):
    """An application's own session; it even has attributes."""

    def get(self, key: str, default: Any = None) -> Any:
        return ("own", super().get(key, default))

    @property
    def cart(self) -> Any:
        return self["cart"]


class Corner(Shop):
    __slots__ = ()

    def __iter__(self) -> Any:
        return iter(sorted(super().__iter__()))


@pytest.mark.parametrize("kind", [Shop, Corner])
def test_a_subclass_has_its_own_twin(kind: type[Shop]) -> None:
    assert kind._awake is kind
    assert kind._dormant is not Session._dormant
    assert issubclass(kind._dormant, kind)
    app = App()
    with app.request() as s:
        s["cart"] = [1]
    exchange = app.begin()
    session = kind._dormant(app.layer, exchange.session._source)
    assert isinstance(session, kind)
    assert type(session).__name__ == kind.__name__
    session.note = "mine"
    assert not session.accessed
    assert session.get("cart") == ("own", [1])
    assert type(session) is kind
    assert session.cart == [1]
    assert list(session) == ["cart"]


class Meeting(MemoryStore):
    """A store that answers a load once all of its readers have asked."""

    def __init__(self, readers: int) -> None:
        super().__init__()
        self._all_here = threading.Barrier(readers)

    def load(self, id: str) -> Any:
        record = super().load(id)
        self._all_here.wait(10)
        return record


def test_filling_happens_once_however_many_threads_touch() -> None:
    app = App(store=Meeting(8))
    with app.request() as s:
        s.update({str(number): number for number in range(50)})
    session = app.begin().session
    seen: list[Any] = []
    held: set[int] = set()

    def touch() -> None:
        seen.append((len(session), sum(session.values()), all(type(key) is str for key in session)))
        held.add(id(session._state))

    app.told()
    threads = [threading.Thread(target=touch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [(50, 1225, True)] * 8
    assert len(held) == 1
    assert app.told() == ["open"]


def test_a_failed_fill_is_raised_at_every_touch_and_shows_nothing() -> None:
    store = FaultyStore(MemoryStore())
    app = App(store=store)
    with app.request() as s:
        s["a"] = 1
    store.fail("load", times=None)
    session = app.begin().session
    for name in ("get", "json.dumps", "len", "{**s}"):
        with pytest.raises(StoreError, match="told to fail"):
            READERS[name][0](session)
    assert repr(session) == "<Session not loaded>"
    store.heal()
    assert session == {"a": 1}
