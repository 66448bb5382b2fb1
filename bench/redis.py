"""``python -m bench.redis``: what the Redis store costs beside redis-py, on a server of its own.

Each row is one kind of work, done by ours and by redis-py's client one command at a time (the same commands, so the
same work for the server), in turns, round by round; a ratio is the median over rounds. Round trips are the server's
own count of how often it read from a client. The event loop is uvloop's where that is installed. Needs the
program ``redis-server``; nothing else is touched.

Where nothing else runs the processor falls asleep at each wait for the server, and waking it is charged to whoever
waited, ours and redis-py's alike. ``--awake`` keeps it awake, by a process of the lowest priority for each core.

Exit status: 0; 1 when ``--check`` finds a budget missed; 2 without the program.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import hmac
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import redis
import redis.asyncio

from session_mw.asgi import SessionMiddleware
from session_mw.core.record import Record
from session_mw.stores.redis import AsyncRedisStore, RedisStore
from session_mw.stores.redis_layout import Keys, encode, stamp
from session_mw.stores.redis_scripts import SAVE_PAYLOAD

from .drivers import Asgi, loop_factory
from .floors import COOKIE, TAIL, find, mint
from .harness import awake
from .scenarios import SESSION, routes
from .subjects import asgi_app

__all__ = ["AT_ONCE", "Row", "main", "measure", "running", "table", "trips", "used_memory"]

AT_ONCE = 64
KEYS = Keys("bench")
PAYLOAD = msgspec.json.encode(SESSION)


@dataclass
class Row:
    """One kind of work. ``budget``: the least times faster (``faster``) or the most of its CPU (``cpu``)."""

    name: str
    tasks: int
    judged: str  # "faster" or "cpu"
    budget: float
    speeds: list[tuple[float, float]] = field(default_factory=list)  # a second: ours, redis-py's
    costs: list[tuple[float, float]] = field(default_factory=list)  # CPU µs each

    @property
    def ratio(self) -> float:
        """Median of what is judged."""
        pairs = self.speeds if self.judged == "faster" else self.costs
        return statistics.median(ours / theirs for ours, theirs in pairs)

    @property
    def holds(self) -> bool:
        return self.ratio >= self.budget if self.judged == "faster" else self.ratio <= self.budget


@contextmanager
def running(program: str) -> Iterator[str]:
    """A server on a unix socket in a directory of its own; its path."""
    with tempfile.TemporaryDirectory(prefix="session-bench-") as directory:
        path = str(Path(directory) / "socket")
        command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  (of our own making)
        try:
            _until_it_answers(process, path)
            yield path
        finally:
            process.terminate()
            process.wait(10)


def _until_it_answers(process: subprocess.Popen[bytes], path: str) -> None:
    for _ in range(500):
        try:
            with redis.Redis(unix_socket_path=path) as client:
                client.ping()
        except redis.ConnectionError:
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            break
        return
    raise OSError("redis-server does not answer")


def used_memory(path: str) -> float:
    """Bytes, by the server's own count."""
    with redis.Redis(unix_socket_path=path) as client:
        return float(client.info("memory")["used_memory"])


def _record(number: int) -> Record:
    now = int(time.time())
    digest = hashlib.sha256(b"bench").digest()
    times = (now, now, now + 7200, now + 604_800)
    return Record(f"{number:024d}", digest, "bench", *times, None, None, None, 1, PAYLOAD)


class _Ours:
    """The awaited store."""

    def __init__(self, path: str) -> None:
        self.store = AsyncRedisStore(f"unix://{path}", table_index=KEYS.table_index)
        self.close = self.store.teardown

    async def load(self, record: Record) -> None:
        assert await self.store.load(record.id) is not None

    async def save(self, record: Record) -> None:
        await self.store.save(record, record.version, payload_only=True)


class _Theirs:
    """redis-py's client, as its documentation shows it."""

    def __init__(self, path: str) -> None:
        self.client = redis.asyncio.Redis(unix_socket_path=path, max_connections=1000)
        self.close = self.client.aclose

    async def load(self, record: Record) -> None:
        assert await self.client.get(KEYS.record(record.id)) is not None

    async def save(self, record: Record) -> None:
        seen = stamp(record.version)
        await self.client.evalsha(SAVE_PAYLOAD.sha, 1, KEYS.record(record.id), seen, encode(record))


async def _work(do: Callable[[Record], Awaitable[None]], records: list[Record], times: int) -> None:
    async def one(record: Record) -> None:
        for _ in range(times):
            await do(record)

    await asyncio.gather(*map(one, records))


