"""Clean-up on a schedule: it sweeps, spreads, survives a failing store, and stops when told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest

from session_mw import AsyncSessionService, CleanupTask, CleanupThread, ConfigurationError, SessionService, StoreError
from session_mw import cleanup as module
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock, FaultyStore

SOON = 0.001  # seconds
WAIT = 20


class Swept:
    """What ``on_sweep`` was told, and a way to wait for so many sweeps."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self._more = threading.Condition()

    def __call__(self, count: int) -> None:
        with self._more:
            self.counts.append(count)
            self._more.notify_all()

    def wait(self, sweeps: int) -> list[int]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.counts) >= sweeps, WAIT)
            return self.counts[:sweeps]

    async def await_(self, sweeps: int) -> list[int]:
        return await asyncio.to_thread(self.wait, sweeps)


def expired_sessions(store: Any, clock: Clock, count: int) -> Any:
    service = SessionService(store=store, clock=clock)
    for _ in range(count):
        service.create_session("ada", lifetime=60)
    clock.advance(60)
    return service


def test_a_thread_sweeps_in_batches_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    clock, swept = Clock(), Swept()
    service = expired_sessions(MemoryStore(clock=clock), clock, 7)
    kept = service.create_session("ada")
    sweeper = CleanupThread(service, every=SOON, jitter=0.5, on_sweep=swept)
    before = threading.active_count()
    with sweeper:
        assert sweeper.start() is sweeper  # it runs already
        assert threading.active_count() == before + 1
        assert swept.wait(2) == [7, 0]
    assert threading.active_count() == before
    sweeper.stop()
    told = len(swept.counts)
    with sweeper:  # and again
        swept.wait(told + 1)
    assert service.list_sessions("ada") == [kept]


def test_a_task_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    clock, swept = Clock(), Swept()
    store = MemoryStore(clock=clock)
    expired_sessions(store, clock, 7)

    async def main() -> None:
        service = AsyncSessionService(store=store, clock=clock)
        sweeper = CleanupTask(service, every=timedelta(milliseconds=1), on_sweep=swept)
        async with sweeper:
            assert sweeper.start() is sweeper
            assert await swept.await_(2) == [7, 0]
        await sweeper.stop()
        assert len(asyncio.all_tasks()) == 1  # this one
        told = len(swept.counts)
        async with sweeper:
            await swept.await_(told + 1)

    asyncio.run(main())


def test_a_long_wait_ends_at_once_when_told() -> None:
    service = SessionService(store="memory:")
    CleanupThread(service, every=1e6, jitter=1).start().stop()

    async def main() -> None:
        async with asyncio.timeout(WAIT):
            await CleanupTask(AsyncSessionService(store="memory:"), every=1e6, jitter=1).start().stop()

    asyncio.run(main())


def test_a_stop_is_heeded_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 1)
    calls: list[int] = []

    class Endless:
        def cleanup_expired_sessions(self, *, limit: int) -> int:
            calls.append(limit)
            sweeper._stopping.set()
            return limit if len(calls) < 5 else 0

    sweeper = CleanupThread(Endless(), every=SOON)  # type: ignore[arg-type]
    running = sweeper.start()._thread
    assert running is not None
    running.join(WAIT)
    assert calls == [1]
    sweeper.stop()

    class EndlessAsync:
        async def cleanup_expired_sessions(self, *, limit: int) -> int:
            calls.append(limit)
            task._stopping.set()
            return limit if len(calls) < 5 else 0

    async def main() -> None:
        nonlocal task
        calls.clear()
        task = CleanupTask(EndlessAsync(), every=SOON, jitter=0)  # type: ignore[arg-type]
        task.start()
        running = task._task
        assert running is not None
        async with asyncio.timeout(WAIT):
            await running
        assert calls == [1]

    task: Any = None
    asyncio.run(main())


FORK = """
import os, threading
from session_mw import CleanupThread, SessionService

swept = threading.Event()
sweeper = CleanupThread(SessionService(store="memory:"), every=0.001, on_sweep=lambda count: swept.set())
sweeper.start()
swept.wait()
child = os.fork()
if child == 0:
    swept.clear()
    with sweeper:  # what runs in the parent is the parent's
        os._exit(0 if swept.wait(20) else 1)
assert os.waitpid(child, 0)[1] == 0
swept.clear()
assert swept.wait(20)
sweeper.stop()
print("well")
"""


