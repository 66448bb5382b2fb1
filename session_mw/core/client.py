"""Who is calling: the client's address and scheme behind trusted proxies, and its user agent.

Decided here: which of the things a request says about its origin is believed. Only a peer in ``trusted_proxies`` is
believed at all; then the addresses are walked from the right (each proxy appends the one it saw) to the first that
is not a trusted proxy. What stands left of it was written by the client, or by nobody we know. Whatever cannot be
read is *unknown*, ``None``, never a guess: a wrong address could open somebody else's session.

``Forwarded`` (RFC 7239) and ``X-Forwarded-For`` should not both come in. Many proxies write one and hand the other on
as the client sent it, so where both are there they must agree, else the address is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError

if TYPE_CHECKING:  # ipaddress costs 3 ms to import and most apps never ask for an address
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["MOST_HOPS", "USER_AGENT_LENGTH", "ClientRules", "clean_user_agent", "normalise_address"]

MOST_HOPS: Final = 64  # a longer chain of proxies is unknown
USER_AGENT_LENGTH: Final = 255  # characters
_UNIX = "unix"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 (RFC 9110 §5.6.2, not a secret)
_QUOTED = r'"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*+)"'  # RFC 9110 §5.6.4
_PAIR = re.compile(rf"[ \t]*+(?:({_TOKEN})=(?:({_TOKEN})|{_QUOTED}))?+[ \t]*+([;,]|\Z)")  # RFC 7239 §4
_MOST_PAIRS = 4 * MOST_HOPS  # for, by, host and proto each; a longer Forwarded is not read

# node [":" port], RFC 7239 §6; IPv6 with a port only in brackets. A port may be obfuscated (§6.3).
_PORT = "(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"(?:\[([^\]]+)\]|([0-9.]+)){_PORT}")

_LONGEST = 128  # characters of a node; what is longer is no address, and not worth remembering


def normalise_address(text: str) -> str | None:
    """The one spelling of an IP address, or ``None`` when *text* is none.

    IPv6 becomes compressed lower case without zone (RFC 5952 §4), IPv4-mapped IPv6 becomes IPv4; a port, brackets and
    quotes go. ``unix`` (nginx: ``unix:``) stays ``unix``. Names, ``unknown`` and ``_hidden`` (RFC 7239 §6) are none.
    """
    return _spell(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _spell(text: str) -> str | None:
    if text.strip(" \t") in (_UNIX, "unix:"):
        return _UNIX
    address = _parse_short(text)
    return None if address is None else str(address)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    return _parse_short(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)  # the same proxies and clients again and again; parsing costs ten times a look-up
def _parse_short(text: str) -> IPv4Address | IPv6Address | None:
    import ipaddress

    text = text.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    node = _NODE.fullmatch(text)
    try:
        if node is not None and node[2]:
            return ipaddress.IPv4Address(node[2])
        address = ipaddress.IPv6Address(text if node is None else node[1])
    except ValueError:
        return None
    if address.scope_id is not None:  # fe80::1%eth0: the zone means something on that host only (RFC 4007 §11.2)
        address = ipaddress.IPv6Address(int(address))
    return address.ipv4_mapped or address


class ClientRules:
    """Which proxies are believed, and how alike two addresses must be. Immutable by convention.

    *trusted_proxies*: addresses, networks (``"10.0.0.0/8"``), or ``"unix"`` for a peer on a unix socket. *ip_prefix*:
    leading bits that must be equal, for IPv4 (1-32) and IPv6 (1-128).

    Raises:
        ConfigurationError: an entry is no address or network, trusts everybody, or could never match; a bad prefix.
    """

    __slots__ = ("_bits", "_networks", "_unix", "believes")

    def __init__(self, trusted_proxies: Sequence[str] = (), ip_prefix: tuple[int, int] = (32, 128)) -> None:
        if isinstance(trusted_proxies, str) or not isinstance(trusted_proxies, Sequence):
            raise ConfigurationError('trusted_proxies is a sequence: write ("10.0.0.0/8",)')
        self._unix = _UNIX in trusted_proxies
        self._networks = [_network(entry) for entry in trusted_proxies if entry != _UNIX]
        self.believes = self._unix or bool(self._networks)  # anybody at all, so that headers need be read
        try:
            v4, v6 = ip_prefix
        except (TypeError, ValueError):
            raise ConfigurationError("ip_prefix is a pair (IPv4 bits, IPv6 bits), such as (24, 64)") from None
        if type(v4) is not int or type(v6) is not int or not 1 <= v4 <= 32 or not 1 <= v6 <= 128:
            raise ConfigurationError("ip_prefix must be 1 to 32 bits for IPv4 and 1 to 128 for IPv6, such as (24, 64)")
        self._bits = {4: 32 - v4, 6: 128 - v6}

    def address(self, peer: str | None, forwarded: str | None = None, x_forwarded_for: str | None = None) -> str | None:
        """The client's address, normalised; ``None`` when it is not known for sure.

        *peer* is what the server says (REMOTE_ADDR, ``scope["client"][0]``): ``None`` when it does not know; empty when
        it names no address of anybody, which means a unix socket when ``"unix"`` is trusted. The headers are whole,
        several of a name joined with ``", "``; blank is absent.
        An untrusted peer is the answer itself, headers unread. Behind a trusted one: the right-most address that is not
        trusted; if all are, the left-most; the peer when it forwarded nothing; unknown when a hop on the way is not an
        address, ``Forwarded`` breaks its grammar, or the two headers disagree.
        """
        known, trusted = self._peer(peer)
        if not trusted:
            return known
        answers: list[str | None] = []
        if forwarded is not None and forwarded.strip(" \t,"):
            answers.append(self._walk(forwarded_hops(forwarded))[0])
        if x_forwarded_for is not None and x_forwarded_for.strip(" \t,"):
            hops = x_forwarded_for.rsplit(",", MOST_HOPS)  # the uncut rest, if any, is no address
            answers.append(self._walk([{"for": hop} for hop in hops if hop.strip(" \t")])[0])
        if not answers:
            return known
        return answers[0] if len(set(answers)) == 1 else None

    def scheme(
        self, peer: str | None, scheme: str, forwarded: str | None = None, x_forwarded_proto: str | None = None
    ) -> str:
        """``"https"`` or ``"http"``: how the client reached the outermost trusted proxy; *scheme* is the server's view.

        Read from a trusted peer only: ``proto`` of the ``Forwarded`` element that names the client (RFC 7239 §5.4), or
        the right-most ``X-Forwarded-Proto``. When they disagree or cannot be read, the server's view stands.
        """
        own = _scheme(scheme) or "http"
        if not self._peer(peer)[1]:
            return own
        answers: set[str | None] = set()
        if forwarded is not None and forwarded.strip(" \t,"):
            answers.add(_scheme(self._walk(forwarded_hops(forwarded))[1].get("proto", "")))
        if x_forwarded_proto is not None and x_forwarded_proto.strip(" \t,"):
            answers.add(_scheme(x_forwarded_proto.rstrip(" \t,").rpartition(",")[2]))
        return (answers.pop() or own) if len(answers) == 1 else own

    def same(self, a: str | None, b: str | None) -> bool:
        """Whether two addresses agree in the leading bits of ``ip_prefix``; never across families, never if unknown."""
        if a is None or b is None:
            return False
        if a == b == _UNIX:
            return True
        first, second = _parse(a), _parse(b)
        if first is None or second is None or first.version != second.version:
            return False
        return (int(first) ^ int(second)) >> self._bits[first.version] == 0

    def _peer(self, peer: str | None) -> tuple[str | None, bool]:
        if peer == "":
            peer = _UNIX if self._unix else None
        known = None if peer is None else normalise_address(peer)
        return known, self.believes and self._trusts(known)

    def _trusts(self, address: str | None) -> bool:
        if address is None:
            return False
        if address == _UNIX:
            return self._unix
        parsed = _parse(address)
        return any(parsed in network for network in self._networks)

    def _walk(self, hops: list[dict[str, str]]) -> tuple[str | None, dict[str, str]]:
        """From the right, the first hop that is not trusted, its address or ``None``, and all that is said of it."""
        address: str | None = None
        hop: dict[str, str] = {}
        for hop in reversed(hops):
            address = normalise_address(hop.get("for", ""))
            if not self._trusts(address):
                break
        return address, hop


def forwarded_hops(header: str) -> list[dict[str, str]]:
    """The elements of a ``Forwarded`` header, names in lower case, quotes resolved; one empty hop if malformed.

    RFC 7239 §4. Read from the left, since only so a quoted string can be told from what is between two: a client that
    sends a stray quote makes itself unknown and gains nothing.
    """
    malformed: list[dict[str, str]] = [{}]
    hops: list[dict[str, str]] = []
    hop: dict[str, str] = {}
    position = 0
    for _ in range(_MOST_PAIRS):
        pair = _PAIR.match(header, position)
        if pair is None:
            return malformed
        position = pair.end()
        name, token, quoted, end = pair.groups()
        if name is not None:
            if name.lower() in hop:  # each at most once per element (RFC 7239 §4)
                return malformed
            hop[name.lower()] = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";" and hop:  # empty list elements are ignored (RFC 9110 §5.6.1.2)
            hops.append(hop)
            hop = {}
        if not end:
            return hops
    return malformed


def clean_user_agent(text: str | None) -> str | None:
    """*text* without control and other unprintable characters, at most 255 long; ``None`` when nothing is left."""
    if text is None:
        return None
    if not text[:USER_AGENT_LENGTH].isprintable():
        text = "".join(islice(filter(str.isprintable, text), USER_AGENT_LENGTH))
    return text[:USER_AGENT_LENGTH].strip() or None


def _scheme(text: str) -> str | None:
    """``https`` or ``http``, from a proxy's or server's word for it; ``None`` for any other."""
    return {"https": "https", "wss": "https", "http": "http", "ws": "http"}.get(text.strip(" \t").lower())


def _network(entry: str) -> IPv4Network | IPv6Network:
    """One entry of ``trusted_proxies``. Raises ConfigurationError."""
    import ipaddress

    if not isinstance(entry, str):
        raise ConfigurationError('trusted_proxies holds text, such as "10.0.0.0/8"')
    try:
        network = ipaddress.ip_network("0.0.0.0/0" if entry == "*" else entry)
    except ValueError:
        try:
            hint = f": did you mean {str(ipaddress.ip_network(entry, strict=False))!r}?"
        except ValueError:
            hint = ', such as "10.0.0.0/8", "::1" or "unix"'
        raise ConfigurationError(f"trusted_proxies: {entry!r} is no address or network{hint}") from None
    if network.prefixlen == 0:
        raise ConfigurationError(
            f"trusted_proxies: {entry!r} would let every client choose its own address; list the addresses or networks "
            'your proxies connect from, such as "10.0.0.0/8", or "unix"'
        )
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ConfigurationError(f"trusted_proxies: {entry!r} never matches, write it as IPv4 (peers are compared so)")
    return network
