"""Floors: the least a session can cost. Find the cookie, AES-GCM or one store call, msgspec; nothing else.

No rotation, expiry, limits, events, Vary or conflict checks, and a dirty flag in place of a comparison: to be measured
against, never to be used. The SQLite floor has session_mw's own columns and indexes, so that B-tree work is not
counted as ours.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import sqlite3
import time
from typing import Any, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .drivers import Asgi, Wsgi
from .scenarios import routes
from .subjects import Builder, Subject, Workshop, asgi_app, wsgi_app

__all__ = ["BUILDERS"]

COOKIE = b"__Host-session="
TAIL = b"; Path=/; Secure; HttpOnly; SameSite=Lax"
HEAD_TEXT, TAIL_TEXT = COOKIE.decode(), TAIL.decode()
TO_URLSAFE = bytes.maketrans(b"+/", b"-_")
FROM_URLSAFE = bytes.maketrans(b"-_", b"+/")
LIVES = 7200

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


class Backend(Protocol):
    """Where the session lives."""

    def load(self, session: Lazy, cookie: bytes) -> dict[str, Any]:
        """The data under *cookie*; empty when it is no good."""
        ...

    def save(self, session: Lazy) -> bytes | None:
        """Keep a changed session; the new cookie value, if the client needs one."""
        ...

    def wipe(self) -> None:
        """Forget everything."""
        ...


class Lazy:
    """A session that loads on first touch and flags its changes."""

    data: dict[str, Any] | None = None
    key: Any = None  # what the backend found it under
    changed = False
    renewed = False

    def __init__(self, backend: Backend, cookies: Any) -> None:
        self.backend = backend
        self.cookies = cookies

    def filled(self) -> dict[str, Any]:
        cookie = find(self.cookies)
        self.data = data = {} if cookie is None else self.backend.load(self, cookie)
        return data

    def __getitem__(self, name: str) -> Any:
        data = self.data
        return (self.filled() if data is None else data)[name]

    def get(self, name: str) -> Any:
        data = self.data
        return (self.filled() if data is None else data).get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        data = self.data
        self.changed = True
        (self.filled() if data is None else data)[name] = value

    def update(self, values: dict[str, Any]) -> None:
        self.changed = True
        (self.filled() if self.data is None else self.data).update(values)

    def regenerate(self) -> None:
        if self.data is None:
            self.filled()
        self.changed = self.renewed = True


def find(cookies: Any) -> bytes | None:
    """The cookie's value in a WSGI string or an ASGI header list."""
    text = b""
    if type(cookies) is str:
        text = cookies.encode("latin-1")
    else:
        for name, value in cookies:
            if name == b"cookie":
                text = value
                break
    at = text.find(COOKIE)
    if at < 0:
        return None
    end = text.find(b";", at)
    return text[at + len(COOKIE) : end if end > 0 else None]


