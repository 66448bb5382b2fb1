"""The documentation, held to its word: its Python runs, its commands exist, its links lead somewhere.

A Python block may be kept from running by a line ``<!-- no-run: reason -->`` before it; ``MAX_NO_RUN`` says how many.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from configparser import ConfigParser
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT

from session_mw import SessionConfig
from session_mw.home import home_in
from session_mw.stores.faces import Awaited
from session_mw.stores.sqlite import SQLiteStore

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LANGUAGES = {"console", "html", "http", "ini", "jinja", "json", "python", "sh", "sql", "text", "toml", "yaml"}
MAX_NO_RUN = 2


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Block(NamedTuple):
    line: int  # of its first line of code
    language: str
    text: str
    mark: str  # the HTML comment on the line before, without its brackets


FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>[^`]*)$")
MARK = re.compile(r"^\s*<!-- (.+) -->\s*$")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page. Raises ``ValueError`` for a fence that is never closed."""
    lines = text.split("\n")
    found = []
    at = 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        close = opening["indent"] + opening["ticks"]
        try:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].rstrip() == close)
        except StopIteration:
            raise ValueError(f"line {at + 1}: a fence that is never closed") from None
        mark = MARK.match(lines[at - 1]) if at else None
        code = textwrap.dedent("\n".join(lines[at + 1 : end])) + "\n"
        found.append(Block(at + 2, opening["language"].strip(), code, mark[1] if mark else ""))
        at = end + 1
    return found


def program(text: str) -> str:
    """All Python blocks of a page as one module whose line numbers are the page's."""
    lines: list[str] = []
    for block in blocks(text):
        if block.language == "python" and not block.mark.startswith("no-run:"):
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.text.rstrip("\n").split("\n")
    return "\n".join(lines) + "\n" if lines else ""