def test_a_forked_child_begins_anew() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]  # a fork among threads, as servers do
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("well\n", "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_started_again() -> None:
    def dies(count: int) -> None:
        raise SystemExit

    sweeper = CleanupThread(SessionService(store="memory:"), every=SOON, on_sweep=dies).start()
    died = sweeper._thread
    assert died is not None
    died.join(WAIT)
    assert sweeper.start()._thread is not died
    sweeper.stop()


def test_a_task_whose_loop_is_another_is_started_again() -> None:
    swept = Swept()
    sweeper = CleanupTask(AsyncSessionService(store="memory:"), every=SOON, on_sweep=swept)

    async def begin() -> asyncio.Task[None] | None:
        return sweeper.start()._task

    async def end() -> None:
        await sweeper.stop()

    async def again() -> None:
        told = len(swept.counts)
        async with sweeper:
            await swept.await_(told + 1)

    async def tidy() -> None:
        assert left is not None
        left.cancel()
        await asyncio.wait([left])

    asyncio.run(begin())  # whose end cancels it
    asyncio.run(end())  # nothing runs here
    with asyncio.Runner() as loop:
        left = loop.run(begin())  # a loop that runs no more, its tasks unfinished
        asyncio.run(end())
        asyncio.run(again())
        loop.run(tidy())


def test_a_stop_hears_no_cancellation_but_its_own() -> None:
    async def main() -> None:
        sweeper = CleanupTask(AsyncSessionService(store="memory:"), every=1e6, jitter=1).start()
        running = sweeper._task
        assert running is not None
        running.cancel()  # as a loop does that ends
        await sweeper.stop()
        assert running.cancelled()

        stopping = asyncio.create_task(sweeper.start().stop())
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await sweeper.stop()

    asyncio.run(main())


def test_who_is_told_of_a_sweep_may_be_awaited_and_may_stop_the_sweeper() -> None:
    async def main() -> None:
        told: list[int] = []

        async def once(count: int) -> None:
            await asyncio.sleep(0)
            told.append(count)
            await sweeper.stop()

        sweeper = CleanupTask(AsyncSessionService(store="memory:"), every=SOON, on_sweep=once).start()
        running = sweeper._task
        assert running is not None
        async with asyncio.timeout(WAIT):
            await running
        assert told == [0]

    asyncio.run(main())

    def once(count: int) -> None:
        told.append(count)
        sweeper.stop()

    told: list[int] = []
    sweeper = CleanupThread(SessionService(store="memory:"), every=SOON, on_sweep=once).start()
    running = sweeper._thread
    assert running is not None
    running.join(WAIT)
    assert told == [0]


def test_a_thread_awaits_nobody() -> None:
    async def on_sweep(count: int) -> None:
        raise AssertionError("never called")

    with pytest.raises(ConfigurationError, match="on_sweep is a coroutine function; that needs CleanupTask"):
        CleanupThread(SessionService(store="memory:"), on_sweep=on_sweep)


def test_a_failing_store_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock, swept = Clock(), Swept()
    store = FaultyStore(MemoryStore(clock=clock))
    service = expired_sessions(store, clock, 1)
    store.fail("purge", times=2)
    with CleanupThread(service, every=SOON, on_sweep=swept):
        assert swept.wait(1) == [1]
    assert caplog.text.count("a clean-up failed") == 2

    caplog.clear()
    expired_sessions(store, clock, 1)
    store.fail("purge", times=2)

    async def main() -> None:
        later = Swept()
        async with CleanupTask(AsyncSessionService(store=store, clock=clock), every=SOON, on_sweep=later):
            assert await later.await_(1) == [1]

    asyncio.run(main())
    assert caplog.text.count("a clean-up failed") == 2


def test_workers_started_together_do_not_sweep_together(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SessionService(store="memory:")
    sweepers = [CleanupThread(service, every=1000, jitter=0.2) for _ in range(50)]
    first = [sweeper._first() for sweeper in sweepers]
    after = [sweeper._next() for sweeper in sweepers]
    assert all(0 <= wait <= 200 for wait in first)
    assert all(800 <= wait <= 1200 for wait in after)
    assert len({*first, *after}) > 90
    steady = CleanupThread(service, every=1000, jitter=0)
    assert (steady._first(), steady._next()) == (0, 1000)
    assert (CleanupThread(service)._every, CleanupThread(service)._jitter) == (3600, 0.1)


@pytest.mark.parametrize("times", [{"every": 0}, {"every": -1}, {"every": float("nan")}, {"jitter": 2}, {"jitter": -1}])
@pytest.mark.parametrize("face", [CleanupThread, CleanupTask])
def test_times_that_cannot_be(face: Any, times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="every"):
        face(SessionService(store="memory:"), **times)


def test_a_fault_is_a_fault() -> None:
    """What is logged above would have been raised."""
    store = FaultyStore(MemoryStore())
    store.fail("purge")
    with pytest.raises(StoreError):
        SessionService(store=store).cleanup_expired_sessions()
