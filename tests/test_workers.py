"""Several workers: what counts as a sign, and that a store of one process says so, on real servers."""

from __future__ import annotations

import asyncio
import logging
import os

import pytest
from conftest import ROOT

from session_mw.asgi import SessionMiddleware
from session_mw.core.keys import generate_key
from session_mw.stores.memory import MemoryStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.workers import sign_of_several, warn_of_several

UVICORN = ["/venv/bin/uvicorn", "app:app"]


@pytest.mark.parametrize(
    ("argv", "environ", "sign"),
    [
        (UVICORN, {}, None),
        ([*UVICORN, "--workers", "4"], {}, "--workers 4"),
        ([*UVICORN, "--workers=4"], {}, "--workers 4"),
        ([*UVICORN, "--workers", "1"], {"WEB_CONCURRENCY": "4"}, None),
        ([*UVICORN, "--workers", "4", "--workers", "1"], {}, None),
        ([*UVICORN, "--workers"], {}, None),
        ([*UVICORN, "--workers", "many"], {}, None),
        ([*UVICORN, "-w", "4"], {}, None),
        (UVICORN, {"WEB_CONCURRENCY": "4"}, "WEB_CONCURRENCY=4"),
        (UVICORN, {"WEB_CONCURRENCY": "1"}, None),
        (UVICORN, {"WEB_CONCURRENCY": "auto"}, None),
        (UVICORN, {"UVICORN_WORKERS": "3", "WEB_CONCURRENCY": "1"}, "UVICORN_WORKERS=3"),
        (["/x/uvicorn/__main__.py", "app:app", "--workers", "2"], {}, "--workers 2"),
        (["gunicorn", "-w", "2", "app:app"], {}, "--workers 2"),
        (["gunicorn", "-w2", "app:app"], {}, "--workers 2"),
        (["gunicorn.exe", "-wsgi", "app:app"], {}, None),
        (["gunicorn", "app:app"], {"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY=2"),
        (["fastapi", "run", "--workers", "2"], {}, "--workers 2"),
        (["hypercorn", "-w", "2", "app:app"], {}, "--workers 2"),
        (["hypercorn", "app:app"], {"WEB_CONCURRENCY": "2"}, None),
        (["granian", "app:app"], {"GRANIAN_WORKERS": "2"}, "GRANIAN_WORKERS=2"),
        (["serve.py", "--workers", "4"], {}, None),
        (["serve.py"], {"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY=2"),
        ([], {}, None),
    ],
)
def test_what_is_read_of_the_command_line_and_the_environment(argv, environ, sign):
    assert sign_of_several(environ, argv, forked=False) == sign


def test_a_fork_is_a_sign_where_nothing_else_is():
    assert sign_of_several({}, UVICORN, forked=True) == "it was built before this process was forked"
    assert sign_of_several({}, [*UVICORN, "--workers", "1"], forked=True) is None


def test_a_wsgi_server_is_believed():
    many = [*UVICORN, "--workers", "4"]
    assert sign_of_several({}, many, forked=True, multiprocess=False) is None
    assert sign_of_several({}, UVICORN, forked=False, multiprocess=True) == "wsgi.multiprocess"


def test_only_a_store_of_one_process_is_spoken_of(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "session_mw")
    warn_of_several(SQLiteStore(tmp_path / "s.db"), multiprocess=True)
    warn_of_several(None, multiprocess=True)
    warn_of_several(MemoryStore(), multiprocess=False)
    assert caplog.records == []
    warn_of_several(MemoryStore(), multiprocess=True)
    (message,) = caplog.messages
    assert message == (
        "session_mw: MemoryStore keeps sessions in one process, and several seem to serve this app "
        "(wsgi.multiprocess): each would know its own clients only; name a store that they share"
    )


def test_a_store_that_was_inherited_is_spoken_of(monkeypatch, caplog):
    monkeypatch.setattr("sys.argv", ["serve.py"])
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    store = MemoryStore()
    warn_of_several(store)
    assert caplog.messages == []
    store.built_in = os.getpid() + 1
    warn_of_several(store)
    assert "forked" in caplog.text


def test_a_list_of_what_has_ended_is_a_store_too(monkeypatch, caplog):
    """Under several workers a logout would be known to one of them."""
    monkeypatch.setattr("sys.argv", ["uvicorn", "app:app", "--workers", "2"])
    layer = SessionMiddleware(None, secret_key=generate_key(), revocation="memory:?evict=0").layer
    asyncio.run(layer.aopen_store())
    assert "MemoryStore keeps sessions in one process" in caplog.text


APP = """
from session_mw.asgi import SessionMiddleware as ASGI
from session_mw.wsgi import SessionMiddleware as WSGI

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]

asgi, wsgi = ASGI(asgi, store="memory:"), WSGI(wsgi, store="memory:")
"""

HERE = ["--bind", "127.0.0.1:{port}"]


@pytest.mark.parametrize(
    ("command", "environ", "sign"),
    [
        (["uvicorn", "app:asgi", "--port", "{port}"], {}, None),
        (["uvicorn", "app:asgi", "--port", "{port}", "--workers", "2"], {}, "--workers 2"),
        (["uvicorn", "app:asgi", "--port", "{port}"], {"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY=2"),
        (["hypercorn", "app:asgi", *HERE, "--workers", "2"], {}, "--workers 2"),
        (["gunicorn", "app:wsgi", *HERE, "--preload"], {"WEB_CONCURRENCY": "1"}, None),
        (["gunicorn", "app:wsgi", *HERE, "-w", "2"], {}, "wsgi.multiprocess"),
    ],
    ids=["uvicorn", "uvicorn-workers", "uvicorn-environ", "hypercorn", "gunicorn", "gunicorn-workers"],
)
def test_a_real_server_with_several_workers(command, environ, sign, server, tmp_path):
    import httpx

    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    # Without coverage: hypercorn may send a worker SIGTERM while coverage writes its data at the worker's end, and then
    # coverage complains that it is called twice.
    bare = {name: "" for name in os.environ if name.startswith("COV")}
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    env = {**bare, "PYTHONPATH": path, "XDG_RUNTIME_DIR": str(tmp_path), **environ}
    running = server(["-m", *command], cwd=tmp_path, env=env)
    with httpx.Client() as client:
        assert client.get(running.url).text == "ok"
    running.stop()
    told = [line for line in running.output().splitlines() if "MemoryStore keeps sessions" in line]
    if sign is None:
        assert told == []
    else:
        assert told
        assert all(f"({sign})" in line for line in told)
        assert len(told) <= 2, "once in each worker"
