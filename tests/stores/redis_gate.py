"""A gate between a store and its server that can hang up at the worst moment: after the server has done the work."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Gate:
    """Listens on ``port`` and passes everything on to *server_port*.

    ``swallow = n``: the next *n* answers are thrown away and their connections closed. ``hang_up()``: close all.
    """

    def __init__(self, server_port: int) -> None:
        self.swallow = 0
        self._server_port = server_port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def hang_up(self) -> None:
        with self._lock:
            ends = list(self._open)
        for end in ends:
            self._close(end)

    def _close(self, end: socket.socket) -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server_port))
            with self._lock:
                self._open |= {near, far}
            for source, target, answers in ((near, far, False), (far, near, True)):
                thread = threading.Thread(target=self._pass_on, args=(source, target, answers))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.swallow:
                    self.swallow -= 1
                    break
                target.sendall(data)
        for end in (source, target):
            self._close(end)
        with self._lock:
            self._open.discard(source)
        source.close()
