"""What a type checker knows of ``session_mw.testing``: ``into`` gives the client back as what it was."""

from flask import Flask
from flask.testing import FlaskClient
from httpx import AsyncClient
from starlette.applications import Starlette
from starlette.testclient import TestClient

from session_mw import SessionConfig
from session_mw.testing import ClientCookie, aclient_cookie, client_cookie

app = Starlette()
shop = Flask("shop")


def starlettes() -> TestClient:
    return client_cookie(app, {"cart": ["tea"]}, user_id="ada").into(TestClient(app))


def flasks() -> FlaskClient:
    return client_cookie(shop, user_id=7, storage="bank", ip="192.0.2.7").into(shop.test_client())


async def awaited(config: SessionConfig, client: AsyncClient) -> AsyncClient:
    cookie: ClientCookie = await aclient_cookie(config, user_id="ada")
    header: dict[str, str] = {"Cookie": cookie.header, **cookie}
    assert header
    return cookie.into(client, "https://shop.example")
