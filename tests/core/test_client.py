"""Who is calling: only trusted hops are believed, and what cannot be read is unknown."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_mw.core.client import (
    MOST_HOPS,
    USER_AGENT_LENGTH,
    ClientRules,
    clean_user_agent,
    forwarded_hops,
    normalise_address,
)
from session_mw.errors import ConfigurationError

RULES = ClientRules(("10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48", "::1"))
NONE = ClientRules()
UNIX = ClientRules(("unix",))
PROXY, CLIENT, VICTIM = "10.0.0.1", "203.0.113.9", "198.51.100.66"


# -- one spelling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        (" 1.2.3.4\t", "1.2.3.4"),
        ("1.2.3.4:567", "1.2.3.4"),
        ("1.2.3.4:_port", "1.2.3.4"),
        ('"1.2.3.4"', "1.2.3.4"),
        ('"1.2.3.4:567"', "1.2.3.4"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:567", "::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("2001:DB8:0:0:0:0:0:00Ab", "2001:db8::ab"),
        ("::", "::"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::FFFF:102:304", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ("::ffff:1.2.3.4%eth0", "1.2.3.4"),
        ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("unix", "unix"),
        ("unix:", "unix"),
    ],
)
def test_one_spelling(text: str, address: str | None) -> None:
    assert normalise_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", '"', '""', "unknown", "_hidden", "_", "localhost", "testclient", "a.b", "*", "UNIX", "unix:/run/x"),
        *("1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4:", "1.2.3.4:123456", "1.2.3.4:x", "1", ":"),
        *("1.2.3.4/8", "1.2.3.4%eth0", "[1.2.3.4]", "0x7f.1", "2130706433", "'1.2.3.4'", '"1.2.3.4', "1" * 5000),
        *("[::1", "::1]", "[::1]x", "[]", "[::1]:", "::1::2", ":::", "1:2:3:4:5:6:7:8:9", "12345::", "::g", "::1%"),
        *(
            "::1/64",
            "1.2.3.4\n",
            "\n::1",
            "1.2.3.4\0",
            "1.2.3.4, 5.6.7.8",
            "１.2.3.4",
            "٣.2.3.4",
            "::１",
            ":" * 100_000,
        ),
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert normalise_address(text) is None


def test_long_text_is_refused_and_not_remembered() -> None:
    from session_mw.core.client import _parse_short

    kept = _parse_short.cache_info().currsize
    assert normalise_address(" " * 200 + "192.0.2.201") is None
    assert _parse_short.cache_info().currsize == kept
    assert _parse_short.cache_info().maxsize == 1024


@settings(max_examples=60)
@given(st.ip_addresses())
def test_every_spelling_of_an_address_is_one(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    known = normalise_address(str(address))
    assert known is not None
    assert normalise_address(known) == known
    assert {normalise_address(text) for text in (address.exploded, f'"{address}"', str(address).upper())} == {known}
    assert normalise_address(f"[{address}]:80" if address.version == 6 else f"{address}:80") == known
    if address.version == 4:
        assert normalise_address(f"::ffff:{address}") == known
    assert NONE.same(known, str(address))


# -- construction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "cure"),
    [
        ("*", "would let every client choose"),
        ("0.0.0.0/0", "would let every client choose"),
        ("::/0", "would let every client choose"),
        ("10.0.0.1/8", "did you mean '10.0.0.0/8'"),
        ("proxy.local", 'such as "10.0.0.0/8"'),
        ("", 'such as "10.0.0.0/8"'),
        ("10.0.0.0/33", 'such as "10.0.0.0/8"'),
        ("127.0.0.1:80", 'such as "10.0.0.0/8"'),
        ("::ffff:10.0.0.0/104", "write it as IPv4"),
        ("::ffff:10.0.0.1", "write it as IPv4"),
        (167772160, "holds text"),
        (None, "holds text"),
    ],
)
def test_bad_proxies_are_refused(entry: object, cure: str) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies") as caught:
        ClientRules(("10.0.0.1", entry))  # type: ignore[arg-type]
    assert cure in str(caught.value)


@pytest.mark.parametrize("proxies", ["10.0.0.0/8", "unix", None, 5])
def test_proxies_are_a_sequence(proxies: object) -> None:
    with pytest.raises(ConfigurationError, match="sequence"):
        ClientRules(proxies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prefix", [(0, 64), (33, 64), (24, 0), (24, 129), (24.0, 64), (True, 64), ("24", 64), (24,), (24, 64, 1), 24, None]
)
def test_bad_prefixes_are_refused(prefix: object) -> None:
    with pytest.raises(ConfigurationError, match="ip_prefix"):
        ClientRules(ip_prefix=prefix)  # type: ignore[arg-type]


def test_importing_costs_no_ipaddress() -> None:
    code = (
        "import sys; from session_mw.core import client; client.ClientRules(); print('ipaddress' in sys.modules);"
        "client.normalise_address('::1'); print('ipaddress' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # coverage imports it
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert result.stdout.split() == ["False", "True"]


# -- the address ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"x_forwarded_for": VICTIM}, {"forwarded": f"for={VICTIM}"}])
@pytest.mark.parametrize("rules", [RULES, NONE, UNIX])
def test_from_an_untrusted_peer_no_header_counts(rules: ClientRules, headers: dict[str, str]) -> None:
    assert rules.address(CLIENT, **headers) == CLIENT
    assert rules.address("[2001:DB8::5]:443", **headers) == "2001:db8::5"
    assert rules.address("testclient", **headers) is None
    assert NONE.address(None, **headers) is None
    assert NONE.address("", **headers) is None
    assert RULES.address(None, **headers) is None
    assert RULES.address("unix", **headers) == "unix"


@pytest.mark.parametrize("peer", [PROXY, "10.0.0.1:8080", "::ffff:10.0.0.1", "192.0.2.7", "2001:db8:ffff::9", "::1"])
@pytest.mark.parametrize(
    ("x_forwarded_for", "address"),
    [
        (CLIENT, CLIENT),
        (f"{VICTIM}, {CLIENT}", CLIENT),  # the forged left part
        (f"{VICTIM},{CLIENT},10.2.3.4", CLIENT),
        (f"{VICTIM}, {CLIENT}, 10.2.3.4, 192.0.2.7, ::1", CLIENT),
        (f"{CLIENT}, {VICTIM}, 192.0.2.8", "192.0.2.8"),
        (f"  {CLIENT}:567  ", CLIENT),
        (f"{CLIENT},", CLIENT),
        (f"{CLIENT}, ,, 10.0.0.9", CLIENT),
        ("::ffff:203.0.113.9", CLIENT),
        ("[2001:DB8::7]:443, 10.0.0.9", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:db8:ffff::7, 10.0.0.9", "2001:db8:ffff::7"),  # all trusted: the outermost
        ("unix", "unix"),  # not trusted here
        ("unknown", None),
        (f"{VICTIM}, unknown", None),
        (f"{VICTIM}, _hidden, 10.0.0.9", None),
        (f"{VICTIM}, 10.0.0.999", None),
        (f"{VICTIM}; {CLIENT}", None),
        ("unknown, 10.0.0.9", None),
        (f"for={CLIENT}", None),
        (", ".join([VICTIM] * 999 + [CLIENT]), CLIENT),
        (", ".join([VICTIM] * 999 + [CLIENT, "10.0.0.9"]), CLIENT),
        (", ".join(["10.0.0.9"] * 1000), None),
        (", ".join([CLIENT] + ["10.0.0.9"] * MOST_HOPS), CLIENT),
        (", ".join([VICTIM, CLIENT] + ["10.0.0.9"] * MOST_HOPS), None),
    ],
)
def test_x_forwarded_for_from_a_trusted_peer(peer: str, x_forwarded_for: str, address: str | None) -> None:
    assert RULES.address(peer, None, x_forwarded_for) == address


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT};proto=https;by=10.0.0.1", CLIENT),
        (f"by=x;FOR={CLIENT}", CLIENT),
        (f"for={VICTIM}, for={CLIENT}", CLIENT),
        (f"for={VICTIM},for={CLIENT};by=x , for=10.0.0.9", CLIENT),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        ('for="[2001:DB8:cafe::17]"', "2001:db8:cafe::17"),
        (f'for="{CLIENT}:4711"', CLIENT),
        (f'for="{CLIENT}:_obf"', CLIENT),
        (f'for="\\{CLIENT}"', CLIENT),  # quoted-pair, RFC 9110 §5.6.4
        (f"for={VICTIM},, for={CLIENT} , ,", CLIENT),
        (f"for={CLIENT};", CLIENT),
        (f";for={CLIENT}", CLIENT),
        (f'for={CLIENT};host="a,for={VICTIM}"', CLIENT),
        (f'for={CLIENT};host="a;\\",for={VICTIM}"', CLIENT),
        ("for=10.0.0.8, for=10.0.0.9", "10.0.0.8"),
        ("for=unix", "unix"),
        ("for=unknown", None),
        ("for=_hidden", None),
        ('for="_gazonk"', None),
        (f"for={VICTIM}, for=_hidden, for=10.0.0.9", None),
        (f"for={VICTIM}, proto=https", None),
        (f"for={VICTIM};for={CLIENT}", None),
        (f"for={VICTIM};FOR={CLIENT}", None),
        (f"for={CLIENT}:4711", None),  # a colon needs quotes
        ("for=2001:db8::1", None),
        ("for=[2001:db8::1]", None),
        (f"for ={CLIENT}", None),
        (f"for= {CLIENT}", None),
        (f"for={CLIENT} x", None),
        ("for", None),
        ("for=", None),
        ("=x", None),
        (CLIENT, None),
        (f'for="{CLIENT}', None),
        (f'for={VICTIM};x=", for={CLIENT}', None),  # a stray quote swallows nothing
        (f'for={VICTIM};x=", for="{CLIENT}"', None),
        (f'for={VICTIM};x="\\", for="{CLIENT}"', None),
        (f'for="{CLIENT}"x', None),
        (f"for={CLIENT}\0", None),
        (f'for="{CLIENT}\r\n"', None),
        (f"for={CLIENT}; \x0b", None),
        (", ".join([f"for={VICTIM}"] * 99 + [f"for={CLIENT}"]), CLIENT),
        (", ".join([f"for={VICTIM}"] * 1000 + [f"for={CLIENT}"]), None),
        (";" * 60_000, None),
        (" " * 60_000 + "@", None),
        ('for="' + "\\" * 60_001, None),
    ],
)
def test_forwarded_from_a_trusted_peer(forwarded: str, address: str | None) -> None:
    assert RULES.address(PROXY, forwarded) == address


def test_forwarded_elements() -> None:
    header = 'for="[::1]:1";Proto=https ; host="a\\"b", for=_x;by="";ext=1'
    assert forwarded_hops(header) == [
        {"for": "[::1]:1", "proto": "https", "host": 'a"b'},
        {"for": "_x", "by": "", "ext": "1"},
    ]
    assert forwarded_hops("for=1.2.3.4, ;") == [{"for": "1.2.3.4"}]
    assert forwarded_hops("for=1.2.3.4, \x7f") == [{}]


@pytest.mark.parametrize("blank", [None, "", "  ", " , ,\t"])
def test_a_trusted_peer_that_forwarded_nothing_is_the_client(blank: str | None) -> None:
    assert RULES.address(PROXY, blank, blank) == PROXY
    assert RULES.address(PROXY, blank, CLIENT) == CLIENT
    assert RULES.address(PROXY, f"for={CLIENT}", blank) == CLIENT
    assert RULES.scheme(PROXY, "http", blank, blank) == "http"


def test_both_headers_must_agree() -> None:
    """nginx writes X-Forwarded-For and hands Forwarded on as the client sent it: preferring either could be forged."""
    assert RULES.address(PROXY, f"for={VICTIM}", CLIENT) is None
    assert RULES.address(PROXY, "for=_hidden", CLIENT) is None
    assert RULES.address(PROXY, 'for="', CLIENT) is None
    assert RULES.address(PROXY, f"for={CLIENT}", "unknown") is None
    assert RULES.address(PROXY, "for=unknown", "unknown") is None
    assert RULES.address(PROXY, f'for="{CLIENT}:1", for=10.1.1.1', f"{VICTIM}, ::ffff:{CLIENT}") == CLIENT


def test_a_unix_socket_has_no_peer_address() -> None:
    for peer in ("", "unix", "unix:"):
        assert UNIX.address(peer, None, f"{VICTIM}, {CLIENT}") == CLIENT
        assert UNIX.address(peer, None, f"{VICTIM}, {CLIENT}, unix:") == CLIENT
        assert UNIX.address(peer, f"for={CLIENT}") == CLIENT
        assert UNIX.address(peer) == "unix"
        assert UNIX.scheme(peer, "http", None, "https") == "https"
        assert RULES.scheme(peer, "http", None, "https") == "http"
    assert UNIX.address(CLIENT, None, VICTIM) == CLIENT
    assert ClientRules(["unix", "10.0.0.0/8"]).address("", None, f"{CLIENT}, 10.0.0.3, unix") == CLIENT


def test_a_peer_that_the_server_does_not_know_is_no_unix_socket() -> None:
    for rules in (UNIX, ClientRules(["unix", "10.0.0.0/8"])):
        assert rules.address(None, None, VICTIM) is None
        assert rules.address(None, f"for={VICTIM}") is None
        assert rules.address(None) is None
        assert rules.scheme(None, "http", f"for={VICTIM};proto=https", "https") == "http"


# -- the scheme ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "known"),
    [("http", "http"), ("https", "https"), ("ws", "http"), ("wss", "https"), ("HTTPS", "https"), ("", "http")],
)
def test_the_servers_own_scheme(own: str, known: str) -> None:
    other = "http" if known == "https" else "https"
    for peer in (CLIENT, None, "testclient", PROXY):
        assert RULES.scheme(peer, own) == known
    assert RULES.scheme(CLIENT, own, f"for={VICTIM};proto={other}", other) == known
    assert NONE.scheme(PROXY, own, None, other) == known


@pytest.mark.parametrize(
    ("forwarded", "x_forwarded_proto", "scheme"),
    [
        (None, "https", "https"),
        (None, "HTTPS", "https"),
        (None, "wss", "https"),
        (None, "http", "http"),
        (None, "http, https", "https"),
        (None, "https, http", "http"),
        (None, "http,https,", "https"),
        (None, "ftp", "http"),
        (None, "https;x", "http"),
        (f"for={CLIENT};proto=https", None, "https"),
        (f'for={CLIENT};proto="HTTPS"', None, "https"),
        (f"for={CLIENT}", None, "http"),
        (
            f"for={CLIENT};proto=https, for=10.0.0.9;proto=http",
            None,
            "https",
        ),  # the client's, not the last hop's
        (f"for={VICTIM};proto=https, for={CLIENT};proto=http", None, "http"),  # forged
        (f"for={VICTIM};proto=https, for={CLIENT}", None, "http"),
        ("for=_hidden;proto=https", None, "https"),  # written by the proxy all the same
        (f'for={CLIENT};proto=https;x="', None, "http"),
        (f"for={CLIENT};proto=https", "https", "https"),
        (f"for={CLIENT};proto=http", "https", "http"),
        (f"for={CLIENT}", "https", "http"),
    ],
)
def test_the_scheme_from_a_trusted_peer(forwarded: str | None, x_forwarded_proto: str | None, scheme: str) -> None:
    assert RULES.scheme(PROXY, "http", forwarded, x_forwarded_proto) == scheme


def test_a_disagreement_leaves_the_servers_view() -> None:
    assert RULES.scheme(PROXY, "https", f"for={CLIENT};proto=http", "https") == "https"
    assert RULES.scheme(PROXY, "https", None, "gopher") == "https"
    assert RULES.scheme(PROXY, "https", None, "http") == "http"


# -- alike ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "a", "b", "same"),
    [
        ((32, 128), CLIENT, CLIENT, True),
        ((32, 128), CLIENT, "::ffff:203.0.113.9", True),
        ((32, 128), CLIENT, "203.0.113.8", False),
        ((32, 128), "2001:db8::1", "2001:DB8:0::1", True),
        ((32, 128), "2001:db8::1", "2001:db8::2", False),
        ((32, 128), "1::23", "12::3", False),  # not what is left without colons
        ((24, 56), "1.2.3.4", "1.2.3.255", True),
        ((24, 56), "1.2.3.4", "1.2.4.4", False),
        ((24, 56), "2001:db8:0:ff::1", "2001:db8:0:1::2", True),
        ((24, 56), "2001:db8:0:ff::1", "2001:db8:0:1ff::1", False),
        ((1, 1), "1.2.3.4", "127.0.0.1", True),
        ((1, 1), "1.2.3.4", "128.0.0.1", False),
        ((1, 1), "::1", "0.0.0.1", False),
        ((32, 128), None, None, False),
        ((32, 128), CLIENT, None, False),
        ((32, 128), None, CLIENT, False),
        ((32, 128), "", "", False),
        ((32, 128), "unknown", "unknown", False),
        ((32, 128), CLIENT, "unknown", False),
        ((32, 128), "unix", "unix", True),
        ((32, 128), "unix", CLIENT, False),
        ((32, 128), CLIENT, "unix", False),
    ],
)
def test_same(prefix: tuple[int, int], a: str | None, b: str | None, same: bool) -> None:
    assert ClientRules(ip_prefix=prefix).same(a, b) is same


# -- user agent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (None, None),
        ("", None),
        (" \t ", None),
        ("\r\n\0", None),
        ("Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)"),
        (" curl/8 ", "curl/8"),
        ("a\r\nSet-Cookie: x\0\x1b[31m\x7f\x85\x9b\u2028\u202e\ud800b", "aSet-Cookie: x[31mb"),
        ("é✓", "é✓"),
        ("x" * 256, "x" * 255),
        ("\0" * 1000 + "x" * 256, "x" * 255),
        ("ab\0" * 200, ("ab" * 200)[:255]),
    ],
)
def test_user_agent(text: str | None, clean: str | None) -> None:
    assert clean_user_agent(text) == clean
    assert USER_AGENT_LENGTH == 255
