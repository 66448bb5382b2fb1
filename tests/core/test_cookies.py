"""Cookies: found, written, cut into chunks, deleted, and never half of anything."""

from __future__ import annotations

import dataclasses
import re
from http.cookies import SimpleCookie

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import cookie_parser
from werkzeug.http import parse_cookie

from session_mw.core.cookies import MAX_AGE_LIMIT, SINGLE_LIMIT, CookieSpec, cache_control, vary_cookie
from session_mw.errors import ConfigurationError, SessionTooLargeError

SESS = CookieSpec("sess")
BIG = CookieSpec("sess", max_bytes=7600)
PAST = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
TAIL = "Path=/; Secure; HttpOnly; SameSite=Lax"


def cookies_of(lines: list[str], jar: dict[str, str] | None = None) -> dict[str, str]:
    """What a browser holds after these Set-Cookie lines; every line must be within its limits and ours."""
    jar = dict(jar or {})
    names = [line.partition("=")[0] for line in lines]
    assert len(names) == len(set(names)), "one Set-Cookie per name (6265bis §4.1.1)"
    for line in lines:
        pair, _, attributes = line.partition("; ")
        name, _, value = pair.partition("=")
        assert len(name) + len(value) <= 4096
        assert re.fullmatch(r"[!#-+\--:<-\[\]-~]*", value), "cookie-octets"
        assert line.isascii()
        assert line.isprintable()
        if "Max-Age=0" in attributes:
            jar.pop(name, None)
        else:
            jar[name] = value
    return jar


def header_of(jar: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in jar.items())


def found(spec: CookieSpec, header: bytes) -> list[str]:
    return spec.read(header.decode("latin-1"))


def sealed(length: int, letter: str = "a") -> str:
    return (letter + "Bc3_-") * (length // 6) + letter * (length % 6)


# -- construction --------------------------------------------------------------------------------------------------


def test_defaults_are_the_narrowest() -> None:
    assert CookieSpec().write("v") == [f"__Host-session=v; {TAIL}"]
    spec = CookieSpec()
    assert spec == CookieSpec()
    assert (spec.name, spec.path, spec.domain, spec.secure, spec.httponly) == ("__Host-session", "/", None, True, True)
    assert (spec.same_site, spec.partitioned, spec.max_bytes) == ("lax", False, 3900)
    assert spec.is_host_prefixed
    assert not SESS.is_host_prefixed
    assert CookieSpec("__Host-Http-s").is_host_prefixed
    assert BIG.chunked
    assert not SESS.chunked


def test_a_spec_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SESS.secure = False  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        SESS.is_host_prefixed = True  # type: ignore[misc]


INJECTED = ["\r\nX: y", "a\r\nSet-Cookie: b=c", ";", "a;b", "a,b", "a b", "a\0b", "a\x7f", "a\tb", "é", "😀", "a\n"]


@pytest.mark.parametrize("bad", [*INJECTED, "", "a=b", 'a"b', "a/b", "(a)", "x" * 129, b"sess", None])
def test_names_that_would_break_the_line(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="cookie_name"):
        CookieSpec(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [*(f"/{text}" for text in INJECTED), "", "app", "/;Domain=evil", "/" * 1025, None])
def test_paths_that_would_break_the_line(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="cookie_path"):
        CookieSpec("sess", path=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        *INJECTED,
        *("", ".", "..com", "a..b", "example.com.", "-a.com", "a-.com", "http://a", "a:80", "a/b", "a.b; Path=/"),
        *("::1", "x" * 64 + ".com", "a." * 127, 5, False),
    ],
)
def test_domains_that_are_no_host_name(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="cookie_domain"):
        CookieSpec("sess", domain=bad)  # type: ignore[arg-type]


def test_a_long_path_and_domain_within_bounds() -> None:
    path = "/" + "p" * 1023
    domain = ".".join(["d" * 63] * 3 + ["e" * 61])
    assert CookieSpec("sess", path=path, domain=domain).write("v")[0].startswith(f"sess=v; Path={path}; Domain=ddd")


def test_a_leading_dot_means_nothing() -> None:
    spec = CookieSpec("sess", domain=".Example.com")
    assert spec.domain == "example.com"
    assert spec.write("v") == ["sess=v; Path=/; Domain=example.com; Secure; HttpOnly; SameSite=Lax"]


