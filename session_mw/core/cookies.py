"""Cookies: find ours in a Cookie header, write and delete it, and what caches must then be told.

Decided here: which names and attributes go together, how a cookie is found, how a long value is cut into chunks, the
byte budget, and the merged ``Vary`` and ``Cache-Control``. Not decided here: whether a value is genuine (``seal``,
``tokens``) and whether a cookie is set at all (the managers).

"6265bis" is draft-ietf-httpbis-rfc6265bis; "layered" is draft-ietf-httpbis-layered-cookies, which adds ``__Http-``.
The layout of chunks is described in ``docs/formats/cookies.md``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, Literal

from ..errors import ConfigurationError, SessionTooLargeError

__all__ = ["MAX_AGE_LIMIT", "SINGLE_LIMIT", "CookieSpec", "SameSite", "cache_control", "vary_cookie"]

SameSite = Literal["lax", "strict", "none"]
_SAME_SITES = ("lax", "strict", "none")

MAX_AGE_LIMIT: Final = 34_560_000  # seconds, 400 days: browsers cut longer lives down (6265bis §5.5)
SINGLE_LIMIT: Final = 3900  # bytes of name=value; above 4096 a browser drops the cookie silently (6265bis §5.7 step 4)
_LEAST, _MOST = 256, 7600  # bounds of max_bytes; many servers refuse a header block over 8192 (6265bis §4.2.1)
_CANDIDATES = 4  # one more than anybody tries, so that "too many" can be told apart
_CHUNKS = 8  # chunk names we look at; at most two are ever written, since _MOST < 2 * SINGLE_LIMIT
_WRITTEN = range(2)

_OWS = " \t"
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # token, RFC 9110 §5.6.2; the length is our own bound
_PATH = re.compile(r"/[!-+\--:<-~]{0,1023}")  # av-octets, 6265bis §4.1.1; over 1024 a browser ignores it (§5.6 step 6)
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")  # host name, RFC 1123 §2.1

_SEAL_LENGTH = 16
_CHUNK_HEAD = len("1..0.2.") + _SEAL_LENGTH
_CHUNK = re.compile(r"1\.([0-9a-f]{16})\.([0-7])\.([2-8])\.([!-~]+)")


@dataclass(frozen=True, slots=True)
class CookieSpec:
    """Name and attributes of the session cookie; checked and prepared once, immutable.

    ``secure="auto"`` sets Secure when the request came over https. ``max_bytes`` (256 to 7600) bounds what the browser
    sends back, names included; above 3900, a value too long for one cookie is cut into chunks.

    Raises:
        ConfigurationError: the settings contradict each other or a browser would refuse them; the message says what
            to change (6265bis §4.1).
    """

    name: str = "__Host-session"
    _: KW_ONLY
    path: str = "/"
    domain: str | None = None
    secure: bool | Literal["auto"] = True
    httponly: bool = True
    same_site: SameSite = "lax"
    partitioned: bool = False
    max_bytes: int = SINGLE_LIMIT

    is_host_prefixed: bool = field(init=False, repr=False, compare=False)  # may occur once: a doubled one is tampering
    chunked: bool = field(init=False, repr=False, compare=False)
    _needle: str = field(init=False, repr=False, compare=False)
    _chunk_needle: str = field(init=False, repr=False, compare=False)
    _chunk_needles: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _head: str = field(init=False, repr=False, compare=False)
    _tail: str = field(init=False, repr=False, compare=False)
    _http_tail: str = field(init=False, repr=False, compare=False)
    _room: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_types(self)
        _check_text(self)
        _check_mix(self)

        def put(attribute: str, value: object) -> None:
            object.__setattr__(self, attribute, value)

        same_site = self.same_site.capitalize()
        tail = f"; SameSite={same_site}{'; Partitioned' if self.partitioned else ''}"
        tail = f"{'; HttpOnly' if self.httponly else ''}{tail}"
        secure, plain = f"; Secure{tail}", tail
        scope = f"; Path={self.path}"
        if self.domain is not None:
            # A leading dot means nothing to browsers (6265bis §5.6.3); without it the line is also valid grammar.
            put("domain", self.domain.removeprefix(".").lower())
            scope += f"; Domain={self.domain}"
        put("is_host_prefixed", self.name.startswith("__Host-"))
        put("chunked", self.max_bytes > SINGLE_LIMIT)
        put("_needle", f"{self.name}=")
        put("_chunk_needle", f"{self.name}.")
        put("_chunk_needles", tuple(f"{self.name}.{index}=" for index in range(_CHUNKS)))
        put("_head", f"{self.name}=")
        put("_tail", scope + (secure if self.secure else plain))
        put("_http_tail", scope + (secure if self.secure is True else plain))
        put("_room", min(self.max_bytes, SINGLE_LIMIT) - len(self._head))

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, header: str) -> list[str]:
        """The values of exactly this cookie in *header*, in order of appearance, at most four. Never raises.

        *header* is the Cookie header, a character for each byte (latin-1); several are one, joined with ``"; "``
        (RFC 9113 §8.2.3). Names are compared byte by byte, prefixes included (6265bis §5.4). Quotes are part of the
        value. What no verifier takes, such as control or non-ASCII bytes, is passed on to be refused there. With
        chunking on, a complete set of chunks counts as one more value, the last.
        """
        before, needle, after = header.partition(self._needle)
        if not needle:
            values: list[str] = []
        elif needle not in after and (not before or before.endswith("; ")):
            values = [after.partition(";")[0].strip(_OWS)]  # once, as every browser sends it: _scan would find the same
        else:
            values = _scan(header, needle)[:_CANDIDATES]
            if len(values) == _CANDIDATES:
                return values
        if self.chunked and header.find(self._chunk_needle) >= 0:
            joined = self._join(header)
            if joined is not None:
                values.append(joined)
        return values

    def _join(self, header: str) -> str | None:
        """The value its chunks make up; ``None`` unless each is there exactly once and all are of one seal.

        Their order in the header means nothing (6265bis §4.2.2): each says its place.
        """
        parts: list[str] = []
        seal = count = ""
        for index, needle in enumerate(self._chunk_needles):
            found = _scan(header, needle)
            if not found:
                continue
            match = _CHUNK.fullmatch(found[0])
            if len(found) > 1 or match is None or index != len(parts) or int(match[2]) != index:
                return None
            if index == 0:
                seal, count = match[1], match[3]
            elif (match[1], match[3]) != (seal, count):
                return None
            parts.append(match[4])
        if len(parts) != int(count or "0") or not parts:
            return None
        value = "".join(parts)
        return value if _seal(value) == seal else None

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, value: str, header: str = "", max_age: int | None = None, secure: bool = True) -> list[str]:
        """The Set-Cookie header values that make *value* the session cookie; the first ones set, later ones delete.

        *value* must consist of cookie-octets (6265bis §4.1.1), as every token and seal does; it is not checked again.
        *header* is the request's Cookie header: chunks left over in it are deleted. *max_age* is in seconds, cut to
        400 days, ``None`` until the browser closes. No Expires: Max-Age wins over it (6265bis §5.7 step 3), every
        browser knows it, and no clock is needed. *secure*, whether the request is, counts for ``secure="auto"`` only.

        With chunking on, each response states the whole: one cookie and no chunks, or chunks and no single cookie. So
        of overlapping responses the last one wins, and never half of each.

        Raises:
            SessionTooLargeError: the cookies would exceed ``max_bytes``.
        """
        tail = self._tail if secure else self._http_tail
        if max_age is not None:
            tail = f"; Max-Age={min(max_age, MAX_AGE_LIMIT)}{tail}"
        if len(value) > self._room:
            lines = [f"{self.name}.{index}={part}{tail}" for index, part in enumerate(self._cut(value))]
            return [*lines, *self._delete(["", *self._stale(header, written=len(lines))], secure)]
        if self.chunked or header.find(self._chunk_needle) >= 0:
            return [f"{self._head}{value}{tail}", *self._delete(self._stale(header), secure)]
        return [f"{self._head}{value}{tail}"]

    def check(self, value: str) -> None:
        """Whether ``write`` would take *value*. Raises SessionTooLargeError when it would not."""
        if len(value) > self._room:
            self._cut(value)

    def clear(self, header: str = "", *, secure: bool = True) -> list[str]:
        """The Set-Cookie header values that delete the cookie and every chunk of it that *header* shows.

        A browser deletes only what has the same name, Domain and Path, and obeys only a line that it would accept for
        setting: so all attributes are repeated (6265bis §4.1.2, §5.7). Expires is there for clients without Max-Age.
        """
        return self._delete(["", *self._stale(header)], secure)

    def _cut(self, value: str) -> list[str]:
        """The chunks of *value*. Raises SessionTooLargeError."""
        size = len(self._head) + len(value)
        overhead = len(self._head) + len(".0") + _CHUNK_HEAD
        room = SINGLE_LIMIT - overhead
        count = -(-len(value) // room)
        if self.chunked:
            size = len(value) + count * overhead
        if size > self.max_bytes or not self.chunked:
            arithmetic = (
                f"{len(value)} for the value + {count} cookies of {overhead} for name and chunk mark"
                if self.chunked
                else f"{len(self._head)} for the name + {len(value)} for the value"
            )
            more = f"raise cookie_max_bytes (at most {_MOST}), " if self.max_bytes < _MOST else ""
            raise SessionTooLargeError(
                f"the session needs {size} bytes as a cookie ({arithmetic}), cookie_max_bytes is {self.max_bytes}: "
                f"keep less in it, {more}or keep sessions in a store",
                size=size,
                limit=self.max_bytes,
            )
        seal = _seal(value)
        return [f"1.{seal}.{i}.{count}.{value[i * room : (i + 1) * room]}" for i in range(count)]

    def _stale(self, header: str, *, written: int = 0) -> list[str]:
        """Suffixes of the chunks to delete: those *header* shows, and with chunking on whatever we could have set."""
        shown = set(_WRITTEN) if self.chunked else set()
        if header.find(self._chunk_needle) >= 0:
            for index, needle in enumerate(self._chunk_needles):
                # With chunking off such a name may be another app's: only what looks like ours is deleted.
                if any(self.chunked or _CHUNK.fullmatch(raw) for raw in _scan(header, needle)):
                    shown.add(index)
        return [f".{index}" for index in sorted(shown) if index >= written]

    def _delete(self, suffixes: list[str], secure: bool) -> list[str]:
        tail = self._tail if secure else self._http_tail
        gone = f"=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT{tail}"
        return [f"{self.name}{suffix}{gone}" for suffix in suffixes]


def _scan(header: str, needle: str) -> list[str]:
    """What follows *needle* in each cookie of *header* that begins with it, white space around it taken off.

    Linear in the header's length: a miss skips to the next ``;``, since no cookie begins before that.
    """
    found: list[str] = []
    start = 0
    at = header.find(needle)
    while at >= 0:
        end = header.find(";", at)
        if end < 0:
            end = len(header)
        if not header[max(start, header.rfind(";", start, at) + 1) : at].strip(_OWS):
            found.append(header[at + len(needle) : end].strip(_OWS))
        start = end + 1
        at = header.find(needle, start)
    return found


def _seal(value: str) -> str:
    """What the chunks of one value have in common. Tells mixtures apart; proof of origin is the value's own seal."""
    return hashlib.sha256(value.encode("ascii")).hexdigest()[:_SEAL_LENGTH]


