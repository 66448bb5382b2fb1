"""What type checkers must see of settings; a line with an ignore must be an error (``warn_unused_ignores``)."""

from collections.abc import Awaitable
from functools import partial
from typing import Any

from session_mw import AsyncSessionService, Event, IpChange, Session, SessionConfig, SessionRecord, asgi


def heard(event: Event) -> None:
    pass


async def awaited(event: Event) -> int:
    return 1


def known(record: SessionRecord) -> bool:
    return record.user_id is not None


async def asked(record: SessionRecord) -> bool:
    return known(record)


def moved(session: Session, address: str, changes: list[IpChange]) -> bool:
    return session.online() and address not in [change.address for change in changes]


async def moved_far(session: Session, address: str, changes: list[IpChange]) -> bool:
    return moved(session, address, changes)


def either(record: SessionRecord) -> bool | Awaitable[bool]:
    return known(record) or asked(record)


async def app(scope: Any, receive: Any, send: Any) -> None:
    pass


events: list[Event] = []
SessionConfig(on_event=events.append, on_open=heard, on_create=awaited, on_close=lambda event: print(event.name))
SessionConfig(on_validate=known, on_ip_changed=moved, on_destroy=partial(print, "ended"))
SessionConfig(on_validate=lambda record: record.login_ip != "::1", on_ip_changed=lambda session, was, changes: False)
AsyncSessionService(store="memory:", on_validate=asked, on_event=awaited)
asgi.SessionMiddleware(app, store="memory:", on_ip_changed=moved_far, on_validate=either)


def nothing() -> None:
    pass


def texts(record: SessionRecord) -> str:
    return "yes"


SessionConfig(on_event=nothing)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionConfig(on_open=known)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionConfig(on_validate=texts)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionConfig(on_ip_changed=known)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
SessionConfig(on_close=lambda event: event.colour)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
