"""``session-mw`` driven: in this process, in one of its own, or on a terminal; and stores that only tests can name."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from conftest import ROOT

from session_mw.cli import main
from session_mw.stores.url import SCHEMES


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="session-mw", env=dict(env or {}))


def one_line(result: Result, *words: str, code: int = 2) -> None:
    """Refused: the exit *code*, nothing printed, one line on stderr with all *words*."""
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("session-mw: ")
    for word in words:
        assert word in result.stderr


def real(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A Python process of its own, in ``tests``."""
    words = [sys.executable, *arguments]
    return subprocess.run(
        words,
        cwd=ROOT / "tests",
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


class Shown(NamedTuple):
    code: int
    text: str  # all that the terminal received, what was typed included


def on_terminal(*arguments: str, asked: str = "", answer: str = "") -> Shown:
    """``session-mw`` on a terminal of 100 columns: once *asked* is shown, somebody types *answer*."""
    master, slave = pty.openpty()
    env = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    command = [sys.executable, "-W", "error", "-m", "session_mw", *arguments]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    received = b""
    try:
        while select.select([master], [], [], 60)[0]:
            try:
                received += os.read(master, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                break
            if answer and asked.encode() in received:
                os.write(master, answer.encode())
                answer = ""
        return Shown(process.wait(60), received.decode())
    finally:
        process.kill()
        process.wait(10)
        os.close(master)


def name_store(monkeypatch: pytest.MonkeyPatch, store: Any, scheme: str = "mine") -> str:
    """The URL, password and all, by which the command line finds the object *store*."""
    module: Any = ModuleType(f"session_mw.stores.only_in_tests_{scheme}")
    module.from_url = lambda url: store
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(SCHEMES, scheme, module.__name__.rpartition(".")[2])
    return f"{scheme}://me:hunter2@store.example:1234/7?password=hunter2"
