"""DatabaseStore when the database fails: what is said, what is tried again, and that it goes on afterwards."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.database import PASSWORD, QUOTED
from servers.ports import unused_port
from servers.relay import Relay
from servers.sql_faces import AWAITED, CALLED, DRIVERS

from session_mw.core.operations import Outcome
from session_mw.errors import StoreBusyError, StoreError
from session_mw.stores import sql_async, sql_connections, sql_flows
from session_mw.stores.sql import DatabaseStore
from session_mw.testing.contract import new_record
from session_mw.testing.samples import NOW, following

WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


class Rival:
    """Another client of the same table, with a transaction of its own."""

    def __init__(self, databases, driver, store):
        self.kind = driver.partition("+")[0]
        self.table = store.flows.table.name
        self.server = databases.server(driver)
        self.connection = self.server.connect()
        self.cursor = self.connection.cursor()

    def __enter__(self):
        self("BEGIN")
        return self

    def __exit__(self, *exc):
        self("ROLLBACK")
        self.connection.close()

    def __call__(self, statement, *values):
        self.cursor.execute(statement.replace("TABLE", self.table), values)

    def lock(self, record):
        self("UPDATE TABLE SET version = version WHERE id = %s", record.id)

    def wait_until_waited_for(self):
        """Until somebody waits for a lock; looks again and again, for ten seconds at most."""
        watcher = self.server.connect(**({} if self.kind == "postgresql" else {"user": "root", "password": ""}))
        stop = threading.Event()
        timer = threading.Timer(10, stop.set)
        timer.start()
        try:
            with watcher.cursor() as cursor:
                while True:
                    cursor.execute(WAITING[self.kind])
                    if cursor.fetchone()[0]:
                        return
                    assert not stop.is_set(), "nobody waits for a lock"
        finally:
            timer.cancel()
            watcher.close()


def meanwhile(work, then):
    """What *work* answers or raises, on a thread, while *then* runs here."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        then()
        return future.result(20)


# restarts and broken connections


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_stops_and_comes_back(driver, databases):
    """A StoreError while it is gone; then the same store, the same records."""
    store = databases.store(driver)
    server = databases.server(driver)
    record = new_record()
    store.create(record)
    server.stop()
    try:
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                store.load(record.id)
            assert caught.value.__cause__ is not None
            assert PASSWORD not in str(caught.value)
    finally:
        server.start()
    assert store.load(record.id) == record
    assert store.save(following(record), 1) is Outcome.SAVED


@pytest.mark.parametrize("driver", CALLED)
def test_a_restart_costs_one_call(driver, databases):
    """However many connections the pool holds: all are replaced when one of them was found dead."""
    store = databases.store(driver)
    store.initialize()
    connections = store.flows.connections
    lines = [connections.acquire() for _ in range(5)]
    for line in lines:
        connections.release(line)
    server = databases.server(driver)
    server.stop()
    server.start()
    with pytest.raises(StoreError, match="the connection was lost"):
        store.load("x")
    lines = [connections.acquire() for _ in range(5)]
    for line in lines:
        assert line.rows(store.flows._sql.load, ("x",)) in ([], ())
        connections.release(line)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_connection_that_lay_idle_is_looked_at_first(driver, databases, monkeypatch):
    relay = Relay(databases.server(driver).port)
    try:
        store = databases.store(driver, port=relay.port)
        record = new_record()
        store.create(record)
        relay.cut()
        monkeypatch.setattr(sql_connections, "IDLE_CHECK", 0.0)
        assert store.load(record.id) == record, "nothing is lost: the dead connection was never used"
        assert store.load(record.id) == record
        monkeypatch.undo()
        relay.cut()
        with pytest.raises(StoreError, match="the connection was lost"):
            store.load(record.id)
        assert store.load(record.id) == record
    finally:
        store.end()
        relay.close()


def test_too_many_dead_connections_end_in_an_error(databases, monkeypatch):
    store = databases.store(CALLED[0])
    store.initialize()
    monkeypatch.setattr(sql_connections, "IDLE_CHECK", -1.0)
    monkeypatch.setattr(sql_connections, "_TRIES", 1)
    monkeypatch.setattr(sql_connections.Connections, "_alive", lambda self, line, lent: False)
    with pytest.raises(StoreError, match="every connection was lost"):
        store.load("x")


# locks


@pytest.mark.parametrize("driver", CALLED)
def test_a_lock_that_is_not_free_in_time_is_a_busy_store(driver, databases):
    store = databases.store(driver, timeout=0.3)
    record = new_record()
    store.create(record)
    with Rival(databases, driver, store) as rival:
        rival.lock(record)
        with pytest.raises(StoreBusyError, match="others held the lock for too long"):
            store.touch(record.id, NOW + 1, NOW + 9000)
        with pytest.raises(StoreBusyError):
            store.rotate(new_record(user_id="new"), record.id, 1, until=NOW + 60)
    assert store.list_user("new") == []
    assert store.touch(record.id, NOW + 1, NOW + 9000) is True