# -- checks at construction ----------------------------------------------------------------------------------------


def _check_types(spec: CookieSpec) -> None:
    for setting, value in (("cookie_httponly", spec.httponly), ("partitioned", spec.partitioned)):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{setting} must be True or False")
    if not isinstance(spec.secure, bool) and spec.secure != "auto":
        raise ConfigurationError('cookie_secure must be True, False or "auto" (Secure whenever the request is https)')
    if spec.same_site not in _SAME_SITES:
        from difflib import get_close_matches

        near = get_close_matches(str(spec.same_site).lower(), _SAME_SITES, 1) if spec.same_site else []
        hint = f': did you mean "{near[0]}"?' if near else " (left out, each browser decides for itself)"
        raise ConfigurationError(f'same_site must be "lax", "strict" or "none"{hint}')
    if type(spec.max_bytes) is not int or not _LEAST <= spec.max_bytes <= _MOST:
        raise ConfigurationError(
            f"cookie_max_bytes must be {_LEAST} to {_MOST}: many servers refuse headers over 8192 bytes; "
            "larger sessions belong in a store"
        )


def _check_text(spec: CookieSpec) -> None:
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise ConfigurationError(
            "cookie_name must be 1 to 128 letters, digits or any of !#$%&'*+-.^_`|~ (RFC 9110 token)"
        )
    if not isinstance(spec.path, str) or not _PATH.fullmatch(spec.path):
        raise ConfigurationError(
            'cookie_path must begin with "/" and hold at most 1024 printable ASCII characters without space, '
            '"," or ";": percent-encode others, or use "/"'
        )
    domain = spec.domain
    if domain is not None and (not isinstance(domain, str) or not _DOMAIN.fullmatch(domain.removeprefix("."))):
        raise ConfigurationError(
            "cookie_domain must be a bare host name such as example.com (no scheme, port or path; international names "
            "in their xn-- form); None, the default, is narrower and safer"
        )


