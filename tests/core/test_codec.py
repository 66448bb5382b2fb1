"""The codec against slow oracles: what comes back, what is refused and where, and what counts as unchanged."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import math
import os
import random
import subprocess
import sys
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from session_mw.core import codec
from session_mw.errors import SessionSerializationError, SessionTooLargeError

D = decimal.Decimal
few = settings(max_examples=60)
PLUS_ONE = dt.timezone(dt.timedelta(hours=1))


class Held(dict):  # type: ignore[type-arg]
    """A dict subclass whose own ways of reading must never be used."""

    def _never(self, *_args: object) -> Any:
        raise AssertionError("an overridden method was called")

    __iter__ = __len__ = __getitem__ = __eq__ = __contains__ = items = keys = values = get = _never  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Sub(str):
    """Equal to any text like it, but not exactly ``str``."""

    __slots__ = ()


# --- Strategies and oracles -----------------------------------------------------------------------------------------

texts = st.text(max_size=8) | st.sampled_from(["$", "$$", "$tuple", "$set", "a$", '"$', "null", "[", "{", "2024-01-01"])
integers = st.integers() | st.sampled_from([0, 1, 2**63, -(2**63), 2**64, 10**40, 10**4299])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e22])
offsets = st.integers(-86_399, 86_399).map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds)))
zones = st.none() | st.sampled_from([ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Kathmandu"), dt.UTC]) | offsets
native_scalars = st.none() | st.booleans() | integers | floats | texts
tagged_scalars = (
    st.datetimes(timezones=zones)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=8)
)
hashables = st.recursive(
    native_scalars | tagged_scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(hashables, max_size=3)
    ),
    max_leaves=8,
)
plain_values = st.recursive(
    native_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
storages = st.dictionaries(texts, values, max_size=3)
plain_storages = st.dictionaries(texts, plain_values, max_size=4)


def settled(value: Any) -> Any:
    """*value* with every time zone as the offset it has: what may come back."""
    kind = type(value)
    if kind in (dt.datetime, dt.time):
        offset = value.utcoffset()
        return value.replace(tzinfo=None if offset is None else dt.timezone(offset), fold=0)
    if kind is dict:
        return {key: settled(item) for key, item in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind(map(settled, value))
    return value


def typed(value: Any) -> Any:
    """*value* in a form whose equality also compares types, offsets, order of keys and the sign of zero."""
    kind = type(value)
    if kind is dict:
        return kind, [(type(key), key, typed(item)) for key, item in value.items()]
    if kind in (list, tuple):
        return kind, [typed(item) for item in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(typed(item)) for item in value)
    return kind, repr(value)


def oracle(data: dict[str, Any]) -> bytes:
    """The encoding as the format's page says it, slowly."""

    def scalar(value: Any) -> str:
        return msgspec.json.encode(value).decode()

    def obj(pairs: Any) -> str:
        return "{" + ",".join(f"{scalar(key)}:{item}" for key, item in pairs) + "}"

    def one(value: Any) -> str:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return scalar(value)
        if kind is dict:
            (first, *more) = value or [""]
            extra = "$" if not more and first.startswith("$") else ""
            return obj((extra + key, one(item)) for key, item in value.items())
        if kind is list:
            return "[" + ",".join(map(one, value)) + "]"
        if kind is tuple:
            return obj([("$tuple", one(list(value)))])
        if kind in (set, frozenset):
            elements = sorted((one(item) for item in value), key=str.encode)
            return obj([(f"${kind.__name__}", "[" + ",".join(elements) + "]")])
        if kind is bytes:
            return obj([("$bytes", scalar(value))])
        if kind is dt.timedelta:
            return obj([("$timedelta", str(value // dt.timedelta(microseconds=1)))])
        text = value.isoformat() if hasattr(value, "isoformat") else str(value)
        return obj([(f"${kind.__name__.lower()}", scalar(text))])

    return obj((key, one(item)) for key, item in data.items()).encode()


# --- What comes back ------------------------------------------------------------------------------------------------


@few
@given(storages)
def test_values_come_back_equal_and_of_the_same_types(data: dict[str, Any]) -> None:
    assert typed(codec.decode(codec.encode(data))) == typed(settled(data))


@few
@given(storages)
def test_what_was_read_is_written_as_it_was(data: dict[str, Any]) -> None:
    encoded = codec.encode(data)
    assert codec.encode(codec.decode(encoded)) == encoded


@few
@given(storages.map(settled))
@example({"$tuple": [1]})
@example({"a": {"$tuple": [1]}})
@example({"a": {"$": {"$$set": []}}, "b": {"$x": 1, "y": 2}})
def test_bytes_are_those_the_page_describes(data: dict[str, Any]) -> None:
    assert codec.encode(data) == oracle(data)
    assert codec.encode(Held(data)) == oracle(data)


@few
@given(plain_storages)
def test_both_ways_give_the_same_bytes(data: dict[str, Any]) -> None:
    thorough = codec.encode({**data, Sub("z"): 1})  # a key that is not exactly str takes the thorough way
    assert codec.encode({**data, "z": 1}) == thorough


@few
@given(values)
def test_one_value_is_written_as_inside_its_storage(value: Any) -> None:
    inside = msgspec.json.decode(codec.encode({"k": value}), type=dict[str, msgspec.Raw])
    assert codec.encode_value(value, "session") == bytes(inside["k"])


@few
@given(st.lists(hashables, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_order_of_insertion_leaves_no_trace_in_a_set(items: list[Any], shuffler: random.Random) -> None:
    first = codec.encode({"s": set(items)})
    shuffler.shuffle(items)
    again: set[Any] = set(range(1000))  # another size of hash table
    again.update(items)
    assert codec.encode({"s": again & set(items)}) == first


def test_hash_seed_leaves_no_trace() -> None:
    program = (
        "import sys; from session_mw.core import codec\n"
        "data = {'s': {'a', 'b', 'c', 'd', b'e', ('f', 1)}, 'f': frozenset(map(str, range(50)))}\n"
        "given = sys.stdin.buffer.read()\n"
        "sys.stdout.buffer.write(codec.encode(codec.decode(given)) if given else codec.encode(data))"
    )

    def run(seed: str, given: bytes) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", program], input=given, env=environment, capture_output=True, check=True
        ).stdout

    written = run("1", b"")
    assert written == run("2", b"") == run("2", written)
    assert len(codec.decode(written)["f"]) == 50


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mood(enum.StrEnum):
    GOOD = "good"


class Half(float):
    def __repr__(self) -> str:
        return "half"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "LOUD"


class Odd(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(["odd"])


Point = namedtuple("Point", "x y")


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    price: Any = 1
    unset: int = dataclasses.field(init=False, compare=False)


class Account(msgspec.Struct, rename="camel", tag_field="kind", tag="account"):
    full_name: str
    nick: str | msgspec.UnsetType = msgspec.UNSET


class Dollar(msgspec.Struct):
    amount: int = msgspec.field(name="$amount")


moved = OrderedDict(a=1, b=2)
moved.move_to_end("a")


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        (Sub("x"), "x"),
        (Loud("quiet"), "quiet"),
        (Mood.GOOD, "good"),
        (Level.HIGH, 3),
        (Half(0.5), 0.5),
        (Odd([1]), [1]),
        (moved, {"b": 2, "a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Held(a=1), {"a": 1}),
        ({Sub("k"): 1}, {"k": 1}),
        (Point(1, 2), (1, 2)),
        (Item("a"), {"name": "a", "price": 1}),
        (Account("Ada"), {"kind": "account", "fullName": "Ada"}),
        (Dollar(5), {"$amount": 5}),
        ({Level.HIGH, 1}, {1, 3}),
        (dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
         dt.datetime(2024, 10, 27, 2, 30, tzinfo=PLUS_ONE)),
        (dt.time(12, tzinfo=ZoneInfo("Europe/Paris")), dt.time(12)),
        (dt.timedelta.min, dt.timedelta.min),
        (D("-0E-10"), D("-0E-10")),
        (-0.0, -0.0),
        pytest.param(10**4300 - 1, 10**4300 - 1, id="longest"),
        pytest.param(1 - 10**4299, 1 - 10**4299, id="longest-negative"),
    ],
)  # fmt: skip
def test_subclasses_come_back_as_their_base(value: Any, comes_back: Any) -> None:
    encoded = codec.encode({"v": value})
    assert typed(codec.decode(encoded)) == typed({"v": comes_back})
    assert codec.encode({"v": comes_back}) == encoded


def test_a_struct_can_be_made_of_what_comes_back() -> None:
    back = codec.decode(codec.encode({"a": Account("Ada", "ada")}))
    assert msgspec.convert(back["a"], Account) == Account("Ada", "ada")


def test_the_decimal_context_leaves_no_trace() -> None:
    with decimal.localcontext() as context:
        context.capitals = 0
        context.prec = 1
        encoded = codec.encode({"d": D("1.25E+30")})
        assert codec.decode(encoded) == {"d": D("1.25E+30")}
    assert codec.encode({"d": D("1.25E+30")}) == encoded


class Apart(str):
    """Equal to nothing but itself."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Own(int):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


FOLDED = dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1)


@pytest.mark.parametrize(
    ("elements", "comes_back"),
    [
        ({Apart("a"), Apart("a"), "b"}, {"a", "b"}),
        ({Own(1), True, 2}, {1, 2}),
        ({FOLDED, FOLDED.astimezone(dt.UTC)}, {FOLDED.astimezone(dt.UTC)}),
        (frozenset({(Own(1),), (True,)}), frozenset({(1,)})),
    ],
)
def test_elements_that_come_back_equal_are_one(elements: Any, comes_back: Any) -> None:
    assert len(elements) > len(comes_back)
    encoded = codec.encode({"s": elements})
    assert codec.decode(encoded)["s"] == comes_back
    assert codec.encode(codec.decode(encoded)) == encoded


# --- What is refused, and where -------------------------------------------------------------------------------------

ring: list[Any] = [1]
ring.append({"again": ring})
ring_of_fields = [Item("a", [])]
ring_of_fields[0].price.append(ring_of_fields)
wide_ring: list[Any] = []
wide_ring.extend([1] * 5000 + [wide_ring])
shared: Any = []
for _ in range(60):
    shared = [shared, shared]
deep: Any = 0
for _ in range(65):
    deep = [deep]


class HashableList(list):  # type: ignore[type-arg]
    __hash__ = object.__hash__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (math.nan, "", "NaN and Infinity"),
        ([1, {"a": [-math.inf]}], "[1]['a'][0]", "NaN and Infinity"),
        (Half("nan"), "", "NaN and Infinity"),
        ((D("NaN"),), "[0]", "Decimal"),
        (D("-Infinity"), "", "Decimal"),
        ("\ud800", "", "lone surrogate"),
        ({"a": Sub("\udfff")}, "['a']", "lone surrogate"),
        ([{"a\ud800": 1}], "[0]", "a key with a lone surrogate"),
        ([{"a": {1: 2}}], "[0]['a']", "a key of type int"),
        ({b"k": 1}, "", "a key of type bytes"),
        ({None: 1}, "", "a key of type NoneType"),
        pytest.param(10**4300, "", "digits", id="too-long"),
        ({"n": [-(10**4299)]}, "['n'][0]", "digits"),
        (dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))), "", "fraction of a second"),
        ([dt.time(1, tzinfo=dt.timezone(dt.timedelta(microseconds=-1)))], "[0]", "fraction of a second"),
        (ring, "[1]['again']", "contains itself"),
        (ring_of_fields, "[0].price[0]", "contains itself"),
        (wide_ring, "[5000]", "contains itself"),
        (deep, "[0]" * 64, "deeper than 64"),
        ([0] * 100_000, "", "more than 100,000"),
        ({"$x": {str(i): (i,) for i in range(50_001)}}, "['$x']['49997']", "more than 100,000"),
        (Colour.RED, "", "type Colour cannot be stored; store its .value"),
        ([bytearray(b"x")], "[0]", "type bytearray cannot be stored; store bytes(value)"),
        ({"m": memoryview(b"x")}, "['m']", "memoryview"),
        (object(), "", "type object cannot be stored; keep plain values"),
        (Item, "", "type type"),
        (1j, "", "type complex"),
        (msgspec.Raw(b'{"$set":1}'), "", "type Raw"),
        (Item("a", {"b": (1, 2, Colour.RED)}), ".price['b'][2]", "Colour"),
        (Account("\ud800"), ".fullName", "lone surrogate"),
        ({"x" * 41: {"y" * 40: object()}}, f"['{'x' * 40}…']['{'y' * 40}']", "type object"),
        ({(1, ("\ud800",))}, "{…}[1][0]", "lone surrogate"),
        ({Item("a"), 2}, "{…}", "in a set"),
        (frozenset({HashableList([1])}), "{…}", "in a set"),
    ],
)  # fmt: skip
def test_refusals_name_the_path_and_the_reason(value: Any, path: str, reason: str) -> None:
    for call in (
        lambda: codec.encode({"k": value}, "here"),
        lambda: codec.encode(Held(k=value), "here"),
        lambda: codec.encode_value(value, "here['k']"),
        lambda: codec.check_item("k", value, "here"),
        lambda: codec.encode_if_changed({"k": value}, b"{}", {}, "here"),
    ):
        with pytest.raises(SessionSerializationError) as caught:
            call()
        assert reason in caught.value.reason
        assert caught.value.path == f"here['k']{path}"
        assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"


def test_lists_that_share_lists_are_not_walked_for_ever() -> None:
    for call in (lambda: codec.encode({"k": shared}), lambda: codec.check_item("k", shared)):
        with pytest.raises(SessionSerializationError, match="more than 100,000"):
            call()


def test_a_session_that_holds_itself_is_refused() -> None:
    data: dict[str, Any] = {"a": 1}
    data["me"] = data
    with pytest.raises(SessionSerializationError, match=r"^session\['me'\]: contains itself$"):
        codec.encode(data)


@pytest.mark.parametrize("key", [1, None, b"k", "\ud800", Sub("\ud800")])
def test_bad_keys_are_refused_at_assignment_and_later(key: Any) -> None:
    for call in (lambda: codec.check_item(key, 1), lambda: codec.encode({key: 1})):
        with pytest.raises(SessionSerializationError, match=r"^session: a key ") as caught:
            call()
        assert caught.value.path == "session"


@few
@given(native_scalars | tagged_scalars, texts)
def test_assignment_lets_pass_what_can_be_stored(value: Any, key: str) -> None:
    codec.check_item(key, value)
    codec.check_item(Sub(key), [value])


def test_limits_are_reached_exactly() -> None:
    deepest: Any = 0
    for _ in range(64):
        deepest = [deepest]
    for data in ({"d": deepest}, {"d": deepest, "t": (1,)}, {"n": [0] * 99_999}, {"n": (0,) * 99_999}):
        assert codec.decode(codec.encode(data)) == data
    tuples: Any = 0
    for _ in range(64):
        tuples = (tuples,)
    assert codec.decode(codec.encode({"d": tuples})) == {"d": tuples}
    with pytest.raises(SessionSerializationError, match="deeper than 64"):
        codec.encode({"d": (tuples,)})
    for too_many in ([0] * 100_000, (0,) * 100_000):
        with pytest.raises(SessionSerializationError, match="more than 100,000"):
            codec.encode({"n": too_many})
        with pytest.raises(SessionSerializationError, match="more than 100,000"):
            codec.encode_value(too_many, "session['n']")


@pytest.mark.parametrize("key", ["k", Sub("k")])
def test_too_many_bytes_are_counted(key: str) -> None:
    fits = codec.MAX_BYTES - len('{"k":""}')
    assert len(codec.encode({key: "x" * fits})) == codec.MAX_BYTES
    text = r"^session takes 4,194,305 bytes as JSON: 1 more than the 4,194,304 allowed$"
    for call in (
        lambda: codec.encode({key: "x" * (fits + 1)}),
        lambda: codec.encode_if_changed({key: "x" * (fits + 1)}, b"{}", {}),
    ):
        with pytest.raises(SessionTooLargeError, match=text) as caught:
            call()
        assert (caught.value.size, caught.value.limit) == (codec.MAX_BYTES + 1, codec.MAX_BYTES)
    with pytest.raises(SessionTooLargeError, match=r"^session\['k'\] takes "):
        codec.check_item("k", "x" * codec.MAX_BYTES)


@pytest.mark.parametrize("digits", [0, 640, 10_000])
def test_the_digits_this_process_allows_change_nothing_but_what_fits(digits: int) -> None:
    kept, refused = (10**639, 10**640) if digits == 640 else (10**4300 - 1, 10**4300)
    long = {"a": "x" * 5000, "n": 1}
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(digits)
    try:
        assert codec.decode(codec.encode({"n": kept})) == {"n": kept}
        assert codec.encode_if_changed(long, b"{}", {}) == codec.encode(long)
        for call in (
            lambda: codec.encode({"n": [refused]}),
            lambda: codec.encode_if_changed({"n": [refused]}, b"{}", {}),
        ):
            with pytest.raises(SessionSerializationError, match=r"^session\['n'\]\[0\]: an integer of more digits"):
                call()
    finally:
        sys.set_int_max_str_digits(before)


def test_no_error_shows_a_value() -> None:
    with pytest.raises(SessionSerializationError) as caught:
        codec.encode({"k": ["s3cret", {"s3cret\ud800"}]})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError) as unread:
        codec.decode(b'{"k":{"$uuid":"s3cret"}}')
    assert "s3cret" not in str(unread.value)
    assert unread.value.__suppress_context__


# --- Reading what nobody wrote --------------------------------------------------------------------------------------

kinds = ["tuple", "set", "frozenset", "datetime", "date", "time", "timedelta", "uuid", "decimal", "bytes", "none", ""]
junk = st.binary(max_size=40) | st.builds(
    lambda tag, item: msgspec.json.encode({"k": {f"${tag}": item}}), st.sampled_from(kinds), plain_values
)


@few
@given(junk)
@example(b"")
@example(b"[]")
@example(b"null")
@example(b'{"a":1')
@example(b'{"a":"\xff"}')
@example(b'{"a":1e999}')
@example(b'{"a":' + b"[" * 5000)
@example(b'{"$a":' + b'{"$tuple":[' * 2000 + b"]}" * 2000 + b"}")
@example(b'{"a":{"$set":[[1]]}}')
@example(b'{"a":{"$tuple":"abc"}}')
@example(b'{"a":{"$timedelta":true}}')
@example(b'{"a":{"$timedelta":99999999999999999999999}}')
@example(b'{"a":{"$decimal":"x"}}')
@example(b'{"a":{"$decimal":"Infinity"}}')
@example(b'{"a":{"$bytes":"abc"}}')
@example(b'{"a":{"$uuid":5}}')
def test_junk_raises_nothing_but_value_error(data: bytes) -> None:
    tree: Any = None
    with contextlib.suppress(ValueError):
        tree = codec.decode(data)
    assert tree is None or type(tree) is dict


@pytest.mark.parametrize(
    "data",
    [b"[]", b'{"a":{"$nonsense":1}}', b'{"a":{"$":1}}', b'{"a":{"$set":[[1]]}}', b'{"a":{"$tuple":"abc"}}',
     b'{"a":{"$timedelta":true}}', b'{"a":{"$timedelta":99999999999999999999999}}', b'{"a":{"$decimal":"x"}}',
     b'{"a":{"$decimal":"Infinity"}}', b'{"a":{"$bytes":"abc"}}', b'{"a":[{"$uuid":5}]}', b'{"a":' + b"[" * 5000,
     b'{"$a":' + b'{"$tuple":[' * 2000 + b"]}" * 2000 + b"}", b'{"a":"\xff"}', b"{} x"],
)  # fmt: skip
def test_malformed_data_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="no encoded session data"):
        codec.decode(data)


def test_a_context_without_traps_reads_no_nonsense() -> None:
    context = decimal.Context(traps=[])
    with decimal.localcontext(context), pytest.raises(ValueError, match="no encoded session data"):
        codec.decode(b'{"d":{"$decimal":"x"}}')


# --- Unchanged ------------------------------------------------------------------------------------------------------


def judged(data: dict[str, Any], original: bytes) -> bool:
    try:
        return codec.encode(data) == original
    except (SessionSerializationError, SessionTooLargeError):
        return False


def agree(data: dict[str, Any], original: bytes, loaded: dict[str, Any]) -> bool:
    """Whether *data* is unchanged, after every way to ask agreed with the slow one."""
    expected = judged(data, original)
    session = Held(data)
    for given_loaded in (loaded, None):
        if expected:
            assert codec.encode_if_changed(session, original, given_loaded) is None
        else:
            try:
                new = codec.encode(data)
            except SessionSerializationError:
                with pytest.raises(SessionSerializationError):
                    codec.encode_if_changed(session, original, given_loaded)
            else:
                assert codec.encode_if_changed(session, original, given_loaded) == new
    return expected


def disguises(value: Any) -> list[Any]:
    """Other values whose JSON text msgspec, asked alone, writes like that of *value*; or that compare equal to it."""
    if type(value) is str:
        found = [Sub(value), value.encode(), enum.Enum("E", {"a": value}).a]
        for read in (dt.datetime.fromisoformat, dt.date.fromisoformat, dt.time.fromisoformat, uuid.UUID, D):
            with contextlib.suppress(ValueError, ArithmeticError):
                found.append(read(value))
        return found
    if type(value) is list:
        return [tuple(value), Odd(value), value * 2, *([frozenset(value)] if all(map(_hashable, value)) else [])]
    if type(value) is dict:
        keyed = {int(key) if key.isdecimal() else Sub(key): item for key, item in value.items()}
        return [keyed, OrderedDict(value), dict(reversed(value.items()))]
    if type(value) is tuple:
        return [list(value)]
    if type(value) is set:
        return [frozenset(value)]
    if type(value) is dt.datetime and value.tzinfo:
        return [value.isoformat(), value.replace(tzinfo=None)]
    if value is None:
        return [math.nan, math.inf, False]
    if type(value) in (int, float):
        return [bool(value), D(value), str(value), -value, *([float(value)] if abs(value) < 2**53 else [])]
    return [int(value)] if type(value) is bool else [str(value)]


def _hashable(value: Any) -> bool:
    return value is None or type(value) in (str, int, bool)


def mutate(value: Any, choose: random.Random) -> Any:
    """*value* with one part, at any depth, replaced by a disguise; containers are changed in place."""
    if type(value) in (list, dict) and value and choose.random() < 0.7:
        key = choose.choice(list(value) if type(value) is dict else range(len(value)))
        value[key] = mutate(value[key], choose)
        return value
    return choose.choice(disguises(value))


likely = st.sampled_from(
    ["2024-01-01T00:00:00", "2024-01-01T00:00:00Z", "2024-01-01", "12:00:00", "1", "1.5", "true", "aGk=",
     "12345678-1234-5678-1234-567812345678", None, 1, 0, 1.0, True, -0.0, [], [1, "2024-01-01"], {"1": "1"}, {},
     {"$date": "2024-01-01"}, {"$tuple": [1]}]
)  # fmt: skip


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from("ab12") | texts, likely | plain_values | values, max_size=4),
    st.randoms(use_true_random=False),
)
def test_unchanged_is_exact(data: dict[str, Any], choose: random.Random) -> None:
    original = codec.encode(data)
    loaded = codec.decode(original)
    assert agree(dict(loaded), original, loaded)
    live = dict(loaded)
    if live:
        key = choose.choice(list(live))
        live[key] = mutate(live[key], choose)
        agree(live, original, loaded)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2024-01-01T00:00:00", dt.datetime(2024, 1, 1)),
        ("12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
        ("1.5", D("1.5")),
        ("aGk=", b"hi"),
        ("red", Colour.RED),
        ([1], (1,)),
        ([1], {1}),
        ([[1]], [(1,)]),
        ({"a": [None]}, {"a": [math.nan]}),
        (None, math.nan),
        ({"1": 2}, {1: 2}),
        ({"a": "2024-01-01"}, {"a": dt.date(2024, 1, 1)}),
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ({1, 2}, frozenset({1, 2})),
        (dt.date(2024, 1, 1), {"$date": "2024-01-01"}),
        ((1,), {"$tuple": [1]}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (FOLDED, FOLDED.astimezone(dt.UTC)),
        (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "2024-01-01T00:00:00Z"),
        (dt.timedelta(seconds=1), "PT1S"),
        (D("1.0"), D("1.00")),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        ("x", "\ud800"),
    ],
)
def test_a_changed_type_is_a_change(before: Any, after: Any) -> None:
    for build in (
        lambda value: {"k": value, "x": 1},
        lambda value: {"k": value, "x": D("1")},
        lambda value: {"k": [0, {"j": value}]},
    ):
        original = codec.encode(build(before))
        loaded = codec.decode(original)
        assert not agree(build(after), original, loaded)


@pytest.mark.parametrize(
    ("before", "after"),
    [(FOLDED, FOLDED.replace(tzinfo=PLUS_ONE)), (D("1"), D("1")), ("$x", Sub("$x")),
     ("x", Sub("x")), (3, Level.HIGH), ({"name": "a", "price": 1}, Item("a")), ({"b": 2, "a": 1}, moved),
     ((1, 2), Point(1, 2)), ({"a": [1]}, {"a": Odd([1])})],
)  # fmt: skip
def test_an_equal_encoding_is_no_change(before: Any, after: Any) -> None:
    original = codec.encode({"k": before})
    assert agree({"k": after}, original, codec.decode(original))
    assert agree({Sub("k"): after}, original, codec.decode(original))


def test_a_change_in_place_is_seen_through_shared_values() -> None:
    original = codec.encode({"cart": [{"price": 1}], "when": (1, [2])})
    loaded = codec.decode(original)
    live = dict(loaded)
    live["cart"][0]["price"] = True
    assert not agree(live, original, loaded)
    live["cart"][0]["price"] = 1
    assert agree(live, original, loaded)
    live["when"][1].append(3)
    assert not agree(live, original, loaded)
    live["when"][1].pop()
    live["cart"].append(live)
    assert not agree(live, original, loaded)


# --- Markup ---------------------------------------------------------------------------------------------------------


def test_markup_comes_back_as_markup_and_nothing_else_does() -> None:
    """What a template may show as it is; text that only looks so stays text."""
    data = {"safe": Markup("<b>&</b>"), "list": [Markup("x")], "text": "<b>", "dict": {"$markup": "<script>"}}
    raw = codec.encode(data)
    back = codec.decode(raw)
    assert back == data
    assert [type(back["safe"]), type(back["list"][0]), type(back["text"])] == [Markup, Markup, str]
    assert type(back["dict"]) is dict
    assert type(back["dict"]["$markup"]) is str
    assert codec.encode(back) == raw
    assert codec.encode_if_changed(back, raw) is None
    assert codec.encode_if_changed({**back, "safe": "<b>&</b>"}, raw) is not None, "escaping is lost or gained"