async def _timed(do: Callable[[Record], Awaitable[None]], records: list[Record], times: int) -> tuple[float, float]:
    """Calls a second, and CPU µs each."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await _work(do, records, times)
    count = len(records) * times
    return count / (time.perf_counter() - wall), (time.process_time() - cpu) / count * 1e6


async def _compare(row: Row, ours: Any, theirs: Any, records: list[Record], rounds: int, seconds: float) -> None:
    some = records[: row.tasks]
    sizes = []
    for do in (ours, theirs):
        await _work(do, some, 1)
        speed, _ = await _timed(do, some, 3)
        sizes.append(max(1, round(speed * seconds / row.tasks)))
    for turn in range(rounds):
        both = [(ours, sizes[0]), (theirs, sizes[1])]
        found = [await _timed(do, some, size) for do, size in (both if turn % 2 else both[::-1])]
        mine, other = found if turn % 2 else found[::-1]
        row.speeds.append((mine[0], other[0]))
        row.costs.append((mine[1], other[1]))


# whole requests


class _Floor:
    """The least an ASGI app must do for a session on Redis through redis-py."""

    def __init__(self, app: Any, client: Any) -> None:
        self.app = app
        self.client = client

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        cookie, key, session = find(scope["headers"]), b"", {}
        if cookie is not None:
            key = b"floor:" + cookie[:24]
            value = await self.client.get(key)
            if value is not None and hmac.compare_digest(value[:32], hashlib.sha256(cookie[25:]).digest()):
                session = msgspec.json.decode(value[32:])
        before = msgspec.json.encode(session)
        scope["session"] = session

        async def wrapped(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and (after := msgspec.json.encode(session)) != before:
                if key:
                    await self.client.execute_command("SET", key, value[:32] + after, "EX", 7200)
                else:
                    new, digest, token = mint()
                    await self.client.execute_command("SET", f"floor:{new}", digest + after, "EX", 7200)
                    message["headers"].append((b"set-cookie", COOKIE + token + TAIL))
            await send(message)

        await self.app(scope, receive, wrapped)


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _drop(message: Any) -> None:
    return None


async def _client_of(app: Any, path: str) -> Callable[[Record], Awaitable[None]]:
    """Requests to *path* of *app*, each record standing for a browser that has a session."""
    driver = Asgi(asyncio.get_running_loop())
    templates: dict[str, Any] = {}

    async def request(record: Record) -> None:
        template = templates.get(record.id)
        if template is None:
            messages: list[dict[str, Any]] = []

            async def keep(message: dict[str, Any]) -> None:
                messages.append(message)

            await app(driver.template("/fill", None), _receive, keep)
            lines = [value.decode() for name, value in messages[0]["headers"] if name == b"set-cookie"]
            name, _, rest = lines[0].partition("=")
            jar = {name: rest.partition(";")[0]}
            await app(driver.template("/read", jar), _receive, keep)
            assert messages[-1]["body"] == b"dark", "the session is not there"
            template = templates[record.id] = driver.template(path, jar)
        await app(template.copy(), _receive, _drop)

    return request


async def _measure(path: str, rounds: int, seconds: float) -> list[Row]:
    ours, theirs = _Ours(path), _Theirs(path)
    records = [_record(number) for number in range(AT_ONCE)]
    await ours.store.initialize()
    for record in records:
        await ours.store.create(record)
    rows = [
        Row("load", AT_ONCE, "faster", 6),
        Row("save", AT_ONCE, "faster", 4),
        Row("load", 1, "cpu", 1),
        Row("save", 1, "cpu", 1),
    ]
    for row in rows:
        await _compare(row, getattr(ours, row.name), getattr(theirs, row.name), records, rounds, seconds)
    app = SessionMiddleware(asgi_app(routes("session")), store=ours.store)
    floor = _Floor(asgi_app(routes("session")), theirs.client)
    for name, page in (("request that reads", "/read"), ("request that changes", "/change")):
        for row in (Row(name, AT_ONCE, "faster", 2.5), Row(name, 1, "cpu", 1)):
            pair = [await _client_of(each, page) for each in (app, floor)]
            await _compare(row, *pair, records, rounds, seconds)
            rows.append(row)
    await ours.close()
    await theirs.close()
    return rows


def _called(path: str, rounds: int, seconds: float) -> list[Row]:
    store = RedisStore(f"unix://{path}", table_index=KEYS.table_index)
    client = redis.Redis(unix_socket_path=path)
    record = _record(0)
    store.create(record)
    key, seen, value = KEYS.record(record.id), stamp(1), encode(record)
    works: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "load, called": (lambda: store.load(record.id), lambda: client.get(key)),
        "save, called": (
            lambda: store.save(record, 1, payload_only=True),
            lambda: client.evalsha(SAVE_PAYLOAD.sha, 1, key, seen, value),
        ),
    }
    rows = []
    for name, works_of in works.items():
        row = Row(name, 1, "cpu", 0.7)
        for _ in range(rounds):
            found = []
            for do in works_of:
                do()
                count, wall, cpu = 0, time.perf_counter(), time.process_time()
                while (spent := time.perf_counter() - wall) < seconds:
                    do()
                    count += 1
                found.append((count / spent, (time.process_time() - cpu) / count * 1e6))
            row.speeds.append((found[0][0], found[1][0]))
            row.costs.append((found[0][1], found[1][1]))
        rows.append(row)
    store.teardown()
    client.close()
    return rows


def measure(path: str, *, rounds: int, seconds: float) -> list[Row]:
    """All rows, *seconds* a slice."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        rows = runner.run(_measure(path, rounds, seconds))
    return [*rows, *_called(path, rounds, seconds)]


