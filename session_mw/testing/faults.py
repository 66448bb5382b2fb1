"""A clock to turn by hand, and stores that fail when told to."""

from __future__ import annotations

from operator import methodcaller
from typing import Any, NamedTuple

from ..core.operations import AsyncStore, Outcome, Store
from ..core.record import Record
from ..errors import StoreError
from ..stores.faces import Awaited, Call, require_async, require_sync

__all__ = ["Called", "Clock", "FaultyAsyncStore", "FaultyStore"]


class Clock:
    """A clock that stands still until it is moved: ``clock=Clock()``. Unix seconds."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on by *seconds*; the new time. Raises ValueError for a step back: set ``now`` for that."""
        if seconds < 0:
            raise ValueError("a clock advances; assign to .now to set it back")
        self.now += seconds
        return self.now


class Called(NamedTuple):
    """One call that reached a faulty store."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def __repr__(self) -> str:  # the arguments hold records
        return f"<Called {self.method}>"


class _Plan:
    """One ``fail``: which calls, and how."""

    def __init__(self, method: str | None, after: int, times: int | None, done: bool, error: Exception | None) -> None:
        self.method = method
        self.after = after
        self.times = times
        self.done = done
        self.error = error

    def meets(self, method: str) -> bool:
        """Whether this call is one to fail; counts it."""
        if self.method not in (None, method) or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def fault(self) -> Exception:
        return self.error if self.error is not None else StoreError("told to fail")


class _Faults:
    """What both faulty stores share: the calls seen, and the plans for failing."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self._plans: list[_Plan] = []

    def fail(
        self,
        method: str | None = None,
        *,
        after: int = 0,
        times: int | None = 1,
        done: bool = False,
        error: Exception | None = None,
    ) -> None:
        """Fail calls of *method* (any method when ``None``) with *error* (a StoreError by default).

        Lets *after* of them pass, then fails *times* of them (``None``: all). *done*: the store does its work and
        only the answer is lost, as when a connection breaks.
        """
        self._plans.append(_Plan(method, after, times, done, error))

    def heal(self) -> None:
        """Forget every ``fail``."""
        self._plans.clear()

    def count(self, method: str | None = None) -> int:
        """How many calls of *method* (of any, when ``None``) arrived, failed ones included."""
        return len(self.calls) if method is None else sum(call.method == method for call in self.calls)

    def forget(self) -> None:
        """Forget the calls seen."""
        self.calls.clear()

    def _arrives(
        self, method: str, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[Call, Exception | None]:
        """The call to make, and the fault to raise after it; raises the fault that comes before."""
        self.calls.append(Called(method, arguments, options))
        for plan in self._plans:
            if plan.meets(method):
                if not plan.done:
                    raise plan.fault()
                return methodcaller(method, *arguments, **options), plan.fault()
        return methodcaller(method, *arguments, **options), None


class FaultyStore(_Faults):
    """Wraps a store that answers when called: records the calls in ``calls`` and fails those it was told to.

    Its inline face is itself. Raises ConfigurationError around a store that is awaited (see FaultyAsyncStore).
    """

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = require_sync(store)
        self.can_rotate = store.can_rotate

    def inline(self) -> FaultyStore:
        """Itself."""
        return self

    def aio(self) -> Awaited:
        """The awaited face: the same calls, the same faults."""
        return Awaited(self, self)

    def _make(self, method: str, *arguments: Any, **options: Any) -> Any:
        call, fault = self._arrives(method, arguments, options)
        answer = call(self._store)
        if fault is not None:
            raise fault
        return answer

    def load(self, id: str) -> Record | None:
        record: Record | None = self._make("load", id)
        return record

    def create(self, record: Record) -> bool:
        done: bool = self._make("create", record)
        return done

    def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        outcome: Outcome = self._make("save", record, expected_version, payload_only=payload_only)
        return outcome

    def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        done: bool = self._make("touch", id, last_activity, expires_at)
        return done

    def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        outcome: Outcome = self._make("delete", id, expected_version=expected_version)
        return outcome

    def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        outcome: Outcome = self._make("close", id, expected_version, until=until, successor=successor)
        return outcome

    def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        outcome: Outcome = self._make("rotate", record, old_id, expected_version, until=until, successor=successor)
        return outcome

    def list_user(self, user_id: str) -> list[Record]:
        records: list[Record] = self._make("list_user", user_id)
        return records

    def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        count: int = self._make("delete_user", user_id, except_id=except_id)
        return count

    def purge(self, now: int, limit: int) -> int:
        count: int = self._make("purge", now, limit)
        return count

    def initialize(self) -> None:
        self._make("initialize")

    def teardown(self) -> None:
        self._make("teardown")


class FaultyAsyncStore(_Faults):
    """The same around a store that is awaited, and awaited itself. Raises ConfigurationError around any other."""

    def __init__(self, store: AsyncStore) -> None:
        super().__init__()
        self._store = require_async(store)
        self.can_rotate = store.can_rotate

    async def _make(self, method: str, *arguments: Any, **options: Any) -> Any:
        call, fault = self._arrives(method, arguments, options)
        answer = await call(self._store)
        if fault is not None:
            raise fault
        return answer

    async def load(self, id: str) -> Record | None:
        record: Record | None = await self._make("load", id)
        return record

    async def create(self, record: Record) -> bool:
        done: bool = await self._make("create", record)
        return done

    async def save(self, record: Record, expected_version: int, *, payload_only: bool = False) -> Outcome:
        outcome: Outcome = await self._make("save", record, expected_version, payload_only=payload_only)
        return outcome

    async def touch(self, id: str, last_activity: int, expires_at: int) -> bool:
        done: bool = await self._make("touch", id, last_activity, expires_at)
        return done

    async def delete(self, id: str, *, expected_version: int | None = None) -> Outcome:
        outcome: Outcome = await self._make("delete", id, expected_version=expected_version)
        return outcome

    async def close(self, id: str, expected_version: int, *, until: int, successor: str | None = None) -> Outcome:
        outcome: Outcome = await self._make("close", id, expected_version, until=until, successor=successor)
        return outcome

    async def rotate(
        self, record: Record, old_id: str, expected_version: int, *, until: int, successor: str | None = None
    ) -> Outcome:
        outcome: Outcome = await self._make(
            "rotate", record, old_id, expected_version, until=until, successor=successor
        )
        return outcome

    async def list_user(self, user_id: str) -> list[Record]:
        records: list[Record] = await self._make("list_user", user_id)
        return records

    async def delete_user(self, user_id: str, *, except_id: str | None = None) -> int:
        count: int = await self._make("delete_user", user_id, except_id=except_id)
        return count

    async def purge(self, now: int, limit: int) -> int:
        count: int = await self._make("purge", now, limit)
        return count

    async def initialize(self) -> None:
        await self._make("initialize")

    async def teardown(self) -> None:
        await self._make("teardown")
