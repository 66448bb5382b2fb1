"""The runners: they ask what a flow wants to know, and differ by one ``await``.

A failure is thrown into the flow at the point where it asked, so a flow may tidy up before it lets go.
``run_ready`` is for an event loop and a store that mostly answers at once: it hands back the operation the store was
too busy for, and ``arun`` takes over from there.
"""

from __future__ import annotations

from collections.abc import Awaitable
from types import CoroutineType
from typing import Any, TypeVar

from ..errors import StoreBusyError
from .operations import AsyncStore, Flow, Operation, Store

__all__ = ["arun", "run", "run_ready"]

T = TypeVar("T")


def run(flow: Flow[T], store: Store | None) -> T:
    """Drive *flow* to its verdict with a store that answers when called. Raises what the flow lets through."""
    try:
        operation = next(flow)
        while True:
            try:
                answer = operation.ask(store)
            except Exception as error:
                operation = flow.throw(error)
            else:
                operation = flow.send(answer)
    except StopIteration as stop:
        verdict: T = stop.value
        return verdict


def run_ready(flow: Flow[T], store: Store | None) -> tuple[T | None, Operation | None]:
    """As ``run``, but stop at an operation the store is too busy for: ``(verdict, None)`` or ``(None, operation)``."""
    try:
        operation = next(flow)
        while True:
            try:
                answer = operation.ask(store)
            except StoreBusyError:
                return None, operation
            except Exception as error:
                operation = flow.throw(error)
            else:
                operation = flow.send(answer)
    except StopIteration as stop:
        return stop.value, None


async def arun(flow: Flow[T], store: AsyncStore | None, operation: Operation | None = None) -> T:
    """Drive *flow*, from its beginning or from a pending *operation*, with a store that is awaited."""
    try:
        operation = operation or next(flow)
        while True:
            try:
                answer: Any = operation.ask(store)
                if type(answer) is CoroutineType or isinstance(answer, Awaitable):  # a callback may answer at once
                    answer = await answer
            except Exception as error:
                operation = flow.throw(error)
            else:
                operation = flow.send(answer)
    except StopIteration as stop:
        verdict: T = stop.value
        return verdict
