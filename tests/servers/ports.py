"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

__all__ = ["unused_port"]

_PORTS = range(10_000, 22_000)  # below those that outgoing connections get, and so is a Cluster's bus, 10,000 higher
_given: set[int] = set()


def unused_port() -> int:
    """A port on 127.0.0.1 that nobody listens on at this moment, no outgoing connection takes, and never twice."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311  (no secret)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