def _check_mix(spec: CookieSpec) -> None:
    """Combinations a browser answers by dropping the cookie."""
    # Browsers compare prefixes without regard to case (6265bis §5.7 steps 20-21), servers must not (§5.4).
    lower = spec.name.lower()
    for prefix in ("__Host-Http-", "__Http-", "__Host-", "__Secure-"):  # 6265bis §4.1.3, layered §4.1.3.3-4
        if not lower.startswith(prefix.lower()):
            continue
        if not spec.name.startswith(prefix):
            raise ConfigurationError(f"browsers treat this cookie_name as {prefix}: spell the prefix exactly so")
        plain = f"or use a cookie_name without {prefix}"
        if spec.secure is not True:
            raise ConfigurationError(f"a {prefix} cookie must be Secure: set cookie_secure=True, {plain}")
        if "Http" in prefix and not spec.httponly:
            raise ConfigurationError(f"a {prefix} cookie must be HttpOnly: set cookie_httponly=True, {plain}")
        if prefix.startswith("__Host-") and spec.domain is not None:
            raise ConfigurationError(f"a {prefix} cookie belongs to one host: leave cookie_domain out, {plain}")
        if prefix.startswith("__Host-") and spec.path != "/":
            raise ConfigurationError(f'a {prefix} cookie covers the whole host: set cookie_path="/", {plain}')
    if spec.same_site == "none" and spec.secure is not True:  # 6265bis §5.7 step 19
        raise ConfigurationError('same_site="none" needs Secure: set cookie_secure=True, or same_site="lax"')
    if spec.partitioned and spec.secure is not True:  # draft-cutler-httpbis-partitioned-cookies §2.1
        raise ConfigurationError("a partitioned cookie must be Secure: set cookie_secure=True, or partitioned=False")


