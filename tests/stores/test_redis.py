"""RedisStore: the contract on every kind of server, what it costs there, what it leaves there, what it says of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from typing import ClassVar

import httpx
import pytest
import redis
import redis.asyncio
from cli_driver import run
from msgspec import structs
from werkzeug.test import Client

from session_mw.asgi import SessionMiddleware as ASGIMiddleware
from session_mw.core.operations import Outcome
from session_mw.errors import ConfigurationError, StoreError
from session_mw.stores import StoreStats
from session_mw.stores.faces import is_awaited, loop_faces
from session_mw.stores.redis import AsyncRedisStore, RedisStore
from session_mw.stores.redis_calls import Ask, ClusterCalls, Nodes
from session_mw.stores.redis_layout import MARGIN, Keys
from session_mw.testing import StoreContract
from session_mw.testing.contract import new_record
from session_mw.wsgi import SessionMiddleware as WSGIMiddleware

NOW = 2_100_000_000
INDEXES = (f"t{number}" for number in itertools.count())


class Kit(StoreContract):
    """The contract on a server: each directory of the kit stands for a table index."""

    __test__ = False
    costs: ClassVar = {"load": 1, "save": 1, "touch": 1, "list_user": 1}
    url: str

    def make_store(self, tmp_path):
        self.made = {**getattr(self, "made", {}), tmp_path: next(INDEXES)}
        return self.open_again(tmp_path)

    def open_again(self, tmp_path):
        return RedisStore(self.url, table_index=self.made[tmp_path])

    def before_each_command(self, store, tell):
        for line in (store._line, store.aio()._line):
            for name in {"ask", "get", "values"} & set(dir(line)):
                setattr(line, name, telling(getattr(line, name), tell))

    def lose_record(self, store, id):
        store._line.ask(Ask(("UNLINK", keys_of(store).record(id))))


def telling(send, tell):
    """*send*, called or awaited alike: what it gives is what it gave."""

    def told(*args):
        tell()
        return send(*args)

    return told


class TestSingle(Kit):
    __test__ = True

    @pytest.fixture(autouse=True)
    def server(self, redis_server):
        self.url = redis_server.url


class TestUnixSocketWithRESP2(Kit):
    __test__ = True

    @pytest.fixture(autouse=True)
    def server(self, redis_server):
        self.url = f"{redis_server.socket}&protocol=2"


class TestSentinel(Kit):
    __test__ = True

    @pytest.fixture(autouse=True)
    def server(self, redis_sentinel):
        self.url = redis_sentinel.url


class TestCluster(Kit):
    """A whole save writes the owner's index first; a listing asks the index, then the records."""

    __test__ = True
    costs: ClassVar = {"load": 1, "save": 2, "touch": 1, "list_user": 2}

    @pytest.fixture(autouse=True)
    def server(self, redis_cluster):
        self.url = redis_cluster.url


@pytest.fixture
def store(redis_server):
    store = RedisStore(redis_server.url, table_index=next(INDEXES))
    store.initialize()
    yield store
    store.teardown()


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


@pytest.fixture
def cluster_store(redis_cluster):
    store = RedisStore(redis_cluster.url, table_index=next(INDEXES))
    store.initialize()
    yield store
    store.teardown()


@pytest.fixture
def cluster_client(redis_cluster):
    with redis.RedisCluster("127.0.0.1", redis_cluster.nodes[0].port) as client:
        yield client


def keys_of(store):
    return store._calls._keys


# what a call costs


def made(record, store):
    store.create(record)
    return record


CALLS = {
    "load": (1, lambda store, old: store.load(old.id)),
    "load nothing": (1, lambda store, old: store.load("n" * 24)),
    "create": (1, lambda store, old: store.create(new_record())),
    "create without a user": (1, lambda store, old: store.create(new_record(user_id=None))),
    "save": (1, lambda store, old: store.save(structs.replace(old, version=2), 1)),
    "save the payload": (1, lambda store, old: store.save(structs.replace(old, version=2), 1, payload_only=True)),
    "save in vain": (1, lambda store, old: store.save(structs.replace(old, version=9), 8)),
    "touch": (1, lambda store, old: store.touch(old.id, NOW + 60, NOW + 7260)),
    "load what is closed": (1, lambda store, old: store.load("c" * 24)),
    "delete": (1, lambda store, old: store.delete(old.id)),
    "delete a version": (1, lambda store, old: store.delete(old.id, expected_version=1)),
    "delete what is closed": (1, lambda store, old: store.delete("c" * 24)),
    "close": (1, lambda store, old: store.close(old.id, 1, until=NOW + 60)),
    "close with a pointer": (1, lambda store, old: store.close(old.id, 1, until=NOW + 60, successor="s" * 24)),
    "rotate": (1, lambda store, old: store.rotate(new_record(), old.id, 1, until=NOW + 60)),
    "list": (1, lambda store, old: store.list_user("alice")),
    "list nothing": (1, lambda store, old: store.list_user("nobody")),
    "delete_user": (1, lambda store, old: store.delete_user("alice")),
    "delete_user but one": (1, lambda store, old: store.delete_user("alice", except_id=old.id)),
}
ON_A_CLUSTER = {  # where it is not the same: the owner's index is elsewhere
    "create": 2, "save": 2, "save in vain": 2, "delete": 2, "delete a version": 2, "close": 2,
    "close with a pointer": 2, "delete_user": 3, "delete_user but one": 1, "list": 2,
}  # fmt: skip