@pytest.mark.parametrize(
    ("name", "settings", "cure"),
    [
        ("__Host-s", {"secure": False}, "cookie_secure=True"),
        ("__Host-s", {"secure": "auto"}, "cookie_secure=True"),
        ("__Host-s", {"path": "/app"}, 'cookie_path="/"'),
        ("__Host-s", {"domain": "example.com"}, "leave cookie_domain out"),
        ("__Secure-s", {"secure": False}, "cookie_secure=True"),
        ("__Secure-s", {"secure": "auto"}, "cookie_secure=True"),
        ("__Http-s", {"secure": False}, "cookie_secure=True"),
        ("__Http-s", {"httponly": False}, "cookie_httponly=True"),
        ("__Host-Http-s", {"httponly": False}, "cookie_httponly=True"),
        ("__Host-Http-s", {"path": "/app"}, 'cookie_path="/"'),
        ("__Host-Http-s", {"domain": "example.com"}, "leave cookie_domain out"),
        ("__Host-Http-s", {"secure": "auto"}, "cookie_secure=True"),
        ("__host-s", {}, "__Host-: spell"),
        ("__HOST-s", {}, "__Host-: spell"),
        ("__secure-s", {}, "__Secure-: spell"),
        ("__http-s", {}, "__Http-: spell"),
        ("__Host-http-s", {}, "__Host-Http-: spell"),
        ("s", {"same_site": "none", "secure": False}, "cookie_secure=True"),
        ("s", {"same_site": "none", "secure": "auto"}, "cookie_secure=True"),
        ("s", {"partitioned": True, "secure": False}, "cookie_secure=True"),
        ("s", {"partitioned": True, "secure": "auto"}, "cookie_secure=True"),
        ("s", {"secure": 1}, "True, False or"),
        ("s", {"secure": "yes"}, "True, False or"),
        ("s", {"secure": None}, "True, False or"),
        ("s", {"httponly": 1}, "cookie_httponly"),
        ("s", {"partitioned": "no"}, "partitioned"),
        ("s", {"same_site": "Lax"}, 'did you mean "lax"'),
        ("s", {"same_site": "stict"}, 'did you mean "strict"'),
        ("s", {"same_site": None}, "each browser decides"),
        ("s", {"same_site": "zzz"}, "each browser decides"),
        ("s", {"max_bytes": 255}, "256 to 7600"),
        ("s", {"max_bytes": 7601}, "256 to 7600"),
        ("s", {"max_bytes": True}, "256 to 7600"),
        ("s", {"max_bytes": 3900.0}, "256 to 7600"),
    ],
)
def test_impossible_mixes_say_what_to_change(name: str, settings: dict[str, object], cure: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(cure)):
        CookieSpec(name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (CookieSpec("__Secure-s", domain="a.b", httponly=False), "Path=/; Domain=a.b; Secure; SameSite=Lax"),
        (CookieSpec("__Http-s", path="/x"), "Path=/x; Secure; HttpOnly; SameSite=Lax"),
        (CookieSpec("__Host-Http-s", same_site="strict"), "Path=/; Secure; HttpOnly; SameSite=Strict"),
        (
            CookieSpec(same_site="none", partitioned=True),
            "Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
        ),
        (CookieSpec("s", partitioned=True), "Path=/; Secure; HttpOnly; SameSite=Lax; Partitioned"),
        (CookieSpec("s", secure=False), "Path=/; HttpOnly; SameSite=Lax"),
    ],
)
def test_attributes(spec: CookieSpec, line: str) -> None:
    assert spec.write("v") == [f"{spec.name}=v; {line}"]
    # The deleting line repeats every attribute, or the browser would refuse it or keep the cookie.
    assert spec.clear() == [f"{spec.name}=; {PAST}; {line}"]


