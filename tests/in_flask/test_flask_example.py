"""The Flask example on gunicorn: every scenario, by httpx; the same cookies by curl and requests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from conftest import ROOT, Server, StartServer

JSON = {"accept": "application/json"}


class Shop:
    """One browser in front of the example."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = httpx.Client(base_url=url, headers=JSON, timeout=20, **options)

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def post(self, path: str) -> Any:
        return self.client.post(path).raise_for_status().json()

    @property
    def token(self) -> str:
        return self.client.cookies["session"]

    def copy(self, token: str) -> Shop:
        """Somebody with that cookie."""
        return Shop(str(self.client.base_url), cookies={"session": token})

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


@pytest.fixture(params=["cookie", "store"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def running(kind: str, server: StartServer, tmp_path: Path) -> Server:
    ahead = tmp_path / "ahead"
    ahead.write_text("0", "ascii")
    env = {
        "AHEAD": str(ahead),
        "EXAMPLE_SECRET": "a secret of the example, of 32 bytes or more",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    if kind == "store":
        env["EXAMPLE_STORE"] = f"sqlite:///{tmp_path}/example.db"
    return server(["-m", "gunicorn", "flask_example:app", "--bind", "127.0.0.1:{port}", "-w", "2"], env=env)


def test_every_scenario(running: Server, kind: str, tmp_path: Path) -> None:
    stored = kind == "store"
    with Shop(running.url, follow_redirects=False) as ada, Shop(running.url) as phone:
        # nobody yet, and no session for looking
        assert ada.get("/whoami") == {"user": None, "session": None}
        assert dict(ada.client.cookies) == {}
        assert ada.client.get("/account").status_code == 401

        # change nested, and read
        assert ada.post("/cart/plum") == {"plum": 1}
        assert ada.post("/cart/plum") == {"plum": 2}
        assert ada.get("/cart") == {"plum": 2}

        # log in: what was known before the login opens nothing of it
        planted = ada.token
        handle = ada.post("/login/ada")["session"]
        assert ada.token != planted
        assert ada.get("/account") == {"account": "ada"}
        assert ada.get("/cart") == {"plum": 2}
        assert ada.get("/whoami") == {"user": "ada", "session": handle}
        with ada.copy(planted) as attacker:
            assert attacker.get("/whoami")["user"] is None
            assert attacker.client.get("/account").status_code == 401

        # regenerate: the old token is worth nothing, its data goes on
        old = ada.token
        assert ada.post("/regenerate")["session"] != handle
        assert ada.get("/cart") == {"plum": 2}
        with ada.copy(old) as thief:
            assert thief.get("/whoami")["user"] == (None if stored else "ada")  # sealed: until its deadlines

        # two storages, each with a login of its own
        assert ada.client.get("/admin").status_code == 401
        assert ada.post("/admin/login") == {"online": [True, True]}
        assert ada.get("/admin") == {"mode": "careful"}
        assert ada.get("/cart") == {"plum": 2}

        # devices
        phone.post("/login/ada")
        devices = ada.get("/devices")["devices"]
        assert len(devices) == 2 if stored else "EXAMPLE_STORE" in devices
        if stored:
            assert ada.post("/devices/end-others") == {"ended": True}
            assert phone.get("/whoami")["user"] is None
            assert len(ada.get("/devices")["devices"]) == 1

        # a write after the response began
        assert ada.client.get("/export").text == "plum\n"
        assert ada.get("/exports") == {"exports": 1 if stored else 0}

        # an error after the logout does not undo it
        token = ada.token
        assert ada.client.post("/leave-badly").status_code == 500
        assert ada.client.get("/account").status_code == 401

        # replay, after a logout that went well
        with ada.copy(token) as thief:
            assert thief.get("/whoami")["user"] == (None if stored else "ada")
        ada.post("/login/ada")
        assert ada.post("/logout") == {"was online": True}
        assert ada.client.get("/account").status_code == 401
        assert ada.get("/admin") == {"mode": "careful"}  # the other storage's login goes on

        # expiry: Flask's 31 days
        ada.post("/login/ada")
        (tmp_path / "ahead").write_text(str(31 * 86400), "ascii")
        assert ada.get("/whoami") == {"user": None, "session": None}
    running.stop()
    assert running.output().count("Traceback") == 1  # the error of /leave-badly


def test_the_same_cookie_in_every_client(
    running: Server, kind: str, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    curl = [require_program("curl"), "-sS", "--max-time", "20", "-b", "jar", "-c", "jar"]

    def by_curl(method: str, path: str) -> str:
        done = subprocess.run(
            [*curl, "-X", method, running.url + path], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    plain = requests.Session()
    clients: list[Callable[[str, str], str]] = [
        by_curl,
        lambda method, path: plain.request(method, running.url + path, timeout=20).text.strip(),
    ]
    for call in clients:
        assert '"user":"ada"' in call("POST", "/login/ada")
        assert '"user":"ada"' in call("GET", "/whoami")
        assert call("POST", "/logout") == '{"was online":true}'
        assert call("GET", "/whoami") == '{"session":null,"user":null}'
    plain.close()
