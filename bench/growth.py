"""``python -m bench.growth``: what a store costs with ten thousand sessions and with a million, side by side.

Two stores of one kind, a small and a large one, are filled through the store's own ``create`` and then asked in turns,
so that a slow moment of the machine slows both. A tenth of the sessions has expired; every user has ten. Last, the
expired ones of the large store are purged: what counts is for how long a writer may have to wait, which is the write
lock where it can be watched (SQLite files: ``sqlite_lock``), and the whole call elsewhere. Beside that, what a session
takes in a file: the example's, and one of a known user with address and agent.

``--redis`` starts a Redis server of its own, both stores side by side on it, and asks it for the bytes. A Redis server
drops what has expired by itself; what is purged here are records that it would keep for days yet. ``--sql`` starts a
PostgreSQL or a MariaDB; of a purge the whole call is counted there, though it makes no request wait.

The budget (docs/performance.md): load and save at most 2.5 times as dear, the price of a deeper B-tree; a listing grows
with its user's sessions only; no writer waits over 50 ms for a purge; at most 700 bytes for the example.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from msgspec import structs

from session_mw.core.record import Record
from session_mw.core.tokens import RANDOM_BYTES, digest, mint
from session_mw.stores.url import store_from_url

from .drivers import BROWSER
from .scenarios import SESSION
from .sqlite_lock import LockWatch

__all__ = ["Growth", "grow", "main"]

GROWS_AT_MOST = 2.5
LONGEST_PURGE_MS = 50.0
BYTES_AT_MOST = 700
EACH_USER = 10
EXPIRED = 10  # one in so many
NOW = 1_800_000_000
SAMPLES = 400
DRIVERS = {"postgresql": "psycopg", "mariadb": "pymysql"}
BATCH = 100  # what stores purge in one transaction


class Growth(NamedTuple):
    """What was seen. Times in µs, medians; ``ratios``: large over small."""

    rows: tuple[int, int]
    small: dict[str, float]
    large: dict[str, float]
    ratios: dict[str, float]
    purged: int
    calls_ms: list[float]  # what each purge call took
    locks_ms: list[float]  # for how long each had the write lock, where that can be seen
    bytes_each: dict[str, float]  # of one session, by kind, where it can be weighed

    @property
    def missed(self) -> list[str]:
        """What is over its budget."""
        over = [
            f"{name}: {ratio:.2f} times as dear with {self.rows[1]:,} sessions, allowed {GROWS_AT_MOST}"
            for name, ratio in self.ratios.items()
            if ratio > GROWS_AT_MOST
        ]
        longest = max(self.locks_ms or self.calls_ms)
        if longest > LONGEST_PURGE_MS:
            what = "held the write lock for" if self.locks_ms else "took"
            over.append(f"purge: one call {what} {longest:.0f} ms, allowed {LONGEST_PURGE_MS:.0f}")
        example = self.bytes_each.get(EXAMPLE, 0)
        if example > BYTES_AT_MOST:
            over.append(f"size: {example:.0f} bytes for the example, allowed {BYTES_AT_MOST}")
        return over


def sessions(count: int, dice: random.Random) -> Iterator[Record]:
    """*count* sessions of the example's size, each user's spread over the whole."""
    payload = json.dumps(SESSION, separators=(",", ":")).encode() + b"\n"
    users = max(1, count // EACH_USER)
    for number in range(count):
        token = mint(dice.randbytes(RANDOM_BYTES))
        left = -dice.randrange(1, 10**6) if number % EXPIRED == 0 else dice.randrange(10**5, 10**6)
        last_activity = NOW + left - 10**6 - dice.randrange(10**6)  # some days of idle time
        yield Record(
            token.id, digest(token.secret), f"user-{number % users}", NOW - 10**7, last_activity,
            NOW + left, NOW + 10**7, None, None, None, 1, payload,
        )  # fmt: skip


def anonymous(record: Record) -> Record:
    return structs.replace(record, user_id=None)


def known(record: Record) -> Record:
    return structs.replace(record, login_ip="203.0.113.7", login_user_agent=BROWSER["User-Agent"])


EXAMPLE = "the example, anonymous"
KINDS: dict[str, Callable[[Record], Record]] = {EXAMPLE: anonymous, "with owner, address and agent": known}


def in_files(directory: Path, count: int) -> dict[str, float]:
    """What one of *count* sessions takes in a SQLite file in *directory*, indexes and all, by kind."""
    found = {}
    for number, (kind, made) in enumerate(KINDS.items()):
        path = directory / f"bytes-{number}.db"
        store = store_from_url(f"sqlite:///{path}")
        store.initialize()
        fill(store, count, random.Random(7), 1, made)
        store.teardown()  # which leaves no log behind
        found[kind] = path.stat().st_size / count
    return found


def fill(
    store: Any, count: int, dice: random.Random, threads: int, made: Callable[[Record], Record] = lambda record: record
) -> list[str]:
    """Create *count* sessions, each as *made* from the example; the ids of some that have not expired."""
    kept: list[str] = []
    every = max(1, count // (SAMPLES * 8))

    def create(record: Record) -> None:
        if store.create(record) is not True:
            raise RuntimeError("an id is taken: is the store empty?")

    with ThreadPoolExecutor(threads) as pool:
        batch: list[Record] = []
        for number, record in enumerate(map(made, sessions(count, dice))):
            batch.append(record)
            if number % every == every // 2 and record.expires_at > NOW:
                kept.append(record.id)
            if len(batch) == 2000 or number == count - 1:
                list(pool.map(create, batch))
                batch.clear()
    return kept


def operations(store: Any, ids: Sequence[str], dice: random.Random) -> dict[str, Callable[[], Callable[[], None]]]:
    """What is timed: each makes one call ready, which checks that it did its work."""

    def found(id: str) -> Record:
        record: Record | None = store.load(id)
        if record is None:
            raise RuntimeError("a session is missing")
        return record

    def load() -> Callable[[], None]:
        known = dice.choice(ids)
        return lambda: _expect(found(known).id, known)

    def save() -> Callable[[], None]:
        record = found(dice.choice(ids))
        changed = structs.replace(record, version=record.version + 1, payload=record.payload[::-1])
        return lambda: _expect(store.save(changed, record.version, payload_only=True).name, "SAVED")

    def touch() -> Callable[[], None]:
        record = found(dice.choice(ids))
        return lambda: _expect(store.touch(record.id, record.last_activity + 1, record.expires_at + 1), True)

    def listing() -> Callable[[], None]:
        user = found(dice.choice(ids)).user_id
        return lambda: _expect(len(store.list_user(user)), EACH_USER)

    return {"load": load, "save": save, "touch": touch, "list": listing}


def _expect(seen: object, wanted: object) -> None:
    if seen != wanted:
        raise RuntimeError(f"{seen!r} in place of {wanted!r}")


def grow(
    url: str,
    rows: tuple[int, int],
    *,
    threads: int = 4,
    samples: int = SAMPLES,
    say: Any = None,
    weigh: Callable[[], float] | None = None,
) -> Growth:
    """Fill two stores made of *url* (``{rows}`` in it is their size), and compare. *weigh*: bytes of both together."""
    dice = random.Random(7)
    stores = [store_from_url(url.replace("{rows}", str(count))) for count in rows]
    timed: list[dict[str, list[float]]] = []
    makers = []
    for store, count in zip(stores, rows, strict=True):
        (say or _silent)(f"filling {count:,} sessions")
        store.initialize()
        before = weigh() if weigh else 0.0
        ids = fill(store, count, dice, threads)
        dice.shuffle(ids)
        makers.append(operations(store, ids, dice))
        timed.append({name: [] for name in makers[0]})
    sizes = {"with its share of the owner's index": (weigh() - before) / rows[1]} if weigh else {}
    (say or _silent)("asking both in turns")
    for _ in range(samples):
        for maker, seen in zip(makers, timed, strict=True):
            for name, make in maker.items():
                call = make()
                begun = time.perf_counter()
                call()
                seen[name].append((time.perf_counter() - begun) * 1e6)
    (say or _silent)("purging")
    purged, calls, locks = _purge(stores[1], url.replace("{rows}", str(rows[1])))
    _expect(purged, -(-rows[1] // EXPIRED))
    for store in stores:
        store.teardown()
    small, large = ({name: statistics.median(values) for name, values in seen.items()} for seen in timed)
    ratios = {name: large[name] / small[name] for name in small}
    return Growth(rows, small, large, ratios, purged, calls, locks, sizes)


def _purge(store: Any, url: str) -> tuple[int, list[float], list[float]]:
    """How many records went, what each call took, and for how long each held the write lock."""
    calls: list[float] = []
    purged = 0

    def call() -> int:
        begun = time.perf_counter()
        count: int = store.purge(NOW, BATCH)
        calls.append((time.perf_counter() - begun) * 1e3)
        return count

    with ExitStack() as watching:
        during: Callable[[Callable[[], int]], int] = lambda call: call()  # noqa: E731
        held: list[float] = []
        if url.startswith("sqlite:"):
            path = unquote(url.removeprefix("sqlite:///").partition("?")[0])
            _settle(path)
            watch = watching.enter_context(LockWatch(Path(path)))
            during, held = watch.during, watch.held
        while True:
            count = during(call)
            purged += count
            if count < BATCH:
                return purged, calls, held


def _settle(path: str) -> None:
    """Let the disk have what filling left to be written: it is not the purge's to wait for."""
    program = shutil.which("sync")  # in a process of its own: closing the file in this one would drop SQLite's locks
    if program is not None:
        subprocess.run([program, path], check=False)  # noqa: S603


