"""A real memcached for the tests that need one, on a unix socket."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SECONDS = 20


class Memcached:
    """A server on ``socket``; ``stop()`` and ``start()`` at will. It forgets everything when it stops."""

    def __init__(self, program: str, directory: Path) -> None:
        self.socket = str(directory / "socket")
        self._command = [program, "-s", self.socket, "-m", "64", "-u", "root"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers. Raises ``AssertionError`` when it does not."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "memcached does not answer"
            try:
                code = self._process.wait(0.01)  # the pause between tries ends early when the process does
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"memcached ended with {code}")

    def _answers(self) -> bool:
        try:
            self.ask(b"version")
        except OSError:
            return False
        return True

    def ask(self, command: bytes) -> bytes:
        """The first line of the answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(self.socket)
            connection.sendall(command + b"\r\n")
            with connection.makefile("rb") as answer:
                return answer.readline().rstrip()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(SECONDS)
            self._process = None
            Path(self.socket).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def memcached(require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memcached]:
    """A running memcached, shared by all; use a prefix of your own."""
    server = Memcached(require_program("memcached"), tmp_path_factory.mktemp("memcached"))
    server.start()
    yield server
    server.stop()
