"""Key rings: which secrets seal, which still open, and the keys derived from them.

A secret is never used itself. For each purpose HKDF-SHA256 (RFC 5869) makes 36 bytes of it: a key, and its sibling,
a public key id. An envelope names its key by that id, so one attempt is enough however many keys are kept. The
purpose is part of the derivation: what was made for one purpose opens for no other.

Weak secrets are refused here, once, when the ring is built. When to rotate is not decided here:
``docs/formats/sealed-cookie.md`` has the budget.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ..errors import ConfigurationError

__all__ = ["KEY_ID_BYTES", "MINIMUM", "DerivedKey", "KeyRing", "generate_key", "refuse_pickling"]

MINIMUM = 32  # bytes of a secret: more than the 128 bits of OWASP ASVS 5.0 11.2.3 even when it is hexadecimal
KEY_ID_BYTES = 4
_DISTINCT = 8  # different bytes: 32 random ones have fewer in no lifetime, "changeme" has seven

_RECIPE = 'make one with:  session-mw keygen   or:  python -c "import secrets; print(secrets.token_urlsafe(48))"'


def refuse_pickling(holder: object) -> NoReturn:
    """Raises ``TypeError``: *holder* has a secret, and a pickle is written down somewhere."""
    raise TypeError(f"a {type(holder).__name__} is not pickled: it would carry secrets along")


class DerivedKey(NamedTuple):
    """A key for one purpose. ``key_id`` is public; ``key`` is not, and not shown."""

    key_id: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"<DerivedKey {self.key_id.hex()}>"

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)


class KeyRing:
    """Secrets, newest first: the primary seals, the retired ones only open.

    Each is str (taken as UTF-8) or bytes, and is *one* key. ``minimum`` is in bytes, and lower only for a key taken
    over from a framework. Immutable; ``repr`` tells the number of keys and nothing else.

    Raises ``ConfigurationError`` for a key that is empty, short, obviously weak, listed twice, or no key at all.
    """

    __slots__ = ("_keys",)
    _keys: tuple[bytes, ...]

    def __init__(self, primary: str | bytes, *retired: str | bytes, minimum: int = MINIMUM) -> None:
        keys: list[bytes] = []
        for place, value in enumerate((primary, *retired)):
            name = f"retired key {place}" if place else "the primary key"
            key = _checked(value, name, minimum)
            if key in keys:
                raise ConfigurationError(f"{name} is in the key ring already; list each key once, newest first")
            keys.append(key)
        object.__setattr__(self, "_keys", tuple(keys))

    @classmethod
    def of(cls, value: str | bytes | Sequence[str | bytes] | KeyRing, *, minimum: int = MINIMUM) -> KeyRing:
        """The ring *value* stands for: one key, a sequence of keys (newest first), or a ring, which is kept as it is.

        Raises ``ConfigurationError`` as the constructor does, and for an empty sequence.
        """
        if isinstance(value, KeyRing):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if not value:
                raise ConfigurationError(f"the key ring has no key; {_RECIPE}")
            return cls(*value, minimum=minimum)
        return cls(value, minimum=minimum)

    def derive(self, purpose: str) -> tuple[DerivedKey, ...]:
        """The keys for *purpose*, primary first. Call once and keep them: this costs microseconds a key.

        Raises ``ConfigurationError`` when two keys happen to share a key id (one pair in 2**32).
        """
        info = b"session_mw/1/" + purpose.encode()
        keys = tuple(_derived(secret, info) for secret in self._keys)
        if len({key.key_id for key in keys}) < len(keys):
            raise ConfigurationError(
                "two keys of the ring share a key id, by chance; drop the older one or replace the primary: " + _RECIPE
            )
        return keys

    def __eq__(self, other: object) -> bool:
        return self._keys == other._keys if isinstance(other, KeyRing) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._keys)

    def __repr__(self) -> str:
        count = len(self._keys)
        return f"<KeyRing of {count} key{'s' if count > 1 else ''}>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a KeyRing does not change; build a new one")

    def __copy__(self) -> KeyRing:
        return self

    def __deepcopy__(self, memo: object) -> KeyRing:
        return self

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)


def generate_key() -> str:
    """A new secret of 384 random bits, as 64 characters of base64url; what ``session-mw keygen`` prints."""
    import secrets  # here, because importing it costs a millisecond and only the command line needs it

    return secrets.token_urlsafe(48)


def _checked(value: object, name: str, minimum: int) -> bytes:
    """*value* as the bytes of a key that is not obviously weak."""
    if isinstance(value, str):
        try:
            key = value.encode()
        except UnicodeEncodeError:  # its message would quote the key
            raise ConfigurationError(f"{name} is not valid text; {_RECIPE}") from None
    elif isinstance(value, bytes):
        key = value
    else:
        raise ConfigurationError(
            f"{name} is of type {type(value).__name__}, a key is str or bytes "
            f"(KeyRing.of() also takes a sequence of keys, newest first); {_RECIPE}"
        )
    if not key:
        raise ConfigurationError(f"{name} is empty; {_RECIPE}")
    period = (key + key).find(key, 1)  # length of the shortest text whose repetition the key is; its own, if of none
    if period < minimum:
        repeats = "" if period == len(key) else f"repeats a text of {period} bytes: it "
        raise ConfigurationError(f"{name} {repeats}is too short, {minimum} bytes are the least; {_RECIPE}")
    if len(set(key)) < min(_DISTINCT, minimum):
        raise ConfigurationError(f"{name} is weak: it has fewer than {_DISTINCT} different bytes; {_RECIPE}")
    return key


def _derived(secret: bytes, info: bytes) -> DerivedKey:
    """HKDF-SHA256 without salt, 36 bytes: Extract (RFC 5869 §2.2), then two blocks of Expand (§2.3)."""
    pseudorandom = hmac.digest(bytes(32), secret, "sha256")
    key = hmac.digest(pseudorandom, info + b"\x01", "sha256")
    sibling = hmac.digest(pseudorandom, key + info + b"\x02", "sha256")
    return DerivedKey(sibling[:KEY_ID_BYTES], key)