def _alone(url: str, weigh: Callable[[], float], count: int = 10_000) -> float:
    """Bytes of the example's session without an owner."""
    store = store_from_url(url)
    store.initialize()
    before = weigh()
    for record in sessions(count, random.Random(7)):
        store.create(structs.replace(record, user_id=None))
    each = (weigh() - before) / count
    store.teardown()
    return each


def _silent(text: str) -> None:
    return None


def report(grown: Growth) -> str:
    """A table to read, and what is over its budget."""
    small, large = grown.rows
    lines = [f"| µs a call, median | {small:,} sessions | {large:,} sessions | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {grown.small[name]:.0f} | {grown.large[name]:.0f} | {ratio:.2f} |"
        for name, ratio in grown.ratios.items()
    ]
    lines += [
        "",
        f"purged {grown.purged:,} in calls of {BATCH}, {sum(grown.calls_ms) * 1e3 / max(1, grown.purged):.0f} µs each",
        f"a call took {_spread(grown.calls_ms)}",
        *([f"and held the write lock for {_spread(grown.locks_ms)}"] if grown.locks_ms else []),
        *(f"{size:.0f} bytes a session, {kind}" for kind, size in grown.bytes_each.items()),
        *(f"over budget: {line}" for line in grown.missed),
    ]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ms (median), {max(values):.1f} ms (longest)"


