"""The two runners: they ask what a flow wants to know, and differ by one ``await``.

A failing store is thrown into the flow at the point where it asked, so a flow may tidy up before it lets go.
"""

from __future__ import annotations

from typing import TypeVar

from .operations import AsyncStore, Flow, Store

__all__ = ["arun", "run"]

T = TypeVar("T")


def run(flow: Flow[T], store: Store) -> T:
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


async def arun(flow: Flow[T], store: AsyncStore) -> T:
    """Drive *flow* to its verdict with a store that is awaited. Raises what the flow lets through."""
    try:
        operation = next(flow)
        while True:
            try:
                answer = await operation.ask(store)
            except Exception as error:
                operation = flow.throw(error)
            else:
                operation = flow.send(answer)
    except StopIteration as stop:
        verdict: T = stop.value
        return verdict
