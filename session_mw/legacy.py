"""Legacy cookies: sessions that another library has left in the browser, read once and taken over.

    SessionMiddleware(app, secret_key=…, legacy=[StarletteCookie(OLD_SECRET, until=date(2027, 3, 1))])

Decided here: what such a cookie is called, whether it is genuine by *its* library's rules, and what it says. Nothing
is executed: what was pickled is refused. What becomes of it is ``upgrade``'s; the how-to is ``docs/migration.md``.

* Starlette: ``data.time.mac``; data is base64 of JSON; SHA-1 with the key "django-concat", as itsdangerous has it
* Flask: ``[.]data.time.mac``; data is URL-safe base64 of tagged JSON, with a dot before it deflated; SHA-1, key "hmac"
* Django: ``[.]data:time:mac``; the same with plain JSON and the time in base 62; SHA-256

Only the one spelling of a signature is taken, so that one cookie cannot pass for many.
"""

from __future__ import annotations

import hmac
import json
import re
import zlib
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha1, sha256
from typing import Any, Final, NoReturn, Protocol, Self, TypeAlias, runtime_checkable

import msgspec

from .core.cookies import CookieSpec
from .core.keys import refuse_pickling
from .errors import ConfigurationError

__all__ = [
    "DjangoCookie",
    "FlaskCookie",
    "LegacyCookie",
    "LegacyReader",
    "LegacyRefused",
    "LegacySession",
    "StarletteCookie",
]

Secrets: TypeAlias = str | bytes | Sequence[str | bytes]

_LONGEST: Final = 8192  # characters of a cookie's value; no browser sends more
_LARGEST: Final = 256 * 1024  # bytes of inflated data
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE62_TIME = re.compile("[0-9A-Za-z]{1,8}")