# -- what caches are told ------------------------------------------------------------------------------------------

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 (RFC 9110 §5.6.2, not a secret)
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*+"'  # RFC 9110 §5.6.4
_DIRECTIVE = re.compile(rf"[ \t]*+(?:({_TOKEN})(=(?:{_TOKEN}|{_QUOTED}))?+)?+[ \t]*+(?:,|\Z)")

_SHARED = ("public", "s-maxage", "must-understand")  # for shared caches; the last lets them ignore no-store (§5.2.2.3)


def vary_cookie(existing: str | None) -> str:
    """*existing* (a response's Vary, several joined with ``", "``) with ``Cookie`` in it; ``*`` stays alone.

    RFC 9110 §12.5.5: the response depends on the cookie, so a cache must compare it.
    """
    if existing is None or not (merged := existing.strip(" \t,")):
        return "Cookie"
    names = {name.strip(" \t").lower() for name in merged.split(",")}
    return existing if names & {"*", "cookie"} else f"{merged}, Cookie"


def cache_control(existing: str | None) -> tuple[str, bool]:
    """The Cache-Control of a response that sets the session cookie, and whether the app's own had to be replaced.

    A Set-Cookie does not keep a response out of caches (RFC 9111 §7.3). *existing* stays when it holds the directive
    ``no-store``, or ``private`` without field names (with them it protects those fields only, RFC 9111 §5.2.2.7), and
    none that takes that back. Anything else becomes ``no-store``, and so does what cannot be parsed (§5.2). Several
    headers: join with ``", "``.
    """
    if existing is None or not existing.strip(" \t"):
        return "no-store", False
    keeps = False
    position = 0
    while position < len(existing):
        match = _DIRECTIVE.match(existing, position)
        if match is None:
            return "no-store", True
        name, argument = (match[1] or "").lower(), match[2]
        if name in _SHARED:
            return "no-store", True
        keeps = keeps or (argument is None and name in ("no-store", "private"))
        position = match.end()
    return (existing, False) if keeps else ("no-store", True)
