"""Events: what happened to sessions, handed to the callbacks that want to know.

``on_open``, ``on_create``, ``on_close`` and ``on_destroy`` are filters over the one stream ``on_event``. None of them
decides anything: what they raise is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

from .config import SessionConfig
from .core.event import LOGGED, Event
from .core.state import State
from .settings import name_of

__all__ = ["Events", "log"]

logger = logging.getLogger("session_mw")


def log(name: str, reason: str) -> None:
    """What is logged of an event, whether anybody listens or not."""
    logger.info("session_mw: session %s (%s)", name, reason)


class Events:
    """One per middleware. ``wanted``: whether any callback listens; refusals are logged in any case."""

    def __init__(self, config: SessionConfig) -> None:
        self._always = () if config.on_event is None else (config.on_event,)
        filters = {
            "open": config.on_open,
            "create": config.on_create,
            "close": config.on_close,
            "destroy": config.on_destroy,
        }
        self._filtered = {name: (callback, *self._always) for name, callback in filters.items() if callback is not None}
        self.wanted = bool(self._filtered or self._always)

    def tell(self, state: State) -> None:
        """Hand events to the callbacks that want them; what those raise is logged."""
        for callback, event in self._told(state):
            try:
                callback(event)
            except Exception:
                logger.exception("session_mw: %s failed on %r", name_of(callback), event.name)

    async def atell(self, state: State) -> None:
        """``tell``, where callbacks may be awaited."""
        for callback, event in self._told(state):
            try:
                answer = callback(event)
                if isinstance(answer, Awaitable):
                    await answer
            except Exception:
                logger.exception("session_mw: %s failed on %r", name_of(callback), event.name)

    def _told(self, state: State) -> list[tuple[Any, Event]]:
        events, state.events = state.events, ()
        for event in events:
            if event.name in LOGGED:
                log(event.name, event.reason)
        if not self.wanted:
            return []
        return [(callback, event) for event in events for callback in self._filtered.get(event.name, self._always)]
