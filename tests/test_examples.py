"""The examples, on real servers: the walk in their README, command by command, by real curl."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, StartServer
from example_story import KINDS, command
from test_docs import blocks, check_command, commands, links

README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")

SERVERS = {
    "asgi": ["-m", "uvicorn", "examples.asgi_app:app", "--port", "{port}"],
    "wsgi": ["-m", "gunicorn", "examples.wsgi_app:app", "--bind", "127.0.0.1:{port}"],
}
HOMES = ("cookie", "store")


class Step(NamedTuple):
    command: str
    said: str  # what it prints; "…" for what differs


def steps(home: str) -> Iterator[Step]:
    """The walk for one *home*: every command after ``$``, with the lines below it."""
    for block in blocks(README):
        if block.language == "console" and block.mark in ("", home):
            for step in block.text.split("$ ", 1)[1].split("\n$ "):
                command, _, said = step.partition("\n")
                yield Step(command, said)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("app", SERVERS)
def test_the_walk_is_as_the_readme_tells(
    app: str, home: str, server: StartServer, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("curl")
    env = {
        "EXAMPLE_STORE": f"sqlite:///{tmp_path}/example.db" if home == "store" else "",
        "XDG_RUNTIME_DIR": str(tmp_path),  # gunicorn puts a socket there
    }
    running = server(SERVERS[app], cwd=ROOT, env=env)
    for step in steps(home):
        command = step.command.replace("http://127.0.0.1:8000", running.url)
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20
        )
        expected = ".+".join(re.escape(part) for part in step.said.split("…"))
        assert re.fullmatch(expected, done.stdout.removesuffix("\n") + "\n" * step.said.endswith("\n")), step
    running.stop()
    assert "Traceback" not in running.output()


def test_the_walk_ends_the_same_for_nobody() -> None:
    """The two ways differ in what a stolen cookie is worth, and in nothing else."""
    kept, sealed = (list(steps(home)) for home in ("store", "cookie"))
    assert len(kept) == len(sealed) > 10
    differing = [(a, b) for a, b in zip(kept, sealed, strict=True) if a != b]
    assert [(a.command, "ada" in a.said, "ada" in b.said) for a, b in differing] == [
        ("curl -b stolen http://127.0.0.1:8000/whoami", False, True)
    ]


def test_the_readme_names_every_example_and_its_command() -> None:
    listed = dict(re.findall(r"\| \[(\w+)_app\.py\]\(\1_app\.py\) \| `(.+)` \|", README))
    assert listed == {kind.name: command(kind.name) for kind in KINDS}


def test_the_readmes_commands_and_links_lead_somewhere() -> None:
    for words in commands(README):
        if words[0] not in {"cp", "sed"}:
            check_command(words)
    for target in links(README):
        assert (ROOT / "examples" / target).exists(), target
