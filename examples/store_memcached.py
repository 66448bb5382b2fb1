"""A store over memcached, in one file: what docs/writing-a-store.md walks through.

    pip install session_mw pymemcache
    SessionMiddleware(app, store=MemcachedStore("127.0.0.1:11211"))

What memcached gives: ``gets`` hands out a number with each value, and ``cas`` writes only where that number is still
the same. That is enough for every rule of a store but two, which are said openly: it cannot write two keys at once
(``can_rotate = False``), and it cannot find sessions by their user. It also forgets: a restart or a full memory ends
sessions early, which is safe, since nobody is logged in by a record that is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import structs
from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheError

from session_mw.stores import Outcome, Record, StoreError, closed_record

__all__ = ["PAYLOAD_LIMIT", "MemcachedStore"]

PAYLOAD_LIMIT = 1_000_000  # bytes; memcached takes items of 1 MiB, unless told otherwise
GRACE = 60  # seconds by which the server's clock may be ahead of ours: time is not judged here
LATEST = 2**31 - 1  # memcached knows no later moment
NOW = -1  # an expiry time: at once


class MemcachedStore:
    """Sessions in the memcached at *server*: ``host:port`` or the path of a unix socket.

    *prefix* begins every key. *timeout*: seconds to wait for the server. Every call may raise StoreError.
    """

    can_rotate = False  # a session gets its new id in two steps, and session_mw takes care of what lies between
    evicts = True  # a full server drops what is live

    def __init__(self, server: str, *, prefix: str = "session:", timeout: float = 2.0) -> None:
        self._server = server
        self._prefix = prefix
        self._timeout = timeout
        self._inherited: PooledClient | None = None
        self._open()

    def __repr__(self) -> str:
        return f"<MemcachedStore {self._server}>"

    def _open(self) -> None:
        wait = self._timeout
        self._client = PooledClient(
            self._server, connect_timeout=wait, timeout=wait, no_delay=True, default_noreply=False
        )
        self._pid = os.getpid()

    # The one place that talks to the server, and that says its faults in our words.

    def _ask(self, command: str, *arguments: Any) -> Any:
        if self._pid != os.getpid():  # a fork must not speak on its parent's connections, nor close them
            self._inherited = self._client
            self._open()
        try:
            return getattr(self._client, command)(*arguments)
        except (MemcacheError, OSError) as error:
            raise StoreError(f"memcached at {self._server}: {error}") from error

    def _key(self, id: str) -> str:
        return self._prefix + id

    def _read(self, id: str) -> tuple[Record | None, bytes | None]:
        """The record, and the number under which it may be replaced."""
        value, number = self._ask("gets", self._key(id))
        return (None if value is None else _decoded(value)), number

    def _replace(self, id: str, change: Callable[[Record], Record], expected_version: int | None) -> Outcome:
        """Put what *change* makes of the live record in its place: SAVED, CONFLICT or GONE."""
        while True:  # each further round, somebody else has just been faster
            record, number = self._read(id)
            if record is None or record.closed:
                return Outcome.GONE
            if expected_version is not None and record.version != expected_version:
                return Outcome.CONFLICT
            changed = change(record)
            if self._ask("cas", self._key(id), _encoded(changed), number, _expiry(changed)) is True:
                return Outcome.SAVED

    # The contract.

    def load(self, id: str) -> Record | None:
        value = self._ask("get", self._key(id))
        return None if value is None else _decoded(value)

    def create(self, record: Record) -> bool:
        added: bool = self._ask("add", self._key(record.id), _encoded(record), _expiry(record))
        return added

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        _encoded(record)  # too large is too large, whatever is there

        def change(old: Record) -> Record:
            if payload_only:  # a touch may have moved the stored times on
                return structs.replace(old, version=record.version, payload=record.payload)
            return record

        return self._replace(record.id, change, expected_version)

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        def change(old: Record) -> Record:
            return structs.replace(
                old,
                last_activity=max(old.last_activity, last_activity),
                expires_at=max(old.expires_at, expires_at),
            )

        return self._replace(id, change, None) is Outcome.SAVED

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        while True:
            record, number = self._read(id)
            if record is None or (record.closed and expected_version is not None):
                return Outcome.GONE
            if expected_version is not None and record.version != expected_version:
                return Outcome.CONFLICT
            if self._ask("cas", self._key(id), b"", number, NOW) is True:  # a plain delete might take another's record
                return Outcome.GONE if record.closed else Outcome.DELETED

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        def change(old: Record) -> Record:
            return closed_record(id, old.digest, until=until, successor=successor)

        outcome = self._replace(id, change, expected_version)
        return Outcome.DELETED if outcome is Outcome.SAVED else outcome

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        raise StoreError("memcached cannot write two keys at once; can_rotate says so")

    def list_user(self, user_id: str) -> list[Record]:
        raise StoreError("memcached has no index: it cannot find the sessions of a user")

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        raise StoreError("memcached has no index: it cannot end the sessions of a user")

    def purge(self, now: int, limit: int) -> int:
        """Nothing to do: memcached forgets by itself what is due."""
        return 0

    def initialize(self) -> None:
        self._ask("version")

    def teardown(self) -> None:
        if self._pid == os.getpid():
            self._client.close()  # a later call opens another


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def _encoded(record: Record) -> bytes:
    if len(record.payload) > PAYLOAD_LIMIT:
        raise StoreError(f"a payload of {len(record.payload)} bytes; memcached takes {PAYLOAD_LIMIT}")
    return _encoder.encode(record)


def _decoded(value: bytes) -> Record:
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise StoreError("memcached holds something that is no session under a session's key") from error


def _expiry(record: Record) -> int:
    """When memcached may forget *record*: Unix seconds."""
    return min(record.expires_at + GRACE, LATEST)
