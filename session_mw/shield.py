"""Work that is to end whole, whoever gives up waiting for it.

Decided here: the canceller waits. The work goes on to its end, and only then is the cancellation heard: so nothing is
carried on behind anybody's back, and a store is not torn down under it.

* ``shielded`` holds off a cancel scope (anyio, trio), as a client that goes away cancels. Where neither library is
  loaded there is no scope, and it costs nothing.
* ``outlasting`` also holds off the ``cancel()`` of an asyncio task, which heeds no scope, at the price of a task: for
  work of several steps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from sys import modules
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    import asyncio  # loaded only where it is used

__all__ = ["event", "outlasting", "shielded"]

T = TypeVar("T")


def shielded(work: Awaitable[T]) -> Awaitable[T]:
    """*work*, to its end."""
    return _shielded(work) if "anyio" in modules or "trio" in modules else work


async def _shielded(work: Awaitable[T]) -> T:
    from anyio import CancelScope  # loaded only where it is used

    result: Any = None  # for type checkers: a cancel scope might swallow what happens inside
    with CancelScope(shield=True):
        result = await work
    return cast("T", result)


def event() -> Any:
    """An event to wait for, of whatever event loop is running."""
    from anyio import Event  # loaded only where it is used

    return Event()


async def outlasting(work: Coroutine[Any, Any, T]) -> T:
    """*work*, to its end; then what it returned or raised, or the cancellation that came meanwhile."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # another event loop, where a scope is all there is
        return await shielded(work)
    return await shielded(_outlast(asyncio.ensure_future(work)))


async def _outlast(task: asyncio.Future[T]) -> T:
    import asyncio

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
