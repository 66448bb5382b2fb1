"""Starlette's own tests of its session middleware (tests/middleware/test_session.py, 1.x), with ours in its place.

What differs from the published file, and why:

* ``profile="DEVELOPMENT"`` wherever the secret is the seven bytes ``example``: weak keys are refused in production
* cookie attributes are compared without regard to case (RFC 6265 §5.2), and a Domain without its leading dot, which
  browsers ignore (§5.2.3)
* ``pop("missing", None)`` has looked at the session, so ``accessed`` says so, and the response varies
* Starlette's ``Session({...})`` stands alone; ours belongs to a request, so the last test makes one
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from session_mw.starlette import SessionMiddleware

EXAMPLE: dict[str, Any] = {"secret_key": "example", "profile": "DEVELOPMENT"}


def client_of(app: Any, base_url: str = "http://testserver", cookies: dict[str, str] | None = None) -> TestClient:
    return TestClient(app, base_url=base_url, cookies=cookies)


def view_session(request: Request) -> JSONResponse:
    return JSONResponse({"session": request.session})


async def update_session(request: Request) -> JSONResponse:
    request.session.update(await request.json())
    return JSONResponse({"session": request.session})


async def clear_session(request: Request) -> JSONResponse:
    request.session.clear()
    return JSONResponse({"session": request.session})


def no_session_access(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def site(*more: Route, **settings: Any) -> Starlette:
    routes = [
        Route("/view_session", endpoint=view_session),
        Route("/update_session", endpoint=update_session, methods=["POST"]),
        Route("/clear_session", endpoint=clear_session, methods=["POST"]),
        Route("/no_session", endpoint=no_session_access),
        *more,
    ]
    return Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, **{**EXAMPLE, **settings})])


def test_session() -> None:
    client = client_of(site())
    assert client.get("/view_session").json() == {"session": {}}
    response = client.post("/update_session", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    max_age = re.search(r"; Max-Age=([0-9]+);", response.headers["set-cookie"])
    assert max_age is not None
    assert int(max_age[1]) == 14 * 24 * 3600
    assert client.get("/view_session").json() == {"session": {"some": "data"}}
    assert client.post("/clear_session").json() == {"session": {}}
    assert client.get("/view_session").json() == {"session": {}}


def test_session_expires() -> None:
    app = site(max_age=-1)
    response = client_of(app).post("/update_session", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    value = re.search(r"session=([^;]*);", response.headers["set-cookie"])
    assert value is not None
    client = client_of(app, cookies={"session": value[1]})
    assert client.get("/view_session").json() == {"session": {}}


def test_secure_session() -> None:
    app = site(https_only=True)
    secure = client_of(app, base_url="https://testserver")
    unsecure = client_of(app, base_url="http://testserver")
    assert unsecure.get("/view_session").json() == {"session": {}}
    assert unsecure.post("/update_session", json={"some": "data"}).json() == {"session": {"some": "data"}}
    assert unsecure.get("/view_session").json() == {"session": {}}
    assert secure.get("/view_session").json() == {"session": {}}
    assert secure.post("/update_session", json={"some": "data"}).json() == {"session": {"some": "data"}}
    assert secure.get("/view_session").json() == {"session": {"some": "data"}}
    assert secure.post("/clear_session").json() == {"session": {}}
    assert secure.get("/view_session").json() == {"session": {}}


def test_session_cookie_subpath() -> None:
    app = Starlette(routes=[Mount("/second_app", app=site(path="/second_app"))])
    client = client_of(app, base_url="http://testserver/second_app")
    response = client.post("/update_session", json={"some": "data"})
    assert response.status_code == 200
    path = re.search(r"; path=(\S+);", response.headers["set-cookie"], re.IGNORECASE)
    assert path is not None
    assert path[1] == "/second_app"


def test_invalid_session_cookie() -> None:
    app = site()
    response = client_of(app).post("/update_session", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    client = client_of(app, cookies={"session": "invalid"})
    assert client.get("/view_session").json() == {"session": {}}


def test_session_cookie() -> None:
    client = client_of(site(max_age=None))
    response = client.post("/update_session", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    assert "Max-Age" not in response.headers["set-cookie"]
    client.cookies.delete("session")
    assert client.get("/view_session").json() == {"session": {}}


def test_domain_cookie() -> None:
    client = client_of(site(domain=".example.com"))
    response = client.post("/update_session", json={"some": "data"})
    assert response.json() == {"session": {"some": "data"}}
    assert "domain=example.com" in response.headers["set-cookie"].lower()
    client.cookies.delete("session")
    assert client.get("/view_session").json() == {"session": {}}


def test_set_cookie_only_on_modification() -> None:
    client = client_of(site())
    assert "set-cookie" in client.post("/update_session", json={"some": "data"}).headers
    response = client.get("/view_session")
    assert response.json() == {"session": {"some": "data"}}
    assert "set-cookie" not in response.headers


def test_vary_cookie_on_access() -> None:
    client = client_of(site())
    assert "cookie" in client.post("/update_session", json={"some": "data"}).headers.get("vary", "").lower()
    assert "cookie" in client.get("/view_session").headers.get("vary", "").lower()
    assert "cookie" not in client.get("/no_session").headers.get("vary", "").lower()


@pytest.mark.parametrize("partitioned", [False, True])
def test_partitioned_session(partitioned: bool) -> None:
    app = site(https_only=True, same_site="none", partitioned=partitioned)
    response = client_of(app, "https://testserver").post("/update_session", json={"some": "data"})
    assert ("partitioned" in response.headers["set-cookie"].lower().split("; ")) is partitioned


async def change_session(request: Request) -> JSONResponse:
    session = request.session
    if request.path_params["how"] == "pop":
        session.pop("a")
    elif request.path_params["how"] == "popitem":
        session.popitem()
    else:
        session |= await request.json()
    return JSONResponse({"session": session})


@pytest.mark.parametrize(
    ("how", "expected"),
    [("pop", {"b": "2"}), ("popitem", {"a": "1"}), ("ior", {"a": "1", "b": "2", "c": "3"})],
)
def test_session_persists_mutations(how: str, expected: dict[str, str]) -> None:
    client = client_of(site(Route("/{how}", change_session, methods=["POST"])))
    client.post("/update_session", json={"a": "1", "b": "2"})
    response = client.post(f"/{how}", json={"c": "3"})
    assert response.json() == {"session": expected}
    assert "set-cookie" in response.headers
    assert "cookie" in response.headers["vary"].lower()
    assert client.get("/view_session").json() == {"session": expected}


@pytest.fixture
def session() -> Iterator[Callable[[dict[str, str]], Any]]:
    """``session({"a": "1"})``: a session that was opened with these items."""
    app = site(store="memory:")
    layer = SessionMiddleware(app, **EXAMPLE, store="memory:").layer

    def opened(items: dict[str, str]) -> Any:
        scope: dict[str, Any] = {"type": "http", "headers": [], "scheme": "http", "client": None}
        first = layer.session(scope)
        first.update(items)
        (line,) = layer.set_cookies(scope, layer.commit(first))
        scope["headers"] = [(b"cookie", line.partition(";")[0].encode())]
        return layer.session(scope)

    return opened


def test_session_tracks_modification(session: Callable[[dict[str, str]], Any]) -> None:
    one = session({"a": "1", "b": "2"})
    assert not one.modified
    one["c"] = "3"
    assert one.modified

    one = session({"a": "1"})
    del one["a"]
    assert one.modified

    one = session({"a": "1"})
    one.clear()
    assert one.modified

    one = session({"a": "1"})
    one.pop("a")
    assert one.modified

    one = session({"a": "1"})
    one.pop("missing", None)
    assert not one.modified

    one = session({"a": "1"})
    one.setdefault("b", "2")
    assert one.modified

    one = session({"a": "1"})
    one.setdefault("a", "2")
    assert not one.modified
