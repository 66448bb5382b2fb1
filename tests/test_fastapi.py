"""FastAPI: sessions as dependencies, in OpenAPI, on sockets; guarded endpoints keep their signatures."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import pytest
from asgi_driver import SECRET
from fastapi import Depends, FastAPI, Query, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from session_mw import Session
from session_mw.access import login_required, requires
from session_mw.errors import ConfigurationError, SessionStateError
from session_mw.fastapi import CurrentSession, OnlineSession, SessionCookie
from session_mw.starlette import SessionMiddleware
from session_mw.stores.memory import MemoryStore
from session_mw.testing import Clock

CLOCK = Clock()
Fresh = Annotated[Session, Depends(SessionCookie(fresh=timedelta(minutes=5), redirect_to="/login"))]
Staff = Annotated[
    Session, Depends(SessionCookie(check=lambda session: session.user_id == "grace", scheme_name="Staff"))
]
Hidden = Annotated[Session, Depends(SessionCookie("__Host-sid", status=404, scheme_name="Hidden"))]

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key=SECRET, clock=CLOCK)


@app.get("/login")
def login(session: CurrentSession, user: str = "ada") -> str:
    session.login(user_id=user)
    return "hello"


@app.get("/logout")
async def logout(session: CurrentSession) -> bool:
    return session.logout()


@app.get("/anybody")
def anybody(session: CurrentSession) -> dict[str, Any]:
    return {"user": session.user_id, "online": session.online()}


@app.get("/me")
def me(session: OnlineSession) -> str | None:
    return session.user_id


@app.get("/pay")
async def pay(session: Fresh) -> str:
    return "paid"


@app.get("/staff")
async def staff(session: Staff) -> str:
    return "staff"


@app.get("/hidden")
async def hidden(session: Hidden) -> str:
    return "found"


@app.get("/nobody", dependencies=[])
async def nobody() -> str:
    return "no session"


@app.get("/guarded/{item}")
@login_required
async def guarded(item: int, session: CurrentSession, tag: Annotated[list[str] | None, Query()] = None) -> list[Any]:
    """A guarded endpoint."""
    return [item, tag, session.user_id]


@app.get("/threaded")
@requires(lambda session: session.user_id == "ada")
def threaded(number: int = 3) -> int:
    return number


@app.websocket("/socket")
async def socket(websocket: WebSocket, session: OnlineSession) -> None:
    await websocket.accept()
    await websocket.send_text(f"hello {session.user_id}")
    await websocket.close()


@pytest.fixture
def browser() -> TestClient:
    return TestClient(app, base_url="https://testserver")


def test_the_current_session_is_anybodys(browser: TestClient) -> None:
    assert browser.get("/anybody").json() == {"user": None, "online": False}
    browser.get("/login")
    assert browser.get("/anybody").json() == {"user": "ada", "online": True}
    assert browser.get("/logout").json() is True
    assert browser.get("/anybody").json() == {"user": None, "online": False}


def test_the_online_session_is_of_somebody_logged_in(browser: TestClient) -> None:
    refused = browser.get("/me")
    assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    assert refused.headers["cache-control"] == "no-store"
    browser.get("/login")
    assert browser.get("/me").json() == "ada"


def test_the_options_of_the_guard(browser: TestClient) -> None:
    assert browser.get("/hidden").status_code == 404
    browser.get("/login")
    assert browser.get("/hidden").json() == "found"
    assert browser.get("/staff").status_code == 403
    assert browser.get("/pay").json() == "paid"
    CLOCK.advance(300)
    page = browser.get("/pay?sum=1", headers={"accept": "text/html"}, follow_redirects=False)
    assert page.headers["location"] == "/login?next=/pay%3Fsum%3D1"
    browser.get("/login?user=grace")
    assert browser.get("/staff").json() == "staff"
    with pytest.raises(ConfigurationError, match="a path on this site"):
        SessionCookie(redirect_to="https://evil.test")


def test_openapi_shows_a_cookie_security_scheme(browser: TestClient) -> None:
    schema = browser.get("/openapi.json").json()
    described = {"type": "apiKey", "in": "cookie", "description": "Set by logging in."}
    assert schema["components"]["securitySchemes"] == {
        "SessionCookie": {**described, "name": "session"},
        "Staff": {**described, "name": "session"},
        "Hidden": {**described, "name": "__Host-sid"},
    }
    assert schema["paths"]["/me"]["get"]["security"] == [{"SessionCookie": []}]
    assert schema["paths"]["/staff"]["get"]["security"] == [{"Staff": []}]
    assert "security" not in schema["paths"]["/nobody"]["get"]
    assert "parameters" not in schema["paths"]["/me"]["get"]


def test_a_guarded_endpoint_keeps_its_signature(browser: TestClient) -> None:
    operation = browser.get("/openapi.json").json()["paths"]["/guarded/{item}"]["get"]
    assert [(part["name"], part["in"]) for part in operation["parameters"]] == [("item", "path"), ("tag", "query")]
    assert operation["description"] == "A guarded endpoint."
    assert browser.get("/guarded/1").status_code == 401
    browser.get("/login")
    assert browser.get("/guarded/1?tag=a&tag=b").json() == [1, ["a", "b"], "ada"]
    assert browser.get("/guarded/x").status_code == 422
    assert browser.get("/threaded?number=5").json() == 5
    browser.get("/login?user=grace")
    assert browser.get("/threaded").status_code == 403


def test_a_socket_depends_on_a_login(browser: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("wss://testserver/socket"):
        pass
    browser.get("/login")
    with browser.websocket_connect("wss://testserver/socket") as connection:
        assert connection.receive_text() == "hello ada"


def test_an_awaited_session_is_read() -> None:
    class Awaited(MemoryStore):
        inline = aio = property()  # type: ignore[assignment]

    own = FastAPI()
    own.add_middleware(SessionMiddleware, store=Awaited(), autoload=False)
    for path, endpoint in (("/login", login), ("/me", me), ("/anybody", anybody)):
        own.get(path)(endpoint)
    browser = TestClient(own, base_url="https://testserver")
    browser.get("/login")
    assert browser.get("/me").json() == "ada"
    assert browser.get("/anybody").json() == {"user": "ada", "online": True}


def test_without_middleware_the_line_to_add_is_named() -> None:
    bare = FastAPI()
    bare.get("/me")(me)
    bare.get("/guarded")(login_required(lambda: "?"))
    for path in ("/me", "/guarded"):
        with pytest.raises(SessionStateError, match=r"app\.add_middleware\(SessionMiddleware"):
            TestClient(bare).get(path)
