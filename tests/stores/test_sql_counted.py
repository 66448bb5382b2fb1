"""What calls and whole requests mean for a database: statements by their kind, as the server's own counters tell."""

from __future__ import annotations

import pytest
from asgi_driver import Client
from servers.sql_faces import AWAITED, CALLED, DRIVERS
from wsgi_driver import WSGIClient

from session_mw import asgi, wsgi
from session_mw.core.operations import Outcome
from session_mw.testing.contract import new_record
from session_mw.testing.samples import NOW, following

SELECT, INSERT, UPDATE, DELETE = ({word: 1} for word in ("SELECT", "INSERT", "UPDATE", "DELETE"))
WITH = {"WITH": 1}
ROTATED = {"postgresql": WITH, "mysql": {"BEGIN": 1, "UPDATE": 1, "INSERT": 1, "COMMIT": 1}}
PURGED = {"postgresql": WITH, "mysql": {"BEGIN": 1, "SELECT": 1, "DELETE": 1, "COMMIT": 1}}


@pytest.mark.parametrize("driver", DRIVERS)
def test_calls(driver, databases):
    kind = driver.partition("+")[0]
    store = databases.store(driver)
    first, second, third, fourth = records = [new_record(user_id=f"u{number}") for number in range(4)]
    for record in records:
        store.create(record)
    calls = {
        "load": (lambda: store.load(first.id) == first, SELECT),
        "load nothing": (lambda: store.load(new_record().id) is None, SELECT),
        "create": (lambda: store.create(new_record()) is True, INSERT),
        "save": (lambda: store.save(following(first), 1) is Outcome.SAVED, UPDATE),
        "save payload": (
            lambda: store.save(following(following(first)), 2, payload_only=True) is Outcome.SAVED, UPDATE,
        ),
        "save conflict": (lambda: store.save(following(first), 1) is Outcome.CONFLICT, UPDATE | SELECT),
        "touch": (lambda: store.touch(first.id, NOW + 1, NOW + 9000) is True, UPDATE),
        "list_user": (lambda: [record.id for record in store.list_user("u0")] == [first.id], SELECT),
        "rotate": (
            lambda: store.rotate(new_record(user_id="u1"), second.id, 1, until=NOW + 60) is Outcome.SAVED,
            ROTATED[kind],
        ),
        "close": (lambda: store.close(third.id, 1, until=NOW + 60) is Outcome.DELETED, UPDATE),
        "delete": (lambda: store.delete(first.id) is Outcome.DELETED, DELETE),
        "delete version": (lambda: store.delete(fourth.id, expected_version=1) is Outcome.DELETED, DELETE),
        "delete_user": (lambda: store.delete_user("u1") == 1, DELETE | SELECT),
        "purge": (lambda: store.purge(NOW + 61, 10) == 2, PURGED[kind]),
    }  # fmt: skip
    server = databases.server(driver)
    for name, (call, wanted) in calls.items():
        done = []
        assert (name, server.count(lambda call=call, done=done: done.append(call()))) == (name, wanted)
        assert done == [True], name


def act(session, path):
    """What the app does; ``/ignore`` nothing."""
    if path == "/read":
        session["a"]
    elif path == "/look":
        session.get("a")
    elif path == "/change":
        session["a"] = session.get("a", 0) + 1
    elif path == "/login":
        session.login(user_id="u1")
    elif path == "/end":
        session.destroy(all_data=True)


@pytest.mark.parametrize("driver", CALLED)
def test_requests_to_a_wsgi_app(driver, databases):
    store = databases.store(driver)
    store.initialize()

    def app(environ, start_response):
        act(environ["session_mw.session"], environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    client = WSGIClient(wsgi.SessionMiddleware(app, store=store.store))
    story(driver, databases, client.get, client.cookies, ignored={})


@pytest.mark.parametrize("driver", AWAITED)
def test_requests_to_an_asgi_app(driver, databases):
    store = databases.store(driver)
    store.initialize()

    async def app(scope, receive, send):
        act(scope["session"], scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    client = Client(asgi.SessionMiddleware(app, store=store.store))
    ask = lambda path: store.runner.run(client.request(path))  # noqa: E731
    story(driver, databases, ask, client.cookies, ignored=SELECT)  # it is read before the handler runs


def story(driver, databases, ask, cookies, *, ignored):
    """What a browser does, and what each request means for the server."""
    server, rotated = databases.server(driver), ROTATED[driver.partition("+")[0]]

    def expect(path, wanted):
        assert (path, server.count(lambda: ask(path))) == (path, wanted)

    ask("/ignore")  # the first connects, and sees that the table is there
    expect("/ignore", {})
    expect("/look", {})
    expect("/change", INSERT)
    expect("/ignore", ignored)
    expect("/read", SELECT)
    expect("/change", SELECT | UPDATE)
    expect("/login", {"SELECT": 1} | rotated)
    expect("/read", SELECT)
    [(name, token)] = cookies.items()
    cookies[name] = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")  # another secret
    expect("/look", SELECT)
    cookies[name] = "neither id nor secret"
    expect("/look", {})
    cookies[name] = token
    expect("/end", SELECT | UPDATE)
    assert cookies == {}
