"""The batcher: what travels together, whose an error is, who is forgotten, what a broken connection means."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import threading

import pytest
import redis
from msgspec import structs
from stores.redis_gate import Gate

from session_mw.core.operations import Outcome
from session_mw.errors import StoreError
from session_mw.stores import redis_batch
from session_mw.stores.redis import AsyncRedisStore, RedisStore
from session_mw.stores.redis_limit import Limit
from session_mw.testing.contract import new_record

pytestmark = pytest.mark.anyio

NOW = 2_100_000_000
INDEXES = (f"batch{number}" for number in itertools.count())


@pytest.fixture
async def store(redis_server):
    store = AsyncRedisStore(redis_server.url, table_index=next(INDEXES))
    await store.initialize()
    yield store
    await store.teardown()


@pytest.fixture
def gate(redis_server):
    with Gate(redis_server.port) as gate:
        yield gate


@pytest.fixture
async def gated(gate):
    """A store behind a gate, with a connection already."""
    store = AsyncRedisStore(gate.url, table_index=next(INDEXES))
    await store.initialize()
    yield store
    await store.teardown()


@pytest.fixture
def client(redis_server):
    with redis_server.client() as client:
        yield client


async def made(store, **changes):
    record = new_record(**changes)
    assert await store.create(record) is True
    return record


def batcher(store):
    return store._line._loops.get()[0]


def reads(client):
    return client.info("stats")["total_reads_processed"]


# together


async def test_what_falls_due_in_one_tick_travels_together(store, client):
    records = [await made(store) for _ in range(64)]
    before = reads(client)
    loaded = await asyncio.gather(*(store.load(record.id) for record in records))
    middle = reads(client)
    changed = [structs.replace(record, version=2, payload=b"new") for record in records]
    outcomes = await asyncio.gather(*(store.save(record, 1, payload_only=True) for record in changed))
    after = reads(client)
    assert loaded == records
    assert outcomes == [Outcome.SAVED] * 64
    assert middle - before == 2, "one piece, and the question for this count"
    assert after - middle <= 3, "64 saves are more bytes than the server reads at once"


async def test_loads_of_one_tick_are_one_question(store, client):
    """Those of nothing and of what is no record of ours among them; one alone is a plain ``GET``."""
    records = [await made(store, payload=b"%d" % number) for number in range(5)]
    client.rpush(store._calls._keys.record("w" * 24), "x")
    client.set(store._calls._keys.record("d" * 24), "damaged")
    client.config_resetstat()
    *loaded, nothing, wrong, damaged = await asyncio.gather(
        *(store.load(record.id) for record in records),
        *(store.load(letter * 24) for letter in "nwd"),
    )
    assert loaded == records
    assert (nothing, wrong, damaged) == (None, None, None)
    assert await store.load(records[0].id) == records[0]
    counts = {name: found["calls"] for name, found in client.info("commandstats").items()}
    assert (counts["cmdstat_mget"], counts["cmdstat_get"]) == (1, 1)


async def test_what_is_asked_in_one_tick_is_done_in_that_order(store):
    record = await made(store)
    loads = [store.load(record.id), store.load("n" * 24)]
    touch = store.touch(record.id, NOW + 60, NOW + 7260)
    answers = await asyncio.gather(*loads, touch, store.load(record.id), store.load(record.id), store.delete(record.id))
    touched = structs.replace(record, last_activity=NOW + 60, expires_at=NOW + 7260)
    assert answers == [record, None, True, touched, touched, Outcome.DELETED]


async def test_an_id_that_is_no_text_is_not_everybodys_fault(store):
    record = await made(store)
    good, bad = await asyncio.gather(store.load(record.id), store.load("\udc80"), return_exceptions=True)
    assert good == record
    assert isinstance(bad, StoreError)
    assert isinstance(bad.__cause__, UnicodeEncodeError)


async def test_who_asks_meanwhile_does_not_wait_for_the_last_of_the_others(store, client, monkeypatch):
    """The server answers a command that is sent while those before it are still under way."""
    record = await made(store)
    read, lengths = redis_batch._read, []

    async def slow(connection):
        await asyncio.sleep(0)  # the others' turn after each answer
        lengths.append(len(batcher(store)._under_way))
        return await read(connection)

    monkeypatch.setattr(redis_batch, "_read", slow)

    async def twice():
        return [await store.touch(record.id, NOW + 60, NOW + 7260) for _ in range(2)]

    assert await asyncio.gather(*(twice() for _ in range(4))) == [[True, True]] * 4
    assert lengths[:4] != [4, 3, 2, 1], "what the first asked next was sent while the others waited"


async def test_answers_go_to_those_who_asked(store):
    records = [await made(store, payload=b"%d" % number) for number in range(40)]
    calls = []
    for number, record in enumerate(records):
        if number % 3 == 0:
            calls.append(store.load(record.id))
        elif number % 3 == 1:
            calls.append(store.delete(record.id))
        else:
            calls.append(store.save(structs.replace(record, version=9), 8))
    answers = await asyncio.gather(*calls)
    for number, (record, answer) in enumerate(zip(records, answers, strict=True)):
        assert answer == (record, Outcome.DELETED, Outcome.CONFLICT)[number % 3]


async def test_a_piece_is_bounded(store, client, monkeypatch):
    monkeypatch.setattr(redis_batch, "BATCH", 8)
    record = await made(store)
    before = reads(client)
    loaded = await asyncio.gather(*(store.load(record.id) for _ in range(20)))
    assert loaded == [record] * 20
    assert reads(client) - before == 4, "8, 8, 4, and the question"


async def test_what_comes_meanwhile_goes_with_the_next_piece(store, client):
    record = await made(store)

    async def twice():
        await store.load(record.id)
        return await store.load(record.id)

    before = reads(client)
    assert await asyncio.gather(*(twice() for _ in range(10))) == [record] * 10
    assert reads(client) - before == 3


async def test_one_connection_serves_all(store, client):
    record = await made(store)
    before = client.info("clients")["connected_clients"]
    await asyncio.gather(*(store.load(record.id) for _ in range(300)))
    assert client.info("clients")["connected_clients"] == before


async def test_every_loop_has_its_own(redis_server, store):
    record = await made(store)
    barrier = threading.Barrier(2)
    found = []

    async def other():
        barrier.wait(10)
        found.extend(await asyncio.gather(*(store.load(record.id) for _ in range(50))))
        await store.teardown()

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    barrier.wait(10)
    mine = await asyncio.gather(*(store.load(record.id) for _ in range(50)))
    thread.join()
    assert found == mine == [record] * 50


def test_a_loop_that_has_ended_is_forgotten(redis_server):
    store = AsyncRedisStore(redis_server.url)

    async def use():
        await store.load("n" * 24)

    async def leave():
        await use()
        await batcher(store).close()  # without a word to the store

    for _ in range(3):
        asyncio.run(leave())
    assert len(store._line._loops._made) == 1


def shut_down(main, server, store, tasks, recwarn):
    """Run *main*, which leaves *tasks* waiting for a *server* that has been stopped: all are cancelled, in silence."""
    complaints = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        await main()

    try:
        asyncio.run(watched())
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert tasks
    assert all(task.cancelled() for task in tasks)
    assert complaints == []
    store._line._loops._made.clear()
    gc.collect()
    assert [str(one.message) for one in recwarn] == [], "its connection was closed"


# alone


async def test_who_is_alone_needs_no_pump(store, client):
    record = await made(store)
    await store.load(record.id)
    pump = batcher(store)._pump
    client.config_resetstat()
    changed = structs.replace(record, version=2, payload=b"new")
    assert await store.save(changed, 1, payload_only=True) is Outcome.SAVED
    assert await store.load(record.id) == changed
    assert client.info("commandstats")["cmdstat_get"]["calls"] == 1
    assert batcher(store)._pump is pump
    assert await asyncio.gather(store.load(record.id), store.load(record.id)) == [changed] * 2
    assert batcher(store)._pump is not pump, "the others of the tick travel along"


@pytest.mark.parametrize("when", ["in the tick", "on the way"])
async def test_who_is_cancelled_alone_does_not_stop_who_asked_meanwhile(new_redis, when):
    server = new_redis()
    store = AsyncRedisStore(server.url)
    record = await made(store)
    await store.load(record.id)
    assert batcher(store)._alone
    server.process.send_signal(signal.SIGSTOP)
    try:
        first = asyncio.create_task(store.load(record.id))
        await asyncio.sleep(0)
        while when == "on the way" and batcher(store)._queue:  # noqa: ASYNC110
            await asyncio.sleep(0)
        second = asyncio.create_task(store.load(record.id))
        if when == "on the way":
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert await second == record
    assert await store.load(record.id) == record
    await store.teardown()


async def test_who_is_alone_is_told_when_it_takes_too_long(new_redis):
    server = new_redis()
    store = AsyncRedisStore(f"{server.url}?socket_timeout=0.3&wait_timeout=0.1")
    record = await made(store)
    await store.load(record.id)
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match="did not answer in time"):
            await store.save(structs.replace(record, version=2), 1)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert asyncio.current_task().cancelling() == 0
    assert await store.load("n" * 24) is None
    await store.teardown()


async def test_one_alone_whose_connection_breaks(gate, gated):
    record = await made(gated)
    await gated.load(record.id)
    for _ in range(2):
        assert batcher(gated)._alone
        gate.swallow = 1
        assert await gated.load(record.id) == record, "asked again"
    gate.swallow = 2
    with pytest.raises(StoreError):
        await gated.load(record.id)
    assert await gated.load(record.id) == record
    gate.swallow = 1
    with pytest.raises(StoreError) as lost:
        await gated.save(structs.replace(record, version=2), 1)
    assert isinstance(lost.value.__cause__, redis.ConnectionError)
    assert await gated.load(record.id) == structs.replace(record, version=2), "it was made, once"


async def test_one_alone_is_asked_for_twice_at_most(store, monkeypatch):
    record, tries = await made(store), []
    await store.load(record.id)

    async def broken(connection):
        tries.append(connection)
        raise redis.ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(redis_batch, "_read", broken)
        with pytest.raises(StoreError):
            await store.load(record.id)
    assert len(tries) == 2
    assert await store.load(record.id) == record


async def test_an_answer_that_nobody_will_read_is_nobodys(new_redis, monkeypatch):
    server = new_redis()
    store = AsyncRedisStore(server.url)
    record, other = await made(store, payload=b"mine"), await made(store, payload=b"other")
    await store.load(record.id)

    async def never(connection):
        await asyncio.get_running_loop().create_future()

    server.process.send_signal(signal.SIGSTOP)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(redis_batch, "_read", never)
            task = asyncio.create_task(store.load(record.id))
            while batcher(store)._limit._task is not task:  # noqa: ASYNC110  (until it is on its way)
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        task = asyncio.create_task(store.load(other.id))
        while batcher(store)._limit._task is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert await task == other
    await store.teardown()


async def test_what_the_server_closed_meanwhile_costs_one_alone_no_write(gate, gated):
    record = await made(gated)
    await gated.load(record.id)
    connection = batcher(gated)._connection
    gate.hang_up()
    while not await connection.can_read():  # noqa: ASYNC110  (until the loop has heard of it)
        await asyncio.sleep(0)
    assert await gated.touch(record.id, NOW + 60, NOW + 7260) is True


async def test_closing_waits_for_one_alone(store):
    record = await made(store)
    await store.load(record.id)
    loaded, _ = await asyncio.gather(store.load(record.id), store.teardown())
    assert loaded == record


def test_one_alone_in_a_loop_that_is_shut_down_leaves_nobody_waiting(new_redis, recwarn):
    server = new_redis()
    store = AsyncRedisStore(server.url)
    tasks = []

    async def main():
        for _ in range(2):
            await store.load("n" * 24)
        server.process.send_signal(signal.SIGSTOP)
        tasks.append(asyncio.create_task(store.load("n" * 24)))
        while not tasks[0].done() and not batcher(store)._limit._task:  # noqa: ASYNC110  (until it is on its way)
            await asyncio.sleep(0)
        tasks.extend(asyncio.create_task(store.load("n" * 24)) for _ in range(3))
        while len(batcher(store)._queue) != 3:  # noqa: ASYNC110
            await asyncio.sleep(0)

    shut_down(main, server, store, tasks, recwarn)


# whose error


async def test_an_error_of_the_server_is_its_commands_own(store, client):
    record = await made(store)
    client.rpush(store._calls._keys.record("n" * 24), "x")
    good, bad, also = await asyncio.gather(
        store.load(record.id),
        store.delete("n" * 24),
        store.touch(record.id, NOW + 1, NOW + 7201),
        return_exceptions=True,
    )
    assert good == record
    assert isinstance(bad, StoreError)
    assert isinstance(bad.__cause__, redis.ResponseError)
    assert also is True


async def test_a_forgotten_script_is_taught_again_in_the_middle(store, client):
    records = [await made(store) for _ in range(5)]
    client.script_flush()
    calls = [store.save(structs.replace(record, version=2), 1) for record in records]
    assert await asyncio.gather(*calls, store.load(records[0].id)) == [Outcome.SAVED] * 5 + [records[0]]


async def test_a_name_that_is_no_text_harms_nobody_else(store):
    record = await made(store)
    bad, good = await asyncio.gather(store.list_user("\ud800"), store.load(record.id), return_exceptions=True)
    assert isinstance(bad, StoreError)
    assert good == record


# a broken connection


async def test_loads_are_asked_again_and_writes_are_not(gate, gated, client):
    record, other = await made(gated), await made(gated)
    gate.swallow = 1
    changed = structs.replace(record, version=2, payload=b"new")
    answers = await asyncio.gather(
        gated.load(other.id),
        gated.save(changed, 1),
        gated.load("n" * 24),
        gated.delete("n" * 24),
        return_exceptions=True,
    )
    assert answers[0] == other
    assert answers[2] is None
    for lost in (answers[1], answers[3]):
        assert isinstance(lost, StoreError)
        assert isinstance(lost.__cause__, redis.ConnectionError)
    assert await gated.load(record.id) == changed, "it was made, once"


async def test_loads_are_asked_again_but_once(gate, gated):
    record = await made(gated)
    gate.swallow = 2
    answers = await asyncio.gather(*(gated.load(record.id) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, StoreError) for answer in answers)
    assert await gated.load(record.id) == record


async def test_what_was_not_sent_yet_goes_on(gate, gated, monkeypatch):
    record = await made(gated)
    monkeypatch.setattr(redis_batch, "BATCH", 2)
    gate.swallow = 1
    answers = await asyncio.gather(
        *(gated.touch(record.id, NOW + more, NOW + 7200 + more) for more in range(5)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreError, StoreError, bool, bool, bool]
    assert answers[2:] == [True] * 3


async def test_what_the_server_closed_meanwhile_costs_no_write(gate, gated):
    record = await made(gated)
    for _ in range(3):
        connection = batcher(gated)._connection
        gate.hang_up()
        while not await connection.can_read():  # noqa: ASYNC110  (until the loop has heard of it)
            await asyncio.sleep(0)
        assert await gated.touch(record.id, NOW + 60, NOW + 7260) is True


async def test_a_connection_marked_for_it_is_opened_again(store, client):
    record = await made(store)
    before = {one["id"] for one in client.client_list()}
    batcher(store)._connection.mark_for_reconnect()
    assert await store.load(record.id) == record
    assert len({one["id"] for one in client.client_list()} - before) == 1


async def test_without_a_server_all_are_told_at_once(free_port, monkeypatch):
    monkeypatch.setattr(redis_batch, "BATCH", 4)
    store = AsyncRedisStore(f"redis://127.0.0.1:{free_port}")
    tried = []
    ready = redis_batch.Batcher._ready

    async def counted(self):
        tried.append(self)
        return await ready(self)

    monkeypatch.setattr(redis_batch.Batcher, "_ready", counted)
    answers = await asyncio.gather(*(store.load("n" * 24) for _ in range(50)), return_exceptions=True)
    assert all(isinstance(answer, StoreError) for answer in answers)
    assert len(tried) == 1, "the rest did not wait in line for the same"
    await store.teardown()


async def test_a_user_that_is_not_let_in_is_told(new_redis):
    server = new_redis("requirepass right")
    store = AsyncRedisStore(f"redis://:wrong@127.0.0.1:{server.port}/0")
    for _ in range(2):
        with pytest.raises(StoreError, match="refused the login"):
            await store.load("n" * 24)
    await store.teardown()


async def test_what_nobody_foresaw_is_shown_as_it_is(store, monkeypatch):
    async def broken(connection):
        raise ZeroDivisionError

    record = await made(store)
    with monkeypatch.context() as patched:
        patched.setattr(redis_batch, "_read", broken)
        with pytest.raises(ZeroDivisionError):
            await store.load(record.id)
    assert await store.load(record.id) == record


# the time limit


async def test_a_limit_holds_for_each_stay_with_one_timer():
    loop = asyncio.get_running_loop()
    limit = Limit(loop, 0.02)
    for _ in range(3):
        for _ in range(3):
            with limit:
                await asyncio.sleep(0)
        with pytest.raises(TimeoutError), limit:
            await loop.create_future()
        assert asyncio.current_task().cancelling() == 0


async def test_a_limit_in_a_task_that_was_cancelled_before():
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), Limit(loop, 0.02):  # as in a ``finally``
        await loop.create_future()
    assert task.cancelling() == 1
    task.uncancel()


async def test_a_limit_can_be_moved_on_and_be_none():
    loop = asyncio.get_running_loop()
    limit = Limit(loop, 0.02)
    with limit:
        first = limit.due
        limit.due = first + 0.02
        while loop.time() <= first:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # the timer's turn
    with Limit(loop, None):
        await asyncio.sleep(0)
    limit.end()


async def test_who_is_cancelled_inside_a_limit_is_cancelled():
    limit = Limit(asyncio.get_running_loop(), 60)

    async def stay():
        with limit:
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(stay())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    limit.end()


# who is cancelled


async def test_who_is_cancelled_does_not_stop_the_others(store):
    records = [await made(store, payload=b"%d" % number) for number in range(20)]
    tasks = [asyncio.create_task(store.load(record.id)) for record in records]
    await asyncio.sleep(0)  # all are in the queue
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    for number, (record, answer) in enumerate(zip(records, answers, strict=True)):
        if number % 2:
            assert answer == record
        else:
            assert isinstance(answer, asyncio.CancelledError)
    assert await store.load(records[0].id) == records[0]


async def test_who_is_cancelled_while_the_server_thinks_is_forgotten(new_redis):
    server = new_redis()
    store = AsyncRedisStore(server.url)
    record = await made(store)
    server.process.send_signal(signal.SIGSTOP)
    try:
        first, second = (asyncio.create_task(store.load(record.id)) for _ in range(2))
        while batcher(store)._queue or not batcher(store)._busy:  # noqa: ASYNC110  (until it is on its way)
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert await second == record
    assert await store.load("n" * 24) is None
    await store.teardown()


async def test_closing_waits_for_what_is_under_way(store):
    record = await made(store)
    *loaded, _ = await asyncio.gather(*(store.load(record.id) for _ in range(300)), store.teardown())
    assert loaded == [record] * 300
    assert await store.load(record.id) == record, "a later call opens anew"


def test_a_loop_that_is_shut_down_leaves_nobody_waiting(new_redis, recwarn):
    server = new_redis()
    store = AsyncRedisStore(server.url)
    tasks = []

    async def main():
        await store.load("n" * 24)
        server.process.send_signal(signal.SIGSTOP)
        tasks.extend(asyncio.create_task(store.load("n" * 24)) for _ in range(redis_batch.BATCH + 10))
        while len(batcher(store)._queue) != 10:  # noqa: ASYNC110
            await asyncio.sleep(0)

    shut_down(main, server, store, tasks, recwarn)


@pytest.mark.parametrize("sent", [True, False])
async def test_a_pump_that_is_cancelled_leaves_nobody_waiting(store, sent, monkeypatch):
    monkeypatch.setattr(redis_batch, "BATCH", 2)
    waiting = [asyncio.ensure_future(store.load("n" * 24)) for _ in range(5)]
    while len(batcher(store)._queue) != (3 if sent else 5) or batcher(store)._pump.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    batcher(store)._pump.cancel()
    answers = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 5
    assert await store.load("n" * 24) is None


async def test_a_greeting_that_was_cut_short_is_nobodys_answer(new_redis):
    server = new_redis()
    writer = RedisStore(server.url)
    records = [new_record(payload=b"%d" % number) for number in range(3)]
    for record in records:
        writer.create(record)
    store = AsyncRedisStore(f"{server.url}?socket_timeout=0.3&wait_timeout=0.1")
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match="did not answer in time"):
            await store.load(records[0].id)
        tasks = [asyncio.create_task(store.load(record.id)) for record in records]
        while batcher(store)._limit._task is None:  # noqa: ASYNC110  (until they wait for a connection)
            await asyncio.sleep(0)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert await asyncio.gather(*tasks) == records
    await store.teardown()
    writer.teardown()


# in the middle of everything


async def test_a_session_of_one_kind_opens_in_the_other(redis_server, store):
    record = await made(store)
    called = RedisStore(redis_server.url, table_index=store._calls._keys.table_index)
    assert called.load(record.id) == record
    assert called.list_user("alice") == [record]
    called.teardown()
