"""State: what one request knows of its session, and what it wishes done with it.

``Session`` fills it in, the managers carry it out. ``draft`` turns it into the next record, on top of the record that
was opened or of a newer one; this is the one place where a request's changes become data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ..errors import StoreError
from . import codec
from .changes import Replay, StorageChange, diff, merge_attempts, merge_logins, same
from .event import LOGGED, Event
from .lifetime import Limits, slide, touch_due
from .login import Login, former_digest
from .payload import BORDER, DEFAULT_STORAGE, EMPTY_META, Meta, join, read_meta, split, write_meta
from .record import Record
from .tokens import Token
from .wishes import EMPTY, NOTHING, UNSET, Wishes

__all__ = ["OPEN", "OVER", "STARTED", "State", "Watched"]

OPEN, STARTED, OVER = range(3)
"""Phases of a request: headers can still be sent; they are out; the app has returned."""

_NOTHING = b"{}"


class State(msgspec.Struct, eq=False):
    """One request's view of its session. Attributes are plain: the rules live in ``Session`` and the managers.

    Collections are replaced, never changed in place. A Struct: every request that touches its session makes one.
    """

    tells: ClassVar[bool] = False  # whether somebody listens to more than refusals
    outside: ClassVar[bool] = False  # whether no request stands behind it: that is no activity
    keeps_empty: ClassVar[bool] = False  # whether a session without anything in it is kept

    # what was opened, and how far the request has come
    now: int  # when the session was opened
    base: Record | None = None  # the record this request builds on
    opened_id: str | None = None  # the id the client came with
    pointer: bool = False  # opened through a pointer: no cookie, no rotation
    stale: bool = False  # the session ended meanwhile: changes are dropped, no cookie
    refused: bool = False  # the address verdict went against a login
    phase: int = OPEN
    accessed: bool = False  # by the app; a read before the handler is not
    shut: bool = False  # destroyed as a whole: writes raise until start()
    committed: bool = False  # commit() was called and nothing written since
    pristine: bool = False  # a session's: nothing nested that could change, and no method that writes was called
    bound_ip: str = ""  # the address a new session is bound to, under ``session_ip``
    token: Token | None = None  # the new identity, once there is one
    unsent: bool = False  # ``token`` names a stored record the client does not know yet
    emptied: bool = False  # the record of the client's cookie is gone, and the cookie has still to be cleared
    events: tuple[Event, ...] = ()
    # the data
    storage: str = DEFAULT_STORAGE  # the current one; its items are the session's own
    others: Mapping[str, dict[str, Any]] = EMPTY  # the other storages in memory
    queue: tuple[tuple[str, str, Any], ...] = ()  # storage, key, value
    original: bytes = _NOTHING  # storage "global" as it was opened
    rest: bytes = b""  # the payload's second segment as it was opened
    meta: Meta | None = EMPTY_META  # ``rest`` understood; None: not yet asked for
    loaded: dict[str, Any] | None = None  # "global" as it was decoded; nobody changes this dict
    encoded: Mapping[str, bytes] = EMPTY  # changed storages, as the next record will hold them
    merged: Mapping[str, dict[str, Any]] = EMPTY  # storages in memory, as re-applied to a newer record
    dropped: bool = False  # changes were dropped, and that was noted
    end_others: str | None = None  # the owner whose other sessions are to end
    wish: Wishes = NOTHING  # to be read; ``wishing()`` gives those to be filled in

    def __repr__(self) -> str:  # what a session holds belongs in no log
        return f"<State of {self.handle[:6] if self.handle else 'nothing'}…>"

    def wishing(self) -> Wishes:
        """This request's own wishes, to be filled in."""
        if self.wish is NOTHING:
            self.wish = Wishes()
        return self.wish

    def note(self, name: str, at: int, reason: str = "", *, handle: str | None = None, user: str | None = None) -> None:
        """Remember an event, to be told after the store has answered; where nobody listens, only what is logged."""
        if self.tells or name in LOGGED:
            self.events = (*self.events, Event(name, handle, at, reason, user))

    def drop(self, now: int, reason: str) -> None:
        """The session ended meanwhile: nothing of this request is kept, and the browser's cookie may be a newer one."""
        self.note("dropped", now, reason, handle=self.opened_id)
        self.rebase(None)
        self.token, self.stale, self.unsent, self.dropped = None, True, False, True

    def overlap(self) -> int:
        """Seconds for which the old id may be followed after a rotation; none where somebody logs in or out."""
        wish = self.wish
        return 0 if wish.logins or wish.wiped else wish.grace

    def adopt(self, record: Record) -> dict[str, Any]:
        """Build on *record*; the items of storage ``global``. Raises ``ValueError`` for a damaged payload."""
        original, rest = split(record.payload)
        self.loaded = data = codec.decode(original)
        self.original, self.base, self.opened_id = original, record, record.id
        if rest:
            self.rest, self.meta = rest, None
        return data

    def rebase(self, record: Record | None) -> None:
        """What was wished is done; *record* is what is kept now. The live data stays where it is."""
        self.wish, self.base, self.loaded, self.encoded, self.pristine = NOTHING, record, None, EMPTY, False
        if record is None:
            self.original, self.rest, self.meta = _NOTHING, b"", EMPTY_META
        else:
            self.original, _, self.rest = record.payload.partition(BORDER)
            self.meta = None if self.rest else EMPTY_META

    def catch_up(self, live: dict[str, dict[str, Any]]) -> None:
        """After a commit on top of a newer record *live* holds what was kept, the changes of others included.

        Else the next commit of this request would undo them. A value that is the same stays the same object.
        """
        merged, self.merged = self.merged, EMPTY
        for name, data in merged.items():
            mine = live[name]
            for key in data.keys() & dict.keys(mine):
                if same(mine[key], data[key]):
                    data[key] = mine[key]
            dict.clear(mine)
            dict.update(mine, data)

    def wipe(self) -> None:
        """Nothing of what was there before survives; nobody owns what comes now."""
        wish = Wishes()
        wish.destroyed = self.wish.destroyed
        wish.wiped, wish.owner = True, None
        self.wish = wish
        self.loaded, self.others, self.queue = None, EMPTY, ()

    def replay_of(self, storage: str, key: str) -> Replay | None:
        """The ``update_with`` calls on *key*, if there were any."""
        return self.wish.replays.get(storage, EMPTY).get(key)

    def keep_replay(self, storage: str, key: str, replay: Replay) -> None:
        """Remember them."""
        wish = self.wishing()
        wish.replays = {**wish.replays, storage: {**wish.replays.get(storage, EMPTY), key: replay}}

    def drop_replay(self, storage: str, key: str | None = None) -> None:
        """A plain assignment to *key* (a clear, without one) discards them."""
        wish = self.wish
        if storage in wish.replays:
            kept = {} if key is None else {k: v for k, v in wish.replays[storage].items() if k != key}
            wish.replays = {**wish.replays, storage: kept}

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def handle(self) -> str | None:
        """The id of the record this request builds on."""
        return self.base.id if self.base else None

    def seen(self) -> Meta:
        """The second segment as it was opened. Raises ``StoreError`` when it is damaged."""
        meta = self.meta
        if meta is None:
            try:
                meta = self.meta = read_meta(self.rest)
            except ValueError:
                raise StoreError("a stored session is damaged; destroy it") from None
        return meta

    def kept(self) -> Meta:
        """The second segment this request builds on: nothing once all was wiped."""
        return EMPTY_META if self.wish.wiped else self.seen()

    def login(self, storage: str) -> Login | None:
        """The login of *storage*, as this request left it."""
        if storage in self.wish.logins:
            return self.wish.logins[storage]
        return self.kept().logins.get(storage)

    def all_logins(self) -> dict[str, Login]:
        """Every login, by storage, as this request left it."""
        logins = {**self.kept().logins, **self.wish.logins}
        return {storage: login for storage, login in logins.items() if login is not None}

    def user_id(self) -> str | None:
        """The owner, as this request left it."""
        return None if self.wish.released and not self.all_logins() else self.last_owner()

    def last_owner(self) -> str | None:
        """The owner, even if a logout of this request has just released them."""
        wish = self.wish
        if wish.owner is not UNSET:
            owner: str | None = wish.owner
            return owner
        return None if self.base is None or wish.wiped else self.base.user_id

    def attempt_count(self, storage: str) -> int:
        """Attempts counted in *storage*."""
        reset, added = self.wish.attempts.get(storage, (False, 0))
        return merge_attempts(reset, added, self.kept().attempts.get(storage, 0))

    def is_persistent(self) -> bool:
        """Whether this session asked for a cookie that outlives the browser."""
        wished = self.wish.persistent
        return wished if wished is not None else bool(self.rest) and self.kept().persistent

    def storage_names(self) -> list[str]:
        """Every storage that may hold something, the current one included."""
        return list(dict.fromkeys((DEFAULT_STORAGE, self.storage, *self.kept().storages, *self.others)))

    def stored_items(self, storage: str) -> dict[str, Any]:
        """A fresh copy of what *storage* held when it was opened (nothing, once cleared)."""
        return {} if storage in self.wish.cleared else codec.decode(self._original(storage))

    def _original(self, storage: str) -> bytes:
        if self.wish.wiped:
            return _NOTHING
        if storage == DEFAULT_STORAGE:
            return self.original
        raw = self.seen().storages.get(storage)
        return _NOTHING if raw is None else bytes(raw)

    def is_fixed(self) -> bool:
        """Whether no value in memory is a container that somebody could still change in place."""
        return not self.others and (self.pristine or codec.is_flat(self.original))

    # -- changes ------------------------------------------------------------------------------------------------

    def changed(self, live: dict[str, dict[str, Any]]) -> bool:
        """Whether the next record would differ from the opened one; *live* holds every materialised storage.

        Raises ``SessionSerializationError`` and ``SessionTooLargeError`` for values that cannot be kept.
        """
        self.encoded = EMPTY
        wish = self.wish
        if self.pristine and wish is NOTHING and not self.others:
            return False  # without a comparison
        for storage, data in live.items():
            if storage == DEFAULT_STORAGE and not wish.wiped:
                new = codec.encode_if_changed(data, self.original, self.loaded)
            else:
                new = codec.encode_if_changed(data, self._original(storage), None, _root(storage))
            if new is not None:
                self.encoded = {**self.encoded, storage: new} if self.encoded else {storage: new}
        return self.encoded is not EMPTY or (wish is not NOTHING and wish.change_record())

    def wishes(self) -> bool:
        """Whether anything but plain data was changed."""
        return self.wish is not NOTHING and self.wish.change_record()

    def ends(self) -> bool:
        """Whether this request ends a login, or everything that was there."""
        wish = self.wish
        return wish.wiped or (not wish.logged_in and None in wish.logins.values())

    # -- drafting -----------------------------------------------------------------------------------------------

    def draft(
        self,
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
        wish = self.wish
        if wish is NOTHING and base is not None and base is self.base and token is None:
            data = self.encoded.get(DEFAULT_STORAGE, _NOTHING)
            if data != _NOTHING and len(self.encoded) == 1:  # the usual: its items changed
                return self._continued(base, now, limits, base.user_id, base.lifetime, data + BORDER + self.rest)
        if wish.wiped or base is None:
            base_meta, held, lifetime = EMPTY_META, _NOTHING, None
        elif base is self.base:
            base_meta, held, lifetime = self.seen(), self.original, base.lifetime
        else:
            held, rest = split(base.payload)
            base_meta, lifetime = read_meta(rest), base.lifetime
        if wish.lifetime is not UNSET:
            lifetime = wish.lifetime
        if wish.wiped or base is self.base:
            self.merged, storages = EMPTY, self.encoded  # changed() encoded, at every commit
        else:
            self.merged = self._merged(live, held, base_meta)
            storages = {name: codec.encode(data, name) for name, data in self.merged.items()}
        data = storages.get(DEFAULT_STORAGE, held)
        meta = self._overlay(base_meta, storages, fresh=base is None or wish.wiped)
        empty = data == _NOTHING and lifetime is None and not (meta.storages or meta.logins or meta.attempts)
        if empty and (wish.wiped or not self.keeps_empty):
            return None
        owner, meta = self._owner(base, meta)
        unchanged = meta is base_meta and base is self.base and not wish.wiped
        payload = join(data, self.rest if unchanged else write_meta(meta))
        return self._record(base, now, limits, token, digest, owner, lifetime, payload)

    def _continued(
        self, base: Record, now: int, limits: Limits, owner: str | None, lifetime: int | None, payload: bytes
    ) -> Record:
        """*base* with new contents, under its own identity and deadlines."""
        active, until = base.last_activity, base.expires_at
        if touch_due(base, now, limits) and not self.outside:
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
        self,
        base: Record | None,
        now: int,
        limits: Limits,
        token: Token | None,
        digest: bytes,
        owner: str | None,
        lifetime: int | None,
        payload: bytes,
    ) -> Record:
        wish = self.wish
        login = wish.logged_in
        opened = base is not None and not wish.wiped and login is None and wish.lifetime is UNSET
        if token is None and base is not None and opened:
            return self._continued(base, now, limits, owner, lifetime, payload)
        if base is None or wish.wiped or login is not None:  # re-authentication renews both limits (63B-4 §5.2)
            created, over = now, now + limits.absolute
            ip, agent = (None, None) if login is None else (login.ip, login.agent)
        else:
            created, over = base.created_at, base.absolute_expires_at
            ip, agent = base.login_ip, base.login_user_agent
        active = now
        if base is None or wish.wiped or login is not None or wish.lifetime is not UNSET:
            expires = min(now + (lifetime or limits.idle), over)
        elif self.outside:
            active, expires = base.last_activity, base.expires_at
        else:
            expires = slide(base, now, limits)
        if token is not None:
            handle, version = token.id, 1
        else:
            assert base is not None  # noqa: S101 - a record without an identity of its own continues one
            handle, digest, version = base.id, base.digest, base.version + 1
        return Record(handle, digest, owner, created, active, expires, over, lifetime, ip, agent, version, payload)

    def _overlay(self, newer: Meta, storages: Mapping[str, bytes], *, fresh: bool) -> Meta:
        """*newer* with this request's login states, attempts, storages and lifetime on it; itself when none."""
        wish = self.wish
        ip = self.bound_ip if fresh else newer.ip
        stored = wish.cleared or len(storages) > (DEFAULT_STORAGE in storages)
        if not (wish.logins or wish.attempts or stored or wish.persistent is not None or ip != newer.ip):
            return newer
        return Meta(
            logins=merge_logins(self.kept().logins, wish.logins, newer.logins) if wish.logins else newer.logins,
            attempts=self._next_attempts(newer.attempts) if wish.attempts else newer.attempts,
            storages=self._next_storages(newer.storages, storages) if stored else newer.storages,
            former=newer.former,
            persistent=newer.persistent if wish.persistent is None else wish.persistent,
            ip=ip,
        )

    def _next_attempts(self, newer: Mapping[str, int]) -> Mapping[str, int]:
        attempts = {**newer}
        for storage, (reset, added) in self.wish.attempts.items():
            count = merge_attempts(reset, added, attempts.pop(storage, 0))
            if count:
                attempts[storage] = count
        return attempts

    def _next_storages(self, newer: Mapping[str, msgspec.Raw], mine: Mapping[str, bytes]) -> Mapping[str, msgspec.Raw]:
        kept = {name: raw for name, raw in newer.items() if name not in self.wish.cleared}
        kept.update((name, msgspec.Raw(data)) for name, data in mine.items() if name != DEFAULT_STORAGE)
        return {name: raw for name, raw in kept.items() if bytes(raw) != _NOTHING}

    def _owner(self, base: Record | None, meta: Meta) -> tuple[str | None, Meta]:
        """The owner of the next record; a released one leaves its digest behind."""
        wish = self.wish
        seen = self.base if wish.logged_in else base  # login() keeps the owner whom its caller saw
        before = None if seen is None or wish.wiped else seen.user_id
        owner: str | None = before if wish.owner is UNSET else wish.owner
        if wish.released and not meta.logins:
            return None, msgspec.structs.replace(meta, former=former_digest(owner)) if owner is not None else meta
        if owner is not None and meta.former:
            meta = msgspec.structs.replace(meta, former="")
        return owner, meta

    def _merged(self, live: dict[str, dict[str, Any]], held: bytes, newer: Meta) -> dict[str, dict[str, Any]]:
        """Every storage this request changed, re-applied to what is kept now."""
        merged = {}
        for name, change in self._changes(live).items():
            now_held = held if name == DEFAULT_STORAGE else bytes(newer.storages.get(name, _NOTHING))
            merged[name] = change.onto(codec.decode(now_held))
        return merged

    def _changes(self, live: dict[str, dict[str, Any]]) -> dict[str, StorageChange]:
        return {
            name: diff(
                codec.decode(self._original(name)),
                data,
                cleared=name in self.wish.cleared,
                replays=self.wish.replays.get(name, {}),
            )
            for name, data in live.items()
        }


class Watched(State):
    """The state of a session whose events somebody listens to."""

    tells: ClassVar[bool] = True


def _root(storage: str) -> str:
    """What paths in errors start with."""
    return "session" if storage == DEFAULT_STORAGE else storage
