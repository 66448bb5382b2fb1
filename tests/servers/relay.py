"""A relay before a server: it counts round trips, and can break every connection at once.

A round trip is counted where the client speaks and the server spoke last: what is sent in one go, in however many
pieces, is one.
"""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress


class Relay:
    """Listens on 127.0.0.1:``port`` and passes on to *target*, a port; ``trips`` counts. Close it in the end."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.trips = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._wake, waker = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._spoke: dict[socket.socket, bool] = {}  # client -> whether it spoke last
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(waker, selectors.EVENT_READ)
        self._waker = waker
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def count(self, work) -> int:
        """How many round trips *work* makes."""
        before = self.trips
        work()
        return self.trips - before

    def cut(self) -> None:
        """Break every connection."""
        self._order(b"c")

    def close(self) -> None:
        self._order(b"q")
        self._thread.join(10)
        for each in (self._wake, self._waker, self._listener):
            each.close()
        self._selector.close()

    def _order(self, order: bytes) -> None:
        self._wake.sendall(order)
        if order == b"c":
            assert self._wake.recv(1) == b"d"

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._waker:
                    order = self._waker.recv(1)
                    for client in list(self._clients):
                        self._drop(client)
                    if order == b"q":
                        return
                    self._waker.sendall(b"d")
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._peers:
                    self._pass(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)
        self._clients.add(client)
        self._spoke[client] = False

    def _pass(self, source: socket.socket) -> None:
        other = self._peers[source]
        try:
            data = source.recv(65536)
            if data:
                if source in self._clients:
                    self.trips += not self._spoke[source]
                    self._spoke[source] = True
                else:
                    self._spoke[other] = False
                other.sendall(data)
                return
        except OSError:
            pass
        self._drop(source if source in self._clients else other)

    def _drop(self, client: socket.socket) -> None:
        server = self._peers.pop(client)
        self._peers.pop(server)
        self._clients.discard(client)
        del self._spoke[client]
        for each in (client, server):
            self._selector.unregister(each)
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
