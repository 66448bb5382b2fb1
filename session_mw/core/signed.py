"""Signed values: what a client may read, but not change.

    1.<key id>.<header>.<payload>.<MAC>          each part base64url (RFC 4648 §5) without padding

The header is a JSON object of what a record has beside its payload, both in clear to whoever holds the cookie;
``seal`` hides them and is the default. The MAC is HMAC-SHA256 by itsdangerous over all that precedes its dot, under a
key derived for this purpose alone: a seal never passes as signed, nor the other way round.

The MAC is checked before anything is decoded, and its text compared, not its bytes: one spelling per value.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import NoReturn

import itsdangerous
import msgspec
from itsdangerous.encoding import base64_decode, base64_encode

from ..errors import SealReason
from .keys import KeyRing, refuse_pickling
from .record import Record
from .seal import in_time

__all__ = ["Signer"]

_SHAPE = re.compile(r"1\.([A-Za-z0-9_-]{6})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]{43})")


class _Header(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    id: str
    issued_at: int
    created_at: int
    last_activity: int
    expires_at: int
    absolute_expires_at: int
    user_id: str | None = None
    lifetime: int | None = None
    login_ip: str | None = None
    login_user_agent: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Header).decode


class Signer:
    """Record to readable cookie value and back, for one *purpose*; stands in for ``Sealer``.

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

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)

    def seal(self, record: Record, issued_at: int, nonce: bytes) -> str:
        """*record* signed at *issued_at* (Unix seconds) with the primary key.

        *nonce* is for ``Sealer``'s sake; a signature needs none.
        """
        header = _Header(
            record.id,
            issued_at,
            record.created_at,
            record.last_activity,
            record.expires_at,
            record.absolute_expires_at,
            record.user_id,
            record.lifetime,
            record.login_ip,
            record.login_user_agent,
        )
        parts = (b"1", self._primary.encode(), base64_encode(_encode(header)), base64_encode(record.payload))
        return self._signers[self._primary].sign(b".".join(parts)).decode()

    def unseal(self, text: str, now: int) -> Record | SealReason:
        """What *text* holds, if it was signed under this ring and purpose and its time has not passed at *now*.

        Else the reason why it does not open. Raises nothing, whatever *text* is.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            return "malformed"
        key_id, header, payload, mac = shape.groups()
        signer = self._signers.get(key_id)
        if signer is None:
            return "unknown_key"
        if not hmac.compare_digest(signer.get_signature(text[: shape.end(3)]), mac.encode()):
            return "forged"
        try:
            known = _decode(base64_decode(header))
        except (itsdangerous.BadData, msgspec.DecodeError):  # whoever knows the key signed it, but not as we do
            return "malformed"
        record = Record(
            known.id,
            b"",
            known.user_id,
            known.created_at,
            known.last_activity,
            known.expires_at,
            known.absolute_expires_at,
            known.lifetime,
            known.login_ip,
            known.login_user_agent,
            1,
            base64_decode(payload),
        )
        return in_time(record, known.issued_at, now, self._clock_skew)