def trips(path: str) -> dict[str, int]:
    """How often the server reads for one call of each kind, among 1,000 sessions of 100 users."""
    store = RedisStore(f"unix://{path}", table_index="trips")
    store.initialize()
    records = [msgspec.structs.replace(_record(number), user_id=f"user{number % 100}") for number in range(1000)]
    for record in records:
        store.create(record)
    a, b, c, d, e, new = records[0], records[1], records[2], records[3], records[4], _record(1001)
    calls: dict[str, Callable[[], Any]] = {
        "load": lambda: store.load(a.id),
        "save": lambda: store.save(a, 1, payload_only=True),
        "touch": lambda: store.touch(a.id, a.last_activity + 60, a.expires_at + 60),
        "create": lambda: store.create(_record(1000)),
        "rotate": lambda: store.rotate(new, b.id, 1, until=b.created_at + 60),
        "close": lambda: store.close(c.id, 1, until=c.created_at + 60),
        "delete": lambda: store.delete(d.id),
        "list one user": lambda: store.list_user("user7"),
        "end one user": lambda: store.delete_user(e.user_id or ""),
        "purge": lambda: store.purge(int(time.time()), 1000),
    }
    found = {}
    with redis.Redis(unix_socket_path=path) as client:
        count: Callable[[], int] = lambda: client.info("stats")["total_reads_processed"]  # noqa: E731
        for name, call in calls.items():
            before = count()
            call()
            found[name] = count() - before - 1  # without this question
    store.teardown()
    return found


def table(rows: list[Row], found: dict[str, int]) -> str:
    """Both tables as text."""
    lines = [
        "| work | at once | ours, a second | redis-py | ours, CPU µs | redis-py | ratio | budget | |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        speed, other = (statistics.median(pair[side] for pair in row.speeds) for side in (0, 1))
        cost, others = (statistics.median(pair[side] for pair in row.costs) for side in (0, 1))
        budget = f"≥ {row.budget:g} × as fast" if row.judged == "faster" else f"≤ {row.budget:g} × the CPU"
        lines.append(
            f"| {row.name} | {row.tasks} | {speed:,.0f} | {other:,.0f} | {cost:.1f} | {others:.1f} | {row.ratio:.2f} |"
            f" {budget} | {'✓' if row.holds else '✗'} |"
        )
    lines += ["", "| call | round trips |", "|---|---|", *(f"| {name} | {count} |" for name, count in found.items())]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.redis", description="The Redis store beside redis-py.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-ms", type=float, default=100, help="of a slice (default 100)")
    parser.add_argument("--check", action="store_true", help="exit 1 if a budget is missed")
    parser.add_argument("--awake", action="store_true", help="let the processor never fall asleep")
    parser.add_argument("--json", type=Path, help="where the figures go, if anywhere")
    asked = parser.parse_args(arguments)
    program = shutil.which("redis-server")
    if program is None:
        print("redis-server is not installed", file=sys.stderr)
        return 2
    with running(program) as path:
        found = trips(path)
        with awake(asked.awake):
            rows = measure(path, rounds=asked.rounds, seconds=asked.batch_ms / 1000)
    print(table(rows, found))
    if asked.json is not None:
        kept = {
            "round_trips": found,
            "rows": [
                {"work": row.name, "at_once": row.tasks, "judged": row.judged, "ratio": row.ratio,
                 "budget": row.budget, "holds": row.holds}
                for row in rows
            ],
        }  # fmt: skip
        asked.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return 1 if asked.check and not all(row.holds for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
