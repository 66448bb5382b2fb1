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

__all__ = ["Events"]

logger = logging.getLogger("session_mw")


class Events:
    """One per middleware. ``wanted``: whether any callback listens; refusals are logged in any case."""

    def __init__(self, config: SessionConfig) -> None:
        filters = {
            "open": config.on_open,
            "create": config.on_create,
            "close": config.on_close,
            "destroy": config.on_destroy,
        }
        self._filters = {name: callback for name, callback in filters.items() if callback is not None}
        self._stream = config.on_event
        self.wanted = bool(self._filters) or config.on_event is not None

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
        told = []
        for event in events:
            if event.name in LOGGED:
                logger.info("session_mw: session %s (%s)", event.name, event.reason)
            told += [(callback, event) for callback in (self._filters.get(event.name), self._stream) if callback]
        return told
