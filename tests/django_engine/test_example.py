"""examples/django_app.py on real servers, gunicorn and Django's own, driven by httpx from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import httpx
import pytest
from conftest import ROOT, StartServer

SERVERS = {
    "gunicorn": ["-m", "gunicorn", "examples.django_app:application", "--bind", "127.0.0.1:{port}", "--threads", "4"],
    "runserver": ["examples/django_app.py", "runserver", "--noreload", "127.0.0.1:{port}"],
}


class Browser(httpx.Client):
    """One visitor, who carries Django's CSRF token along."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, timeout=20)

    def __enter__(self) -> Self:
        super().__enter__()
        self.get("/")
        return self

    def do(self, path: str, expected: int = 200, **form: str) -> httpx.Response:
        answer = self.post(path, data=form, headers={"X-CSRFToken": self.cookies.get("csrftoken", "")})
        assert answer.status_code == expected, answer.text
        return answer

    def log_in(self, name: str) -> None:
        self.do("/login", name=name, password="secret")

    @property
    def key(self) -> str:
        return self.cookies.get("sessionid", "")

    @key.setter
    def key(self, value: str) -> None:
        self.cookies.delete("sessionid") if self.key else None
        self.cookies.set("sessionid", value, domain="127.0.0.1", path="/")

    @property
    def sees(self) -> tuple[str, list[str]]:
        """The user, and the items in the cart."""
        told = self.get("/").json()
        return told["user"], told["cart"].get("items", [])


@pytest.fixture(scope="module")
def users_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the first server, found by the second."""
    return tmp_path_factory.mktemp("users") / "users.db"


@pytest.mark.parametrize("name", SERVERS)
def test_the_walk(name: str, server: StartServer, tmp_path: Path, users_db: Path) -> None:
    env = {
        "EXAMPLE_STORE": f"sqlite:///{tmp_path}/sessions.db",
        "EXAMPLE_USERS": str(users_db),
        "XDG_RUNTIME_DIR": str(tmp_path),  # gunicorn puts a socket there
        "PYTHONPATH": str(ROOT),
    }
    running = server(SERVERS[name], cwd=ROOT, env=env, ready=60)
    walk(running.url)


def walk(url: str) -> None:
    with Browser(url) as ada, Browser(url) as other, Browser(url) as stranger:
        assert ada.key == ""  # looking makes no session

        # read, change deep inside, regenerate; the old key is worth nothing
        ada.do("/add", item="pear")
        ada.do("/add", item="plum")
        assert ada.sees == ("", ["pear", "plum"])
        before = ada.key
        ada.do("/regenerate")
        stranger.key = before
        assert (ada.key != before, ada.sees, stranger.sees) == (True, ("", ["pear", "plum"]), ("", []))

        # login rotates; a planted or made-up key is worth nothing
        planted = ada.key
        ada.do("/login", 403, name="ada", password="guess")
        ada.log_in("ada")
        stranger.key = planted
        assert (ada.sees, stranger.sees) == (("ada", ["pear", "plum"]), ("", []))
        stranger.key = made_up = "A" * 24 + "." + "B" * 44
        stranger.log_in("eve")
        assert (stranger.key != made_up, stranger.sees) == (True, ("eve", []))

        # two storages
        assert ada.get("/bank").status_code == 401
        ada.do("/bank/open")
        assert ada.get("/bank").json() == {"account": "account of ada"}
        ada.do("/bank/close")
        assert (ada.get("/bank").status_code, ada.sees[0]) == (401, "ada")

        # devices: one's own alone; end one, end all others
        other.log_in("ada")
        listed = {each["here"]: each for each in ada.get("/devices").json()["devices"]}
        assert set(listed) == {True, False}
        assert (listed[True]["ip"], listed[True]["agent"].startswith("python-httpx")) == ("127.0.0.1", True)
        stranger.do("/devices", session=listed[False]["session"])
        assert other.sees[0] == "ada"
        ada.do("/devices", session=listed[False]["session"])
        assert (ada.sees[0], other.sees[0]) == ("ada", "")
        other.log_in("ada")
        ada.do("/devices", session="others")
        assert (ada.sees[0], other.sees[0]) == ("ada", "")

        # guard: a page goes to the login, an API client gets a problem
        sent = other.get("/devices", headers={"Sec-Fetch-Mode": "navigate"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/?next=/devices")
        assert other.get("/devices").headers["content-type"] == "application/problem+json"

        # a late write
        assert ada.get("/stream").text == "begun\ndone\n"
        assert ada.sees == ("ada", ["pear", "plum", "late"])

        # replay after a logout, and a logout before an error
        stolen = ada.key
        ada.do("/logout")
        other.key = stolen
        assert (ada.key, ada.sees, other.sees) == ("", ("", []), ("", []))
        stolen = stranger.key
        stranger.do("/logout", 500, fail="1")
        other.key = stolen
        assert other.sees == ("", [])

        # expiry
        ada.log_in("ada")
        ada.do("/expire", seconds="600")
        assert ada.sees[0] == "ada"
        kept = ada.key
        ada.do("/expire", seconds="-1")
        other.key = kept
        assert other.sees == ("", [])