def test_auto_follows_the_request() -> None:
    spec = CookieSpec("s", secure="auto")
    assert spec.write("v") == ["s=v; Path=/; Secure; HttpOnly; SameSite=Lax"]
    assert spec.write("v", secure=False) == ["s=v; Path=/; HttpOnly; SameSite=Lax"]
    assert spec.clear(secure=False) == [f"s=; {PAST}; Path=/; HttpOnly; SameSite=Lax"]
    assert SESS.write("v", secure=False) == [f"sess=v; {TAIL}"]  # True is True whatever the request


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (1209600, 1209600),
        (0, 0),
        (-1, -1),
        (MAX_AGE_LIMIT, 34560000),
        (MAX_AGE_LIMIT + 1, 34560000),
        (10**12, 34560000),
    ],
)
def test_max_age_is_as_given_but_no_longer_than_400_days(given: int, sent: int) -> None:
    assert SESS.write("v", max_age=given) == [f"sess=v; Max-Age={sent}; {TAIL}"]


# -- reading -------------------------------------------------------------------------------------------------------


def test_absent() -> None:
    assert SESS.read("") == []
    assert SESS.read("a=1; b=2") == []


@pytest.mark.parametrize("spec", [SESS, BIG])
@pytest.mark.parametrize(
    ("header", "values"),
    [
        # the corpus: shapes
        (b"sess=", [""]),
        (b"=", []),
        (b"sess", []),
        (b"=sess", []),
        (b"=sess=x", []),
        (b";;;", []),
        (b"     ", []),
        (b"sess\t=x", []),
        (b"sess =x", []),
        (b"sess=\tx\t", ["x"]),
        (b"\tsess=x", ["x"]),
        (b" sess= x ", ["x"]),
        (b"sess=x;", ["x"]),
        (b"a=1;sess=x;b=2", ["x"]),
        (b"a=1; \t sess=x ;b=2", ["x"]),
        (b"a=1;  sess=x", ["x"]),
        (b";sess=x", ["x"]),
        (b"sess=a=b==", ["a=b=="]),
        (b"sess=sess=x", ["sess=x"]),
        # quotes are data
        (b'sess=""', ['""']),
        (b'sess="', ['"']),
        (b'sess="abc', ['"abc']),
        (b'sess="a;b"', ['"a']),
        (b'sess="\\073"', ['"\\073"']),
        (b'$Version="1"; sess="x"; $Path="/"', ['"x"']),
        (b'dummy="a; sess=x; b"', ["x"]),  # no quoting in cookies: every ";" separates (6265bis §4.1.1)
        # duplicates, in order
        (b"sess=junk; sess=GOOD", ["junk", "GOOD"]),
        (b"sess=GOOD; sess=junk", ["GOOD", "junk"]),
        (b"sess=1; sess=1", ["1", "1"]),
        (b"sess=1;sess=2;sess=3;sess=4;sess=5;sess=6", ["1", "2", "3", "4"]),
        (b"sess=\xff; " * 9 + b"sess=x", ["\xff"] * 4),
        # case, encodings
        (b"SESS=x; Sess=x; \xc5\xbfess=x", []),
        (b"%73ess=x", []),
        (b"sess=%41", ["%41"]),
        (b"sess=\xc3\xa9", ["\xc3\xa9"]),
        (b"sess=\xe9", ["\xe9"]),
        (b"sess=\xc0\xaf", ["\xc0\xaf"]),
        (b"sess=\xef\xbb\xbfx", ["\xef\xbb\xbfx"]),
        (b"\xef\xbb\xbfsess=x", []),
        (b"sess=\xa0x", ["\xa0x"]),
        (b"\xa0sess=x", []),
        (b"\xff=\xff; sess=x; caf\xc3\xa9=1", ["x"]),
        # name games
        (b"xsess=x", []),
        (b"a=sess=x", []),
        (b"a=1 sess=x", []),
        (b"a=1; bsess=x; sess=y; c=sess=z", ["y"]),
        (b"xsess=x; sess=y", ["y"]),
        (b"sesssess=x", []),
        (b"sess-1=x; sess.=x; sess.x=1; sess_=x", []),
        (b"__Host-sess=x; __host-sess=x", []),
        # 200 cookies
        (b"; ".join(b"c%d=%d" % (i, i) for i in range(200)) + b"; sess=x", ["x"]),
    ],
)
def test_what_is_found(spec: CookieSpec, header: bytes, values: list[str]) -> None:
    assert found(spec, header) == values


