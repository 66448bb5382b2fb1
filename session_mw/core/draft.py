"""Drafting: the one place where a request's changes become data.

``draft`` makes the next record of what a ``State`` knows and wishes, on top of the record that was opened or of a newer
one. Nothing is done by it: whether the draft is kept, a store or a response has still to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from . import codec
from .changes import diff, merge_attempts, merge_logins
from .lifetime import Limits, slide, touch_due
from .login import NAMELESS, former_digest
from .payload import BORDER, DEFAULT_STORAGE, EMPTY_META, NO_ITEMS, Meta, join, read_meta, split, write_meta
from .record import Record
from .state import State
from .tokens import Token
from .wishes import EMPTY, NOTHING, UNSET

__all__ = ["draft"]


def draft(
    state: State,
    live: dict[str, dict[str, Any]],
    base: Record | None,
    now: int,
    limits: Limits,
    token: Token | None = None,
    digest: bytes = b"",
) -> Record | None:
    """The next record: this request's changes on top of *base* (the opened record, a newer one, or none).

    *token* and *digest* are the identity of a new record; without them the record of *base* goes on.
    ``None``: nothing would be left to keep.
    Raises ``SessionSerializationError`` and ``SessionTooLargeError`` for values that cannot be kept.
    """
    wish = state.wish
    if wish is NOTHING and base is not None and base is state.base and token is None:
        data = state.encoded.get(DEFAULT_STORAGE, NO_ITEMS)
        if data != NO_ITEMS and len(state.encoded) == 1:  # the usual: its items changed
            return _continued(state, base, now, limits, base.user_id, base.lifetime, data + BORDER + state.rest)
    if wish.wiped or base is None:
        base_meta, held, lifetime = EMPTY_META, NO_ITEMS, None
    elif base is state.base:
        base_meta, held, lifetime = state.seen(), state.original, base.lifetime
    else:
        held, rest = split(base.payload)
        base_meta, lifetime = read_meta(rest), base.lifetime
    if wish.lifetime is not UNSET:
        lifetime = wish.lifetime
    if wish.wiped or base is state.base:
        state.merged, storages = EMPTY, state.encoded  # changed() encoded, at every commit
    else:
        state.merged = _merged(state, live, held, base_meta)
        storages = {name: codec.encode(data, name) for name, (data, _) in state.merged.items()}
    data = storages.get(DEFAULT_STORAGE, held)
    meta = _overlay(state, base_meta, storages, fresh=base is None or wish.wiped)
    empty = data == NO_ITEMS and lifetime is None and not (meta.storages or meta.logins or meta.attempts)
    if empty and (wish.wiped or not state.keeps_empty):
        return None
    owner, meta = _owner(state, base, meta)
    unchanged = meta is base_meta and base is state.base and not wish.wiped
    payload = join(data, state.rest if unchanged else write_meta(meta))
    return _record(state, base, now, limits, token, digest, owner, lifetime, payload)


def _continued(
    state: State, base: Record, now: int, limits: Limits, owner: str | None, lifetime: int | None, payload: bytes
) -> Record:
    """*base* with new contents, under its own identity and deadlines."""
    active, until = base.last_activity, base.expires_at
    if touch_due(base, now, limits) and not state.outside:
        active, until = now, slide(base, now, limits)
    return Record(
        base.id,
        base.digest,
        owner,
        base.created_at,
        active,
        until,
        base.absolute_expires_at,
        lifetime,
        base.login_ip,
        base.login_user_agent,
        base.version + 1,
        payload,
    )


def _record(
    state: State,
    base: Record | None,
    now: int,
    limits: Limits,
    token: Token | None,
    digest: bytes,
    owner: str | None,
    lifetime: int | None,
    payload: bytes,
) -> Record:
    wish = state.wish
    login = wish.logged_in
    begun = base is None or wish.wiped or login is not None
    if base is None or begun:  # re-authentication renews both limits (63B-4 §5.2)
        created, over = now, now + limits.absolute
        ip, agent = (None, None) if login is None else (login.ip, login.agent)
    else:
        if token is None and wish.lifetime is UNSET:
            return _continued(state, base, now, limits, owner, lifetime, payload)
        created, over = base.created_at, base.absolute_expires_at
        ip, agent = base.login_ip, base.login_user_agent
    active = now
    if base is None or begun or wish.lifetime is not UNSET:
        expires = min(now + (lifetime or limits.idle), over)
    elif state.outside:
        active, expires = base.last_activity, base.expires_at
    else:
        expires = slide(base, now, limits)
    if token is not None:
        handle, version = token.id, 1
    else:
        assert base is not None  # noqa: S101 - a record without an identity of its own continues one
        handle, digest, version = base.id, base.digest, base.version + 1
    return Record(handle, digest, owner, created, active, expires, over, lifetime, ip, agent, version, payload)


def _overlay(state: State, newer: Meta, storages: Mapping[str, bytes], *, fresh: bool) -> Meta:
    """*newer* with this request's login states, attempts, storages and lifetime on it; itself when none."""
    wish = state.wish
    ip = state.bound_ip if fresh or wish.bound else newer.ip
    stored = wish.cleared or len(storages) > (DEFAULT_STORAGE in storages)
    if not (wish.logins or wish.attempts or stored or wish.persistent is not None or ip != newer.ip):
        return newer
    return Meta(
        logins=merge_logins(state.kept().logins, wish.logins, newer.logins) if wish.logins else newer.logins,
        attempts=_next_attempts(state, newer.attempts) if wish.attempts else newer.attempts,
        storages=_next_storages(state, newer.storages, storages) if stored else newer.storages,
        former=newer.former,
        persistent=newer.persistent if wish.persistent is None else wish.persistent,
        ip=ip,
    )


