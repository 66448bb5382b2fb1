"""A session and how to ask it: what Django promises is told once, and holds called and awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import django_engine.project  # noqa: F401 - session_mw.django wants settings

from session_mw.django import SessionStore

__all__ = ["Face", "record_of"]


class Face:
    """``face.get("a")`` is ``get("a")`` or an awaited ``aget("a")``."""

    def __init__(self, kind: str, key: str | None = None, *, engine: type[SessionStore] = SessionStore) -> None:
        self.kind = kind
        self.engine = engine
        self.session = engine(key)

    def again(self) -> Face:
        """Another request with the same cookie."""
        return Face(self.kind, self.session.session_key, engine=self.engine)

    def __getattr__(self, name: str) -> Any:
        if self.kind == "called":
            return getattr(self.session, name)

        def awaited(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run(getattr(self.session, f"a{name}")(*args, **kwargs))

        return awaited

    def seen(self) -> tuple[bool, bool]:
        """Whether anybody looked, and whether anything changed."""
        return self.session.accessed, self.session.modified

    def rest(self) -> None:
        """As if nobody had looked at it, or written to it."""
        self.session.accessed = self.session.modified = False
        assert self.seen() == (False, False)


def record_of(face: Face) -> Any:
    """What is kept of it."""
    record = face.session._state.base  # type: ignore[union-attr]
    assert record is not None
    return record
