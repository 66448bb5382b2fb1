"""A rolling deploy, on real servers: old and new workers side by side, and nobody is logged out.

``docs/migration.md`` tells the same story and quotes the counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT
from store_urls import STORES

HERE = Path(__file__).parent
USERS = 10
ROUNDS = 4  # of requests that each user makes in each phase, to each worker in turn


class Worker:
    """One worker, under its address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def items(self, client: httpx.Client) -> Any:
        return client.get(self.url + "/").raise_for_status().json()

    def put(self, client: httpx.Client, **items: str) -> None:
        client.get(self.url + "/put", params=items).raise_for_status()

    def leave(self, client: httpx.Client) -> None:
        client.get(self.url + "/leave").raise_for_status()


def uvicorn(server: Any, factory: str, **env: str) -> Worker:
    arguments = ["-m", "uvicorn", "--factory", f"migration_sites:{factory}", "--port", "{port}", "--no-access-log"]
    return Worker(server(arguments, cwd=HERE, env=env).url)


def gunicorn(server: Any, factory: str, **env: str) -> Worker:
    arguments = ["-m", "gunicorn", f"migration_sites:{factory}()", "--bind", "127.0.0.1:{port}"]
    return Worker(server(arguments, cwd=HERE, env=env).url)


@pytest.fixture
def users() -> Iterator[list[httpx.Client]]:
    clients = [httpx.Client() for _ in range(USERS)]
    yield clients
    for client in clients:
        client.close()


class Deploy:
    """Counts: how often ten users asked, and how often they were not known."""

    def __init__(self, users: Sequence[httpx.Client]) -> None:
        self.users = users
        self.asked = self.logged_out = 0

    def phase(self, *workers: Worker) -> None:
        """Every user asks *workers* in turn."""
        for number, client in enumerate(self.users):
            for worker, _ in zip(cycle(workers), range(ROUNDS * len(workers)), strict=False):
                self.asked += 1
                self.logged_out += worker.items(client).get("user") != str(number)

    def is_as_told(self) -> None:
        """Nobody was logged out, and the page quotes how often that was looked at."""
        assert self.logged_out == 0
        page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
        assert f"**{self.asked} requests each, nobody logged out" in page


def login(users: Sequence[httpx.Client], worker: Worker) -> None:
    for number, client in enumerate(users):
        worker.put(client, user=str(number))


@pytest.mark.parametrize(
    ("start", "old_app", "new_app", "home"),
    [(uvicorn, "starlette_old", "starlette_new", "cookie"), (gunicorn, "flask_old", "flask_new", "store")],
)
def test_from_another_library(
    start: Any, old_app: str, new_app: str, home: str, server: Any, tmp_path: Path, users: list[httpx.Client]
) -> None:
    old = start(server, old_app)
    new = start(server, new_app, **({"STORE": f"sqlite:///{tmp_path}/new.db"} if home == "store" else {}))

    login(users, old)
    deploy = Deploy(users)
    deploy.phase(old)
    deploy.phase(old, new)  # side by side
    deploy.phase(new)
    deploy.is_as_told()

    # What each generation sees of the other, from the moment a client has both cookies:
    client = users[0]
    new.put(client, cart="new")
    assert old.items(client) == {"user": "0"}  # old workers: what old workers wrote
    old.put(client, cart="old")
    assert new.items(client) == {"user": "0", "cart": "new"}  # new workers: what new workers wrote
    assert old.items(client) == {"user": "0", "cart": "old"}

    # Who logs in at an old worker is known to the new ones, and not the other way round:
    with httpx.Client() as fresh:
        old.put(fresh, user="late")
        assert new.items(fresh) == {"user": "late"}
    with httpx.Client() as fresh:
        new.put(fresh, user="late")
        assert new.items(fresh) == {"user": "late"}
        assert old.items(fresh) == {}

    # A logout at a new worker ends both; at an old one, the old cookie alone:
    new.leave(users[1])
    assert (old.items(users[1]), new.items(users[1])) == ({}, {})
    old.leave(users[2])
    assert (old.items(users[2]), new.items(users[2])) == ({}, {"user": "2"})


@pytest.mark.parametrize("target", ["redis", "file"])
def test_from_one_store_to_another(
    target: str, server: Any, tmp_path: Path, users: list[httpx.Client], request: pytest.FixtureRequest
) -> None:
    """Four generations: before; old store first; new store first; after."""
    old = f"sqlite:///{tmp_path}/old.db"
    new = STORES[target].url(request, tmp_path)
    before = uvicorn(server, "starlette_stored", STORE=old)
    first = uvicorn(server, "starlette_stored", STORE=old, MIGRATE_FROM=new)
    second = uvicorn(server, "starlette_stored", STORE=new, MIGRATE_FROM=old)
    after = uvicorn(server, "starlette_stored", STORE=new)

    login(users, before)
    deploy = Deploy(users)
    deploy.phase(before, first)
    deploy.phase(first)
    deploy.phase(first, second)
    for number, client in enumerate(users):  # now both write, and each sees what the other wrote
        for worker, item in zip(cycle([first, second]), "abcd", strict=False):
            worker.put(client, cart=item)
            for reader in (first, second):
                assert reader.items(client) == {"user": str(number), "cart": item}
    deploy.phase(second)
    for client in users:  # whoever comes by moves
        second.put(client, cart="moved")
    deploy.phase(second, after)
    deploy.is_as_told()

    second.leave(users[0])
    assert [worker.items(users[0]) for worker in (before, first, second, after)] == [{}] * 4
