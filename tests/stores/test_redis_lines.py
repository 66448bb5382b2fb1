"""Connections to Redis, called and awaited: kept, given back, lost, found again; fail-over; what a write waits for."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from msgspec import structs
from stores.redis_gate import Gate

from session_mw.core.operations import Outcome
from session_mw.errors import StoreError
from session_mw.stores import redis_sync
from session_mw.stores.redis import RedisStore
from session_mw.testing.contract import new_record

NOW = 2_100_000_000
INDEXES = (f"lines{number}" for number in itertools.count())


@pytest.fixture
def open_store():
    """``open_store(url)``: a store with keys of its own, closed in the end."""
    opened = []

    def make(url, **options):
        opened.append(RedisStore(url, table_index=next(INDEXES), **options))
        return opened[-1]

    yield make
    for store in opened:
        store.teardown()


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def gate(redis_server):
    with Gate(redis_server.port) as gate:
        yield gate


@pytest.fixture
def always_look(monkeypatch):
    monkeypatch.setattr(redis_sync, "REST", -1)


@pytest.fixture
def never_look(monkeypatch):
    monkeypatch.setattr(redis_sync, "REST", 3600)


def on_a_thread(work, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *args).result()


def made(store, **changes):
    record = new_record(**changes)
    assert store.create(record) is True
    return record


def saved(store, record, payload=b"new"):
    seen = store.load(record.id)
    return store.save(structs.replace(seen, version=seen.version + 1, payload=payload), seen.version, payload_only=True)


def connections(client):
    return client.info("clients")["connected_clients"]


# kept


def test_a_thread_keeps_its_connection_and_gives_it_back_when_it_ends(redis_server, client, open_store):
    store = open_store(redis_server.url)
    before = connections(client)
    made(store)
    made(store)
    assert connections(client) == before + 1
    for _ in range(5):
        on_a_thread(store.load, "n" * 24)
    assert connections(client) == before + 2, "the five took turns with one"
    store.teardown()
    redis_server.until(lambda _: connections(client) == before, "a connection is left")
    assert store.load("n" * 24) is None, "a later call opens anew"


def test_threads_have_a_connection_each(redis_server, client, open_store):
    store = open_store(redis_server.url)
    record = made(store, payload=b"0")
    before = connections(client)
    barrier = threading.Barrier(4)

    def count_up():
        barrier.wait()
        done = 0
        while done < 50:
            seen = store.load(record.id)
            changed = structs.replace(seen, version=seen.version + 1, payload=b"%d" % (int(seen.payload) + 1))
            done += store.save(changed, seen.version, payload_only=True) is Outcome.SAVED
        barrier.wait()
        return connections(client)

    with ThreadPoolExecutor(4) as pool:
        counts = [future.result() for future in [pool.submit(count_up) for _ in range(4)]]
    assert store.load(record.id).payload == b"200"
    assert max(counts) >= before + 4


def test_teardown_while_others_are_at_work(redis_server, open_store):
    store = open_store(redis_server.url)
    record = made(store)
    done = threading.Event()

    def work():
        count = 0
        while not done.is_set() or count < 20:
            assert store.load(record.id) == record
            count += 1

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work) for _ in range(3)]
        for _ in range(20):
            store.teardown()
        done.set()
        for future in futures:
            future.result()


def test_teardown_leaves_alone_what_others_have_just_opened(redis_server, open_store):
    store = open_store(redis_server.url)
    end = store._line._end
    with ThreadPoolExecutor(1) as pool:

        def ends():
            pool.submit(store.load, "n" * 24).result()
            end()

        store._line._end = ends
        store.load("n" * 24)
        store.teardown()
        (kept,) = store._line._kept
        assert kept.connection.is_connected
        store._line._end = end


def test_a_clients_connections_go_back_to_it(redis_server):
    with redis.Redis(port=redis_server.port, max_connections=1) as client:
        store = RedisStore(client, table_index=next(INDEXES))
        store.initialize()
        with pytest.raises(StoreError, match="no connection left in its pool") as caught:
            on_a_thread(store.load, "n" * 24)
        assert isinstance(caught.value.__cause__, redis.exceptions.MaxConnectionsError)
        store.teardown()
        assert client.ping() is True


FORK = """
import os, sys
from session_mw.stores.redis import RedisStore
from session_mw.testing.contract import new_record

