"""Event: something that happened to a session, noted where it is decided and told once it is done."""

from __future__ import annotations

import msgspec

__all__ = ["LOGGED", "Event"]

LOGGED = ("dropped", "refused")
"""Events that are logged whether anybody listens or not."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a session. ``session_id`` is the public handle; ``at`` is Unix seconds.

    ``name`` is one of ``create``, ``open``, ``save``, ``rotate``, ``token`` (issued by the service), ``login``,
    ``logout``, ``attempt`` (counted by ``attempt()``), ``destroy``, ``close``, ``ip_changed``, ``upgrade`` (from a
    legacy cookie), ``refused`` (a client's claim; see ``reason``) and ``dropped`` (changes to a session that ended).
    ``reason`` says why: ``malformed``, ``unknown``, ``forged``, ``expired``, ``stale_token``, ``ended``, ``doubled``,
    ``vetoed``, ``address``, ``corrupt``, ``gone`` ...
    """

    name: str
    session_id: str | None
    at: int
    reason: str = ""
    user_id: str | None = None
