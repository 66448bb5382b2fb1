"""Seals: authenticated encryption of what a client or a store keeps for us.

One envelope, AES-256-GCM (NIST SP 800-38D), for both uses:

    0        1          5         17                        n-16      n
    | version | key id   | nonce    | ciphertext               | tag    |
      1 byte    4 bytes    12 bytes                              16 bytes

The key id chooses the key: one attempt, never a trial of several. Version, key id and purpose are authenticated
with it. ``Sealer`` makes cookie values of envelopes, ``PayloadSealer`` protects a record's payload in a store and
ties it to that record. ``docs/formats/sealed-cookie.md`` draws every byte and has the nonce budget.

Nonces are arguments: 12 bytes from a cryptographic source, new for every seal.
"""

from __future__ import annotations

import struct
from binascii import a2b_base64, b2a_base64

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import InvalidSessionIdError, SealError
from .keys import KEY_ID_BYTES, KeyRing
from .tokens import is_id

__all__ = ["NONCE_BYTES", "PADDING", "Contents", "PayloadSealer", "Sealer"]

NONCE_BYTES = 12
PADDING = 48  # bytes of plaintext, 64 characters of cookie: all that the length of a seal tells

_VERSION = b"\x01"
_PREFIX = len(_VERSION) + KEY_ID_BYTES
_NONCE_END = _PREFIX + NONCE_BYTES
_OVERHEAD = _NONCE_END + 16
_HEADER = struct.Struct(">qqqq18sI")  # four times (64 bits: 2106 is near), id, length of the body
_BODY = _HEADER.size
_pack = _HEADER.pack
_unpack = _HEADER.unpack_from
_URLSAFE = bytes.maketrans(b"+/", b"-_")  # for the id: binascii is cheaper than msgspec when it is short


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What a client-kept session carries. Times are whole Unix seconds; ``body`` is the session's own data."""

    id: str
    issued_at: int
    created_at: int
    expires_at: int
    absolute_expires_at: int
    body: bytes

    def __repr__(self) -> str:  # the body belongs in no log
        return f"<Contents {self.id[:6]}… {len(self.body)} bytes>"

    def check(self, now: int, clock_skew: int) -> None:
        """Raise ``SealError`` unless *now* is within this seal's time (both in seconds; a deadline is exclusive)."""
        if now >= self.expires_at or now >= self.absolute_expires_at:
            raise SealError("expired")
        if self.issued_at > now + clock_skew:
            raise SealError("future")


class _Envelope:
    """The envelope rule, for one purpose: its keys by the five bytes an envelope begins with."""

    __slots__ = ("_encrypt", "_keys", "_primary")

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        name = purpose.encode()
        label = len(name).to_bytes(4) + name  # its length first, so that nothing appended can pass for a part of it
        # A cipher object is kept per key (made anew, it costs more than a decryption), its associated data prepared.
        ciphers = {_VERSION + key_id: AESGCM(key) for key_id, key in ring.derive(purpose)}
        self._keys = {prefix: (cipher.decrypt, prefix + label) for prefix, cipher in ciphers.items()}
        self._primary = next(iter(ciphers))
        self._encrypt = ciphers[self._primary].encrypt

    def seal(self, plain: bytes, nonce: bytes, bind: bytes = b"") -> bytes:
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
        prefix = self._primary
        return prefix + nonce + self._encrypt(nonce, plain, self._keys[prefix][1] + bind)

    def unseal(self, raw: bytes, bind: bytes = b"") -> bytes:
        known = self._keys.get(raw[:_PREFIX])
        if known is None:
            raise SealError("unknown_key" if len(raw) >= _OVERHEAD and raw[:1] == _VERSION else "malformed")
        if len(raw) < _OVERHEAD:
            raise SealError("malformed")
        decrypt, associated = known
        try:
            return decrypt(raw[_PREFIX:_NONCE_END], raw[_NONCE_END:], associated + bind)
        except InvalidTag:
            raise SealError("forged") from None

    def is_retired(self, raw: bytes) -> bool:
        prefix = raw[:_PREFIX]
        return prefix != self._primary and prefix in self._keys


