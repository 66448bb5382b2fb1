"""What is shielded ends whole, and its canceller is heard after that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from session_mw import shield
from session_mw.shield import outlasting, shielded


class Work:
    """Two steps; the second waits until it is let go."""

    def __init__(self, outcome: Callable[[], Any]) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.steps: list[str] = []
        self.outcome = outcome

    async def run(self) -> Any:
        self.steps.append("first")
        self.begun.set()
        await self.go.wait()
        self.steps.append("second")
        return self.outcome()


def broken() -> None:
    raise LookupError("of the work")


def test_it_returns_and_raises_what_the_work_does() -> None:
    async def story() -> None:
        for outcome in (lambda: 7, broken):
            work = Work(outcome)
            work.go.set()
            if outcome is broken:
                with pytest.raises(LookupError, match="of the work"):
                    await outlasting(work.run())
            else:
                assert await outlasting(work.run()) == 7

    asyncio.run(story())


@pytest.mark.parametrize("outcome", [lambda: 7, broken], ids=["returns", "raises"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_task_has_done_its_work(outcome: Callable[[], Any], times: int) -> None:
    async def story() -> None:
        work = Work(outcome)
        task = asyncio.ensure_future(outlasting(work.run()))
        await work.begun.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        work.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.steps == ["first", "second"]

    asyncio.run(story())


@pytest.mark.parametrize("kept_from", [shielded, outlasting])
def test_a_cancelled_scope_too(kept_from: Any) -> None:
    async def story() -> None:
        work = Work(lambda: 7)
        after: list[str] = []

        async def wait() -> None:
            await kept_from(work.run())
            await anyio.lowlevel.checkpoint()
            after.append("never")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await work.begun.wait()
            tasks.cancel_scope.cancel()
            work.go.set()
        assert work.steps == ["first", "second"]
        assert after == []

    asyncio.run(story())


def test_a_limit_of_time_is_told_when_the_work_is_done() -> None:
    async def story() -> None:
        work = Work(lambda: 7)

        async def meanwhile(limit: asyncio.Timeout) -> None:
            await work.begun.wait()
            limit.reschedule(0)  # long over
            for _ in range(3):
                await asyncio.sleep(0)
            work.go.set()

        async def in_time() -> None:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as tasks:
                tasks.create_task(meanwhile(limit))
                await outlasting(work.run())

        with pytest.raises(TimeoutError):
            await in_time()
        assert work.steps == ["first", "second"]

    asyncio.run(story())


def test_where_no_asyncio_runs_a_scope_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> None:
        raise RuntimeError

    async def story() -> None:
        work = Work(lambda: 7)
        work.go.set()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(asyncio, "get_running_loop", nobody)
            assert await outlasting(work.run()) == 7

    asyncio.run(story())


def test_without_a_library_that_has_scopes_there_is_nothing_to_hold_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> None: ...

    for loaded, shields in (({}, False), ({"anyio": 1}, True), ({"trio": 1}, True)):
        monkeypatch.setattr(shield, "modules", loaded)
        work = nothing()
        held = shielded(work)
        assert (held is not work) is shields
        asyncio.run(held)  # type: ignore[arg-type]
        work.close()
