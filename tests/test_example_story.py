"""Every scenario of ``example_story`` through every integration: each example on real servers, by real HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgi_driver import SECRET
from conftest import ROOT, StartServer
from example_story import KINDS, SCENARIOS, Shop

SERVERS = {
    "uvicorn": ["-m", "uvicorn", "example_site:app", "--port", "{port}"],
    "hypercorn": ["-m", "hypercorn", "example_site:app", "--bind", "127.0.0.1:{port}"],
    "gunicorn": ["-m", "gunicorn", "example_site:app", "--bind", "127.0.0.1:{port}", "-w", "2"],
    "gunicorn, threads": ["-m", "gunicorn", "example_site:app", "--bind", "127.0.0.1:{port}", "--threads", "4"],
    "runserver": [str(ROOT / "tests" / "example_site.py"), "127.0.0.1:{port}"],
}
CASES = [
    *[(name, "uvicorn", "store") for name in ("asgi", "starlette")],
    *[(name, "hypercorn", "cookie") for name in ("asgi", "starlette")],
    *[(name, "uvicorn", "cookie") for name in ("fastapi", "litestar")],
    *[(name, "hypercorn", "store") for name in ("fastapi", "litestar")],
    *[(name, "gunicorn", home) for name in ("wsgi", "flask", "bottle") for home in ("store", "cookie")],
    *[("django", program, "store") for program in ("gunicorn, threads", "runserver")],
]


@pytest.mark.parametrize(("name", "program", "home"), CASES)
def test_every_scenario(server: StartServer, tmp_path: Path, name: str, program: str, home: str) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("0", "ascii")
    env = {
        "AHEAD": str(ahead),
        "EXAMPLE": name,
        "EXAMPLE_SECRET": SECRET,
        "EXAMPLE_STORE": f"sqlite:///{tmp_path}/shop.db" if home == "store" else "",
        "PYTHONWARNINGS": "error::DeprecationWarning",
        "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}",
        "XDG_RUNTIME_DIR": str(tmp_path),  # gunicorn puts a socket there
    }
    running = server(SERVERS[program], env=env)
    (kind,) = (kind for kind in KINDS if kind.name == name)
    shop = Shop(running, kind, home == "store", ahead)
    try:
        for scenario in SCENARIOS:
            scenario(shop)
    finally:
        shop.close()
    running.stop()
    if program != "runserver":  # which tells of every request
        assert running.output().count("Traceback") == running.output().count("RuntimeError: after the logout")


def test_no_example_and_no_home_is_left_out() -> None:
    examples = {path.stem.removesuffix("_app") for path in (ROOT / "examples").glob("*_app.py")}
    assert examples == {kind.name for kind in KINDS} == {name for name, _, _ in CASES}
    for kind in KINDS:
        homes = {home for name, _, home in CASES if name == kind.name}
        assert homes == ({"store"} if kind.always_stored else {"store", "cookie"})
