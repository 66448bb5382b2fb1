"""What the SQLite tests run in processes of their own: ``python sqlite_programs.py <name> <file>``.

Forking belongs where no other thread is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading

from msgspec import structs

from session_mw.core.operations import Outcome
from session_mw.errors import StoreError
from session_mw.stores import sqlite_pool
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing.contract import new_record


def count_up(store, id, times):
    """Increments by compare-and-swap, on one record."""
    done = 0
    while done < times:
        seen = store.load(id)
        changed = structs.replace(seen, version=seen.version + 1, payload=b"%d" % (int(seen.payload) + 1))
        done += store.save(changed, seen.version, payload_only=True) is Outcome.SAVED


def in_child(work):
    """Fork; the child does *work* and ends. Its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            work()
            status = 0
        os._exit(status)
    return pid


def ended_well(*pids):
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "a child failed"


class Turns:
    """Two processes take turns."""

    def __init__(self):
        self.pipes = os.pipe(), os.pipe()

    def give(self, way):
        os.write(self.pipes[way][1], b".")

    def wait(self, way):
        os.read(self.pipes[way][0], 1)


def fork_loses_nothing(path):
    """A child opens its own connection; the parent closes its own, the last it knows of; the child goes on."""
    store, turns = SQLiteStore(path), Turns()
    records = [new_record() for _ in range(4)]
    store.create(records[0])
    assert store.inline().load(records[0].id) == records[0]

    def child():
        store.create(records[1])
        store.inline().create(records[2])
        turns.give(0)
        turns.wait(1)
        store.create(records[3])

    pid = in_child(child)
    turns.wait(0)
    store.teardown()
    turns.give(1)
    ended_well(pid)
    assert [SQLiteStore(path).load(record.id) for record in records] == records, "an acknowledged write is gone"


def fork_among_threads(path):
    """Forks while threads of the parent are writing: no child is stuck, nothing is lost."""
    store = SQLiteStore(path)
    record = new_record(payload=b"0")
    store.create(record)
    stop = threading.Event()
    counted = [0, 0]

    def work(index):
        while not stop.is_set():
            count_up(store, record.id, 1)
            counted[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    pids = [in_child(lambda: count_up(store, record.id, 10)) for _ in range(4)]
    ended_well(*pids)
    stop.set()
    for thread in threads:
        thread.join()
    assert int(store.load(record.id).payload) == sum(counted) + 40


def fork_and_group_commit(path):
    """The queue and its thread are the parent's; a child starts its own."""
    store = SQLiteStore(path, durable=True)
    records = [new_record() for _ in range(3)]

    async def create(record):
        assert await store.aio().create(record) is True

    asyncio.run(create(records[0]))
    ended_well(in_child(lambda: asyncio.run(create(records[1]))))
    asyncio.run(create(records[2]))
    assert [store.load(record.id) for record in records] == records


def foreign_fork(path):
    """A fork that is not Python's: nothing was closed before it, and the child knows only afterwards."""
    store = SQLiteStore(path)
    records = [new_record() for _ in range(3)]
    store.create(records[0])
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            sqlite_pool._after_fork_in_child()
            store.create(records[1])
            store.teardown()
            status = 0
        os._exit(status)
    ended_well(pid)
    store.create(records[2])
    assert [store.load(record.id) for record in records] == records
    store.teardown()
    assert [SQLiteStore(path).load(record.id) for record in records] == records


def unprivileged(path):
    """As somebody who may not write there: every refusal says what to do."""
    store = SQLiteStore(path)
    record = new_record()
    store.create(record)
    store.teardown()
    directory = os.path.dirname(path)  # noqa: PTH120
    os.chmod(path, 0o444)  # noqa: PTH101
    os.chmod(directory, 0o555)  # noqa: PTH101, S103
    others = [SQLiteStore(path), SQLiteStore(f"{directory}/new.db")]

    def refused():
        if os.getuid() == 0:
            os.setuid(65534)
        for other in others:
            try:
                other.create(new_record())
            except StoreError as error:
                print(str(error).replace(directory, ""), flush=True)

    ended_well(in_child(refused))


def _work(path, id, times):
    store = SQLiteStore(path)
    count_up(store, id, times)
    store.teardown()


def spawned(path):
    """Processes that share nothing but the file."""
    store = SQLiteStore(path)
    record = new_record(payload=b"0")
    store.create(record)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_work, args=(path, record.id, 40)) for _ in range(2)]
    for worker in workers:
        worker.start()
    count_up(store, record.id, 40)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert store.load(record.id).payload == b"120"


def import_is_light(_):
    """Neither the stores' door, the memory store nor URLs bring in a driver or an event loop."""
    code = "import sys, session_mw.stores.url, session_mw.stores.memory, session_mw.stores.faces; print(*sys.modules)"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    loaded = set(subprocess.check_output([sys.executable, "-c", code], env=bare, text=True).split())
    assert "session_mw.stores.memory" in loaded
    assert not loaded & {"sqlite3", "asyncio", "concurrent.futures", "urllib.parse", "difflib"}


def ends_untidily(path):
    """No teardown, threads still holding connections: nothing is said at the end, and the log is in the file."""
    store = SQLiteStore(path)
    thread = threading.Thread(target=lambda: store.create(new_record()))
    thread.start()
    thread.join()
    store.inline().create(new_record())


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