class LegacyRefused(Exception):  # noqa: N818 - a reader's answer: it never leaves the middleware
    """Raised by a reader for a cookie it does not take. *reason*: one word, such as ``forged``; no data in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LegacySession(msgspec.Struct, frozen=True, kw_only=True):
    """What a legacy cookie says. ``issued_at``: Unix seconds.

    ``user_id``: who is logged in (str, int or UUID), where the reader knows; ``persistent``: the cookie outlives the
    browser.
    """

    data: dict[str, Any]
    issued_at: int
    user_id: Any = None
    persistent: bool = False

    def __repr__(self) -> str:  # neither data nor users belong in a log
        return f"<LegacySession of {self.issued_at}>"


@runtime_checkable
class LegacyReader(Protocol):
    """What ``legacy=`` takes. ``cookie``: name and attributes of the other library's cookie, for finding and deleting
    it; ``until``: Unix seconds after which nobody looks at it any more.
    """

    @property
    def cookie(self) -> CookieSpec: ...

    @property
    def until(self) -> int: ...

    def read(self, value: str, now: int) -> LegacySession:
        """What *value* says at *now* (Unix seconds). Raises ``LegacyRefused`` unless it is genuine and in time.

        It must be signed, and of each genuine value one spelling alone may be taken: sessions are told apart by it.
        """
        ...


class LegacyCookie:
    """Base of the readers here, and of yours: the cookie, and how long it is looked at.

    *until*: a date (to its end, UTC) or an aware datetime. *path*, *domain*: as the other library sets them; without
    them a browser does not delete the cookie. Raises ``ConfigurationError`` for what cannot be.
    """

    def __init__(
        self, *, name: str, until: date, path: str = "/", domain: str | None = None, owner_key: str | None = None
    ) -> None:
        self.cookie = CookieSpec(name, path=path, domain=domain, secure=name.lower().startswith("__") or "auto")
        self.until = _moment(until)
        self.owner_key = owner_key

    def __repr__(self) -> str:
        end = datetime.fromtimestamp(self.until, UTC).isoformat()
        return f"<{type(self).__name__} {self.cookie.name!r} until {end}>"

    def read(self, value: str, now: int) -> LegacySession:
        """As ``LegacyReader.read`` says."""
        raise NotImplementedError


class _Signed(LegacyCookie):
    """``data SEPARATOR time SEPARATOR mac``, a MAC over all that stands before it."""

    _separator = "."
    _hash: Any = sha1

    def __init__(
        self,
        secret_key: Secrets,
        *,
        until: date,
        name: str,
        max_age: int | timedelta | None,
        path: str,
        domain: str | None,
        owner_key: str | None,
    ) -> None:
        super().__init__(name=name, until=until, path=path, domain=domain, owner_key=owner_key)
        secrets = (secret_key,) if isinstance(secret_key, str | bytes) else tuple(secret_key)
        if not secrets or not all(isinstance(secret, str | bytes) and secret for secret in secrets):
            raise ConfigurationError(f"{type(self).__name__}: give the old secret key, or several, newest first")
        self._keys = [self._derived(secret.encode() if isinstance(secret, str) else secret) for secret in secrets]
        seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
        if seconds is not None and (isinstance(seconds, bool) or seconds != int(seconds) or seconds < 1):
            raise ConfigurationError(f"{type(self).__name__}: max_age must be whole seconds above 0, or None")
        self._max_age = None if seconds is None else int(seconds)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        refuse_pickling(self)

    def _derived(self, secret: bytes) -> bytes:
        raise NotImplementedError

    def _time(self, text: str) -> int:
        """Unix seconds. Raises ``ValueError``."""
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if not 1 <= len(raw) <= 8:
            raise ValueError("no time")
        return int.from_bytes(raw)

    def _data(self, text: str) -> Any:
        """What *text* holds. Raises ``ValueError``."""
        raw = urlsafe_b64decode(text.removeprefix(".").encode("ascii") + b"=" * (-len(text.removeprefix(".")) % 4))
        return json.loads(_inflated(raw) if text.startswith(".") else raw)

    def _understood(self, data: dict[str, Any], issued_at: int) -> LegacySession:
        return LegacySession(
            data=data, issued_at=issued_at, user_id=data.get(self.owner_key) if self.owner_key else None
        )

    def read(self, value: str, now: int) -> LegacySession:
        """As ``LegacyReader.read`` says: ``malformed``, ``forged``, ``expired`` or ``unreadable`` is refused."""
        signed, found, mac = value.rpartition(self._separator)
        data, separated, issued = signed.rpartition(self._separator)
        if not (found and separated) or len(value) > _LONGEST or not value.isascii():
            raise LegacyRefused("malformed")
        message, given = signed.encode("ascii"), mac.encode("ascii")
        genuine = False
        for key in self._keys:
            genuine |= hmac.compare_digest(_text_of(hmac.digest(key, message, self._hash)), given)
        if not genuine:
            raise LegacyRefused("forged")
        try:
            issued_at = self._time(issued)
        except ValueError:
            raise LegacyRefused("malformed") from None
        if self._max_age is not None and now - issued_at > self._max_age:
            raise LegacyRefused("expired")
        try:
            understood = self._data(data)
        except (ValueError, RecursionError, zlib.error, TypeError, AttributeError):
            raise LegacyRefused("unreadable") from None
        if type(understood) is not dict:
            raise LegacyRefused("unreadable")
        return self._understood(understood, issued_at)


class StarletteCookie(_Signed):
    """What ``starlette.middleware.sessions.SessionMiddleware`` has written. *secret_key*: its own, or several, newest
    first; *name* is its ``session_cookie``, *max_age* (seconds), *path* and *domain* as it was given them.

    *owner_key*: the key that is the login; a session that has it arrives logged in, as that user.
    """

    def __init__(
        self,
        secret_key: Secrets,
        *,
        until: date,
        name: str = "session",
        max_age: int | timedelta | None = 14 * 24 * 60 * 60,
        path: str = "/",
        domain: str | None = None,
        owner_key: str | None = None,
    ) -> None:
        super().__init__(
            secret_key, until=until, name=name, max_age=max_age, path=path, domain=domain, owner_key=owner_key
        )

    def _derived(self, secret: bytes) -> bytes:
        return sha1(b"itsdangerous.Signersigner" + secret).digest()  # noqa: S324 - as they do

    def _data(self, text: str) -> Any:
        return json.loads(b64decode(text, validate=True))


class FlaskCookie(_Signed):
    """What Flask's own sessions have written. *secret_key*: ``SECRET_KEY``, then its fallbacks; *name* is
    ``SESSION_COOKIE_NAME``, *max_age* ``PERMANENT_SESSION_LIFETIME``, *path* and *domain* as in the app's settings.

    *owner_key*: as for ``StarletteCookie``; with Flask-Login ``"_user_id"``.
    """

    def __init__(
        self,
        secret_key: Secrets,
        *,
        until: date,
        name: str = "session",
        max_age: int | timedelta | None = timedelta(days=31),
        path: str = "/",
        domain: str | None = None,
        owner_key: str | None = None,
    ) -> None:
        super().__init__(
            secret_key, until=until, name=name, max_age=max_age, path=path, domain=domain, owner_key=owner_key
        )

    def _derived(self, secret: bytes) -> bytes:
        return hmac.digest(secret, b"cookie-session", "sha1")

    def _data(self, text: str) -> Any:
        return _untagged(super()._data(text))

    def _understood(self, data: dict[str, Any], issued_at: int) -> LegacySession:
        persistent = data.pop("_permanent", False) is True  # with us that is no data
        return msgspec.structs.replace(super()._understood(data, issued_at), persistent=persistent)


class DjangoCookie(_Signed):
    """What Django's ``signed_cookies`` engine has written, with its JSON serializer. *secret_key*: ``SECRET_KEY``, then
    its fallbacks; *name* is ``SESSION_COOKIE_NAME``, *max_age* ``SESSION_COOKIE_AGE``. For apps that leave Django.

    *owner_key*: as for ``StarletteCookie``; with Django's own accounts ``"_auth_user_id"``.
    """

    _separator = ":"
    _hash: Any = sha256

    def __init__(
        self,
        secret_key: Secrets,
        *,
        until: date,
        name: str = "sessionid",
        max_age: int | timedelta | None = 14 * 24 * 60 * 60,
        path: str = "/",
        domain: str | None = None,
        owner_key: str | None = None,
    ) -> None:
        super().__init__(
            secret_key, until=until, name=name, max_age=max_age, path=path, domain=domain, owner_key=owner_key
        )

    def _derived(self, secret: bytes) -> bytes:
        return sha256(b"django.contrib.sessions.backends.signed_cookiessigner" + secret).digest()

    def _time(self, text: str) -> int:
        if _BASE62_TIME.fullmatch(text) is None:
            raise ValueError("no time")
        seconds = 0
        for digit in text:
            seconds = seconds * 62 + _BASE62.index(digit)
        return seconds


def _text_of(mac: bytes) -> bytes:
    return urlsafe_b64encode(mac).rstrip(b"=")


def _moment(until: date) -> int:
    """Unix seconds; a date lasts to its end."""
    if isinstance(until, datetime):
        if until.tzinfo is None:
            raise ConfigurationError("until must say its time zone: datetime(…, tzinfo=UTC), or a plain date")
        return int(until.timestamp())
    if not isinstance(until, date):
        raise ConfigurationError(f"until must be a date or a datetime, not {type(until).__name__}")
    return int(datetime.combine(until + timedelta(days=1), time(), UTC).timestamp())


def _inflated(raw: bytes) -> bytes:
    """Raises ``ValueError`` beyond ``_LARGEST``, ``zlib.error`` for anything else than one whole stream."""
    inflater = zlib.decompressobj()
    data = inflater.decompress(raw, _LARGEST)
    if not inflater.eof:
        raise ValueError("too large, or cut off")
    return data


def _untagged(value: Any) -> Any:
    """Flask's tagged JSON, with its types (``flask.json.tag``)."""
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _untagged(item) for key, item in value.items()}
    tag = next(iter(value)) if len(value) == 1 else ""
    return _TAGS[tag](value[tag]) if tag in _TAGS else value


def _http_date(text: str) -> datetime:
    from email.utils import parsedate_to_datetime  # here: few sessions hold one

    moment = parsedate_to_datetime(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _markup(text: str) -> Any:
    from markupsafe import Markup  # here: templates' matter

    return Markup(text)  # noqa: S704 - it was safe when it was stored, and nobody else could write it


def _uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


def _one_item(value: dict[str, Any]) -> dict[str, Any]:
    """A dict of one item whose key looks like a tag."""
    return {key[:-2]: item for key, item in value.items()}


_TAGS: dict[str, Any] = {
    " t": tuple,
    " b": b64decode,
    " m": _markup,
    " u": _uuid,
    " d": _http_date,
    " di": _one_item,
}
