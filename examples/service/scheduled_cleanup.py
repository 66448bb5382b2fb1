"""Scheduled clean-up, in a thread and on an event loop, with a clean stop. Real ones run once an hour.

    python examples/service/scheduled_cleanup.py

Sessions expire without it; it gives their room back. Where cron does such things, see the docs.
"""

from __future__ import annotations

import asyncio
import os
import threading

from session_mw import AsyncSessionService, CleanupTask, CleanupThread, SessionService
from session_mw.testing import Clock


def in_a_thread(url: str, clock: Clock) -> None:
    """For WSGI workers: start it after the fork, stop it at exit."""
    done = threading.Event()

    def swept(count: int) -> None:
        if count:
            print("the thread cleaned up", count, "sessions")
            done.set()

    with SessionService.from_url(url, clock=clock) as sessions:
        for _ in range(3):
            sessions.create_session("ada", lifetime=60)
        clock.advance(60)
        with CleanupThread(sessions, every=0.01, jitter=0.1, on_sweep=swept):  # every=3600
            done.wait(30)
        print("stopped; left:", sessions.cleanup_expired_sessions())


async def on_the_loop(url: str, clock: Clock) -> None:
    """For ASGI apps: in the lifespan."""
    done = asyncio.Event()

    def swept(count: int) -> None:
        if count:
            print("the task cleaned up", count, "sessions")
            done.set()

    async with AsyncSessionService.from_url(url, clock=clock) as sessions:
        for _ in range(3):
            await sessions.create_session("ada", lifetime=60)
        clock.advance(60)
        async with CleanupTask(sessions, every=0.01, jitter=0.1, on_sweep=swept):  # every=3600
            async with asyncio.timeout(30):
                await done.wait()
        print("stopped; left:", await sessions.cleanup_expired_sessions())


if __name__ == "__main__":
    store = os.environ.get("EXAMPLE_STORE") or "memory:"
    in_a_thread(store, Clock())  # a clock turned by hand, so that there is something to clean up
    asyncio.run(on_the_loop(store, Clock()))
