"""What may speak against a client's claim once its record is found: damage, addresses, a veto of the app's own.

Shared by the middlewares and the service. A callback that fails decides against.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias

from ..config import SessionConfig
from ..core.login import Login
from ..core.operations import Consult, Flow
from ..core.record import Record, SessionRecord
from ..core.state import State
from ..errors import StoreError
from ..settings import name_of

__all__ = ["Objection", "consult", "moved", "objection", "unvetoed", "vetoed"]

logger = logging.getLogger("session_mw")

Objection: TypeAlias = Literal["corrupt", "address", "vetoed"]
"""Reasons of the event ``refused``."""


def objection(config: SessionConfig, state: State, record: Record, here: str | None) -> Flow[Objection | None]:
    """Why a client calling from *here* does not get *record*; ``None`` when it does.

    *state* adopts the record on the way.
    """
    try:
        state.adopt(record)
        bound = state.seen().ip
    except (ValueError, StoreError):
        return "corrupt"
    if config.session_ip and bound and not config.client.same(here, bound):
        return "address"
    return "vetoed" if (yield from vetoed(config, record)) else None


def vetoed(config: SessionConfig, record: Record) -> Flow[bool]:
    """Whether ``on_validate`` is against *record*."""
    if config.on_validate is None:
        return False
    return (yield from consult(config.on_validate, SessionRecord.of(record))) is not True


def unvetoed(config: SessionConfig, answer: Record | Flow[Record | None] | None) -> Flow[Record | None]:
    """The record of *answer*, unless there is none or ``on_validate`` is against it by now."""
    record = answer if answer is None or isinstance(answer, Record) else (yield from answer)
    return None if record is None or (yield from vetoed(config, record)) else record


def moved(config: SessionConfig, state: State, here: str | None) -> dict[str, Login]:
    """The logins of the adopted record that are held to another address than *here*, by storage."""
    return {
        storage: login
        for storage, login in state.all_logins().items()
        if login.bound and login.ip is not None and not config.client.same(here, login.ip)
    }


def consult(callback: Any, *arguments: Any) -> Flow[Any]:
    """What a deciding callback says; one that fails decides against."""
    try:
        return (yield Consult(callback, arguments))
    except Exception:
        logger.exception("session_mw: %r failed; the session is refused", name_of(callback))
        return None
