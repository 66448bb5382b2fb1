"""A real WSGI server: gunicorn with two worker processes, single-threaded and threaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import StartServer
from http_story import by_socket_and_by_port, corpus_over_sockets, environment, life_of_a_session, overlapping

WORKERS = {"sync": ["-w", "2", "-k", "sync"], "gthread": ["-w", "2", "-k", "gthread", "--threads", "4"]}


@pytest.mark.parametrize("kind", ["cookie", "store"])
@pytest.mark.parametrize("worker", WORKERS)
def test_a_site(
    server: StartServer, tmp_path: Path, require_program: Callable[[str], str], worker: str, kind: str
) -> None:
    command = ["-m", "gunicorn", "http_site:wsgi_app", "--bind", "127.0.0.1:{port}", *WORKERS[worker]]
    running = server(command, env=environment(kind, tmp_path))
    life_of_a_session(running.url, kind, require_program("curl"))
    corpus_over_sockets(running.port, running.url)
    if kind == "store":
        overlapping(running.url, tmp_path)
    assert "Traceback" not in running.output()


def test_a_proxy_on_a_unix_socket(server: StartServer, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    command = ["-m", "gunicorn", "http_site:wsgi_app", "--bind", "127.0.0.1:{port}", "--bind", f"unix:{socket}"]
    running = server(command, env={**environment("cookie", tmp_path), "TRUSTED": "unix"})
    by_socket_and_by_port(socket, running.url)
