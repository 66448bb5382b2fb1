"""State: what one request knows of its session, and what it wishes done with it.

``Session`` fills it in, ``draft`` turns it into the next record, the managers carry it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ..errors import SessionClosedError, StoreError
from .changes import ABSENT, Replay, alike, merge_attempts
from .codec import decode, encode_if_changed, is_flat
from .event import LOGGED, Event
from .login import Login
from .payload import BORDER, DEFAULT_STORAGE, EMPTY_META, NO_ITEMS, Meta, read_meta, split
from .record import Record
from .tokens import Token
from .wishes import EMPTY, NOTHING, UNSET, Wishes

__all__ = ["OPEN", "OVER", "STARTED", "State", "Watched"]

OPEN, STARTED, OVER = range(3)
"""Phases of a request: headers can still be sent; they are out; the app has returned."""


class State(msgspec.Struct, eq=False):
    """One request's view of its session. Attributes are plain: the rules live in ``Session`` and the managers.

    Collections are replaced, never changed in place. A Struct: every request that touches its session makes one.
    """

    tells: ClassVar[bool] = False  # whether somebody listens to more than refusals
    outside: ClassVar[bool] = False  # whether no request stands behind it: that is no activity
    keeps_empty: ClassVar[bool] = False  # whether a session without anything in it is kept

    # what was opened, and how far the request has come
    now: int  # when the session was opened
    header: str | None = None  # the request's Cookie header, where it was read already
    base: Record | None = None  # the record this request builds on
    opened_id: str | None = None  # the id the client came with
    pointer: bool = False  # opened through a pointer: no cookie, no rotation
    due: bool = False  # a commit, though nothing changes: activity may have to be written, or a cookie sent
    stale: bool = False  # the session ended meanwhile: changes are dropped, no cookie
    refused: bool = False  # the address verdict went against a login
    phase: int = OPEN
    accessed: bool = False  # by the app; a read before the handler is not
    shut: bool = False  # destroyed as a whole: writes raise until start()
    committed: bool = False  # commit() was called and nothing written since
    writes: int = 0  # how often a method that writes was called
    plain_writes: int = 0  # how many of them left nothing that is not plain
    encoded_writes: int = 0  # how many of them were seen by ``changed``
    kept_writes: int = -1  # how many the record holds, where nothing nested could change beside them; -1: not known
    bound_ip: str = ""  # the address a new session is bound to, under ``session_ip``
    token: Token | None = None  # the new identity, once there is one
    unsent: bool = False  # ``token`` names a stored record the client does not know yet
    emptied: bool = False  # the record of the client's cookie is gone, and the cookie has still to be cleared
    events: tuple[Event, ...] = ()
    # the data
    storage: str = DEFAULT_STORAGE  # the current one; its items are the session's own
    others: Mapping[str, dict[str, Any]] = EMPTY  # the other storages in memory
    queue: tuple[tuple[str, str, Any], ...] = ()  # storage, key, value
    original: bytes = NO_ITEMS  # storage "global" as it was opened
    rest: bytes = b""  # the payload's second segment as it was opened
    meta: Meta | None = EMPTY_META  # ``rest`` understood; None: not yet asked for
    loaded: dict[str, Any] | None = None  # "global" as it was decoded; nobody changes this dict
    encoded: Mapping[str, bytes] = EMPTY  # changed storages, as the next record will hold them
    merged: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = EMPTY  # storages in memory, after a conflict: as
    # re-applied to a newer record, and as this commit found them
    dropped: bool = False  # changes were dropped, and that was noted
    end_others: str | None = None  # the owner whose other sessions are to end
    wish: Wishes = NOTHING  # to be read; ``wishing()`` gives those to be filled in
    flight: Any = None  # the ``Flight`` of a commit under way

    def __repr__(self) -> str:  # what a session holds belongs in no log
        return f"<State of {self.handle[:6] if self.handle else 'nothing'}…>"

    def wishing(self) -> Wishes:
        """This request's own wishes, to be filled in."""
        if self.wish is NOTHING:
            self.wish = Wishes()
        return self.wish

    def check_not_over(self) -> None:
        """Raises ``SessionClosedError`` once the app has returned."""
        if self.phase == OVER:
            raise SessionClosedError("the request is over; a session can no longer be written")

    def start_response(self) -> None:
        """The response starts, and from now on it is too late for a cookie."""
        if self.phase == OPEN:
            self.phase = STARTED

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
        self.loaded = data = decode(original)
        self.original, self.base, self.opened_id = original, record, record.id
        if rest:
            self.rest, self.meta = rest, None
        return data

    def rebase(self, record: Record | None) -> None:
        """What was wished is done; *record* is what is kept now. The live data stays where it is."""
        self.wish, self.base, self.loaded, self.encoded = NOTHING, record, None, EMPTY
        if record is None:
            self.original, self.rest, self.meta = NO_ITEMS, b"", EMPTY_META
        else:
            self.original, _, self.rest = record.payload.partition(BORDER)
            self.meta = None if self.rest else EMPTY_META
        self.kept_writes = self.encoded_writes if is_flat(self.original) else -1
        self.due = True

    def catch_up(self, live: dict[str, dict[str, Any]]) -> None:
        """After a commit on top of a newer record *live* holds what was kept, the changes of others included.

        Else the next commit of this request would undo them. What was written since it began stays, and a value that is
        the same stays the same object. While the commit is under way there is nothing to catch up with.
        """
        if self.flight is not None:
            return
        merged, self.merged = self.merged, EMPTY
        for name, (kept, found) in merged.items():
            data = live.get(name, {})
            for key in (*found, *dict.keys(data)):
                now, then = dict.get(data, key, ABSENT), found.get(key, ABSENT)
                if not alike(now, then) or alike(now, kept.get(key, ABSENT)):
                    kept[key] = now
            dict.clear(data)
            dict.update(data, {key: value for key, value in kept.items() if value is not ABSENT})

    def wipe(self) -> None:
        """Nothing of what was there before survives; nobody owns what comes now."""
        wish = Wishes()
        wish.destroyed, wish.ended = self.wish.destroyed, self.wish.ended
        wish.wiped, wish.owner = True, None
        self.wish = wish
        self.loaded, self.others, self.queue = None, EMPTY, ()

    def end_login(self, storage: str) -> None:
        """The login of *storage* is over; what a login of this request comes to later takes nothing of that back."""
        wish = self.wishing()
        wish.logins = {**wish.logins, storage: None}
        if storage in self.kept().logins:
            wish.ended = {**wish.ended, storage: storage in wish.cleared}

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
        return {} if storage in self.wish.cleared else decode(self.original_of(storage))

    def original_of(self, storage: str) -> bytes:
        """What *storage* held when it was opened, encoded; nothing once all was wiped."""
        if self.wish.wiped:
            return NO_ITEMS
        if storage == DEFAULT_STORAGE:
            return self.original
        raw = self.seen().storages.get(storage)
        return NO_ITEMS if raw is None else bytes(raw)

    def is_kept(self) -> bool:
        """Whether the record certainly holds all there is: no write or wish came since, nothing can change in place.

        Told without a comparison. What somebody wrote past our methods, as by ``dict.__setitem__``, is not seen.
        """
        return self.kept_writes == self.writes and self.wish is NOTHING and not self.others

    # -- changes ------------------------------------------------------------------------------------------------

    def changed(self, live: dict[str, dict[str, Any]]) -> bool:
        """Whether the next record would differ from the opened one; *live* holds every materialised storage.

        Raises ``SessionSerializationError`` and ``SessionTooLargeError`` for values that cannot be kept.
        """
        self.encoded = EMPTY
        if self.is_kept():
            return False
        wish, encoded = self.wish, {}
        self.encoded_writes = self.writes
        for storage, data in live.items():
            if storage == DEFAULT_STORAGE and not wish.wiped:
                plain = self.kept_writes >= 0 and self.plain_writes == self.writes
                new = encode_if_changed(data, self.original, self.loaded, plain=plain)
            else:
                new = encode_if_changed(data, self.original_of(storage), None, _root(storage))
            if new is not None:
                encoded[storage] = new
        self.encoded = encoded
        return bool(encoded) or (wish is not NOTHING and wish.change_record())

    def wishes(self) -> bool:
        """Whether anything but plain data was changed."""
        return self.wish is not NOTHING and self.wish.change_record()

    def ends(self) -> bool:
        """Whether this request ends a login, or everything that was there."""
        return self.wish.wiped or bool(self.wish.ended)


class Watched(State):
    """The state of a session whose events somebody listens to."""

    tells: ClassVar[bool] = True


def _root(storage: str) -> str:
    """What paths in errors start with."""
    return "session" if storage == DEFAULT_STORAGE else storage
