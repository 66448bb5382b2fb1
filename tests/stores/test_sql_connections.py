"""Connections that rest with a store between calls: nobody waits beside one, none is left open, and few are kept."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from servers.sql_faces import AWAITED, CALLED, DRIVERS
from sqlalchemy.util import greenlet_spawn

from session_mw.errors import StoreError
from session_mw.testing.contract import new_record


def is_open(connection):
    return connection.open if hasattr(connection, "open") else not connection.closed


@pytest.fixture
def two(databases):
    """A store that may have two connections and keep one, and both of them in use."""

    def make(driver, **settings):
        store = databases.store(driver, pool_size=1, **settings)
        store.initialize()
        connections = store.flows.connections
        return store, connections, [connections.acquire() for _ in range(2)]

    return make


@pytest.mark.parametrize("driver", CALLED)
def test_calls_share_a_connection_that_makes_no_way_through_the_pool(driver, databases, monkeypatch):
    store = databases.store(driver)
    record = new_record()
    store.create(record)
    monkeypatch.delattr(type(store.flows.connections.engine), "raw_connection")
    assert store.load(record.id) == record


@pytest.mark.parametrize("driver", CALLED)
def test_who_waits_for_a_connection_gets_the_first_that_comes_back(driver, two, monkeypatch):
    store, connections, lines = two(driver, timeout=20)
    asked = threading.Event()
    lend = connections.engine.raw_connection
    monkeypatch.setattr(connections.engine, "raw_connection", lambda: (asked.set(), lend())[1], raising=False)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(store.load("x")), daemon=True)
    thread.start()
    assert asked.wait(10)
    connections.release(lines[0])
    thread.join(10)
    assert answers == [None]
    connections.release(lines[1])


@pytest.mark.parametrize("driver", CALLED)
def test_one_that_came_back_just_before_is_not_waited_for(driver, two):
    _, connections, lines = two(driver, timeout=0.1)

    class Late(deque):
        def append(self, mark):
            connections.release(lines[0])  # by another thread, which sees nobody wait yet
            super().append(mark)

    connections._waiting = Late()
    assert connections.acquire() is lines[0]
    connections._waiting = deque()
    with pytest.raises(StoreError, match="no connection came free"):
        connections.acquire()
    for line in lines:
        connections.release(line)


@pytest.mark.parametrize("driver", CALLED)
def test_no_more_rest_than_the_pool_shall_keep(driver, two):
    store, connections, lines = two(driver)
    opened = [line.lent.dbapi_connection for line in lines]
    for line in lines:
        connections.release(line)
    assert sum(map(is_open, opened)) == 1
    again = [connections.acquire() for _ in range(2)]
    assert len({id(line.lent.dbapi_connection) for line in again}) == 2
    for line in again:
        connections.release(line)
    assert store.load("x") is None


@pytest.mark.parametrize("driver", CALLED)
def test_teardown_closes_what_rests_and_keeps_nothing_that_comes_back_later(driver, two):
    store, connections, (first, second) = two(driver)
    resting, in_use = (line.lent.dbapi_connection for line in (first, second))
    connections.release(first)
    store.teardown()
    assert not is_open(resting)
    connections.release(second)  # a call that was under way
    third = connections.acquire()
    assert third.lent.dbapi_connection is not in_use
    connections.release(third)
    in_use.close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_was_given_to_the_pool_counts_among_those_to_keep(driver, databases):
    store = databases.store(driver, pool_size=2)
    store.initialize()
    connections = store.flows.connections
    fill = lambda: [connections.acquire() for _ in range(4)]  # noqa: E731
    give = lambda lines: [connections.release(line) for line in lines]  # noqa: E731

    def numbers():
        return len(connections._idle), len(connections._parked)

    def burst():
        lines = fill()
        connections._waiting.append(None)  # somebody waits, and is served by another
        give(lines[:1])
        connections._waiting.pop()
        assert numbers() == (0, 1)
        give(lines[1:])
        assert numbers() == (1, 1)

    def again():
        lines = fill()
        assert numbers() == (0, 0)
        give(lines)
        assert numbers() == (2, 0)

    for work in (burst, again, burst):
        asked(store, work)
    store.teardown()
    assert numbers() == (0, 0)


@pytest.mark.parametrize("driver", AWAITED)
def test_what_the_pool_has_no_room_for_is_closed_where_closing_may_wait(driver, databases, caplog):
    store = databases.store(driver, pool_size=1)
    store.initialize()
    connections = store.flows.connections

    def crowd():
        first, second = (connections.acquire() for _ in range(2))
        connections.release(first)
        connections._waiting.append(None)  # somebody waits, and is served by another
        connections.release(second)

    asked(store, crowd)
    assert (len(connections._idle), len(connections._parked)) == (1, 1)
    assert store.load("x") is None
    connections._waiting.pop()
    assert (len(connections._idle), len(connections._parked)) == (0, 1)
    assert caplog.records == []


def asked(store, work):
    """*work*, in a greenlet where the driver is awaited."""
    if store.runner is None:
        work()
    else:
        store.runner.run(_in_greenlet(work))


async def _in_greenlet(work):
    await greenlet_spawn(work)
