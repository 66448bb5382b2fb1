"""What the fixtures of database servers share: a server process of its own account in a directory of its own.

Decided here: loopback only, a free port, no fsync; stopped by pid. The directory lies outside pytest's, which a
server's account could not enter.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .ports import unused_port

PASSWORD = "p@ss/w:rd"  # every character a URL must escape
QUOTED = "p%40ss%2Fw%3Ard"


class DatabaseServer:
    """A server on 127.0.0.1:``port`` with user ``tester`` and database ``test``; ``stop()`` and ``start()`` at will.

    ``url("postgresql+psycopg")``: where it is, for a driver.
    """

    def __init__(self, directory: Path, account: str | None) -> None:
        self.directory = directory
        self.account = account
        self.port = unused_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = directory / "server.log"

    def command(self) -> Sequence[str | Path]:
        """The server, to be run in the foreground."""
        raise NotImplementedError

    stop_signal: int

    def url(self, driver: str, *, query: str = "", password: str = QUOTED) -> str:
        return f"{driver}://tester:{password}@127.0.0.1:{self.port}/test{query}"

    def run(self, command: Sequence[str | Path], text: str | None = None) -> None:
        """Run *command* under the server's account, *text* as its input. Raises AssertionError with its output."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            user=self.account,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Until it takes connections. Raises AssertionError with its log when it does not within 30 seconds."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                user=self.account,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 30
        while not self.ready():
            try:
                code = self.process.wait(0.05)  # the pause between tries ends early when the process does
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, f"not ready:\n{self.log.read_text(errors='replace')}"
            else:
                raise AssertionError(f"ended with {code}:\n{self.log.read_text(errors='replace')}")

    def watcher(self) -> Any:
        """A connection whose own statements ``given`` does not tell of."""
        raise NotImplementedError

    def given(self, watcher: Any) -> Counter[str]:
        """How many statements the database ``test`` was given so far, by their first word."""
        raise NotImplementedError

    def count(self, work: Callable[[], object]) -> dict[str, int]:
        """The statements that *work* means, by the server's own counters."""
        with self.watcher() as watcher:
            before = self.given(watcher)
            work()
            return dict(self.given(watcher) - before)

    def ready(self) -> bool:
        """Whether it takes connections now."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """End it, and every connection with it. Idempotent."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@contextmanager
def home(name: str, account: str) -> Iterator[tuple[Path, str | None]]:
    """A directory for a server, and the account to run it under: *account*, where we are root, or our own."""
    path = Path(tempfile.mkdtemp(prefix=f"session_mw-{name}-"))
    user = account if os.geteuid() == 0 else None
    try:
        if user is not None:
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
        yield path, user
    finally:
        shutil.rmtree(path, ignore_errors=True)