@pytest.mark.parametrize("byte", [*range(0x20), *range(0x7F, 0x100)])
def test_foreign_bytes_are_passed_on_to_be_refused_by_whoever_verifies(byte: int) -> None:
    value = bytes([0x61, byte, 0x62])
    assert found(SESS, b"sess=" + value) == [value.decode("latin-1")]


@pytest.mark.parametrize("name", [b"__host-session", b"__HOST-session", b"__HOST-SESSION", b"__Host-Session"])
def test_prefixes_are_compared_byte_by_byte(name: bytes) -> None:
    assert found(CookieSpec(), name + b"=valid") == []


def reference(header: bytes, name: bytes) -> list[str]:
    found = []
    for piece in header.split(b";"):
        key, equals, value = piece.strip(b" \t").partition(b"=")
        value = value.strip(b" \t")
        if equals and key == name:
            found.append(value.decode("latin-1"))
    return found[:4]


PIECES = st.sampled_from([b"sess=", b"sess", b"=", b";", b"; ", b" ", b"\t", b"x", b"a=b", b'"', b"\xff", b"\0", b"s"])


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=24).map(b"".join))
def test_agrees_with_a_parser_that_splits(header: bytes) -> None:
    assert found(SESS, header) == reference(header, b"sess")


@settings(max_examples=100)
@given(st.binary(max_size=60), st.text("abs=", min_size=1, max_size=3))
def test_agrees_on_any_bytes(header: bytes, name: str) -> None:
    name = name.replace("=", "s")
    header = header.replace(b"\0", name.encode() + b"=")
    assert found(CookieSpec(name), header) == reference(header, name.encode())


SANE_NAME = st.text("abcdefs._-", min_size=1, max_size=8)
SANE_VALUE = st.text("abcXYZ012-_.=", max_size=12)


@settings(max_examples=100)
@given(st.dictionaries(SANE_NAME, SANE_VALUE, max_size=6), SANE_VALUE)
def test_agrees_with_werkzeug_and_starlette_on_sane_headers(others: dict[str, str], value: str) -> None:
    jar = {**others, "sess": value}
    text = header_of(jar)
    assert SESS.read(text) == [parse_cookie(text)["sess"]] == [cookie_parser(text)["sess"]]


@pytest.mark.parametrize("spec", [SESS, BIG])
@pytest.mark.parametrize(
    "unit",
    [b"sess=", b"sess=;", b"xsess=", b" sess=x", b";", b" ", b"; ", b"a=sess=;", b"sess.0=;", b"sess.", b"\xffsess=;"],
)
def test_hostile_headers_take_linear_work(spec: CookieSpec, unit: bytes) -> None:
    """Counted, not timed: the bytes looked at by Python-level searches grow like the header."""

    class Counted(str):
        calls = 0

        def find(self, *args: object) -> int:  # type: ignore[override]
            Counted.calls += 1
            return str.find(self, *args)  # type: ignore[arg-type]

        def rfind(self, *args: object) -> int:  # type: ignore[override]
            Counted.calls += 1
            return str.rfind(self, *args)  # type: ignore[arg-type]

    work = []
    for units in (200, 64 * 200):
        Counted.calls = 0
        spec.read(Counted(unit.decode("latin-1") * units))
        work.append(Counted.calls)
    assert work[1] <= 64 * work[0] + 64


# -- chunks --------------------------------------------------------------------------------------------------------


def test_one_cookie_as_long_as_it_fits() -> None:
    value = sealed(SINGLE_LIMIT - len("sess="))
    lines = BIG.write(value)
    assert lines == [f"sess={value}; {TAIL}", f"sess.0=; {PAST}; {TAIL}", f"sess.1=; {PAST}; {TAIL}"]
    assert SESS.write(value) == lines[:1]
    assert BIG.read(header_of(cookies_of(lines))) == [value]


def test_one_byte_more_becomes_two_chunks() -> None:
    value = sealed(SINGLE_LIMIT - len("sess=") + 1)
    lines = BIG.write(value, max_age=60)
    jar = cookies_of(lines)
    assert list(jar) == ["sess.0", "sess.1"]
    assert lines[2:] == [f"sess=; {PAST}; {TAIL}"]
    assert all(f"; Max-Age=60; {TAIL}" in line for line in lines[:2])
    assert len(f"sess.0={jar['sess.0']}") == SINGLE_LIMIT
    assert BIG.read(header_of(jar)) == [value]
    assert SESS.read(header_of(jar)) == []


