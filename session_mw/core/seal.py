"""Seals: authenticated encryption of what a client or a store keeps for us.

One envelope, AES-256-GCM (NIST SP 800-38D), for both uses:

    0        1          5         17                        n-16      n
    | version | key id   | nonce    | ciphertext               | tag    |
      1 byte    4 bytes    12 bytes                              16 bytes

The key id chooses the key: one attempt, never a trial of several. Version, key id and purpose are authenticated
with it. ``Sealer`` makes cookie values of envelopes, ``PayloadSealer`` protects a record's payload in a store and
ties it to that record. ``docs/formats/sealed-cookie.md`` draws every byte and has the nonce budget.

Nonces are arguments: 12 bytes from a cryptographic source, new for every seal. A cookie value that does not open is
everyday, so ``Sealer`` returns the reason; a payload that does not open is a fault, so ``PayloadSealer`` raises it.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import SealError, SealReason
from .keys import KEY_ID_BYTES, KeyRing
from .record import Record

__all__ = ["NONCE_BYTES", "PADDING", "PayloadSealer", "Sealer", "binding", "in_time"]

NONCE_BYTES = 12
PADDING = 48  # bytes of plaintext, 64 characters of cookie: all that the length of a seal tells

_VERSION = b"\x01"
_PREFIX = len(_VERSION) + KEY_ID_BYTES
_NONCE_END = _PREFIX + NONCE_BYTES
_OVERHEAD = _NONCE_END + 16
_PADS = tuple(bytes((size, *bytes(size))) for size in range(PADDING))  # what takes the last byte's place


class _Plain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a sealed cookie holds, as MessagePack; ``issued_at`` is Unix seconds."""

    issued_at: int
    record: Record
    padding: bytes


_convert = msgspec.convert
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Plain).decode


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

    def unseal(self, raw: bytes, bind: bytes = b"") -> bytes | SealReason:
        key = self._keys.get(raw[:_PREFIX])
        if key is None:
            return "unknown_key" if len(raw) >= _OVERHEAD and raw.startswith(_VERSION) else "malformed"
        try:
            return key[0](raw[_PREFIX:_NONCE_END], raw[_NONCE_END:], key[1] + bind)
        except (InvalidTag, ValueError):
            return "forged" if len(raw) >= _OVERHEAD else "malformed"


class Sealer:
    """Record to cookie value and back, for one *purpose* (application and cookie name).

    ``clock_skew``: how many seconds ahead of us another server's clock may be.
    """

    __slots__ = ("_clock_skew", "_envelope")

    def __init__(self, ring: KeyRing, purpose: str, *, clock_skew: int = 60) -> None:
        self._envelope = _Envelope(ring, f"seal:{purpose}")
        self._clock_skew = clock_skew

    # base64url (RFC 4648 §5) of whole groups of three bytes, so there is neither "=" nor a spare bit, and one spelling
    # for each value. msgspec converts plain base64 at half of binascii's price and takes no whitespace or other
    # character.

    def seal(self, record: Record, issued_at: int, nonce: bytes) -> str:
        """*record* sealed at *issued_at* (Unix seconds) with the primary key, as base64url.

        *nonce*: 12 random bytes, never used before; ``ValueError`` for another length.
        """
        plain = _encode(_Plain(issued_at, record, b""))  # ends with the length of the padding, one byte
        raw = self._envelope.seal(plain[:-1] + _PADS[-len(plain) % PADDING], nonce)
        text: str = msgspec.to_builtins(raw)
        return text.replace("+", "-").replace("/", "_")

    def unseal(self, text: str, now: int) -> Record | SealReason:
        """What *text* holds, if it was sealed under this ring and purpose and its time has not passed at *now*.

        Else the reason why it does not open. Raises nothing, whatever *text* is.
        """
        if "+" in text or "/" in text:  # the other alphabet would be a second spelling
            return "malformed"
        try:
            raw = _convert(text.replace("-", "+").replace("_", "/"), bytes)
        except (msgspec.ValidationError, UnicodeEncodeError):
            return "malformed"
        if len(raw) % PADDING != _OVERHEAD:  # "=" at the end is refused here: it never fits a whole bucket
            return "malformed"
        inside = self._envelope.unseal(raw)
        if isinstance(inside, str):
            return inside
        try:
            plain = _decode(inside)
        except msgspec.DecodeError:  # whoever knows the key sealed it, but not as we do
            return "malformed"
        return in_time(plain.record, plain.issued_at, now, self._clock_skew)


def in_time(record: Record, issued_at: int, now: int, clock_skew: int) -> Record | SealReason:
    """*record*, if *now* is within its seal's time (all in seconds; a deadline is exclusive), or the reason why not."""
    if now >= record.expires_at or now >= record.absolute_expires_at:
        return "expired"
    return "future" if issued_at > now + clock_skew else record


def binding(record: Record) -> bytes:
    """What a payload at rest is bound to: all of *record* that says whose session it is and who carries it.

    Not its last activity and idle deadline, which a touch moves and leaves the payload alone; nor what only describes.
    """
    return _encode(
        (record.id, record.digest, record.user_id, record.created_at, record.absolute_expires_at, record.version)
    )


class PayloadSealer:
    """A store's payloads at rest, for one *purpose*; bound to their record, without padding or deadline."""

    __slots__ = ("_envelope",)

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        self._envelope = _Envelope(ring, f"payload:{purpose}")

    def seal(self, payload: bytes, bind: bytes, nonce: bytes) -> bytes:
        """*payload* sealed with the primary key for the record of the ``binding`` *bind*; 33 bytes longer.

        *nonce*: 12 random bytes, never used before; ``ValueError`` for another length.
        """
        return self._envelope.seal(payload, nonce, bind)

    def unseal(self, blob: bytes, bind: bytes) -> bytes:
        """The payload of the record of the ``binding`` *bind*. Raises ``SealError`` if *blob* is not that record's."""
        payload = self._envelope.unseal(blob, bind)
        if isinstance(payload, str):
            raise SealError(payload)
        return payload

    def vouch(self, closed: Record, pointer: str, nonce: bytes) -> str:
        """*pointer*, with a seal that ties it to *closed*, a record that is about to be closed: to its id and token.

        Else whoever can write to a store could lead a token of their own to any session.
        """
        return f"{pointer}:{self._envelope.seal(b'', nonce, _tie(closed, pointer)).hex()}"

    def vouches(self, closed: Record) -> bool:
        """Whether the pointer of *closed* was made for it, by who knows the key."""
        pointer, _, seal = (closed.successor or "").rpartition(":")
        try:
            return self._envelope.unseal(bytes.fromhex(seal), _tie(closed, pointer)) == b""
        except ValueError:
            return False


def _tie(closed: Record, pointer: str) -> bytes:
    return _encode((closed.id, closed.digest, pointer))