class Sealer:
    """Contents to cookie value and back, for one *purpose* (application and cookie name).

    ``clock_skew``: how many seconds ahead of us another server's clock may be.
    """

    __slots__ = ("_clock_skew", "_envelope")

    def __init__(self, ring: KeyRing, purpose: str, *, clock_skew: int = 60) -> None:
        self._envelope = _Envelope(ring, f"seal:{purpose}")
        self._clock_skew = clock_skew

    def seal(self, contents: Contents, nonce: bytes) -> str:
        """*contents* sealed with the primary key, as base64url. *nonce*: 12 random bytes, never used before.

        Raises ``InvalidSessionIdError`` for an id that is none of ours, ``ValueError`` for a nonce of another length.
        """
        if not is_id(contents.id):
            raise InvalidSessionIdError("not a session id")
        body = contents.body
        plain = b"%b%b" % (
            _pack(
                contents.issued_at,
                contents.created_at,
                contents.expires_at,
                contents.absolute_expires_at,
                a2b_base64(contents.id.replace("-", "+").replace("_", "/")),
                len(body),
            ),
            body,
        )
        plain += bytes(-len(plain) % PADDING)
        return _to_text(self._envelope.seal(plain, nonce))

    def unseal(self, text: str, now: int) -> Contents:
        """What *text* holds, if it was sealed under this ring and purpose and its time has not passed at *now*.

        Raises ``SealError``, and nothing else, whatever *text* is.
        """
        raw = _from_text(text)
        if len(raw) % PADDING != _OVERHEAD:  # "=" at the end is refused here: it never fits a whole bucket
            raise SealError("malformed")
        plain = self._envelope.unseal(raw)
        issued_at, created_at, expires_at, absolute_expires_at, raw_id, length = _unpack(plain)
        contents = Contents(
            b2a_base64(raw_id, newline=False).translate(_URLSAFE).decode("ascii"),
            issued_at,
            created_at,
            expires_at,
            absolute_expires_at,
            plain[_BODY : _BODY + length],
        )
        contents.check(now, self._clock_skew)
        return contents

    def needs_reseal(self, text: str) -> bool:
        """Whether *text* (its first eight characters are enough) names a retired key, so that a write renews it."""
        try:
            return self._envelope.is_retired(_from_text(text[:8]))
        except SealError:
            return False


class PayloadSealer:
    """A store's payloads at rest, for one *purpose*; bound to their record, without padding or deadline."""

    __slots__ = ("_envelope",)

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        self._envelope = _Envelope(ring, f"payload:{purpose}")

    def seal(self, payload: bytes, bind: bytes, nonce: bytes) -> bytes:
        """*payload* sealed with the primary key for the record named by *bind*; 33 bytes longer.

        *nonce*: 12 random bytes, never used before; ``ValueError`` for another length.
        """
        return self._envelope.seal(payload, nonce, bind)

    def unseal(self, blob: bytes, bind: bytes) -> bytes:
        """The payload of the record named by *bind*. Raises ``SealError`` if *blob* is not that record's."""
        return self._envelope.unseal(blob, bind)

    def needs_reseal(self, blob: bytes) -> bool:
        """Whether *blob* names a retired key."""
        return self._envelope.is_retired(blob)


# base64url (RFC 4648 §5) of whole groups of three bytes, so there is neither "=" nor a spare bit, and one spelling
# for each value. msgspec converts plain base64 at half of binascii's price and takes no whitespace or other character.


def _to_text(raw: bytes) -> str:
    text: str = msgspec.to_builtins(raw)
    return text.replace("+", "-").replace("/", "_")


def _from_text(text: str) -> bytes:
    if "+" in text or "/" in text:  # the other alphabet would be a second spelling
        raise SealError("malformed")
    try:
        return msgspec.convert(text.replace("-", "+").replace("_", "/"), bytes)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise SealError("malformed") from None