@pytest.mark.parametrize("name", ["s", "__Host-session", "n" * 128])
@pytest.mark.parametrize("max_bytes", [3901, 3999, 5000, 7600])
def test_every_length_up_to_the_budget_comes_back(name: str, max_bytes: int) -> None:
    spec = CookieSpec(name, max_bytes=max_bytes)
    single, both = SINGLE_LIMIT - len(name) - 1, max_bytes - 2 * (len(name) + 26)
    edges = {0, 1, single - 1, single, single + 1, both - 1, both, both + 1, SINGLE_LIMIT, max_bytes}
    for length in sorted(edges):
        value = sealed(length)
        if length > max(single, both):
            with pytest.raises(SessionTooLargeError):
                spec.write(value)
            continue
        jar = cookies_of(spec.write(value), {name: "old", f"{name}.0": "old", f"{name}.1": "old"})
        assert sum(len(key) + 1 + len(text) for key, text in jar.items()) <= max_bytes
        assert len(jar) == (1 if length <= single else 2)
        assert spec.read(header_of(jar)) == [value]


@pytest.mark.parametrize("max_bytes", [256, 3900])
def test_too_large_shows_the_arithmetic(max_bytes: int) -> None:
    spec = CookieSpec("sess", max_bytes=max_bytes)
    assert len(spec.write("v" * (max_bytes - 5))) == 1
    secret = sealed(max_bytes - 4)
    with pytest.raises(SessionTooLargeError) as caught:
        spec.write(secret)
    assert (caught.value.size, caught.value.limit) == (max_bytes + 1, max_bytes)
    text = str(caught.value)
    assert f"{max_bytes + 1} bytes as a cookie (5 for the name + {max_bytes - 4} for the value)" in text
    assert f"cookie_max_bytes is {max_bytes}" in text
    assert "at most 7600" in text
    assert secret[:6] not in text


def test_too_large_in_chunks_shows_the_arithmetic() -> None:
    with pytest.raises(SessionTooLargeError) as caught:
        BIG.write("v" * 7541)
    assert (caught.value.size, caught.value.limit) == (7601, 7600)
    assert "7601 bytes as a cookie (7541 for the value + 2 cookies of 30 for name and chunk mark)" in str(caught.value)
    assert str(caught.value).endswith("cookie_max_bytes is 7600: keep less in it, or keep sessions in a store")
    assert len(BIG.write("v" * 7540)) == 3


def chunks(value: str) -> dict[str, str]:
    return cookies_of(BIG.write(value))


A, B = chunks(sealed(5000, "a")), chunks(sealed(5000, "b"))


def by_hand(seal: str, count: int, places: range) -> dict[str, str]:
    return {f"sess.{i}": f"1.{seal}.{i}.{count}.part{i}" for i in places}


def seal_of(value: str) -> str:
    import hashlib

    return hashlib.sha256(value.encode()).hexdigest()[:16]


def test_the_layout_is_the_documented_one() -> None:
    jar = by_hand(seal_of("part0part1part2"), 3, range(3))
    assert BIG.read(header_of(jar)) == ["part0part1part2"]
    eight = "".join(f"part{i}" for i in range(8))
    assert BIG.read(header_of(by_hand(seal_of(eight), 8, range(8)))) == [eight]
    seal = seal_of(sealed(5000, "a"))
    assert A["sess.0"].startswith(f"1.{seal}.0.2.aBc3_-")
    assert A["sess.1"].startswith(f"1.{seal}.1.2.")


def test_chunks_may_come_in_any_order_and_between_others() -> None:
    header = f"x=1; sess.1={A['sess.1']}; sess.sig=koa; sess.0={A['sess.0']};y=2"
    assert BIG.read(header) == [sealed(5000, "a")]


def test_chunks_beside_a_single_cookie_are_one_more_candidate() -> None:
    assert BIG.read("sess=x; " + header_of(A)) == ["x", sealed(5000, "a")]
    assert BIG.read("sess=1; sess=2; sess=3; sess=4; " + header_of(A)) == ["1", "2", "3", "4"]


