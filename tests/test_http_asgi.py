"""Real ASGI servers: uvicorn and hypercorn, real curl, real sockets, a real websocket client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from asgi_driver import NAME
from conftest import StartServer
from http_story import Browser, by_socket_and_by_port, corpus_over_sockets, environment, life_of_a_session, overlapping
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "http_site:asgi_app", "--port", "{port}"],
    "uvicorn h11": ["-m", "uvicorn", "http_site:asgi_app", "--port", "{port}", "--http", "h11"],
    "hypercorn": ["-m", "hypercorn", "http_site:asgi_app", "--bind", "127.0.0.1:{port}"],
}


@pytest.mark.parametrize("kind", ["cookie", "store"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_site(
    server: StartServer, tmp_path: Path, require_program: Callable[[str], str], name: str, kind: str
) -> None:
    running = server(SERVERS[name], env=environment(kind, tmp_path))
    life_of_a_session(running.url, kind, require_program("curl"))
    corpus_over_sockets(running.port, running.url)
    if kind == "store":
        overlapping(running.url, tmp_path)
    assert "Traceback" not in running.output()


def test_overlapping_requests_in_memory(server: StartServer, tmp_path: Path) -> None:
    overlapping(server(SERVERS["uvicorn"], env=environment("memory", tmp_path)).url, tmp_path)


def test_a_proxy_on_a_unix_socket(server: StartServer, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    command = ["-m", "hypercorn", "http_site:asgi_app", "--bind", "127.0.0.1:{port}", "--bind", f"unix:{socket}"]
    running = server(command, env={**environment("cookie", tmp_path), "TRUSTED": "unix"})
    by_socket_and_by_port(socket, running.url)


@pytest.mark.parametrize("kind", ["cookie", "store"])
def test_a_websocket(server: StartServer, tmp_path: Path, kind: str) -> None:
    running = server(SERVERS["uvicorn"], env=environment(kind, tmp_path))
    browser = Browser(running.url)
    browser.get("/login")
    headers = {"Cookie": f"{NAME}={browser.cookies[NAME]}"}
    with connect(running.url.replace("http", "ws") + "/ws", additional_headers=headers) as socket:
        assert socket.response is not None
        assert len(socket.response.headers.get_all("set-cookie")) == (kind == "cookie")
        socket.send("/me")
        assert socket.recv(10) == "ada {'socket': 1}"
        if kind == "store":
            socket.send("/logout")
            assert socket.recv(10) == "None {'socket': 1}"
        else:
            socket.send("/set")  # too late: the app's error ends the socket
            with pytest.raises(ConnectionClosed):
                socket.recv(10)
    if kind == "store":
        assert browser.get("/me").text == "None {'socket': 1}"