@pytest.mark.parametrize("driver", CALLED)
def test_purge_steps_over_what_is_locked(driver, databases):
    store = databases.store(driver)
    records = [new_record(expires_at=NOW - number) for number in range(4)]
    live = [new_record(user_id=None) for _ in range(50)]  # too few, and the planner would rather scan
    for record in (*records, *live):
        store.create(record)
    with Rival(databases, driver, store) as rival:
        rival.lock(records[2])
        assert store.purge(NOW, 10) == 3
    assert store.purge(NOW, 10) == 1


def test_a_purge_that_has_to_wait_keeps_what_it_did(databases, monkeypatch):
    monkeypatch.setattr(sql_flows, "PURGE_BATCH", 2)
    store = databases.store(CALLED[0])
    for _ in range(6):
        store.create(new_record(expires_at=NOW))
    asked = store.store._connections
    put, busy = asked.put, [False, True, True]

    def sometimes_busy(*arguments):
        if busy.pop(0):
            raise StoreBusyError("busy")
        return put(*arguments)

    monkeypatch.setattr(asked, "put", sometimes_busy)
    assert store.purge(NOW, 10) == 2
    with pytest.raises(StoreBusyError):
        store.purge(NOW, 10)


@pytest.mark.parametrize("driver", [CALLED[1], AWAITED[1]])
def test_a_deadlock_is_made_good_without_a_word(driver, databases):
    """The server undoes the lighter of two transactions that wait for each other; ours is made again."""
    store = databases.store(driver)
    first, second = sorted((new_record(), new_record(created_at=NOW + 1)), key=lambda record: record.created_at)
    store.create(first)
    store.create(second)
    with Rival(databases, driver, store) as rival:
        for number in range(50):  # the heavier
            rival(
                "INSERT INTO TABLE SELECT CONCAT('h', %s), digest, 'heavy', 0, 0, 0, 0, NULL, NULL, NULL, 1, '', 0,"
                " NULL FROM TABLE WHERE id = %s",
                number,
                second.id,
            )
        rival.lock(second)

        def close_the_circle():
            rival.wait_until_waited_for()
            rival.lock(first)
            rival("COMMIT")

        assert meanwhile(lambda: store.delete_user("alice"), close_the_circle) == 2


@pytest.mark.parametrize("driver", ["postgresql+psycopg"])
def test_a_serialization_failure_is_made_good(driver, databases):
    from sqlalchemy import create_engine

    options = "-c default_transaction_isolation=serializable"
    engine = create_engine(databases.url(driver), connect_args={"options": options})
    store = databases.asked(DatabaseStore(engine, create=True))
    record = new_record()
    store.create(record)
    with Rival(databases, driver, store) as rival:
        rival("UPDATE TABLE SET payload = 'x' WHERE id = %s", record.id)

        def commit():
            rival.wait_until_waited_for()
            rival("COMMIT")

        assert meanwhile(lambda: store.touch(record.id, NOW + 5, NOW + 9000), commit) is True
    found = store.load(record.id)
    assert (found.payload, found.last_activity) == (b"x", NOW + 5)
    engine.dispose()


def test_what_keeps_failing_is_given_up(databases, monkeypatch):
    class DeadlockError(Exception):
        sqlstate = "40P01"

    store = databases.store(CALLED[0])
    store.initialize()
    tries = []

    def work():
        tries.append(1)
        raise DeadlockError

    with pytest.raises(StoreBusyError) as caught:
        store.flows.connections.put("together", store.flows._sql.begin, work)
    assert isinstance(caught.value.__cause__, DeadlockError)
    assert len(tries) == 6


@pytest.mark.parametrize("driver", CALLED)
def test_deleting_a_user_meets_the_rotation_it_waited_for(driver, databases):
    """The row that DELETE waits for is rotated away, and what replaces it is invisible to that DELETE."""
    store = databases.store(driver)
    old, new = new_record(), new_record(created_at=NOW - 100)
    store.create(old)
    with Rival(databases, driver, store) as rival:
        rival("UPDATE TABLE SET closed = 1, user_id = NULL WHERE id = %s", old.id)
        rival(
            "INSERT INTO TABLE (id, digest, user_id, created_at, last_activity, expires_at, absolute_expires_at,"
            " version, payload, closed) VALUES (%s, '', 'alice', %s, 0, 0, 0, 1, '', 0)",
            new.id,
            new.created_at,
        )

        def commit():
            rival.wait_until_waited_for()
            rival("COMMIT")

        assert meanwhile(lambda: store.delete_user("alice"), commit) == 1
    assert store.list_user("alice") == []


