"""shielded: work that is to end whole, whoever gives up waiting for it.

Decided here: the canceller waits. The work goes on to its end, and only then is the cancellation heard: so nothing is
carried on behind anybody's back, and a store is not torn down under it. Both kinds are held off: that of a cancel
scope (anyio, trio), and that of an asyncio task, which heeds no scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["shielded"]

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """*work*, to its end; then what it returned or raised, or the cancellation that came meanwhile."""
    from anyio import CancelScope  # loaded only where it is used

    with CancelScope(shield=True):
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # another event loop, where a scope is all there is
            return await work
        return await _outlast(asyncio.ensure_future(work))
    raise AssertionError  # for type checkers: a cancel scope might swallow what happens inside


async def _outlast(task: asyncio.Future[T]) -> T:
    heard: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as cancelled:
            heard = cancelled
    if heard is not None:
        if not task.cancelled():
            task.exception()  # was looked at
        raise heard
    return task.result()