store = RedisStore(sys.argv[1], table_index="fork")
record, other = new_record(), new_record()
store.create(record)
store.create(other)
for turn in range(3):
    child = os.fork()
    if child == 0:
        good = all(store.load(other.id) == other for _ in range(100))
        store.teardown()
        os._exit(0 if good else 1)
    good = all(store.load(record.id) == record for _ in range(100))
    assert os.waitpid(child, 0)[1] == 0
    assert good
store.delete_user("alice")
store.teardown()
print("well")
"""


def test_a_child_of_a_fork_opens_its_own(redis_server):
    command = [sys.executable, "-W", "error", "-c", FORK, redis_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("well\n", "")


ENDING = """
import sys, threading
from session_mw.stores.redis import RedisStore

store = RedisStore(sys.argv[1], table_index="ending")
store.load("n" * 24)
waiting = threading.Event()
thread = threading.Thread(target=lambda: (store.load("n" * 24), waiting.set()), daemon=True)
thread.start()
waiting.wait()
"""


def test_a_program_may_just_end(redis_server):
    command = [sys.executable, "-W", "error", "-c", ENDING, redis_server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# lost and found


def test_what_the_server_closed_meanwhile_costs_no_write(gate, open_store, always_look):
    store = open_store(gate.url)
    record = made(store)
    for _ in range(3):
        gate.hang_up()
        assert store.touch(record.id, NOW + 60, NOW + 7260) is True


def test_a_lost_answer_is_asked_for_again_where_only_read(gate, open_store, never_look):
    store = open_store(gate.url)
    record = made(store)
    gate.swallow = 1
    assert store.load(record.id) == record
    gate.swallow = 2
    with pytest.raises(StoreError, match="cannot be reached, or hung up") as caught:
        store.load(record.id)
    assert isinstance(caught.value.__cause__, redis.ConnectionError)
    assert store.load(record.id) == record


def test_a_lost_answer_to_a_write_is_a_fault_and_not_repeated(gate, open_store, never_look):
    store = open_store(gate.url)
    record = made(store)
    gate.swallow = 1
    changed = structs.replace(record, version=2, payload=b"new")
    with pytest.raises(StoreError, match="cannot be reached, or hung up"):
        store.save(changed, 1)
    assert store.load(record.id) == changed, "it was made, once"
    gate.hang_up()
    with pytest.raises(StoreError):
        store.save(structs.replace(changed, version=3), 2)
    assert store.load(record.id) == changed, "this one was not"


def test_a_server_that_was_away_finds_its_sessions_again(new_redis, open_store, always_look):
    server = new_redis("appendonly yes")
    store = open_store(server.url)
    record = made(store)
    with asyncio.Runner() as runner:
        awaited = store.aio()
        assert runner.run(asked(awaited.load, record.id)) == record
        server.stop()
        for work in (lambda: store.load(record.id), lambda: runner.run(asked(awaited.load, record.id))):
            with pytest.raises(StoreError, match="cannot be reached"):
                work()
        for work in (lambda: store.delete(record.id), lambda: runner.run(asked(awaited.delete, record.id))):
            with pytest.raises(StoreError, match="cannot be reached"):
                work()
        server.start()
        assert store.load(record.id) == record
        assert runner.run(asked(awaited.load, record.id)) == record
        assert saved(store, record) is Outcome.SAVED
        runner.run(asked(awaited.teardown))


async def asked(call, *args, **options):
    return await call(*args, **options)


def test_a_server_that_hangs_is_given_up(new_redis, open_store):
    server = new_redis()
    store = open_store(f"{server.url}?socket_timeout=0.2&wait_timeout=0.1")
    record = made(store)
    with asyncio.Runner() as runner:
        awaited = store.aio()
        runner.run(asked(awaited.load, record.id))
        server.process.send_signal(signal.SIGSTOP)
        try:
            for work in (lambda: store.load(record.id), lambda: runner.run(asked(awaited.load, record.id))):
                with pytest.raises(StoreError, match="did not answer in time"):
                    work()
        finally:
            server.process.send_signal(signal.SIGCONT)
        server.until(lambda client: client.ping(), "it does not go on")
        assert store.load(record.id) == record
        assert runner.run(asked(awaited.load, record.id)) == record
        runner.run(asked(awaited.teardown))


def test_a_full_server_is_told_and_still_read(new_redis, open_store):
    server = new_redis()
    store = open_store(server.url)
    record = made(store)
    with server.client() as client:
        client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match="is full") as caught:
        store.create(new_record(user_id=None))
    assert isinstance(caught.value.__cause__, redis.OutOfMemoryError)
    with pytest.raises(StoreError, match="is full"):
        store.save(structs.replace(record, version=2), 1)
    assert store.load(record.id) == record


def test_a_primary_that_became_a_replica_is_told_and_left(new_redis, open_store):
    server = new_redis()
    store = open_store(server.url)
    record = made(store)
    with asyncio.Runner() as runner, server.client() as client:
        awaited = store.aio()
        assert runner.run(asked(awaited.load, record.id)) == record
        client.replicaof("127.0.0.1", "1")
        before = connections(client)
        with pytest.raises(StoreError, match="is a replica now"):
            saved(store, record)
        with pytest.raises(StoreError, match="is a replica now"):
            runner.run(asked(awaited.touch, record.id, NOW + 60, NOW + 7260))
        server.until(lambda _: connections(client) == before - 2, "the next connection may lead elsewhere")
        client.replicaof("NO", "ONE")
        assert saved(store, record) is Outcome.SAVED
        assert runner.run(asked(awaited.touch, record.id, NOW + 60, NOW + 7260)) is True
        runner.run(asked(awaited.teardown))


def test_an_interrupted_call_ends_its_connection(redis_server, open_store, monkeypatch):
    """What comes late is not taken for another's answer."""
    store = open_store(redis_server.url)
    record = made(store)
    read = redis.Connection.read_response

    def interrupted(self, *args, **options):
        monkeypatch.setattr(redis.Connection, "read_response", read)
        raise KeyboardInterrupt

    monkeypatch.setattr(redis.Connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.load(record.id)
    assert store.load("n" * 24) is None
    assert store.load(record.id) == record


@pytest.mark.parametrize("kept", [True, False])
def test_a_greeting_that_was_cut_short_is_nobodys_answer(redis_server, open_store, monkeypatch, kept):
    store = open_store(redis_server.url)
    record = made(store)
    if kept:
        next(iter(store._line._kept)).connection.disconnect()
    else:
        store.teardown()
    connect = redis.Connection.connect

    def interrupted(self):
        self.connect_check_health()
        self.send_command("PING")  # its answer is still to come
        raise KeyboardInterrupt

    monkeypatch.setattr(redis.Connection, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.load(record.id)
    monkeypatch.setattr(redis.Connection, "connect", connect)
    assert store.load(record.id) == record
    assert store.load("n" * 24) is None


def test_a_connection_marked_for_it_is_opened_again(redis_server, client, open_store):
    store = open_store(redis_server.url)
    record = made(store)
    kept = next(iter(store._line._kept)).connection
    before = {one["id"] for one in client.client_list()}
    kept.mark_for_reconnect()
    assert store.load(record.id) == record
    assert len({one["id"] for one in client.client_list()} - before) == 1


# replicas


def test_a_write_waits_for_a_replica(redis_sentinel, open_store):
    store = open_store(redis_sentinel.url, wait_replicas=1, wait_timeout=5)
    record = made(store)
    assert saved(store, record) is Outcome.SAVED
    assert store.save(structs.replace(record, version=9), 8) is Outcome.CONFLICT
    with redis_sentinel.replica.client() as replica:
        assert replica.get(store._calls._keys.record(record.id)) is not None


def test_a_write_that_too_few_have_is_a_fault(redis_sentinel, open_store):
    store = open_store(redis_sentinel.url, wait_replicas=2, wait_timeout=0.05)
    record = new_record()
    with pytest.raises(StoreError, match=r"made the write, but [01] of 2 replicas have it"):
        store.create(record)
    assert store.load(record.id) == record, "reading waits for nobody"

    async def together():
        awaited = store.aio()
        await awaited.initialize()
        answers = await asyncio.gather(
            awaited.load(record.id), awaited.touch(record.id, NOW + 60, NOW + 7260), awaited.load(record.id),
            return_exceptions=True,
        )  # fmt: skip
        await awaited.teardown()
        return answers

    first, write, last = asyncio.run(together())
    assert first == record
    assert isinstance(write, StoreError)
    assert "replicas have it" in str(write)
    assert last.expires_at == NOW + 7260, "it was made all the same"


def test_a_server_that_may_not_wait_is_told(new_redis):
    server = new_redis()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "web", "on", ">pw", "~*", "+@all", "-wait")
    store = RedisStore(f"redis://web:pw@127.0.0.1:{server.port}/0?wait_replicas=1")
    with pytest.raises(StoreError, match="does not let this user do that"):
        store.create(new_record())
    store.teardown()


# Sentinel


def test_sessions_survive_a_fail_over(new_sentinel):
    careful = RedisStore(new_sentinel.url, wait_replicas=1, wait_timeout=5)
    store = RedisStore(new_sentinel.url)
    awaited = store.aio()
    record = made(careful)
    careful.teardown()
    with asyncio.Runner() as runner:
        assert store.load(record.id) == record
        assert runner.run(asked(awaited.load, record.id)) == record
        with new_sentinel.switching():
            new_sentinel.primary.stop()
            for work in (lambda: store.load(record.id), lambda: runner.run(asked(awaited.load, record.id))):
                with pytest.raises(StoreError, match="cannot be reached"):
                    work()
        assert store.load(record.id) == record
        assert runner.run(asked(awaited.load, record.id)) == record
        assert saved(store, record, b"sync") is Outcome.SAVED
        assert runner.run(asked(awaited.touch, record.id, NOW + 60, NOW + 7260)) is True
        assert store.list_user("alice") == [store.load(record.id)]
        runner.run(asked(awaited.teardown))
        new_sentinel.sentinel.stop()
        assert store.load(record.id).payload == b"sync", "who is connected needs no Sentinel"
        store.teardown()
        with pytest.raises(StoreError, match="cannot be reached"):
            store.load(record.id)
    store.teardown()


# a Cluster


def test_a_slot_that_moves_is_followed(redis_cluster, open_store):
    store = open_store(redis_cluster.url)
    record = made(store, user_id=None)
    key = store._calls._keys.record(record.id)
    with asyncio.Runner() as runner:
        awaited = store.aio()
        assert runner.run(asked(awaited.load, record.id)) == record
        redis_cluster.move(key)
        assert saved(store, record) is Outcome.SAVED
        assert runner.run(asked(awaited.load, record.id)).payload == b"new"
        runner.run(asked(awaited.teardown))


def test_a_node_that_is_away_is_told(redis_cluster, open_store):
    store = open_store(redis_cluster.url)
    record = made(store, user_id=None)
    node = redis_cluster.node_of(store._calls._keys.record(record.id))
    with asyncio.Runner() as runner:
        awaited = store.aio()
        assert runner.run(asked(awaited.load, record.id)) == record
        node.stop()
        for work in (
            lambda: store.load(record.id),
            lambda: runner.run(asked(awaited.load, record.id)),
            lambda: store.delete(record.id),
            lambda: runner.run(asked(awaited.delete, record.id)),
        ):
            with pytest.raises(StoreError):
                work()
        node.start()
        redis_cluster.wait()
        assert store.load(record.id) is None, "it keeps nothing over a restart"
        assert runner.run(asked(awaited.create, record)) is True
        assert store.load(record.id) == record
        runner.run(asked(awaited.teardown))


def test_a_cluster_that_is_not_there_is_told(free_port):
    store = RedisStore(f"redis+cluster://127.0.0.1:{free_port}")
    awaited = store.aio()
    for work in (lambda: store.load("n" * 24), store.initialize, lambda: asyncio.run(asked(awaited.load, "n" * 24))):
        with pytest.raises(StoreError, match="cannot be reached"):
            work()
    store.teardown()