def test_a_user_who_cannot_be_deleted_is_said_to_be(databases, monkeypatch):
    store = databases.store(CALLED[0])
    store.create(new_record())
    store.flows._sql.delete_user = store.flows._sql.delete  # deletes nobody
    with pytest.raises(StoreError):
        store.delete_user("alice")
    store.flows._sql.delete_user = store.flows._sql.left
    with pytest.raises(StoreError, match="changed faster than they could be deleted"):
        store.delete_user("alice")


# the pool


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_free_connection(driver, databases):
    store = databases.store(driver, pool_size=1, timeout=0.1)

    def exhaust():
        connections = store.flows.connections
        lines = [connections.acquire(), connections.acquire()]
        try:
            with pytest.raises(StoreError, match="no connection came free in time; raise pool_size") as caught:
                connections.acquire()
        finally:
            for line in lines:
                connections.release(line)
        return caught.value

    store.initialize()
    if store.runner is None:
        error = exhaust()
    else:
        from sqlalchemy.util import greenlet_spawn

        async def in_greenlet():
            return await greenlet_spawn(exhaust)

        error = store.runner.run(in_greenlet())
    assert type(error.__cause__).__name__ == "TimeoutError"
    assert store.load("x") is None


@pytest.mark.parametrize("driver", AWAITED)
def test_more_calls_at_once_than_the_pool_keeps(driver, databases):
    store = databases.store(driver, pool_size=2)
    store.initialize()
    record = new_record()
    store.create(record)
    connections = store.flows.connections

    async def story():
        for _ in range(5):
            found = await asyncio.gather(*(store.store.load(record.id) for _ in range(12)))
            assert found == [record] * 12
            assert len(connections._idle) + len(connections._parked) == 2

    store.runner.run(story())


@pytest.mark.parametrize("driver", AWAITED)
def test_a_connection_that_comes_back_to_a_full_pool_is_closed(driver, databases):
    store = databases.store(driver, pool_size=1)
    record = new_record()
    store.create(record)
    connections = store.flows.connections
    with Rival(databases, driver, store) as rival:
        rival.lock(record)

        async def story():
            task = asyncio.ensure_future(store.store.touch(record.id, NOW + 1, NOW + 9000))
            await asyncio.to_thread(rival.wait_until_waited_for)
            await store.store.load(record.id)
            rival("ROLLBACK")
            return await task, len(connections._idle), len(connections._parked)

        assert store.runner.run(story()) == (True, 1, 0)