def commands(text: str) -> list[list[str]]:
    """Every command of the page's ``sh`` blocks, and of ``console`` blocks after ``$``, as its words."""
    found = []
    for block in blocks(text):
        if block.language not in {"sh", "console"}:
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            if block.language == "console":
                if not line.startswith("$ "):
                    continue
                line = line.removeprefix("$ ")
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if set(word) <= set("&|;"):
                    found.append(words)
                    words = []
                else:
                    words.append(word)
            found.append(words)
    return [words for words in found if words]


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings."""
    code = {n for block in blocks(text) for n in range(block.line, block.line + block.text.count("\n"))}
    found = set()
    for number, line in enumerate(text.split("\n"), 1):
        if number not in code and (heading := re.match(r"#+ +(.+?)(?: +\{#([\w-]+)\})? *$", line)):
            plain = re.sub(r"[^\w\s-]", "", heading[1].lower()).strip()
            found |= {re.sub(r"\s", "-", plain), re.sub(r"[-\s]+", "-", plain)} | ({heading[2]} - {None})
    return found


def links(text: str) -> list[str]:
    """Every target of a link, image or reference outside code."""
    for block in blocks(text):
        text = text.replace(block.text.rstrip("\n"), "") if block.text.strip() else text
    text = re.sub(r"`[^`\n]+`", "", text)
    return re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r"^\[[^\]]+\]: +(\S+)", text, re.MULTILINE)


# What a reader's machine has, or gets by the line before.
ELSEWHERE = {"cd", "curl", "docker", "export", "flask", "git", "gunicorn", "hypercorn", "openssl", "tox", "uvicorn"}


def is_module(name: str) -> bool:
    if (ROOT / name / "__main__.py").exists():  # bench, which is not installed
        return True
    return name.partition(".")[0] != "bench" and importlib.util.find_spec(name) is not None


def check_command(words: list[str]) -> None:
    """Raises ``AssertionError`` when a command of ours is not what the page says."""
    while words and re.match(r"[A-Z_]+=", words[0]):  # NAME=value command
        words = words[1:]
    name = words[0].removeprefix(".venv/bin/")
    line = shlex.join(words)
    if name in {"python", "python3"}:
        if words[1:2] == ["-m"]:
            assert is_module(words[2]), f"{line}: there is no module {words[2]}"
            if words[2] == "session_mw":
                check_cli(words[3:], line)
            elif words[2] == "pip":
                check_extras(words, line)
        elif words[1:] and not words[1].startswith("-"):
            assert (ROOT / words[1]).exists(), f"{line}: there is no {words[1]}"
    elif name == "session-mw":
        check_cli(words[1:], line)
    elif name == "pip":
        check_extras(words, line)
    elif name == "tox":
        check_tox(words, line)
    elif "/" in name:
        assert (ROOT / name).exists(), f"{line}: there is no {name}"
    else:
        assert name in ELSEWHERE, f"{line}: what is {name}?"


def check_extras(words: list[str], line: str) -> None:
    for extras in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert extra in PROJECT["optional-dependencies"], f"{line}: there is no extra {extra}"


def check_tox(words: list[str], line: str) -> None:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    known = {name.strip() for name in config["tox"]["env_list"].split(",")}
    for flag, value in pairwise(words):
        if flag == "-e":
            assert set(value.split(",")) <= known, f"{line}: tox.ini has no {value}"


def check_cli(words: list[str], line: str) -> None:
    """Subcommands and long options, read from click."""
    click = importlib.import_module("click")
    command: Any = importlib.import_module("session_mw.cli.commands").main
    assert isinstance(command, click.Command), "session_mw.cli.commands.main is a click command"
    options = {"--help"}
    for word in words:
        options |= {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{line}: there is no option {word}"
        elif isinstance(command, click.Group):
            assert word in command.commands, f"{line}: there is no command {word}"
            command = command.commands[word]


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [page for page in PAGES if program(page.read_text(encoding="utf-8"))], ids=ids)
def test_its_python_runs(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.md.py"
    script.write_text(program(page.read_text(encoding="utf-8")), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=work,
        env={**os.environ, "SECRET": "a secret of the examples, of 32 bytes or more"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{ids(page)} (line numbers are the page's):\n{done.stderr}"


def test_the_tutorials_files_are_an_app_and_its_tests(tmp_path: Path) -> None:
    """What the page says to put into which file, for a reader who does just that."""
    files = {"shop.py": "", "test_shop.py": "from shop import *\n"}
    for block in blocks((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        if block.language == "python":
            files[block.text.partition("\n")[0].removeprefix("# ")] += block.text
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    env = {**os.environ, "SECRET": "a secret of the examples, of 32 bytes or more", "PYTHONPATH": str(ROOT)}
    said = []
    for command in (["test_shop.py"], ["-m", "flask", "--app", "shop", "routes"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert {"cart.show", "account.sign_in", "devices.end_all", "danger.change_password"} <= set(said[1].split())


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_its_commands_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_its_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in links(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{ids(page)}: {target}"
        if "docs" in page.relative_to(ROOT).parts:
            assert path.is_relative_to(ROOT / "docs"), f"{ids(page)}: {target} is not part of the site"
        if anchor:
            assert anchor in slugs(path.read_text(encoding="utf-8")), f"{ids(page)}: {target}"


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "session_mw").rglob("*.py"))], ids=ids)
def test_what_looks_like_an_absolute_path_is_one(page: Path) -> None:
    """Three slashes are for a path relative to where the app is started."""
    roots = "bin|data|etc|home|mnt|opt|root|run|srv|tmp|usr|var"
    assert re.findall(rf"\b(?:file|sqlite):///(?:{roots})/\S*", page.read_text(encoding="utf-8")) == []


def test_every_page_is_found_from_the_first() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\nplugins:")[0]
    pages = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    assert len(pages) > 20
    first = {target.partition("#")[0] for target in links((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))}
    assert [page for page in pages if page not in {*first, "index.md"}] == []


def test_sqlites_table_is_the_one_on_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
    told = re.findall(r"`(\w+)`", page.partition("Its table, one row a record:")[2].partition(". ")[0])
    path = tmp_path / "sessions.db"
    store = SQLiteStore(path)
    store.initialize()
    store.teardown()
    with closing(sqlite3.connect(path)) as connection:
        assert told == [row[1] for row in connection.execute("PRAGMA table_info(sessions)")]


def test_the_stores_that_are_read_before_the_handler_are_those_on_the_page() -> None:
    page = (ROOT / "docs" / "middleware.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[a-z].*) \| (.*) \|$", page.partition("## Stores that must be awaited")[2], re.MULTILINE)
    told = {url: how for urls, how in rows for url in re.findall(r"`([\w+]+:)`", urls)}
    assert len(told) == 10
    for url, how in told.items():
        place = url + {"memory:": "", "sqlite:": "///a", "file:": "///a"}.get(url, "//host/0")
        home = home_in(place, SessionConfig(store=place), on_loop=True)
        assert ("at first touch" in how) is (home.store is not None), url
        assert ("before the handler" in how) is (home.store is None), url
        assert ("before the handler, on a thread" in how) is (home.store is None and isinstance(home.astore, Awaited))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_block_says_its_language(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        assert block.language in LANGUAGES, f"{ids(page)}, line {block.line}: {block.language!r}"


def test_few_blocks_are_kept_from_running() -> None:
    marks = [block.mark for page in PAGES for block in blocks(page.read_text(encoding="utf-8"))]
    kept = [mark for mark in marks if mark.startswith("no-run")]
    assert all(re.fullmatch(r"no-run: \w.{8,}", mark) for mark in kept), kept
    assert len(kept) <= MAX_NO_RUN


def test_ci_runs_the_readmes_own_test_command() -> None:
    marked = {block.mark: block for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))}
    shown = subprocess.run(
        ["bash", ROOT / ".ci" / "run", "--show"], capture_output=True, text=True, check=True, timeout=20
    )
    assert shown.stdout == marked["test-command"].text
    for mark in ("demo-command", "test-command"):
        assert marked[mark].text.count("\n") == 1, "one command, one line"


PAGE = """
# One & two

<!-- no-run: it would stop the world -->
```python
raise SystemExit(9)
```

- in a list

  ```python
  x = 1
  ```

```python
assert x == 2
```

```console
$ session-mw demo --port 1 && pip install '.[test]'
printed
```

See [it](other.md#there), `[not](this.md)`.

[ref]: third.md
"""


def test_the_reader_of_pages_reads() -> None:
    assert program(PAGE).split("\n") == [*[""] * 11, "x = 1", *[""] * 3, "assert x == 2", ""]
    assert commands(PAGE) == [["session-mw", "demo", "--port", "1"], ["pip", "install", ".[test]"]]
    assert slugs(PAGE) == {"one--two", "one-two"}
    assert links(PAGE) == ["other.md#there", "third.md"]
    with pytest.raises(ValueError, match="never closed"):
        blocks("```python\n")


@pytest.mark.parametrize(
    "line",
    [
        "pip install '.[nonsense]'",
        "python -m no_such_module",
        "python no_such_file.py",
        "tox -e nonsense",
        "./no/such/script",
        "nonsense",
        ".venv/bin/nonsense",
    ],
)
def test_a_wrong_command_is_seen(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(shlex.split(line))


@pytest.mark.parametrize("line", ["session-mw nonsense", "session-mw --nonsense", "python -m session_mw nonsense"])
def test_a_wrong_subcommand_is_seen(line: str) -> None:
    with pytest.raises(AssertionError):
        check_command(shlex.split(line))
