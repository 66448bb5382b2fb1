"""A time limit for what is done over and over, which costs little where it is kept.

Decided here: the timer is left running, and looks when it fires what it should be set to by now. Setting and stopping
one each time, as ``asyncio.timeout`` does, costs a tenth of a load. What is done to a task that is late is the same:
it is cancelled, and the cancellation becomes a ``TimeoutError`` where it leaves.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

__all__ = ["Limit"]


class Limit:
    """``with limit:`` in a task, one stay at a time: ``TimeoutError`` when it is there after ``due``.

    ``due``: on *loop*'s clock; *seconds* after the stay began, unless it is moved on. ``None``: no limit.
    """

    __slots__ = ("_cancelling", "_late", "_loop", "_seconds", "_task", "_timer", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self.due = 0.0
        self._loop = loop
        self._seconds = seconds
        self._late = False
        self._cancelling = 0  # how often the task had been cancelled when it came
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def from_now(self) -> float:
        """When what begins now is due."""
        return self._loop.time() + (self._seconds or 0.0)

    def __enter__(self) -> None:
        if self._seconds is not None:
            self.due = self.from_now()
            self._task = task = asyncio.current_task()
            self._cancelling = 0 if task is None else task.cancelling()
            if self._timer is None:
                self._set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        task, self._task = self._task, None
        if self._late:
            self._late = False
            if task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _set(self) -> None:
        self._timer = self._loop.call_at(self.due, self._look, context=Context())  # it outlasts whoever is here now

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self.due:
            self._set()
        else:
            self._late = True
            self._task.cancel()

    def end(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