def closed(store):
    """A closed record, of id ``ccc…``."""
    assert store.create(structs.replace(new_record(user_id=None), id="c" * 24))
    assert store.close("c" * 24, 1, until=NOW + 60, successor="s" * 24) is Outcome.DELETED


class Reads:
    """How often the server, by its own count, has read from its clients."""

    def __init__(self, client):
        self.client = client
        self.seen = self.count()

    def count(self):
        return self.client.info("stats")["total_reads_processed"]

    def since(self):
        now = self.count()
        self.seen, before = now, self.seen
        return now - before - 1  # without this question


@pytest.mark.parametrize(("trips", "call"), CALLS.values(), ids=CALLS)
def test_round_trips_by_the_servers_own_count(redis_server, client, trips, call):
    store = RedisStore(redis_server.url, table_index=next(INDEXES))
    awaited = store.aio()
    for number in range(30):  # other users, other sessions: they cost nothing
        store.create(new_record(user_id=f"user{number}"))
    closed(store)
    first, second = new_record(), new_record()
    store.create(first)
    store.create(second)
    reads = Reads(client)
    call(store, first)
    assert reads.since() == trips

    async def awaits():
        await awaited.initialize()
        if store.load("c" * 24) is None:  # the first call took it
            closed(store)
        before = Reads(client)
        await call(awaited, second)
        count = before.since()
        await awaited.teardown()
        return count

    assert asyncio.run(awaits()) == trips
    store.teardown()


ONE_RECORD = {name: call for name, (_, call) in CALLS.items() if name != "rotate"}


@pytest.mark.parametrize("name", ONE_RECORD)
def test_round_trips_on_a_cluster_by_the_servers_own_counts(cluster_store, redis_cluster, name):
    closed(cluster_store)
    record = made(new_record(), cluster_store)
    cluster_store.load("n" * 24)
    clients = [node.client() for node in redis_cluster.nodes]
    reads = [Reads(client) for client in clients]
    ONE_RECORD[name](cluster_store, record)
    assert sum(read.since() for read in reads) == ON_A_CLUSTER.get(name, CALLS[name][0])
    for client in clients:
        client.close()


