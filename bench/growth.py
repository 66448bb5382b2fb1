"""``python -m bench.growth``: what a store costs with ten thousand sessions and with a million, side by side.

Two stores of one kind, a small and a large one, are filled through the store's own ``create`` and then asked in turns,
so that a slow moment of the machine slows both. A tenth of the sessions has expired; every user has ten. Last, the
expired ones of the large store are purged: what counts is the longest single call, for that long a writer may wait.

``--redis`` starts a Redis server of its own, both stores side by side on it, and asks it for the bytes. A Redis server
drops what has expired by itself; what is purged here are records that it would keep for days yet.

The budget (docs/performance.md): load and save at most 2.5 times as dear, the price of a deeper B-tree; a listing grows
with its user's sessions only; no purge call over 50 ms; at most 700 bytes a session.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from session_mw.core.record import Record
from session_mw.core.tokens import RANDOM_BYTES, digest, mint
from session_mw.stores.url import store_from_url

from .scenarios import SESSION

__all__ = ["Growth", "grow", "main"]

GROWS_AT_MOST = 2.5
LONGEST_PURGE_MS = 50.0
BYTES_AT_MOST = 700
EACH_USER = 10
EXPIRED = 10  # one in so many
NOW = 1_800_000_000
SAMPLES = 400
BATCH = 100  # what stores purge in one transaction


class Growth(NamedTuple):
    """What was seen. Times in µs, medians; ``ratios``: large over small."""

    rows: tuple[int, int]
    small: dict[str, float]
    large: dict[str, float]
    ratios: dict[str, float]
    purged: int
    longest_purge_ms: float
    purge_per_record: float
    bytes_each: float | None = None  # of the large store, where it can be weighed

    @property
    def missed(self) -> list[str]:
        """What is over its budget."""
        over = [
            f"{name}: {ratio:.2f} times as dear with {self.rows[1]:,} sessions, allowed {GROWS_AT_MOST}"
            for name, ratio in self.ratios.items()
            if ratio > GROWS_AT_MOST
        ]
        if self.bytes_each is not None and self.bytes_each > BYTES_AT_MOST:
            over.append(f"{self.bytes_each:.0f} bytes a session, allowed {BYTES_AT_MOST}")
        if self.longest_purge_ms > LONGEST_PURGE_MS:
            over.append(f"purge: one call took {self.longest_purge_ms:.0f} ms, allowed {LONGEST_PURGE_MS:.0f}")
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


def fill(store: Any, count: int, dice: random.Random, threads: int) -> list[str]:
    """Create *count* sessions; the ids of some that have not expired."""
    kept: list[str] = []
    every = max(1, count // (SAMPLES * 8))

    def create(record: Record) -> None:
        if store.create(record) is not True:
            raise RuntimeError("an id is taken: is the store empty?")

    with ThreadPoolExecutor(threads) as pool:
        batch: list[Record] = []
        for number, record in enumerate(sessions(count, dice)):
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
    bytes_each = (weigh() - before) / rows[1] if weigh else None
    (say or _silent)("asking both in turns")
    for _ in range(samples):
        for maker, seen in zip(makers, timed, strict=True):
            for name, make in maker.items():
                call = make()
                begun = time.perf_counter()
                call()
                seen[name].append((time.perf_counter() - begun) * 1e6)
    (say or _silent)("purging")
    calls: list[float] = []
    purged = 0
    while True:
        begun = time.perf_counter()
        count = stores[1].purge(NOW, BATCH)
        calls.append((time.perf_counter() - begun) * 1e3)
        purged += count
        if count < BATCH:
            break
    _expect(purged, -(-rows[1] // EXPIRED))
    for store in stores:
        store.teardown()
    small, large = ({name: statistics.median(values) for name, values in seen.items()} for seen in timed)
    ratios = {name: large[name] / small[name] for name in small}
    return Growth(rows, small, large, ratios, purged, max(calls), sum(calls) * 1e3 / max(1, purged), bytes_each)


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
        f"purged {grown.purged:,} in calls of {BATCH}: the longest took {grown.longest_purge_ms:.1f} ms",
        f"{grown.purge_per_record:.0f} µs a purged session",
        *([] if grown.bytes_each is None else [f"{grown.bytes_each:.0f} bytes a session"]),
        *(f"over budget: {line}" for line in grown.missed),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run it; 1 when ``--check`` finds a budget missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="What a store costs as it grows.")
    parser.add_argument(
        "--store", metavar="URL", help="with {rows} in it; default: SQLite files that are deleted after"
    )
    parser.add_argument("--redis", action="store_true", help="on a redis-server of its own")
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
        print(f"{grown.bytes_each:.0f} bytes a session with its share of the owner's index")
        with running("redis-server") as path:
            grown = grown._replace(bytes_each=_alone(f"unix://{path}", lambda: used_memory(path)))
    elif asked.store:
        grown = measured(asked.store)
    else:
        with tempfile.TemporaryDirectory() as directory:
            grown = measured(f"sqlite:///{directory}/growth-{{rows}}.db")
            size = sum(file.stat().st_size for file in Path(directory).glob(f"growth-{large}.db*"))
            grown = grown._replace(bytes_each=size / large)
    print(report(grown))
    return 1 if asked.check and grown.missed else 0


if __name__ == "__main__":
    sys.exit(main())