def asgi(app: Any, backend: Backend) -> Any:
    async def middleware(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope["session"] = session = Lazy(backend, scope["headers"])

        def wrapped(message: dict[str, Any]) -> Any:
            if session.changed and message["type"] == "http.response.start":
                value = backend.save(session)
                if value is not None:
                    message["headers"].append((b"set-cookie", COOKIE + value + TAIL))
            return send(message)

        await app(scope, receive, wrapped)

    return middleware


def wsgi(app: Any, backend: Backend) -> Any:
    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        environ["session"] = session = Lazy(backend, environ.get("HTTP_COOKIE", ""))

        def wrapped(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if session.changed:
                value = backend.save(session)
                if value is not None:
                    headers.append(("Set-Cookie", f"{HEAD_TEXT}{value.decode()}{TAIL_TEXT}"))
            return start_response(status, headers, exc_info)

        return app(environ, wrapped)

    return middleware


class Sealed:
    """AES-256-GCM with one key object; the cookie is nonce and ciphertext in base64url."""

    def __init__(self) -> None:
        cipher = AESGCM(os.urandom(32))
        self.seal, self.open = cipher.encrypt, cipher.decrypt

    def load(self, session: Lazy, cookie: bytes) -> dict[str, Any]:
        raw = binascii.a2b_base64(cookie.translate(FROM_URLSAFE) + b"==")
        try:
            data: dict[str, Any] = decode(self.open(raw[:12], raw[12:], COOKIE))
        except InvalidTag:
            return {}
        return data

    def save(self, session: Lazy) -> bytes:
        nonce = os.urandom(12)
        raw = nonce + self.seal(nonce, encode(session.data), COOKIE)
        return binascii.b2a_base64(raw, newline=False).translate(TO_URLSAFE).rstrip(b"=")

    def wipe(self) -> None:
        return None


def mint() -> tuple[str, bytes, bytes]:
    """An id, the digest of its secret, and the cookie's value: 24 and 44 characters with a dot between."""
    text = binascii.b2a_base64(os.urandom(51), newline=False).translate(TO_URLSAFE)
    return text[:24].decode(), hashlib.sha256(text[24:]).digest(), text[:24] + b"." + text[24:]


class Memory:
    """A dict of id to digest and JSON."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[bytes, bytes]] = {}

    def load(self, session: Lazy, cookie: bytes) -> dict[str, Any]:
        key = cookie[:24].decode()
        row = self.rows.get(key)
        if row is None or not hmac.compare_digest(row[0], hashlib.sha256(cookie[25:]).digest()):
            return {}
        session.key = key, row[0]
        data: dict[str, Any] = decode(row[1])
        return data

    def save(self, session: Lazy) -> bytes | None:
        key, payload = session.key, encode(session.data)
        if key is not None and not session.renewed:
            self.rows[key[0]] = key[1], payload
            return None
        new, digest, token = mint()
        self.rows[new] = digest, payload
        if key is not None:
            del self.rows[key[0]]
        return token

    def wipe(self) -> None:
        self.rows.clear()


class Sqlite:
    """One table in a WAL database, one statement for a load or a save, one transaction for a new id."""

    def __init__(self, workshop: Workshop, name: str) -> None:
        database = sqlite3.connect(workshop.directory / f"floor-{name}.db", isolation_level=None)
        workshop.closing.callback(database.close)
        database.executescript(SCHEMA)
        self.execute = database.execute

    def load(self, session: Lazy, cookie: bytes) -> dict[str, Any]:
        key = cookie[:24].decode()
        row = self.execute("SELECT digest, payload FROM sessions WHERE id = ?", (key,)).fetchone()
        if row is None or not hmac.compare_digest(row[0], hashlib.sha256(cookie[25:]).digest()):
            return {}
        session.key = key
        data: dict[str, Any] = decode(row[1])
        return data

    def save(self, session: Lazy) -> bytes | None:
        key, payload = session.key, encode(session.data)
        if key is not None and not session.renewed:
            self.execute("UPDATE sessions SET version = version + 1, payload = ? WHERE id = ?", (payload, key))
            return None
        new, digest, token = mint()
        now = int(time.time())
        self.execute("BEGIN IMMEDIATE")
        self.execute(INSERT, (new, digest, now, now, now + LIVES, now + LIVES, payload))
        if key is not None:
            self.execute("DELETE FROM sessions WHERE id = ?", (key,))
        self.execute("COMMIT")
        return token

    def wipe(self) -> None:
        self.execute("DELETE FROM sessions")


SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE sessions (
    id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, user_id TEXT, created_at INTEGER NOT NULL,
    last_activity INTEGER NOT NULL, expires_at INTEGER NOT NULL, absolute_expires_at INTEGER NOT NULL,
    lifetime INTEGER, login_ip TEXT, login_user_agent TEXT, version INTEGER, payload BLOB
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id, created_at) WHERE user_id IS NOT NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at);
"""
INSERT = """
INSERT INTO sessions (id, digest, created_at, last_activity, expires_at, absolute_expires_at, version, payload)
VALUES (?, ?, ?, ?, ?, ?, 1, ?)
"""


def _asgi(workshop: Workshop, kind: str, backend: Backend) -> Subject:
    app = asgi(asgi_app(routes("session")), backend)
    name = f"floor, ASGI {kind}"
    return Subject(name, "floor", "asgi", kind, app, Asgi(workshop.loop), wipe=backend.wipe)


def _wsgi(kind: str, backend: Backend) -> Subject:
    app = wsgi(wsgi_app(routes("session")), backend)
    return Subject(f"floor, WSGI {kind}", "floor", "wsgi", kind, app, Wsgi(), wipe=backend.wipe)


def asgi_cookie(workshop: Workshop) -> Subject:
    return _asgi(workshop, "cookie", Sealed())


def asgi_memory(workshop: Workshop) -> Subject:
    return _asgi(workshop, "memory", Memory())


def asgi_sqlite(workshop: Workshop) -> Subject:
    return _asgi(workshop, "sqlite", Sqlite(workshop, "asgi"))


def wsgi_cookie(workshop: Workshop) -> Subject:
    return _wsgi("cookie", Sealed())


def wsgi_memory(workshop: Workshop) -> Subject:
    return _wsgi("memory", Memory())


def wsgi_sqlite(workshop: Workshop) -> Subject:
    return _wsgi("sqlite", Sqlite(workshop, "wsgi"))


BUILDERS: tuple[Builder, ...] = (asgi_cookie, asgi_memory, asgi_sqlite, wsgi_cookie, wsgi_memory, wsgi_sqlite)
