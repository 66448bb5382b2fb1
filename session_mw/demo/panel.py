"""The panel: what the session layer did for a request, in words. Sizes are bytes, times microseconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .watch import Call, Trace

__all__ = ["Fact", "facts"]

_READS = {
    "initialize": "Store opened",
    "load": "Record read",
    "list_user": "Your sessions listed, for this page",
}
_WRITES = {
    "create": "Record created",
    "save": "Record saved",
    "touch": "Deadline moved",
    "rotate": "New record in, old one closed, in one step",
    "close": "Record closed",
    "delete": "Record deleted",
    "delete_user": "Other sessions deleted",
}
_REASONS = {
    "unknown": "no such session: ended elsewhere, or never there",
    "stale_token": "that session ended a moment ago",
    "expired": "its time is over",
    "forged": "right id, wrong secret",
    "malformed": "not shaped like one of ours",
    "doubled": "there was more than one",
    "gone": "the session ended while this request ran",
}


class Fact(NamedTuple):
    """One heading and what is to say about it: ``(what, details)``. *happened*: whether anything did."""

    name: str
    happened: bool
    lines: Sequence[tuple[str, str]]


def facts(trace: Trace) -> Iterator[Fact]:
    """What *trace* tells, always the same four headings."""
    yield Fact("Loaded", *_loaded(trace))
    writes = [_told(call, _WRITES) for call in trace.calls if call.name in _WRITES]
    yield Fact("Written", bool(writes), writes or [("Nothing", "")])
    if trace.cookie:
        size = f"{trace.cookie_bytes} bytes of header"
        yield Fact("Cookie", True, [("Set", size) if trace.cookie == "set" else ("Cleared", size)])
    else:
        yield Fact("Cookie", False, [("None sent", "")])
    if trace.touched:
        yield Fact("Time", True, [(_micro(trace.nanoseconds), "to open and to commit, store included")])
    else:
        yield Fact("Time", False, [("None", "")])


def _loaded(trace: Trace) -> tuple[bool, Sequence[tuple[str, str]]]:
    if not trace.touched:
        return False, [("Nothing", "the page did not look at the session")]
    reads = [_told(call, _READS) for call in trace.calls if call.name in _READS]
    refusals = [("Cookie not accepted", _REASONS.get(reason, reason)) for reason in trace.reasons]
    if not trace.cookie_came:
        return bool(reads), [*reads, ("Nothing", "no cookie came, so nobody was asked")]
    return True, [*reads, *refusals]


def _told(call: Call, words: Mapping[str, str]) -> tuple[str, str]:
    size = "" if call.size is None else f"{call.size} bytes, version {call.version}, "
    return words[call.name], f"{size}{_micro(call.nanoseconds)}"


def _micro(nanoseconds: int) -> str:
    return f"{max(1, round(nanoseconds / 1000)):,} µs"
