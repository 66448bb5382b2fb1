"""Commits that wait: what other tasks of the request do meanwhile is neither lost nor done twice."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from asgi_driver import Client, chunk, respond, start
from hypothesis import given, settings
from hypothesis import strategies as st

from session_mw import SessionStateError, StoreError
from session_mw.asgi import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import FaultyAsyncStore

Act = Callable[[Any], Any]
WRITES = ("create", "save", "rotate", "close", "delete", "touch")


class Waiting(FaultyAsyncStore):
    """An awaited store. While ``held`` is set, each answer to a write waits until somebody lets it through."""

    def __init__(self) -> None:
        self.behind = MemoryStore()
        super().__init__(self.behind.aio())
        self.held: asyncio.Event | None = None
        self.waits = asyncio.Event()
        self.on_write: Act | None = None

    async def _make(self, method: str, *arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        if self.on_write is not None and method in WRITES:
            act, self.on_write = self.on_write, None
            await act(self)
        answer = await super()._make(method, *arguments, **options)
        if self.held is not None and method in WRITES:
            self.waits.set()
            await self.held.wait()
        return answer


class Shop:
    """One app on a ``Waiting`` store; each request is a coroutine function of the session and ``send``."""

    def __init__(self, **settings: Any) -> None:
        self.store = Waiting()
        self.act: Any = None
        self.client = Client(SessionMiddleware(self._app, store=self.store, **settings))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if scope["path"] == "/log-in":
            session.login(user_id="ann")
            await respond(send)
        elif scope["path"] == "/other":
            session.update_with("other", lambda n: n + 1, 0)
            await respond(send)
        elif await self.act(session, send) is None:
            await respond(send)

    async def request(self, act: Any) -> Any:
        self.act = act
        return await self.client.request("/")

    async def commit_beside(self, session: Any, act: Act, commit: Callable[[], Awaitable[Any]] | None = None) -> None:
        """*act* once the store has done its work for ``acommit()``, and before the session knows."""
        self.store.held, self.store.waits = asyncio.Event(), asyncio.Event()
        committing = asyncio.ensure_future((commit or session.acommit)())
        waits = asyncio.ensure_future(self.store.waits.wait())
        await asyncio.wait([committing, waits], return_when=asyncio.FIRST_COMPLETED)  # a login's commit is no early one
        waits.cancel()
        act(session)
        self.store.held.set()
        self.store.held = None
        await committing

    async def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def look(session: Any, send: Any) -> None:
            found.update(data=dict(session), online=session.online(), user=session.user_id, attempts=session.attempts)
            found.update(admin=session.online("admin"), others=session.get_result())

        await self.request(look)
        return found


async def begin(session: Any, send: Any) -> None:
    session.login(user_id="ann")
    session.update({"n": 1, "list": [1], "k": "v"})


def log_in_as_admin(session: Any) -> None:
    with session.using_storage("admin"):
        session.login()


ACTS: dict[str, Act] = {
    "set": lambda s: s.set("b", 2),
    "delete": lambda s: s.pop("k", None),
    "nested": lambda s: s.setdefault("list", []).append(2),
    "modified": lambda s: (s.set("b", 2), s.modified),
    "other storage": lambda s: s.set_to("x", 1, "other"),
    "update_with": lambda s: s.update_with("n", lambda n: n + 1, 0),
    "attempt": lambda s: s.attempt(),
    "reset": lambda s: (s.attempt(), s.attempt(reset=True), s.attempt()),
    "put": lambda s: s.put("b", 2),
    "switch": lambda s: s.set_storage("admin").set("in", "admin"),
    "logout": lambda s: s.logout(),
    "logout, data": lambda s: s.logout(clear_data=True),
    "clear": lambda s: s.clear(),
    "clear, write": lambda s: (s.clear(), s.set("z", 1)),
    "destroy": lambda s: s.destroy(),
    "destroy, write": lambda s: (s.destroy(), s.set("z", 1)),
    "login": lambda s: s.login(user_id="ann"),
    "login, admin": log_in_as_admin,
    "another": lambda s: (s.login(user_id="bob"), s.set("bob", 1)),
    "regenerate": lambda s: s.regenerate(),
    "remember": lambda s: s.expire_after(timedelta(hours=1)),
    "others": lambda s: s.user_id and s.destroy_others(),
}


async def outcome(first: Act, then: Act, *, waiting: bool, conflict: bool, at_start: bool = False) -> dict[str, Any]:
    """What comes of *first*, a commit, and *then*: once it is done, or (*waiting*) while it waits."""
    events: list[str] = []
    shop = Shop(on_event=lambda event: events.append(event.name))
    other, device = shop.client.copy(), shop.client.copy()
    await shop.request(begin)
    other.cookies = dict(shop.client.cookies)
    await device.request("/log-in")

    async def app(session: Any, send: Any) -> None:
        events.clear()
        first(session)
        session["a"] = 1
        if conflict:

            async def beside(store: Waiting) -> None:
                held, store.held = store.held, None
                await other.request("/other")
                events.clear()
                store.held = held

            shop.store.on_write = beside
        if waiting:
            await shop.commit_beside(session, then)
        else:
            await session.acommit()
            then(session)

    await shop.request(app)
    told, rotations = sorted(events), shop.store.count("rotate")
    return {
        **await shop.seen(),
        "told": told,
        "rotations": rotations,
        "live": shop.store.behind.stats(int(time.time())).live,
    }


@pytest.mark.anyio
@pytest.mark.parametrize("first", ACTS)
@pytest.mark.parametrize("conflict", [False, True], ids=["alone", "beside another request"])
async def test_what_is_done_while_a_commit_waits_belongs_to_the_next(first: str, conflict: bool) -> None:
    """All comes to what it had come to a moment later."""
    for name, then in ACTS.items():
        expected = await outcome(ACTS[first], then, waiting=False, conflict=conflict)
        assert await outcome(ACTS[first], then, waiting=True, conflict=conflict) == expected, name


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("set", {"data": {"n": 1, "list": [1], "k": "v", "a": 1, "b": 2}}),
        ("update_with", {"data": {"n": 2, "list": [1], "k": "v", "a": 1}}),
        ("attempt", {"attempts": 1, "online": True}),
        ("put", {"data": {"n": 1, "list": [1], "k": "v", "a": 1, "b": 2}}),
        ("logout", {"online": False, "user": None, "data": {"n": 1, "list": [1], "k": "v", "a": 1}}),
        ("destroy", {"online": False, "user": None, "data": {}}),
        ("regenerate", {"online": True, "data": {"n": 1, "list": [1], "k": "v", "a": 1}}),
        ("another", {"online": True, "user": "ann", "data": {"n": 1, "list": [1], "k": "v", "a": 1}}),  # is dropped
    ],
)
async def test_beside_the_commit_at_response_start_it_is_late(name: str, expected: dict[str, Any]) -> None:
    """What needs a cookie cannot be any more, what ends ends in place."""
    shop = Shop()
    await shop.request(begin)

    async def app(session: Any, send: Any) -> bool:
        session["a"] = 1
        await shop.commit_beside(session, ACTS[name], lambda: send(start()))
        await send(chunk())
        return True

    await shop.request(app)
    found = await shop.seen()
    assert {key: found[key] for key in expected} == expected


@pytest.mark.anyio
async def test_a_response_starts_after_the_commit_under_way() -> None:
    shop = Shop()

    async def app(session: Any, send: Any) -> None:
        session["a"] = 1
        asyncio.ensure_future(session.acommit())  # noqa: RUF006 - the response waits for it
        await asyncio.sleep(0)
        session["b"] = 2

    await shop.request(app)
    assert (await shop.seen())["data"] == {"a": 1, "b": 2}
    assert shop.store.count("create") == 1


@pytest.mark.anyio
async def test_a_request_ends_after_the_commit_under_way() -> None:
    shop = Shop()
    await shop.request(begin)

    async def app(session: Any, send: Any) -> bool:
        assert session["n"]
        await respond(send)
        session.update_with("n", lambda n: n + 1)
        asyncio.ensure_future(session.acommit())  # noqa: RUF006 - the end waits for it
        await asyncio.sleep(0)
        return True

    await shop.request(app)
    assert (await shop.seen())["data"]["n"] == 2


@pytest.mark.anyio
async def test_a_response_that_nobody_waits_for_holds_nobody_up() -> None:
    shop = Shop()
    await shop.request(begin)
    dropped: list[Any] = []

    async def app(session: Any, send: Any) -> bool:
        session["a"] = 1
        session.logout()
        dropped.append(send(start()))
        return True

    await shop.request(app)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # never awaited, as Python says rightly
        dropped.clear()
    found = await shop.seen()
    assert (found["online"], found["data"]) == (False, {"n": 1, "list": [1], "k": "v"})


@pytest.mark.anyio
async def test_touched_twice_it_keeps_what_was_written_first() -> None:
    shop = Shop()

    def twice(session: Any) -> None:
        session["b"] = 2
        session.__class__ = session._dormant  # as a framework does that hands the session out again
        session["c"] = 3

    async def app(session: Any, send: Any) -> None:
        session["a"] = 1
        await shop.commit_beside(session, twice)
        assert session.accessed
        assert dict.get(session, "c") == 3

    await shop.request(app)
    assert (await shop.seen())["data"] == {"a": 1, "b": 2, "c": 3}


@pytest.mark.anyio
async def test_commits_of_one_session_take_turns() -> None:
    shop = Shop()

    async def several(session: Any, send: Any) -> None:
        async def count() -> None:
            session.update_with("n", lambda n: n + 1, 0)
            await session.acommit()

        await asyncio.gather(*(count() for _ in range(5)))
        assert session["n"] == 5

    await shop.request(several)
    assert shop.store.count("create") == 1
    assert (await shop.seen())["data"] == {"n": 5}


@pytest.mark.anyio
async def test_a_commit_that_cannot_wait_says_so() -> None:
    shop = Shop()
    seen: list[str] = []

    def commit(session: Any) -> None:
        with pytest.raises(SessionStateError, match="await session"):
            session.commit()
        seen.append("refused")

    async def app(session: Any, send: Any) -> None:
        session["a"] = 1
        await shop.commit_beside(session, commit)

    await shop.request(app)
    assert seen == ["refused"]
    assert (await shop.seen())["data"] == {"a": 1}


@pytest.mark.anyio
async def test_a_cancelled_commit_is_done_once() -> None:
    shop = Shop()
    await shop.request(begin)

    async def app(session: Any, send: Any) -> bool:
        session.update_with("n", lambda n: n + 1)
        await send(start())
        session.update_with("n", lambda n: n + 10)
        shop.store.held = asyncio.Event()
        shop.store.waits = asyncio.Event()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.acommit)
                await shop.store.waits.wait()
                scope.cancel()
                shop.store.held.set()
        shop.store.held = None
        task = asyncio.ensure_future(session.acommit())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await send(chunk())
        return True

    await shop.request(app)
    assert (await shop.seen())["data"]["n"] == 12


@pytest.mark.anyio
async def test_a_commit_that_fails_takes_nothing_away() -> None:
    shop = Shop()
    await shop.request(begin)

    async def app(session: Any, send: Any) -> None:
        session.update_with("n", lambda n: n + 1)

        async def fail(store: Waiting) -> None:
            session.attempt()
            session["b"] = 2
            raise StoreError("down")

        shop.store.on_write = fail
        with pytest.raises(StoreError):
            await session.acommit()

    await shop.request(app)
    found = await shop.seen()
    assert (found["data"], found["attempts"]) == ({"n": 2, "list": [1], "k": "v", "b": 2}, 1)


STEPS = ("set", "pop", "append", "count", "attempt", "put", "acommit", "other")


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2), st.integers(0, 3)), max_size=12))
def test_any_order_of_tasks_comes_to_the_same(steps: list[tuple[str, int, int]]) -> None:
    """Each step is a task that starts after so many turns of the loop; a plain dict is the model."""

    async def main() -> None:
        shop = Shop()

        async def first(session: Any, send: Any) -> None:
            session.update({"k0": 0, "k1": [0], "n": 0})

        await shop.request(first)
        model: dict[str, Any] = {"k0": 0, "k1": [0], "n": 0}
        attempts = others = 0

        async def app(session: Any, send: Any) -> None:
            async def step(name: str, key: int, turns: int) -> None:
                nonlocal attempts, others
                for _ in range(turns * 3):
                    await asyncio.sleep(0)
                if name == "set":
                    session[f"k{key}"] = model[f"k{key}"] = turns
                elif name == "pop":
                    session.pop(f"k{key}", None)
                    model.pop(f"k{key}", None)
                elif name == "append":
                    for data in (session, model):
                        if isinstance(data.get("k1"), list):
                            data["k1"].append(turns)
                elif name == "count":
                    session.update_with("n", lambda n: n + 1)
                    model["n"] += 1
                elif name == "attempt":
                    session.attempt()
                    attempts += 1
                elif name == "put":
                    session.put("queued", key)
                    model["queued"] = key
                elif name == "acommit":
                    await session.acommit()
                else:
                    await shop.client.copy().request("/other")
                    others += 1

            await asyncio.gather(*(step(*one) for one in steps))
            model.update(queue_order(steps))

        await shop.request(app)
        found = await shop.seen()
        assert found["data"].pop("other", 0) == others
        assert (found["data"], found["attempts"]) == (model, attempts)

    asyncio.run(main())


def queue_order(steps: list[tuple[str, int, int]]) -> dict[str, Any]:
    """What the queue comes to: the last one put, in the order of the loop's turns."""
    put = sorted((turns, number, key) for number, (name, key, turns) in enumerate(steps) if name == "put")
    return {"queued": put[-1][2]} if put else {}
