"""Cookies as the other libraries write them, by those libraries' own code, at any time."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import date
from typing import Any

import itsdangerous
from django.core import signing
from flask.json.tag import TaggedJSONSerializer

OLD = "an old secret, of another library"
LATE = date(2099, 1, 1)


def signer_at(at: int) -> type[itsdangerous.TimestampSigner]:
    """itsdangerous' signer, at the time *at*."""

    class Signer(itsdangerous.TimestampSigner):
        def get_timestamp(self) -> int:
            return at

    return Signer


def starlette_cookie(data: Any, at: int, secret: str = OLD) -> str:
    """What Starlette's ``SessionMiddleware`` would set."""
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return signer_at(at)(secret).sign(base64.b64encode(text)).decode()


def flask_cookie(data: Any, at: int, secret: str | list[str] = OLD, serializer: Any = None) -> str:
    """What Flask's own interface would set."""
    value: str | bytes = itsdangerous.URLSafeTimedSerializer(
        secret,
        salt="cookie-session",
        serializer=serializer or TaggedJSONSerializer(),
        signer=signer_at(at),
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha1},
    ).dumps(data)
    return value if isinstance(value, str) else value.decode()


def django_cookie(data: Any, at: int, secret: str = OLD, serializer: Any = signing.JSONSerializer) -> str:
    """What Django's ``signed_cookies`` engine would set."""

    class Signer(signing.TimestampSigner):
        def timestamp(self) -> str:
            return signing.b62_encode(at)

    signer = Signer(key=secret, fallback_keys=[], salt="django.contrib.sessions.backends.signed_cookies")
    return str(signer.sign_object(data, serializer=serializer, compress=True))