ZERO, ONE = A["sess.0"], A["sess.1"]


@pytest.mark.parametrize(
    "jar",
    [
        {"sess.0": ZERO},
        {"sess.1": ONE},
        {"sess.0": ZERO, "sess.2": ONE},
        {"sess.0": ZERO, "sess.2": ONE.replace(".1.2.", ".2.2.", 1)},
        {"sess.0": ZERO.replace(".0.2.", ".1.2.", 1), "sess.1": ONE.replace(".1.2.", ".0.2.", 1)},
        {"sess.0": ONE, "sess.1": ZERO},
        {"sess.0": ZERO, "sess.1": ZERO},
        {"sess.0": ZERO, "sess.1": B["sess.1"]},
        {"sess.0": B["sess.0"], "sess.1": ONE},
        {"sess.0": ZERO, "sess.1": ONE, "sess.2": ONE},
        {"sess.0": ZERO, "sess.1": ONE, "sess.2": ONE.replace(".1.2.", ".2.2.", 1)},
        {"sess.0": ZERO, "sess.1": ONE, "sess.7": "x"},
        {"sess.0": ZERO.replace(".0.2.", ".0.3.", 1), "sess.1": ONE.replace(".1.2.", ".1.3.", 1)},
        {"sess.0": ZERO.replace(".0.2.", ".0.1.", 1)},
        {"sess.0": ZERO, "sess.1": ONE.replace(".1.2.", ".1.3.", 1)},
        {"sess.0": ZERO, "sess.1": ONE[:-1]},
        {"sess.0": ZERO, "sess.1": ONE + "a"},
        {"sess.0": ZERO + "a", "sess.1": ONE[:-1]},
        {"sess.0": "2" + ZERO[1:], "sess.1": "2" + ONE[1:]},
        {"sess.0": ZERO[:-1] + "\x7f", "sess.1": ONE},
        {"sess.0": ZERO, "sess.1": ""},
        {"sess.0": "", "sess.1": ""},
        {"sess.00": ZERO, "sess.1": ONE},
        {"sess.0": ZERO, "sess.+1": ONE},
        {"SESS.0": ZERO, "SESS.1": ONE},
        by_hand(seal_of("".join(f"part{i}" for i in range(9))), 9, range(9)),
        {f"sess.{i}": f"1.{'0' * 16}.{i % 10}.8.x" for i in range(1000)},
    ],
    ids=range(27),
)
def test_incomplete_mixed_or_lying_chunks_are_no_value(jar: dict[str, str]) -> None:
    assert BIG.read(header_of(jar)) == []
    assert BIG.read(header_of(jar) + "; sess=x") == ["x"]


def test_a_doubled_chunk_is_no_value() -> None:
    assert BIG.read(header_of(A) + "; sess.1=" + ONE) == []


def test_every_response_states_the_whole() -> None:
    """Overlapping responses in either order leave exactly one value, the last one's."""
    small, large = BIG.write("small"), BIG.write(sealed(5000))
    for first, last, value in ((small, large, sealed(5000)), (large, small, "small"), (large, BIG.clear(), None)):
        jar = cookies_of(last, cookies_of(first))
        assert BIG.read(header_of(jar)) == ([] if value is None else [value])
        if value is None:
            assert jar == {}


def test_leftovers_in_the_request_are_deleted() -> None:
    junk = {**A, "sess.2": "junk", "sess.7": "junk", "sess.8": "not ours", "sess.sig": "not ours"}
    keep = {"sess.8": "not ours", "sess.sig": "not ours"}
    header = header_of(junk)
    jar = cookies_of(BIG.write("v", header=header), junk)
    assert jar == {**keep, "sess": "v"}
    jar = cookies_of(BIG.write(sealed(5000, "b"), header=header), {**junk, "sess": "old"})
    assert jar == {**keep, **B}
    assert cookies_of(BIG.clear(header), {**junk, "sess": "old"}) == keep


