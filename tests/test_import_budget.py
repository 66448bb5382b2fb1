"""What an import may load. A worker pays for it at every start, a command line at every call."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FRAMEWORKS = {"django", "fastapi", "flask", "litestar", "starlette", "werkzeug"}
DRIVERS = {"aiosqlite", "asyncpg", "psycopg", "pymysql", "redis", "sqlalchemy", "sqlite3"}
CLIENTS = {"aiohttp", "anyio", "asyncio", "http.client", "httpx", "requests", "ssl", "urllib.request", "urllib3"}
REST = {"click", "concurrent.futures", "email", "importlib.metadata", "itsdangerous", "rich",
        "uvicorn"}  # fmt: skip
EXPENSIVE = FRAMEWORKS | DRIVERS | CLIENTS | REST

# "asyncio", "starlette" and the like are for the moment they are needed, not for the import.
CHEAP = ["session_mw", "session_mw.errors", "session_mw.config", "session_mw.asgi", "session_mw.wsgi"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in ``tests``, without coverage: its own imports would hide ours."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT / "tests",
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def loaded_by(statement: str) -> set[str]:
    """The modules that *statement* adds to a fresh interpreter."""
    done = run("-c", f"import sys; b = set(sys.modules); {statement}; print(*(set(sys.modules) - b))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def exists(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("name", [name for name in CHEAP if exists(name)])
def test_an_import_loads_nothing_expensive(name: str) -> None:
    loaded = loaded_by(f"import {name}")
    assert name in loaded
    assert loaded & EXPENSIVE == set()


def test_importing_the_package_loads_none_of_its_rooms_it_does_not_need() -> None:
    loaded = loaded_by("import session_mw")
    integrations = {f"session_mw.{name}" for name in ("starlette", "flask", "django", "cli", "demo", "testing")}
    stores = {name for name in loaded if name.startswith("session_mw.stores.")}
    assert loaded & integrations == set()
    assert stores <= {"session_mw.stores.faces", "session_mw.stores.memory"}


def test_the_measure_sees_what_is_loaded() -> None:
    assert loaded_by("import asyncio, importlib.metadata") >= {"asyncio", "importlib.metadata", "email"}


def test_everything_that_must_work_bare_does() -> None:
    done = run("bare.py")
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    for name in ("asgi", "wsgi", "managers", "stores.memory", "stores.sqlite", "core.session", "config"):
        if exists(f"session_mw.{name}"):
            assert f"session_mw.{name}" in imported


def test_the_bare_finder_refuses_an_extra() -> None:
    program = "import sys, bare; sys.meta_path.insert(0, bare.OnlyBare()); import asyncio, click"
    done = run("-c", program)
    assert done.returncode != 0
    assert "click is not there without an extra" in done.stderr