def main(arguments: list[str] | None = None) -> int:
    """Run it; 1 when ``--check`` finds a budget missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="What a store costs as it grows.")
    parser.add_argument(
        "--store", metavar="URL", help="with {rows} in it; default: SQLite files that are deleted after"
    )
    parser.add_argument("--redis", action="store_true", help="on a redis-server of its own")
    parser.add_argument("--sql", choices=list(DRIVERS), help="on such a server of its own")
    parser.add_argument("--rows", type=int, nargs=2, default=(10_000, 1_000_000), metavar=("SMALL", "LARGE"))
    parser.add_argument("--threads", type=int, default=4, help="that fill the stores")
    parser.add_argument("--check", action="store_true", help="exit 1 if a budget is missed")
    asked = parser.parse_args(arguments)
    small, large = asked.rows

    def measured(url: str, weigh: Callable[[], float] | None = None) -> Growth:
        say = lambda text: print(text, file=sys.stderr)  # noqa: E731
        return grow(url, (small, large), threads=asked.threads, say=say, weigh=weigh)

    if asked.redis:
        from .redis import running, used_memory

        with running("redis-server") as path:
            grown = measured(f"unix://{path}?table_index=rows{{rows}}", lambda: used_memory(path))
        with running("redis-server") as path:
            alone = _alone(f"unix://{path}", lambda: used_memory(path))
        grown = grown._replace(bytes_each={EXAMPLE: alone, **grown.bytes_each})
    elif asked.sql:
        from .sql_servers import running as serving

        with serving(asked.sql) as server:
            grown = measured(f"{server.url(DRIVERS[asked.sql])}&table=rows_{{rows}}&create=yes")
    elif asked.store:
        grown = measured(asked.store)
    else:
        with tempfile.TemporaryDirectory() as directory:
            grown = measured(f"sqlite:///{directory}/growth-{{rows}}.db")
            grown = grown._replace(bytes_each=in_files(Path(directory), small))
    print(report(grown))
    return 1 if asked.check and grown.missed else 0


if __name__ == "__main__":
    sys.exit(main())
