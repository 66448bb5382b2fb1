"""The shared fixtures do what their docstrings say; a fixture that hides a dirty server hides everything."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import LEFTOVERS, StartServer

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
"""

WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return [b"here"]
"""

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "asgi:app", "--port", "{port}"],
    "hypercorn": ["-m", "hypercorn", "asgi:app", "--bind", "127.0.0.1:{port}"],
    "gunicorn": ["-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:{port}"],
}


@pytest.mark.parametrize("arguments", SERVERS.values(), ids=SERVERS)
def test_a_real_server_answers_and_ends(server: StartServer, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "asgi.py").write_text(APP)
    (tmp_path / "wsgi.py").write_text(WSGI)
    running = server(arguments)
    with urllib.request.urlopen(running.url, timeout=10) as answer:  # noqa: S310
        assert answer.read() == b"here"
    running.stop()
    assert running.process.returncode is not None
    assert str(running.port) in running.output()


def test_a_server_that_ends_early_is_reported_with_its_output(server: StartServer) -> None:
    with pytest.raises(AssertionError, match="ended with 3") as caught:
        server(["-c", "print('out of paper'); raise SystemExit(3)"])
    assert "out of paper" in str(caught.value)


def test_a_server_that_never_listens_is_reported(server: StartServer) -> None:
    with pytest.raises(AssertionError, match="nobody listens"):
        server(["-c", "import sys; sys.stdin = None; import signal; signal.pause()"], ready=0.2)


LISTEN = "import signal, socket; s = socket.create_server(('127.0.0.1', {port})); "


@pytest.mark.parametrize("mark", LEFTOVERS)
def test_a_leftover_in_the_output_fails(server: StartServer, mark: str) -> None:
    running = server(["-c", f"print({mark!r}); {LISTEN} signal.pause()"])
    with pytest.raises(AssertionError, match="left something behind"):
        running.stop()
    running.kill()  # seen and judged here; the fixture need not judge it again


def test_a_killed_server_is_not_judged(server: StartServer) -> None:
    running = server(["-c", f"print('Exception ignored'); {LISTEN} signal.pause()"])
    running.kill()
    running.stop()


def test_an_absent_program_skips_on_a_desk_and_fails_in_ci(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert require_program("sh") == shutil.which("sh")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require_program("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        require_program("no-such-program")