SENT = {
    "load": {"get": 1},
    "load what is closed": {"get": 1},
    "create without a user": {"set": 1},
    "create": {"evalsha": 1, "exists": 1, "time": 1, "zadd": 1, "zremrangebyscore": 1, "ttl": 1, "set": 1},
    "save the payload": {"evalsha": 1, "getrange": 1, "set": 1},
    "touch": {"evalsha": 1, "getrange": 2, "setrange": 1, "expire": 1, "time": 1, "zadd": 1, "zremrangebyscore": 1,
              "ttl": 1},
    "delete": {"evalsha": 1, "getrange": 2, "unlink": 1, "zrem": 1},
    "close": {"evalsha": 1, "getrange": 3, "pttl": 1, "set": 1, "zrem": 1},
    "list": {"evalsha": 1, "time": 1, "zremrangebyscore": 1, "zrange": 1, "getrange": 4, "get": 2},
    "delete_user": {"evalsha": 1, "zrange": 1, "getrange": 4, "unlink": 2, "zrem": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
def test_what_a_call_makes_the_server_do(redis_server, client, name):
    """Commands as INFO counts them, those of scripts among them, for a user of two sessions."""
    store = RedisStore(redis_server.url, table_index=next(INDEXES))
    store.initialize()
    closed(store)
    record, _ = made(new_record(), store), made(new_record(), store)
    client.config_resetstat()
    CALLS[name][1](store, record)
    counts = {name.removeprefix("cmdstat_"): found["calls"] for name, found in client.info("commandstats").items()}
    assert {name: count for name, count in counts.items() if name not in ("info", "config|resetstat")} == SENT[name]
    store.teardown()


def commands(client, work):
    """The commands the server was sent and those its scripts ran, as it saw them while *work* was done."""
    sent, inside = [], []
    with client.monitor() as monitor:
        client.echo("begin")  # on a connection of its own
        work()
        client.echo("end")
        for seen in monitor.listen():
            if seen["command"] == "ECHO begin":
                sent.clear()
                continue
            if seen["command"] == "ECHO end":
                return sent, inside
            (inside if seen["client_type"] == "lua" else sent).append(seen["command"])
    raise AssertionError("the server fell silent")


def test_nothing_is_ever_scanned(store, client):
    old, other = made(new_record(), store), made(new_record(), store)

    def everything():
        for name, (_, call) in CALLS.items():
            record = made(new_record(), store) if name != "list" else old
            call(store, record)
        store.create(other)

    sent, inside = commands(client, everything)
    names = {line.split()[0].upper() for line in sent + inside}
    assert names == {
        "GET", "SET", "EVALSHA", "GETRANGE", "SETRANGE", "EXISTS", "EXPIRE", "PTTL", "TIME", "TTL", "UNLINK",
        "ZADD", "ZRANGE", "ZREM", "ZREMRANGEBYSCORE",
    }  # fmt: skip


def test_a_touch_does_not_rewrite_the_payload(store, client):
    record = made(new_record(payload=b"p" * 1000), store)
    sent, inside = commands(client, lambda: store.touch(record.id, NOW + 60, NOW + 7260))
    assert len(sent) == 1
    assert "p" * 10 not in " ".join(sent + inside)
    assert [line.split()[0] for line in inside if record.id in line] == [
        "GETRANGE", "SETRANGE", "EXPIRE", "GETRANGE", "ZADD",
    ]  # fmt: skip


def test_a_cluster_lists_in_one_question_and_one_answer_per_node(cluster_store, redis_cluster):
    for _ in range(20):
        cluster_store.create(new_record())
    clients = [node.client() for node in redis_cluster.nodes]
    reads = [Reads(client) for client in clients]
    assert len(cluster_store.list_user("alice")) == 20
    counts = [read.since() for read in reads]
    for client in clients:
        client.close()
    assert sum(counts) <= 1 + 2 * len(counts), "the index, then every node once (asked in up to two parts)"


def test_a_forgotten_script_is_taught_again(store, client):
    record = made(new_record(), store)
    client.script_flush()
    assert store.touch(record.id, NOW + 60, NOW + 7260) is True
    client.script_flush()
    asyncio.run(touches(store.aio(), record.id))
    sent, _ = commands(client, lambda: store.touch(record.id, NOW + 80, NOW + 7280))
    assert [line.split()[0] for line in sent] == ["EVALSHA"]


async def touches(awaited, id):
    done = await asyncio.gather(*(awaited.touch(id, NOW + more, NOW + 7200 + more) for more in (61, 62, 63)))
    await awaited.teardown()
    assert done == [True, True, True]


def test_a_cluster_is_taught_again_too(cluster_store, redis_cluster):
    record = made(new_record(), cluster_store)
    called = lambda: cluster_store.touch(record.id, NOW + 60, NOW + 7260)  # noqa: E731
    awaited = lambda: asyncio.run(touches(cluster_store.aio(), record.id))  # noqa: E731
    for touched in (called, awaited):
        for node in redis_cluster.nodes:
            with node.client() as client:
                client.script_flush()
        touched()
    assert cluster_store.load(record.id).expires_at == NOW + 7263


# what it leaves behind


def seconds(client, store, id):
    return client.ttl(keys_of(store).record(id))


def test_every_key_expires_a_margin_after_its_record(store, client):
    """Counted from the activity last written: the manager's clock, here years behind, does not matter."""
    record = made(new_record(), store)
    index = keys_of(store).user("alice")
    assert seconds(client, store, record.id) in (7200 + MARGIN, 7199 + MARGIN)
    assert client.ttl(index) in (7200 + MARGIN, 7199 + MARGIN)
    store.touch(record.id, NOW + 60, NOW + 60 + 9000)
    assert seconds(client, store, record.id) in (9000 + MARGIN, 8999 + MARGIN)
    assert client.ttl(index) in (9000 + MARGIN, 8999 + MARGIN)
    store.touch(record.id, NOW + 5000, NOW + 5000)
    assert seconds(client, store, record.id) in (9000 + MARGIN, 8999 + MARGIN), "a touch that moves no deadline"
    changed = structs.replace(record, version=2, last_activity=NOW + 100, expires_at=NOW + 100 + 50)
    store.save(structs.replace(changed, payload=b"1"), 1, payload_only=True)
    assert seconds(client, store, record.id) in (9000 + MARGIN, 8999 + MARGIN), "a payload moves no deadline"
    store.save(structs.replace(changed, version=3), 2)
    assert seconds(client, store, record.id) in (50 + MARGIN, 49 + MARGIN)
    anonymous = made(new_record(user_id=None), store)
    assert seconds(client, store, anonymous.id) in (7200 + MARGIN, 7199 + MARGIN)
    overdue = made(new_record(expires_at=NOW - 50), store)
    assert seconds(client, store, overdue.id) in (MARGIN, MARGIN - 1)
    eternal = made(new_record(expires_at=2**53), store)
    assert seconds(client, store, eternal.id) in (2**31, 2**31 - 1)
    assert all(client.ttl(key) > 0 for key in client.scan_iter(f"{keys_of(store).table_index}:*"))


def test_a_closed_record_expires_a_margin_after_its_own_deadline(store, client):
    closed = made(new_record(), store)
    store.close(closed.id, 1, until=NOW + 60)
    assert seconds(client, store, closed.id) in (60 + MARGIN, 59 + MARGIN)
    rotated, new = made(new_record(), store), new_record()
    store.rotate(new, rotated.id, 1, until=NOW + 90)
    assert seconds(client, store, rotated.id) in (90 + MARGIN, 89 + MARGIN)
    assert seconds(client, store, new.id) in (7200 + MARGIN, 7199 + MARGIN)
    over = made(new_record(), store)
    store.close(over.id, 1, until=NOW - 10_000)
    assert seconds(client, store, over.id) in (MARGIN, MARGIN - 1)


def test_keys_are_prefixed_and_hash_tagged(store, client):
    record = made(new_record(user_id="Zoë}{"), store)
    index = keys_of(store).table_index
    found = set(client.scan_iter(f"{index}:*"))
    assert found == {f"{index}:{{{record.id}}}".encode(), f"{index}:user:{{Zoë}}{{}}".encode()}


def test_applications_share_a_server(redis_server):
    one, other = (RedisStore(redis_server.url, table_index=next(INDEXES)) for _ in range(2))
    record = made(new_record(), one)
    assert other.load(record.id) is None
    assert other.list_user("alice") == []
    assert other.purge(NOW + 10**6, 100) == 0
    assert one.load(record.id) == record
    one.teardown()
    other.teardown()


def test_the_index_goes_with_the_last_session(store, client):
    records = [made(new_record(), store) for _ in range(4)]
    index = keys_of(store).user("alice")
    assert client.zcard(index) == 4
    store.delete(records[0].id)
    store.close(records[1].id, 1, until=NOW + 60)
    store.save(structs.replace(records[2], version=2, user_id="bob"), 1)
    assert client.zrange(index, 0, -1) == [records[3].id.encode()]
    store.rotate(new_record(user_id=None), records[3].id, 1, until=NOW + 60)
    assert not client.exists(index)
    assert client.zcard(keys_of(store).user("bob")) == 1


def test_an_entry_that_leads_nowhere_is_dropped_by_a_listing(store, client):
    kept, evicted, moved = (made(new_record(), store) for _ in range(3))
    index = keys_of(store).user("alice")
    client.unlink(keys_of(store).record(evicted.id))
    foreign = made(new_record(user_id="bob"), store)
    closed = made(new_record(user_id=None), store)
    store.close(closed.id, 1, until=NOW + 60)
    client.zadd(index, {one.id: 2**40 for one in (foreign, closed)})
    store.delete(moved.id)
    assert store.list_user("alice") == [kept]
    assert client.zrange(index, 0, -1) == [kept.id.encode()]
    client.zadd(index, {foreign.id: 2**40})
    assert store.delete_user("alice") == 1, "another user's session is not taken"
    assert store.load(foreign.id) == foreign
    assert not client.exists(index)


def test_an_entry_expires(store, client):
    index = keys_of(store).user("alice")
    client.zadd(index, {"n" * 24: 1000})
    record = made(new_record(), store)
    assert client.zrange(index, 0, -1) == [record.id.encode()]
    client.zadd(index, {"n" * 24: 1000})
    store.touch(record.id, NOW + 60, NOW + 7260)
    assert client.zrange(index, 0, -1) == [record.id.encode()]


# a Cluster keeps record and index in order


def step(flow, *answers):
    """What *flow* asks when it is given *answers*."""
    asked = [next(flow)]
    for answer in answers:
        try:
            asked.append(flow.send(answer))
        except StopIteration:
            break
    flow.close()
    return [(ask.args[0], ask.args[3] if ask.args[0] == "EVALSHA" else ask.args[1]) for ask in asked]


def test_a_cluster_enlists_before_it_creates_and_delists_after_it_ended():
    keys = Keys("default")
    calls = ClusterCalls(keys, "", lambda: NOW)
    record = new_record()
    entry, place = keys.user("alice"), keys.record(record.id)
    assert step(calls.create(record), 2, True) == [("EVALSHA", entry), ("SET", place)]
    assert step(calls.save(record, 1), 2, 2) == [("EVALSHA", entry), ("EVALSHA", place)]
    assert step(calls.delete(record.id, None), [2, b"alice"], 1) == [("EVALSHA", place), ("ZREM", entry)]
    assert step(calls.close(record.id, 1, NOW, None), [2, b"alice"], 1) == [("EVALSHA", place), ("ZREM", entry)]
    assert step(calls.delete(record.id, 1), [1, b""]) == [("EVALSHA", place)]


def test_a_cluster_keeps_an_entry_until_the_absolute_deadline(cluster_store, cluster_client):
    record = made(new_record(), cluster_store)
    index = keys_of(cluster_store).user("alice")
    assert cluster_client.ttl(index) in (604_800 + MARGIN, 604_799 + MARGIN)
    cluster_client.unlink(keys_of(cluster_store).record(record.id))
    assert cluster_store.list_user("alice") == []
    assert cluster_client.zcard(index) == 1, "its record may be about to be written"
    cluster_client.zadd(index, {"n" * 24: 1000})
    made(new_record(), cluster_store)
    assert cluster_client.zscore(index, "n" * 24) is None


def test_a_cluster_takes_no_session_of_another_user(cluster_store, cluster_client):
    foreign, closed = made(new_record(user_id="bob"), cluster_store), made(new_record(), cluster_store)
    cluster_store.close(closed.id, 1, until=NOW + 60)
    cluster_client.zadd(keys_of(cluster_store).user("alice"), {one.id: 2**40 for one in (foreign, closed)})
    assert cluster_store.list_user("alice") == []
    assert cluster_store.delete_user("alice") == 0
    assert cluster_store.load(foreign.id) == foreign
    assert cluster_store.load(closed.id).closed is True
    assert cluster_store.can_rotate is False


def finished(flow, asked, line):
    """The verdict of *flow*, which has *asked* something."""
    try:
        while True:
            asked = flow.send(asked.ask(line))
    except StopIteration as stop:
        return stop.value


def test_a_cluster_ends_a_session_whose_successor_was_about_to_be_written(cluster_store):
    """Listed, not yet written, passed over; then written, and its predecessor closed: it must not be forgotten."""
    store, calls = cluster_store, cluster_store._calls
    old, new = made(new_record(), store), new_record(absolute_expires_at=NOW + 7200)  # listed before the old one
    creating, ending = calls.create(new), calls.delete_user("alice", None)
    writes = creating.send(next(creating).ask(store._line))
    looks = ending.send(next(ending).ask(store._line))
    assert new.id in looks.args[3]
    deletes = ending.send(looks.ask(store._line))
    assert old.id in deletes.args[3]
    writes.ask(store._line)
    assert store.close(old.id, 1, until=NOW + 60) is Outcome.DELETED
    assert finished(ending, deletes, store._line) == 1
    creating.close()
    assert store.load(new.id) is None
    assert store.list_user("alice") == []


# purging


def test_the_present_is_left_to_the_server(redis_server, client):
    store = RedisStore(redis_server.url, table_index=next(INDEXES), clock=lambda: NOW)
    record = made(new_record(expires_at=NOW - 1), store)
    sent, _ = commands(client, lambda: [store.purge(NOW + more, 10) for more in (-MARGIN, 0, MARGIN)])
    assert sent == []
    assert store.load(record.id) == record
    assert store.purge(NOW + MARGIN + 1, 10) == 1
    store.teardown()


def test_a_sweep_goes_page_by_page(store, client, monkeypatch):
    monkeypatch.setattr("session_mw.stores.redis_calls.PAGE", 5)
    for _ in range(40):
        store.create(new_record())
    client.set(f"{keys_of(store).table_index}:{{short}}", b"\x01")
    sent, _ = commands(client, lambda: store.purge(NOW + 10**6, 1000))
    assert len(sent) > 5
    assert store.list_user("alice") == []
    assert client.zcard(keys_of(store).user("alice")) == 0
    assert client.exists(f"{keys_of(store).table_index}:{{short}}") == 1, "what is no record of ours stays"


class Counted:
    """The work of a sweep, by the server's count."""

    def __init__(self, clients):
        self.clients = clients
        for client in clients:
            client.config_resetstat()

    @property
    def pages(self):
        return sum(client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"] for client in self.clients)


@pytest.mark.parametrize("clustered", [False, True])
def test_purges_in_a_loop_look_at_each_key_once(request, monkeypatch, clustered):
    monkeypatch.setattr("session_mw.stores.redis_calls.PAGE", 10)
    store = request.getfixturevalue("cluster_store" if clustered else "store")
    nodes = request.getfixturevalue("redis_cluster").nodes if clustered else [request.getfixturevalue("redis_server")]
    clients = [node.client() for node in nodes]
    due = [made(new_record(user_id=None, expires_at=NOW - 10**8), store) for _ in range(60)]
    alive = [made(new_record(user_id=None), store) for _ in range(240)]

    def pages():
        counted = Counted(clients)
        assert store.purge(NOW - 10**8 - 1, 10) == 0
        return counted.pages

    once = pages()
    while (again := pages()) != once:  # until no server resizes its table any more
        once = again
    counted = Counted(clients)
    calls = list(iter(lambda: store.purge(NOW - 10**7, 5), 0))
    assert sum(calls) == len(due)
    assert all(count == 5 for count in calls[:-1])
    assert counted.pages <= once + len(calls) + 1, "each call begins on the page where the one before had enough"
    assert all(store.load(record.id) == record for record in alive)
    assert all(store.load(record.id) is None for record in due)
    for client in clients:
        client.close()


def test_a_purge_that_goes_on_at_a_later_time_leaves_nothing(store, monkeypatch):
    """What was passed as alive by an earlier call is due by now."""
    monkeypatch.setattr("session_mw.stores.redis_calls.PAGE", 10)
    early, late = NOW - 10**8, NOW - 10**7
    for number in range(200):
        store.create(new_record(user_id=None, expires_at=early if number % 2 else late))
    assert store.purge(early, 95) == 95
    assert store.purge(late, 1000) == 105, "all that is left, those before the place where the first had enough too"
    assert store.purge(late, 1000) == 0


def test_a_purge_goes_on_though_the_set_changes(store, monkeypatch):
    monkeypatch.setattr("session_mw.stores.redis_calls.PAGE", 10)
    due = [made(new_record(user_id=None, expires_at=NOW - 10**8), store) for _ in range(60)]
    assert store.purge(NOW - 10**7, 5) == 5
    alive = [made(new_record(user_id=None), store) for _ in range(500)]  # the server's table grows
    for record in due[:20]:
        store.delete(record.id)
    while store.purge(NOW - 10**7, 5) == 5:
        pass
    assert [store.load(record.id) for record in due] == [None] * 60
    assert all(store.load(record.id) for record in alive)


def test_a_purge_that_failed_is_taken_up_again(store, monkeypatch):
    for _ in range(10):
        store.create(new_record(user_id=None, expires_at=NOW - 10**8))
    assert store.purge(NOW - 10**7, 4) == 4
    with monkeypatch.context() as broken:
        broken.setattr(store._line, "ask", lambda ask: (_ for _ in ()).throw(StoreError("away")))
        with pytest.raises(StoreError):
            store.purge(NOW - 10**7, 4)
    assert [store.purge(NOW - 10**7, 4) for _ in range(3)] == [4, 2, 0]


# counting


@pytest.mark.parametrize("clustered", [False, True])
def test_what_is_kept_is_counted(request, monkeypatch, clustered):
    """Page by page, on all nodes, by both kinds; the rest is for ``test_inspection``."""
    monkeypatch.setattr("session_mw.stores.redis_calls.PAGE", 10)
    store = request.getfixturevalue("cluster_store" if clustered else "store")
    for number in range(90):
        user = f"user{number % 7}" if number % 3 else None
        agent = (None, "short", "b" * 40, "c" * 300)[number % 4]
        payload = b"p" * (3, 300, 70_000)[number % 3]
        times = {"created_at": NOW - number, "lifetime": (None, 60, 600_000)[number % 3]}
        store.create(new_record(user_id=user, payload=payload, login_user_agent=agent, **times))
    for number in range(20):
        store.create(new_record(user_id="gone", expires_at=NOW - number))
    for _ in range(4):
        store.close(made(new_record(), store).id, 1, until=NOW + 60, successor="s" * 24)
    told = StoreStats(
        live=90, expired=20, closed=4, users=7, oldest=NOW - 89, newest=NOW, payload_bytes=30 * 70_303
    )  # fmt: skip
    assert store.stats(NOW) == told
    assert store.count_expired(NOW) == 20

    async def awaits(awaited):
        try:
            return await awaited.stats(NOW), await awaited.count_expired(NOW)
        finally:
            await awaited.teardown()

    assert asyncio.run(awaits(store.aio())) == (told, 20)


def test_the_command_line_tells_the_counts(redis_server, redis_cluster):
    for url in (redis_server.url, redis_cluster.url):
        url = f"{url}?table_index={next(INDEXES)}"
        store = RedisStore(url.partition("?")[0], table_index=url.rpartition("=")[2])
        long = {"expires_at": 2**32, "absolute_expires_at": 2**32}
        for user in ("alice", "alice", None):
            store.create(new_record(user_id=user, payload=b"x" * 7, **long))
        store.teardown()
        done = run("stats", "--store", url, "--json")
        told = json.loads(done.stdout)
        assert (done.exit_code, done.stderr) == (0, "")
        assert (told["live"], told["expired"], told["users"], told["payload_bytes"]) == (3, 0, 1, 21)
        assert run("cleanup", "--dry-run", "--store", url).stdout == "Would delete 0 records.\n"


def test_counting_leaves_out_what_is_damaged_and_what_is_not_ours(store, client):
    made(new_record(), store)
    head = keys_of(store).record_head
    whole = client.get(f"{head}{made(new_record(payload=b'p' * 100), store).id}}}")
    for name, value in {"short": b"\x01", "cut": whole[:-20], "other": b"\x02" + whole[1:], "empty": b""}.items():
        client.set(f"{head}{name}}}", value)
    client.rpush(f"{head}list}}", "x")
    assert store.stats(NOW).live == 2
    assert store.count_expired(NOW + 10**6) == 3, "a sweep looks at no body: the one cut short goes too"


def test_at_present_a_purge_would_remove_nothing(redis_server, client):
    store = RedisStore(redis_server.url, table_index=next(INDEXES), clock=lambda: NOW)
    store.create(new_record(expires_at=NOW - 1))
    assert store.stats(NOW).expired == 1
    sent, _ = commands(client, lambda: store.count_expired(NOW))
    assert sent == []
    assert store.count_expired(NOW) == store.purge(NOW, 100) == 0
    store.teardown()


# opening


def messages(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "session_mw"]


def test_a_server_that_may_drop_sessions_is_told_of_once(new_redis, caplog):
    server = new_redis("maxmemory-policy allkeys-lru")
    store = RedisStore(server.url)
    store.initialize()
    store.initialize()
    store.teardown()
    (message,) = messages(caplog)
    assert message.startswith(f"Redis at 127.0.0.1:{server.port}/0: maxmemory-policy is 'allkeys-lru'")
    assert message.endswith("set it to noeviction")
    assert caplog.records[0].levelno == logging.WARNING


def test_a_server_that_keeps_everything_is_not(store, cluster_store, caplog):
    store.initialize()
    cluster_store.initialize()
    asyncio.run(opened_and_closed(store.aio()))
    asyncio.run(opened_and_closed(cluster_store.aio()))
    assert messages(caplog) == []


async def opened_and_closed(awaited):
    await awaited.initialize()
    await awaited.teardown()
    await awaited.teardown()


def test_a_user_who_may_do_little_is_enough(new_redis, caplog):
    server = new_redis("maxmemory-policy allkeys-lru")
    allowed = (
        "+get +mget +set +getrange +setrange +exists +expire +pttl +ttl +time +unlink +zadd +zrange +zrem "
        "+zremrangebyscore +eval +evalsha +script|load +ping"
    )
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "web", "on", ">pw", "~default:*", *allowed.split())
    store = RedisStore(f"redis://web:pw@127.0.0.1:{server.port}/0")
    store.initialize()
    assert messages(caplog) == [], "INFO is forbidden, so nothing is known"
    record = made(new_record(), store)
    store.rotate(new_record(), record.id, 1, until=NOW + 60)

    async def two(awaited):
        try:
            return await asyncio.gather(*(awaited.load(record.id) for _ in range(2)))
        finally:
            await awaited.teardown()

    assert len(asyncio.run(two(store.aio()))) == 2
    store.teardown()
    other = RedisStore(f"redis://web:pw@127.0.0.1:{server.port}/0", table_index="other")
    with pytest.raises(StoreError, match="does not let this user do that") as caught:
        other.load("n" * 24)
    assert isinstance(caught.value.__cause__, redis.exceptions.NoPermissionError)
    other.teardown()


def test_a_policy_comes_from_a_dict_or_from_text():
    calls = ClusterCalls(Keys("default"), "", lambda: NOW)
    flow = calls.initialize()
    assert isinstance(next(flow), Nodes)
    asked = flow.send(["node"])
    while asked.args[0] != "INFO":
        assert isinstance(asked, Ask)
        assert asked.node == "node"
        asked = flow.send("fine")
    with pytest.raises(StopIteration):
        flow.send(b"# Memory\r\nused_memory:1\r\n")  # too old to say


# values


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2**56},
        {"expires_at": -1},
        {"expires_at": 2**64},
        {"created_at": 2**64},
        {"digest": b"secret" * 100},
        {"user_id": "secret\ud800"},
        {"login_user_agent": "secret\ud800"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_value_that_redis_cannot_hold_is_refused_unseen(store, changes):
    record = structs.replace(new_record(), **changes)
    with pytest.raises(StoreError) as caught:
        store.create(record)
    assert "secret" not in str(caught.value)
    assert store.load(record.id) is None


def test_a_version_and_a_user_nobody_can_have_are_refused(store):
    with pytest.raises(StoreError):
        store.delete("n" * 24, expected_version=2**56)
    for awaited in (False, True):
        with pytest.raises(StoreError, match="no text") as caught:
            asyncio.run(store.aio().list_user("\ud800")) if awaited else store.list_user("\ud800")
        assert isinstance(caught.value.__cause__, UnicodeEncodeError)


def test_an_unreadable_record_is_no_session_and_the_rest_still_works(store, client, caplog):
    broken, short, future, good = (made(new_record(), store) for _ in range(4))
    keys = keys_of(store)
    client.setrange(keys.record(broken.id), 80, b"\xff\xff secret")
    client.set(keys.record(short.id), b"\x01 secret")
    client.setrange(keys.record(future.id), 0, b"\x02")
    for record in (broken, short, future):
        assert store.load(record.id) is None
    assert len(messages(caplog)) == 3
    assert "secret" not in caplog.text
    assert broken.id not in caplog.text
    assert store.list_user("alice") == [good]
    for record in (short, future):
        assert store.touch(record.id, NOW, NOW + 9999) is False
        assert store.save(structs.replace(record, version=2), 1) is Outcome.GONE
        assert store.delete(record.id) is Outcome.GONE
    assert store.load(short.id) is None
    assert store.delete(broken.id) is Outcome.DELETED


def test_a_key_of_another_kind_is_told(store, client):
    client.rpush(keys_of(store).record("n" * 24), "secret")
    with pytest.raises(StoreError, match="answered with an error") as caught:
        store.load("n" * 24)
    assert isinstance(caught.value.__cause__, redis.exceptions.ResponseError)


# kinds


def test_kinds(redis_server):
    store = RedisStore(redis_server.url)
    assert not is_awaited(store)
    inline, awaited = loop_faces(store)
    assert inline is None
    assert awaited is store.aio()
    assert isinstance(awaited, AsyncRedisStore)
    assert is_awaited(awaited)
    assert repr(store) == f"<RedisStore Redis at 127.0.0.1:{redis_server.port}/0>"
    assert repr(awaited) == f"<AsyncRedisStore Redis at 127.0.0.1:{redis_server.port}/0>"


def test_a_client_of_the_other_kind_is_refused():
    with pytest.raises(ConfigurationError, match="pass it to AsyncRedisStore"):
        RedisStore(redis.asyncio.Redis())
    with pytest.raises(ConfigurationError, match="pass it to RedisStore"):
        AsyncRedisStore(redis.Redis())


def test_a_clusters_own_clients(redis_cluster, cluster_client):
    port = redis_cluster.nodes[0].port
    store = RedisStore(cluster_client, table_index=next(INDEXES))
    assert repr(store) == "<RedisStore Redis Cluster>"
    record = made(new_record(), store)
    store.teardown()
    assert store.load(record.id) == record, "the client is not closed"

    async def awaits():
        async with redis.asyncio.RedisCluster("127.0.0.1", port) as client:
            awaited = AsyncRedisStore(client, table_index=keys_of(store).table_index)
            assert await awaited.load(record.id) == record
            assert await awaited.list_user("alice") == [record]
            await awaited.teardown()
            return await awaited.load(record.id)

    assert asyncio.run(awaits()) == record
    assert asyncio.run(loaded(store.aio(), record.id)) == record, "on a thread"


async def loaded(awaited, id):
    return await awaited.load(id)


def everything(store):
    """Each call of a store that is called, once."""
    record, other, new = new_record(user_id="Zoë"), new_record(), new_record(version=2)
    store.initialize()
    assert store.create(record) is True
    assert store.create(other) is True
    assert store.create(record) is False
    assert store.load(record.id) == record
    assert store.list_user("Zoë") == [record]
    assert store.save(structs.replace(other, version=2, payload=b"\xff"), 1) is Outcome.SAVED
    assert store.touch(other.id, NOW + 60, NOW + 7260) is True
    assert store.rotate(new, other.id, 2, until=NOW + 60, successor="s") is Outcome.SAVED
    assert store.load(other.id).successor == "s"
    assert store.close(new.id, 2, until=NOW + 60) is Outcome.DELETED
    assert store.delete_user("Zoë") == 1
    assert store.purge(NOW + 10**6, 10) == 2
    assert store.delete(record.id) is Outcome.GONE


class Called:
    """An awaited store, called."""

    def __init__(self, store, runner):
        self.store = store
        self.runner = runner

    def __getattr__(self, name):
        async def call(*args, **options):
            return await getattr(self.store, name)(*args, **options)

        return lambda *args, **options: self.runner.run(call(*args, **options))


def test_a_client_is_used_as_it_is(redis_server):
    """Even one that decodes what it reads: the store reads bytes."""
    with redis.Redis(port=redis_server.port, decode_responses=True) as client:
        store = RedisStore(client, table_index=next(INDEXES))
        everything(store)
        with asyncio.Runner() as runner:
            everything(Called(RedisStore(client, table_index=next(INDEXES)).aio(), runner))
        store.teardown()
        assert client.ping() is True
    with asyncio.Runner() as runner:
        client = redis.asyncio.Redis(port=redis_server.port, decode_responses=True)
        store = Called(AsyncRedisStore(client, table_index=next(INDEXES)), runner)
        everything(store)
        store.teardown()
        runner.run(client.aclose())


def visit_asgi(app, jar):
    """One request: the body, and the cookies set."""

    async def request():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example", cookies=jar) as browser:
            answer = await browser.get("/")
        await app.layer.aclose_store()
        return answer

    answer = asyncio.run(request())
    return answer.status_code, answer.text, dict(answer.cookies)


def test_one_session_in_wsgi_and_asgi_and_none_while_the_server_is_away(new_redis):
    server = new_redis("appendonly yes")
    url = f"{server.url}?table_index=shop"

    def wsgi_app(environ, start_response):
        environ["session_mw.session"]["visits"] = 41
        start_response("200 OK", [])
        return [b""]

    async def asgi_app(scope, receive, send):
        scope["session"].update_with("visits", lambda visits: visits + 1, 0)
        body = b"%d" % scope["session"]["visits"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    wsgi = WSGIMiddleware(wsgi_app, store=url)
    answer = Client(wsgi).get(base_url="https://shop.example")
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    jar = {name: rest.partition(";")[0]}
    wsgi.layer.home.store.teardown()
    app = ASGIMiddleware(asgi_app, store=url)
    assert visit_asgi(app, jar) == (200, "42", {})
    server.stop()
    assert visit_asgi(app, jar)[0] == 503
    assert visit_asgi(app, jar)[2] == {}
    server.start()
    assert visit_asgi(app, jar) == (200, "43", {})


def test_one_session_in_both_kinds(store):
    record = made(new_record(), store)

    async def awaits():
        awaited = store.aio()
        found = await awaited.load(record.id)
        changed = structs.replace(found, version=2, payload=b"2")
        assert await awaited.save(changed, 1, payload_only=True) is Outcome.SAVED
        await awaited.teardown()

    asyncio.run(awaits())
    assert store.load(record.id).payload == b"2"