def test_an_interrupt_gives_the_connection_back(databases, monkeypatch):
    store = databases.store(CALLED[0])
    store.initialize()
    connections = store.flows.connections

    def interrupted(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(connections, "_good", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.load("x")
    monkeypatch.undo()
    assert connections.engine.pool.checkedout() == 0
    assert store.load("x") is None


@pytest.mark.parametrize("driver", AWAITED)
def test_a_cancelled_call_leaves_no_half_answer_behind(driver, databases):
    store = databases.store(driver, pool_size=1)
    record = new_record()
    store.create(record)
    with Rival(databases, driver, store) as rival:
        rival.lock(record)

        async def story():
            task = asyncio.ensure_future(store.store.touch(record.id, NOW + 1, NOW + 9000))
            await asyncio.to_thread(rival.wait_until_waited_for)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return [await store.store.load(record.id) for _ in range(5)]

        assert store.runner.run(story()) == [record] * 5


@pytest.mark.parametrize("driver", CALLED)
def test_a_transaction_that_cannot_be_undone_takes_its_connection_along(driver, databases):
    store = databases.store(driver)
    store.initialize()
    connections = store.flows.connections
    line = connections.acquire()
    seen = line.lent.dbapi_connection
    connections.release(line)  # and is the next to be used

    def work():
        line._cursor.close()
        raise KeyError

    with pytest.raises(StoreError, match="the database failed"):
        connections.put("together", store.flows._sql.begin, work)
    assert store.load("x") is None
    line = connections.acquire()
    assert line.lent.dbapi_connection is not seen
    connections.release(line)


def test_an_awaited_transaction_that_cannot_be_undone_takes_its_connection_along(databases):
    store = databases.store("mysql+asyncmy")
    store.load("x")
    connections = store.flows.connections

    async def story():
        line = connections.take("together")
        seen = line.lent.driver_connection
        connections.release(line)  # and is the next to be used

        def work():
            seen.close()
            raise KeyError

        with pytest.raises(StoreError, match="the database failed"):
            await store.store._connections.put("together", store.flows._sql.begin, work)
        assert connections.take("rows") is None, "it is not used again"
        assert await store.store.load("x") is None

    store.runner.run(story())


@pytest.mark.parametrize("driver", AWAITED)
def test_calls_on_a_connection_in_order_need_no_greenlet(driver, databases, monkeypatch):
    store = databases.store(driver)
    old, new = new_record(), new_record()
    store.create(old)
    monkeypatch.delattr(sql_async, "greenlet_spawn")
    assert store.load(old.id) == old
    assert store.rotate(new, old.id, 1, until=NOW + 60) is Outcome.SAVED
    monkeypatch.undo()  # a fault does
    assert store.rotate(new, new.id, 1, until=NOW + 60) is Outcome.CONFLICT, "its own id is taken"
    assert store.load(new.id) == new, "and all of it was undone"


# forks and event loops


@pytest.mark.parametrize("driver", CALLED)
def test_a_forked_child_opens_its_own_connection(driver, databases):
    store = databases.store(driver)
    record = new_record()
    store.create(record)
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.alarm(30)
        try:
            for _ in range(20):
                assert store.load(record.id) == record
            store.teardown()
            code = 0
        finally:
            os._exit(code)
    for _ in range(20):
        assert store.load(record.id) == record
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.load(record.id) == record, "the child's end closed nothing of ours"


@pytest.mark.parametrize("driver", AWAITED)
def test_one_event_loop_after_another(driver, databases):
    store = databases.store(driver)
    record = new_record()
    store.create(record)
    store.teardown()
    awaited = store.store

    async def story():
        found = await awaited.load(record.id)
        await awaited.teardown()
        return found

    assert asyncio.run(story()) == record
    assert asyncio.run(story()) == record


@pytest.mark.parametrize("driver", AWAITED)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_ended_without_teardown(driver, databases, caplog):
    """As with a test client that makes a loop for every request."""
    import gc

    store = databases.store(driver)
    record = new_record()
    store.create(record)
    store.teardown()
    for _ in range(3):
        assert asyncio.run(store.store.load(record.id)) == record
    store.store._loop = None
    store.flows.connections.forget(keep=False)
    gc.collect()
    assert [record for record in caplog.records if record.name.startswith("sqlalchemy")] == [], "no pool cares"


@pytest.mark.parametrize("driver", AWAITED)
def test_two_event_loops_at_once_are_refused(driver, databases):
    store = databases.store(driver)
    store.initialize()
    with pytest.raises(StoreError, match="open in another event loop"):
        asyncio.run(store.store.load("x"))


# what is said


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ({"password": "hunter2hunter2"}, "password"),
        ({"port": True}, "see that it runs, and that host, port"),
        ({"query": "?nonsense=1"}, "cannot connect"),
        ({"database": "none"}, "database"),
    ],
    ids=["password", "port", "option", "database"],
)
def test_no_password_is_shown(driver, url, says, databases, caplog):
    caplog.set_level(logging.DEBUG)
    server = databases.server(driver)
    secret = url.get("password", QUOTED)
    text = server.url(driver, query=url.get("query", ""), password=secret)
    if "port" in url:
        text = text.replace(f":{server.port}/", f":{unused_port()}/")
    if "database" in url:
        text = f"{text.removesuffix('test')}none"
    store = databases.asked(DatabaseStore(text, timeout=2))
    with pytest.raises(StoreError, match=says) as caught:
        store.initialize()
    assert caught.value.__cause__ is not None
    shown = "".join(traceback.format_exception(caught.value)) + repr(store.store) + str(caught.value) + caplog.text
    for hidden in (secret, PASSWORD, QUOTED):
        assert hidden not in shown.replace(f"{os.sep}{hidden}", "")
    assert "tester" not in str(caught.value)
    assert "127.0.0.1" in repr(store.store)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_missing_table_is_said_to_be_missing(driver, databases):
    store = databases.store(driver, create=False)
    for call in (store.initialize, lambda: store.load("x"), lambda: store.create(new_record())):
        with pytest.raises(
            StoreError, match=r"no session table 't_\w+'; create_schema\(\), `session-mw schema` or create"
        ):
            call()
    store.create_schema()
    store.create_schema()
    store.initialize()
    assert store.create(new_record())


@pytest.mark.parametrize("driver", CALLED)
def test_a_value_the_database_cannot_hold_is_a_store_error(driver, databases):
    store = databases.store(driver)
    for bad in ({"user_id": "\ud800"}, {"version": 2**70}, {"login_ip": "\ud800"}):
        with pytest.raises(StoreError) as caught:
            store.create(new_record(**bad))
        assert "ud800" not in str(caught.value)
    with pytest.raises(StoreError):
        store.list_user("\ud800")
    assert store.create(new_record())


def test_what_is_too_long_is_refused_and_never_cut(databases):
    store = databases.store("mysql+pymysql")
    with pytest.raises(StoreError, match="refuses a value of this size"):
        store.create(new_record(login_user_agent="x" * 70_000))
