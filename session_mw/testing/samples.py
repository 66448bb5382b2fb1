"""What the cases of the kit store and look at: sample records, and assertions about what is found."""

# ruff: noqa: S101  (asserting is what this module is for)
from __future__ import annotations

import secrets
from typing import Any

from msgspec import structs

from ..core.operations import Close, Create, Delete, Flow, ListUser, Load, Operation, Outcome, Rotate
from ..core.record import Record
from ..core.tokens import RANDOM_BYTES, mint
from .face import Face

__all__ = [
    "NOW",
    "a_closed",
    "assert_closed",
    "assert_listed",
    "assert_payload",
    "assert_record",
    "following",
    "listed",
    "new_id",
    "new_record",
    "once",
    "turn",
]

NOW = 2_100_000_000
"""Where the kit's time stands, Unix seconds: ahead of any clock, for stores whose backend expires by its own, and
within 32 bits, so that what is wrong beyond them shows where it is looked for."""


def new_id() -> str:
    """A fresh id of the right shape."""
    return mint(secrets.token_bytes(RANDOM_BYTES)).id


def new_record(id: str | None = None, **changes: Any) -> Record:
    """A live record of version 1 under *id* (a fresh one by default), with *changes*."""
    record = Record(
        id=id or new_id(),
        digest=secrets.token_bytes(32),
        user_id="alice",
        created_at=NOW,
        last_activity=NOW,
        expires_at=NOW + 7200,
        absolute_expires_at=NOW + 604_800,
        lifetime=None,
        login_ip=None,
        login_user_agent=None,
        version=1,
        payload=b'{"a":1}',
    )
    return structs.replace(record, **changes)


def following(record: Record, **changes: Any) -> Record:
    """*record* with the next version and *changes*."""
    return structs.replace(record, version=record.version + 1, **changes)


def once(operation: Operation) -> Flow[Any]:
    """A flow of one operation."""
    answer = yield operation
    return answer


def turn(
    face: Face, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
) -> Flow[Outcome]:
    """Rotate in one step, or as a store that cannot is used: create, close, and take back what was created."""
    if face.can_rotate:
        outcome: Outcome = yield Rotate(record, old_id, expected_version, until, successor)
        return outcome
    if (yield Create(record)) is not True:
        return Outcome.CONFLICT
    ended: Outcome = yield Close(old_id, expected_version, until, successor)
    if ended is Outcome.DELETED:
        return Outcome.SAVED
    yield Delete(record.id)
    return ended


def a_closed(face: Face, until: int = NOW + 60) -> Record:
    """A record that was just closed, as it was before."""
    record = new_record()
    face.ask(Create(record))
    outcome = face.ask(Close(record.id, record.version, until=until))
    assert outcome is Outcome.DELETED, f"close answered {outcome}"
    return record


def listed(face: Face, user_id: str = "alice") -> list[str]:
    """Ids of *user_id*, as the store lists them."""
    return [record.id for record in face.ask(ListUser(user_id))]


def assert_listed(face: Face, ids: list[str], why: str, user_id: str = "alice") -> None:
    """*user_id* has exactly *ids*, in any order; nothing is asked of a store that cannot list."""
    if face.can_list:
        assert sorted(listed(face, user_id)) == sorted(ids), why


def assert_record(face: Face, record: Record) -> None:
    """The stored record is the very record that was given."""
    found = face.ask(Load(record.id))
    assert found is not None, "a record is not there any more"
    for field in Record.__struct_fields__:
        assert getattr(found, field) == getattr(record, field), f"{field} is not what was stored last"


def assert_payload(face: Face, id: str, payload: bytes) -> None:
    """The stored payload is the very bytes that were given."""
    found = face.ask(Load(id))
    assert type(found.payload) is bytes, f"the payload came back as {type(found.payload).__name__}"
    assert found.payload == payload, f"a payload of {len(payload)} bytes changed on the way"


def assert_closed(face: Face, record: Record, until: int, successor: str | None) -> None:
    """What is left of *record* is a closed one: id, digest and deadline, and nothing else."""
    found = face.ask(Load(record.id))
    assert found is not None, "a closed record answers load"
    kept = (found.id, found.closed, found.digest, found.expires_at, found.successor)
    wanted = (record.id, True, record.digest, until, successor)
    assert kept == wanted, "a closed record keeps id and digest, its deadline and its successor"
    rest = (found.user_id, found.payload, found.login_ip, found.login_user_agent, found.lifetime)
    assert rest == (None, b"", None, None, None), "a closed record keeps something of the session"
