"""Every command on every kind of store that another process can see: real files, real servers, real drivers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli_driver import one_line, run
from servers.database import PASSWORD, QUOTED
from servers.ports import unused_port
from store_urls import STORES

from session_mw import AsyncSessionService
from session_mw.cli.output import shown_url
from session_mw.stores import Inspectable
from session_mw.stores.url import store_from_url

SHARED = [name for name in STORES if name != "memory"]


@pytest.fixture(params=SHARED)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return STORES[request.param].url(request, tmp_path)


@pytest.fixture
def ids(url: str) -> dict[str, str]:
    """Ids by name: two of alice, one of bob; and one of carol that expired long ago."""

    async def begin() -> dict[str, str]:
        async with AsyncSessionService.from_url(url) as service:
            made = {name: await service.create_session(name, {"cart": [name]}) for name in ("alice", "bob")}
            made["alice again"] = await service.create_session("alice")
        old = {"clock": lambda: 1_700_000_000}
        async with AsyncSessionService.from_url(url, **old) as past:  # type: ignore[arg-type]
            made["carol"] = await past.create_session("carol")
        return made

    return asyncio.run(begin())


def told(url: str, *arguments: str) -> Any:
    done = run(*arguments, "--json", "--store", url)
    assert (done.exit_code, done.stderr) == (0, ""), done.stderr
    assert PASSWORD not in done.stdout
    assert QUOTED not in done.stdout
    return json.loads(done.stdout)


def test_a_day_of_an_operator(url: str, ids: dict[str, str]) -> None:
    listed = told(url, "sessions", "list", "--user", "alice")
    assert {session["session_id"] for session in listed} == {ids["alice"], ids["alice again"]}
    shown = told(url, "sessions", "show", ids["bob"], "--data")
    assert (shown["user_id"], shown["data"]) == ("bob", {"cart": ["bob"]})
    if isinstance(store_from_url(url), Inspectable):
        counts = told(url, "stats")
        assert counts["store"] == shown_url(url)
        assert (counts["live"], counts["users"]) == (3, 2)
        if not url.startswith("redis"):  # where what expired goes by itself
            assert counts["expired"] == told(url, "cleanup", "--dry-run")["count"] == 1
    told(url, "cleanup")
    assert told(url, "cleanup")["count"] == 0
    assert told(url, "sessions", "destroy", ids["bob"])["destroyed"] == 1
    one_line(run("sessions", "show", ids["bob"], "--store", url), code=3)
    ended = told(url, "sessions", "destroy-user", "alice", "--except", ids["alice"], "--yes")
    assert ended["destroyed"] == 1
    assert [session["session_id"] for session in told(url, "sessions", "list", "--user", "alice")] == [ids["alice"]]
    sql = told(url, "schema")["sql"]
    assert (sql is None) == url.startswith(("file", "redis"))


@pytest.mark.parametrize("command", [["stats"], ["cleanup"], ["sessions", "list", "--user", "alice"]], ids=" ".join)
@pytest.mark.parametrize("name", [name for name in SHARED if name not in ("file", "sqlite")])
def test_nobody_answers(name: str, command: list[str], request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = {"p": "postgres", "m": "mariadb", "r": "redis_server"}[name[0]]
    taken = request.getfixturevalue(server).port
    url = STORES[name].url(request, tmp_path).replace(f":{taken}/", f":{unused_port()}/")
    done = run(*command, "--store", url)
    one_line(done, "127.0.0.1", code=4)
    assert PASSWORD not in done.stderr
    assert QUOTED not in done.stderr


@pytest.mark.parametrize("name", [name for name in SHARED if name[0] in "pm"])
def test_the_table_is_not_made_by_looking(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = STORES[name].url(request, tmp_path)
    for _ in range(2):
        one_line(run("stats", "--store", url), "there is no session table", "session-mw schema", code=4)
