"""Tokens: ``id.secret``, minted and checked.

The id names the record and is safe to show; the secret is what makes the token a credential, and only its SHA-256
is kept. 144 and 264 random bits: at least the 128 and 256 we promise (OWASP ASVS 5.0 7.2.3), and multiples of three
bytes, so that base64url (RFC 4648 §5) needs no padding and each token has exactly one spelling.

Randomness is an argument: ``mint`` takes ``RANDOM_BYTES`` bytes from the caller.
"""

from __future__ import annotations

import binascii
import re
from hashlib import sha256
from hmac import compare_digest
from typing import NoReturn

import msgspec

from .keys import refuse_pickling

__all__ = [
    "ID_LENGTH",
    "RANDOM_BYTES",
    "SECRET_LENGTH",
    "Token",
    "digest",
    "is_id",
    "matches",
    "mint",
    "spent",
    "split",
]

_ID_BYTES = 18
_SECRET_BYTES = 33
RANDOM_BYTES = _ID_BYTES + _SECRET_BYTES
ID_LENGTH = _ID_BYTES * 4 // 3
SECRET_LENGTH = _SECRET_BYTES * 4 // 3

_ALPHABET = "[A-Za-z0-9_-]"
_ID = re.compile(f"{_ALPHABET}{{{ID_LENGTH}}}")
_has_token_shape = re.compile(f"{_ALPHABET}{{{ID_LENGTH}}}\\.{_ALPHABET}{{{SECRET_LENGTH}}}").fullmatch
_URLSAFE = bytes.maketrans(b"+/", b"-_")


class Token(msgspec.Struct, frozen=True, gc=False):
    """The two halves of what a client carries."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"<Token {self.id[:6]}…>"

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)

    @property
    def text(self) -> str:
        """The whole token, as the cookie holds it. A credential: never log it."""
        return f"{self.id}.{self.secret}"


def mint(random: bytes) -> Token:
    """A token made of ``RANDOM_BYTES`` bytes from a cryptographic source."""
    text = binascii.b2a_base64(random, newline=False).translate(_URLSAFE).decode("ascii")
    return Token(text[:ID_LENGTH], text[ID_LENGTH:])


def split(text: str) -> Token | None:
    """The token in *text*, or ``None`` when it is not shaped like one. Asks nobody."""
    if _has_token_shape(text) is None:  # fullmatch: "$" would let a trailing newline through
        return None
    return Token(text[:ID_LENGTH], text[ID_LENGTH + 1 :])


def is_id(text: str) -> bool:
    """Whether *text* is shaped like a session id."""
    return _ID.fullmatch(text) is not None


def spent(token: Token) -> str:
    """The id under which is kept that *token*, made of another library's cookie, was taken over once."""
    raw = sha256(b"session_mw spent\0" + token.text.encode("ascii")).digest()[:_ID_BYTES]
    return binascii.b2a_base64(raw, newline=False).translate(_URLSAFE).decode("ascii")


def digest(secret: str) -> bytes:
    """What a store keeps of a secret. No salt or stretching: the secret is 264 random bits."""
    return sha256(secret.encode("ascii")).digest()


def matches(secret: str, expected: bytes) -> bool:
    """Whether *secret* has the digest *expected*, in constant time; never for an empty digest."""
    return compare_digest(digest(secret), expected)
