"""What tests share: hypothesis profiles, programs that must be there in CI, and real servers on loopback.

Nothing here sleeps: every wait is a bounded wait on a socket or on a process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from servers.ports import unused_port

pytest.register_assert_rewrite("example_story")
pytest_plugins = [
    "servers.chromium",
    "servers.mariadb",
    "servers.memcached",
    "servers.postgres",
    "servers.redis",
    "servers.sql_faces",
]

ROOT = Path(__file__).resolve().parent.parent
BESIDE = Path(sys.executable).parent


def in_ci() -> bool:
    """Whether nothing may be skipped."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


# Under coverage and beside other work a slow example says nothing, hence no deadline.
_SLOW = [HealthCheck.too_slow]
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW)
settings.register_profile("ci", deadline=None, suppress_health_check=_SLOW, derandomize=True, database=None)
settings.load_profile("ci" if in_ci() else "dev")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """``@pytest.mark.anyio`` tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """``require_program("chromium")``: its path. Where it is missing, skip; in CI, fail."""

    def require(name: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        if in_ci():
            pytest.fail(f"{name} is not installed, and CI skips nothing", pytrace=False)
        pytest.skip(f"{name} is not installed")

    return require


@pytest.fixture
def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on at this moment."""
    return unused_port()


# What Python prints when something was left behind; a server that prints one of these did not end cleanly.
LEFTOVERS = (
    "Exception ignored",
    "ResourceWarning",
    "was never awaited",
    "was never retrieved",
    "Task was destroyed but it is pending",
)


class Server:
    """A server process on 127.0.0.1:``port``; ``url`` has no trailing slash."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._killed = False

    def output(self) -> str:
        """Everything printed so far, both streams."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it as a power cut would; such an end need not be clean."""
        self._killed = True
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """Ask it to end, and insist after ten seconds. Idempotent.

        Raises ``AssertionError`` when it had to be killed, or printed one of ``LEFTOVERS``.
        """
        stubborn = False
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                stubborn = True
                self.process.kill()
                self.process.wait(10)
        if self._killed:
            return
        output = self.output()
        assert not stubborn, f"the server ignored SIGTERM:\n{output}"
        left = [mark for mark in LEFTOVERS if mark in output]
        assert not left, f"the server left something behind ({', '.join(left)}):\n{output}"

    def wait_ready(self, seconds: float) -> None:
        """Until it accepts a connection. Raises ``AssertionError`` with its output when it ends or does not."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                pass
            else:
                return
            try:
                code = self.process.wait(0.05)  # the pause between tries ends early when the process does
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, f"nobody listens on {self.port}:\n{self.output()}"
            else:
                raise AssertionError(f"the server ended with {code}:\n{self.output()}")


StartServer = Callable[..., Server]


@contextmanager
def serving(directory: Path) -> Iterator[StartServer]:
    """Start real servers: ``start(["-m", "uvicorn", "app:app", "--port", "{port}"], cwd=directory)``.

    The arguments go to this Python, or to *program*, installed beside it; ``{port}`` becomes a free port (or *port*).
    ``env`` is added to ours, so that coverage follows. Returns when the server accepts connections (within *ready*
    seconds). Threads may start several at once. All are stopped, by pid, at the end, and a leftover in their output
    raises ``AssertionError``.
    """
    numbers = count()
    started: list[Server] = []

    def start(
        arguments: Sequence[str],
        *,
        program: str = sys.executable,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready: float = 20,
    ) -> Server:
        chosen = unused_port() if port is None else port
        log = directory / f"server-{next(numbers)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [BESIDE / program, *(argument.replace("{port}", str(chosen)) for argument in arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd or directory,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            )
        running = Server(process, chosen, log)
        started.append(running)
        running.wait_ready(ready)
        return running

    try:
        yield start
    finally:
        complaints = []
        for running in reversed(started):
            try:
                running.stop()
            except AssertionError as error:
                complaints.append(str(error))
        assert not complaints, "\n".join(complaints)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """``serving`` for one test, in its own directory."""
    with serving(tmp_path) as start:
        yield start