def test_chunking_switched_off_deletes_its_own_leftovers_only() -> None:
    held = {**A, "sess.2": "another app's", "sess": "old"}
    header = header_of(held)
    assert SESS.read(header) == ["old"]
    assert cookies_of(SESS.write("v", header=header), held) == {"sess": "v", "sess.2": "another app's"}
    assert cookies_of(SESS.clear(header), held) == {"sess.2": "another app's"}
    assert SESS.write("v", header="a=1; xsess.0=1; sess.2=2") == [f"sess=v; {TAIL}"]


def test_chunks_keep_the_prefix_rules_and_follow_auto() -> None:
    for line in CookieSpec(max_bytes=7600, same_site="none", partitioned=True).write(sealed(5000)):
        assert line.startswith("__Host-session")
        assert line.endswith("; Path=/; Secure; HttpOnly; SameSite=None; Partitioned")
    for line in CookieSpec("s", max_bytes=7600, secure="auto").write(sealed(5000), secure=False):
        assert "Secure" not in line


def test_lines_are_read_by_the_standard_library() -> None:
    parsed: SimpleCookie = SimpleCookie()
    parsed.load(CookieSpec("s", domain="example.com", path="/app").write("v", max_age=9)[0])
    morsel = parsed["s"]
    assert (morsel.value, morsel["path"], morsel["domain"], morsel["max-age"]) == ("v", "/app", "example.com", "9")
    assert morsel["secure"] is True
    assert morsel["httponly"] is True
    assert morsel["samesite"] == "Lax"


def test_repr_is_settings_only() -> None:
    assert repr(SESS) == (
        "CookieSpec(name='sess', path='/', domain=None, secure=True, httponly=True, same_site='lax', "
        "partitioned=False, max_bytes=3900)"
    )


# -- caches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("existing", "merged"),
    [
        (None, "Cookie"),
        ("", "Cookie"),
        (" , ", "Cookie"),
        ("Accept-Encoding", "Accept-Encoding, Cookie"),
        ("Accept-Encoding,", "Accept-Encoding, Cookie"),
        ("Accept, Origin", "Accept, Origin, Cookie"),
        ("Cookie", "Cookie"),
        ("accept, COOKIE", "accept, COOKIE"),
        ("accept,cookie ,x", "accept,cookie ,x"),
        ("X-Cookie", "X-Cookie, Cookie"),
        ("Cookie2", "Cookie2, Cookie"),
        ("*", "*"),
        (" * ", " * "),
        ("Accept, *", "Accept, *"),
    ],
)
def test_vary(existing: str | None, merged: str) -> None:
    assert vary_cookie(existing) == merged
    assert vary_cookie(merged) == merged


@pytest.mark.parametrize(
    ("existing", "kept"),
    [
        ("no-store", True),
        ("private", True),
        ("PRIVATE", True),
        ("No-Store", True),
        ("private, max-age=60", True),
        ("max-age=60 ,\tprivate", True),
        (",, no-store ,,", True),
        ('private="x", no-store', True),
        ('x="a,b", private', True),
        ('x="a\\",b", private', True),
        ("no-cache, no-store, must-revalidate", True),
        ("public, max-age=3600", False),
        ("private, public, s-maxage=600", False),
        ("private, s-maxage=600", False),
        ("Public, private", False),
        ("no-store, public", False),
        ("must-understand, no-store", False),
        ('private, x="public"', True),
        ("s-maxage=600", False),
        ("no-cache", False),
        ('no-cache="Set-Cookie"', False),
        ('private="x"', False),
        ('private="set-cookie", max-age=9', False),
        ("private=x", False),
        ("no-store=1", False),
        ('x="private"', False),
        ('x="a, private, b"', False),
        ('x="a\\", private, b"', False),
        ('x="private', False),
        ('x="a, private', False),
        ("private no-store", False),
        ("private; no-store", False),
        ("x-private", False),
        ("private-ish", False),
        ("private, =", False),
        ("no-store, \x00", False),
        (" " * 5000 + "@", False),
    ],
)
def test_cache_control(existing: str, kept: bool) -> None:
    assert cache_control(existing) == ((existing, False) if kept else ("no-store", True))


@pytest.mark.parametrize("existing", [None, "", "  "])
def test_cache_control_where_the_app_said_nothing(existing: str | None) -> None:
    assert cache_control(existing) == ("no-store", False)
