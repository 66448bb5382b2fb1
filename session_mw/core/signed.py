"""Signed values: what a client may read, but not change.

    1.<key id>.<header>.<body>.<MAC>          each part base64url (RFC 4648 §5) without padding

The header is a JSON object of the id and the times, the body the session's data, both in clear to whoever holds the
cookie; ``seal`` hides them and is the default. The MAC is HMAC-SHA256 by itsdangerous over all that precedes its
dot, under a key derived for this purpose alone: a seal never passes as signed, nor the other way round.

The MAC is checked before anything is decoded, and its text compared, not its bytes: one spelling per value.
"""

from __future__ import annotations

import hashlib
import hmac
import re

import itsdangerous
import msgspec
from itsdangerous.encoding import base64_decode, base64_encode

from ..errors import InvalidSessionIdError, SealError
from .keys import KeyRing
from .seal import Contents
from .tokens import is_id

__all__ = ["Signer"]

_SHAPE = re.compile(r"1\.([A-Za-z0-9_-]{6})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]{43})")


class _Header(msgspec.Struct, frozen=True, gc=False):
    id: str
    issued_at: int
    created_at: int
    expires_at: int
    absolute_expires_at: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Header).decode


class Signer:
    """Contents to readable cookie value and back, for one *purpose*; stands in for ``Sealer``.

    ``clock_skew``: how many seconds ahead of us another server's clock may be.
    """

    __slots__ = ("_clock_skew", "_primary", "_signers")

    def __init__(self, ring: KeyRing, purpose: str, *, clock_skew: int = 60) -> None:
        # One itsdangerous signer per key: given a list it would try them all, and its newest comes *last*
        # (the order CVE-2025-47278 got wrong). Our keys are derived already, hence key_derivation="none".
        self._signers = {
            base64_encode(key_id).decode(): itsdangerous.Signer(
                key, sep=".", key_derivation="none", digest_method=hashlib.sha256
            )
            for key_id, key in ring.derive(f"signed:{purpose}")
        }
        self._primary = next(iter(self._signers))
        self._clock_skew = clock_skew

    def seal(self, contents: Contents, nonce: bytes) -> str:
        """*contents* signed with the primary key. *nonce* is for ``Sealer``'s sake; a signature needs none.

        Raises ``InvalidSessionIdError`` for an id that is none of ours.
        """
        if not is_id(contents.id):
            raise InvalidSessionIdError("not a session id")
        header = _Header(
            contents.id, contents.issued_at, contents.created_at, contents.expires_at, contents.absolute_expires_at
        )
        parts = (b"1", self._primary.encode(), base64_encode(_encode(header)), base64_encode(contents.body))
        return self._signers[self._primary].sign(b".".join(parts)).decode()

    def unseal(self, text: str, now: int) -> Contents:
        """What *text* holds, if it was signed under this ring and purpose and its time has not passed at *now*.

        Raises ``SealError``, and nothing else, whatever *text* is.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise SealError("malformed")
        key_id, header, body, mac = shape.groups()
        signer = self._signers.get(key_id)
        if signer is None:
            raise SealError("unknown_key")
        if not hmac.compare_digest(signer.get_signature(text[: shape.end(3)]), mac.encode()):
            raise SealError("forged")
        known = _decode(base64_decode(header))  # ours from here on
        contents = Contents(
            known.id,
            known.issued_at,
            known.created_at,
            known.expires_at,
            known.absolute_expires_at,
            base64_decode(body),
        )
        contents.check(now, self._clock_skew)
        return contents

    def needs_reseal(self, text: str) -> bool:
        """Whether *text* (its first eight characters are enough) names a retired key, so that a write renews it."""
        key_id = text[2:8]
        return text[:2] == "1." and key_id != self._primary and key_id in self._signers
