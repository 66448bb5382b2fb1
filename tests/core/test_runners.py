"""The runners: same flow, called or awaited; failures arrive where the flow asked."""

from __future__ import annotations

from typing import Any

import pytest

from session_mw.core.operations import Consult, Flow, ListUser, Load, Operation, Purge
from session_mw.core.runners import arun, run, run_ready
from session_mw.errors import StoreBusyError, StoreError
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyStore


def asking(log: list[Any]) -> Flow[str]:
    log.append((yield Load("a")))
    try:
        log.append((yield Load("b")))
    except StoreError as error:
        log.append(type(error))
        log.append((yield ListUser("ann")))
        if isinstance(error, StoreBusyError):
            raise
    log.append((yield Consult(lambda x: x + 1, (1,))))
    log.append((yield Purge(0, 1)))
    return "verdict"


def failing(error: Exception | None = None, *, after: int = 1) -> FaultyStore:
    store = FaultyStore(MemoryStore())
    if error is not None:
        store.fail("load", after=after, error=error)
    return store


async def both_ways(store: Any, log: list[Any], how: str) -> Any:
    return run(asking(log), store) if how == "run" else await arun(asking(log), store.aio())


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["run", "arun"])
async def test_answers_and_verdict(how: str) -> None:
    log: list[Any] = []
    assert await both_ways(failing(), log, how) == "verdict"
    assert log == [None, None, 2, 0]


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["run", "arun"])
async def test_a_failure_is_thrown_in_where_it_was_asked(how: str) -> None:
    log: list[Any] = []
    assert await both_ways(failing(StoreError("x")), log, how) == "verdict"
    assert log == [None, StoreError, [], 2, 0]


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["run", "arun"])
async def test_what_the_flow_lets_through_is_raised(how: str) -> None:
    with pytest.raises(ZeroDivisionError):
        await both_ways(failing(ZeroDivisionError()), [], how)
    with pytest.raises(StoreError):
        await both_ways(failing(StoreError("x"), after=0), [], how)


@pytest.mark.anyio
async def test_a_callback_may_be_awaited() -> None:
    async def later(x: int) -> int:
        return x * 2

    def flow() -> Flow[Any]:
        return (yield Consult(later, (4,)))

    assert await arun(flow(), None) == 8


@pytest.mark.anyio
async def test_a_busy_store_hands_its_operation_over() -> None:
    log: list[Any] = []
    flow, store = asking(log), failing(StoreBusyError("busy"))
    verdict, pending = run_ready(flow, store)
    assert (verdict, pending) == (None, Load("b"))
    assert await arun(flow, store.aio(), pending) == "verdict"
    assert log == [None, None, 2, 0]  # the flow never knew


def test_run_ready_is_run_where_nothing_is_busy() -> None:
    log: list[Any] = []
    assert run_ready(asking(log), failing()) == ("verdict", None)
    log = []
    assert run_ready(asking(log), failing(StoreError("x"))) == ("verdict", None)
    with pytest.raises(ZeroDivisionError):
        run_ready(asking([]), failing(ZeroDivisionError()))


def test_an_operation_must_say_how_it_is_asked() -> None:
    with pytest.raises(NotImplementedError):
        Operation().ask(None)