def _next_attempts(state: State, newer: Mapping[str, int]) -> Mapping[str, int]:
    attempts = {**newer}
    for storage, (reset, added) in state.wish.attempts.items():
        count = merge_attempts(reset, added, attempts.pop(storage, 0))
        if count:
            attempts[storage] = count
    return attempts


def _next_storages(
    state: State, newer: Mapping[str, msgspec.Raw], mine: Mapping[str, bytes]
) -> Mapping[str, msgspec.Raw]:
    kept = {name: raw for name, raw in newer.items() if name not in state.wish.cleared}
    kept.update((name, msgspec.Raw(data)) for name, data in mine.items() if name != DEFAULT_STORAGE)
    return {name: raw for name, raw in kept.items() if bytes(raw) != NO_ITEMS}


def _owner(state: State, base: Record | None, meta: Meta) -> tuple[str | None, Meta]:
    """The owner of the next record; a released one leaves its digest behind."""
    wish = state.wish
    seen = state.base if wish.logged_in else base  # login() keeps the owner whom its caller saw
    before = None if seen is None or wish.wiped else seen.user_id
    owner: str | None = before if wish.owner is UNSET else wish.owner
    if wish.released and not meta.logins:
        former = (meta.former or NAMELESS) if owner is None else former_digest(owner)
        return None, msgspec.structs.replace(meta, former=former)
    if owner is not None and meta.former:
        meta = msgspec.structs.replace(meta, former="")
    return owner, meta


def _merged(
    state: State, live: dict[str, dict[str, Any]], held: bytes, newer: Meta
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Every storage in memory, with this request's changes re-applied to what is kept now, and as ``changed`` found it:
    what is written while the store is asked belongs to the next commit."""
    merged = {}
    for name in live:
        original = state.original_of(name)
        found = codec.decode(state.encoded.get(name, original))
        replays = state.wish.replays.get(name, {})
        change = diff(codec.decode(original), found, cleared=name in state.wish.cleared, replays=replays)
        now_held = held if name == DEFAULT_STORAGE else bytes(newer.storages.get(name, NO_ITEMS))
        merged[name] = change.onto(codec.decode(now_held)), found
    return merged
