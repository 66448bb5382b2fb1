"""Listening: on loopback alone, and before anything is promised; then uvicorn serves."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
from contextlib import suppress
from ipaddress import ip_address

import uvicorn

from ..errors import ConfigurationError
from .app import DemoApp, demo_app
from .forms import is_loopback

__all__ = ["listen", "prepared", "serve", "url_of"]


def prepared(store: str) -> DemoApp:
    """The app on the store of this URL, which has been opened once to see that it can be.

    Raises ``ConfigurationError`` and ``StoreError``.
    """
    app = demo_app(store)

    async def try_store() -> None:
        try:
            await app.sessions.layer.aopen_store()
        finally:
            await app.sessions.layer.aclose_store()

    asyncio.run(try_store())
    return app


def listen(host: str, port: int) -> sockets.socket:
    """A listening socket. Raises ``ConfigurationError`` for a *host* that others could reach, else ``OSError``."""
    if not is_loopback(host):
        raise ConfigurationError(
            f"{host} is not a loopback address; its password is public, so the demo serves this machine alone"
        )
    address = ip_address("127.0.0.1" if host.endswith("localhost") else host)
    listening = sockets.socket(sockets.AF_INET6 if address.version == 6 else sockets.AF_INET)
    try:
        if os.name == "posix":  # elsewhere it would let two listen on one port
            listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        listening.bind((str(address), port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def url_of(listening: sockets.socket) -> str:
    """Where a browser finds it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: DemoApp, listening: sockets.socket) -> None:
    """Serve until told to stop."""
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody stands before it whose word would count
        timeout_graceful_shutdown=3,
    )
    with suppress(KeyboardInterrupt):  # uvicorn hands Ctrl+C on once it has shut down
        uvicorn.Server(config).run(sockets=[listening])
