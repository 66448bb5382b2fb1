"""Signed values: readable by anybody, changed by nobody, and each with one spelling."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import string
from pathlib import Path
from typing import Any

import itsdangerous
import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from session_mw.core.keys import KeyRing, generate_key
from session_mw.core.record import Record
from session_mw.core.seal import Sealer
from session_mw.core.signed import Signer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signed-v1.json").read_text("utf-8"))
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

NEW = "new-WqVxH2mJ8tRz5KpLcY7bNfD3sG9aE4u"
OLD = "old-Zk6TgB1rXvQ9yMw3PhC8jSd5nUe2LfA"
OTHER = "other-Jq4WmZ7xLc2VtNb9KsRf6HgYpDe1uA"
PURPOSE = "shop:__Host-id"
NONCE = bytes(12)
NOW = 1_800_000_000
ALICE = Record(
    "Alice-Alice_Alice-Alice0", b"", None, NOW - 10, NOW - 5, NOW + 100, NOW + 1000, None, None, None, 1,
    b'{"user":"alice"}\n',
)  # fmt: skip
BOB = msgspec.structs.replace(ALICE, id="Bob_Bob-Bob_Bob-Bob_Bob0", payload=b'{"user":"bobby"}\n')
LATE = Record(
    "A" * 24, b"", "ü" * 40, 2**33, 2**34, 2**35, 2**36, 2**37, "2001:db8::17", 'agent "quoted" \\ ' * 20, 1,
    b"x" * 300,
)  # fmt: skip

signs = Signer(KeyRing(NEW), PURPOSE)
SIGNED = signs.seal(ALICE, NOW, NONCE)


def refused(signer: Signer | Sealer, text: str, now: int = NOW) -> str:
    opened = signer.unseal(text, now)
    if not isinstance(opened, str):
        pytest.fail(f"{text!r} opened: {opened!r}")
    return opened


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def padded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def by_the_book(secret: str, purpose: str) -> tuple[str, bytes]:
    """Key id as it is spelled and key, as docs/formats/sealed-cookie.md says, by other means than the code."""
    made = HKDF(SHA256(), 36, salt=None, info=b"session_mw/1/signed:" + purpose.encode()).derive(secret.encode())
    return unpadded(made[32:]), made[:32]


def mac(key: bytes, value: str) -> str:
    return unpadded(hmac.digest(key, value.encode(), "sha256"))


def record_of(vector: dict[str, Any]) -> Record:
    fields = {
        name.removesuffix("_hex"): bytes.fromhex(value) if name.endswith("_hex") else value
        for name, value in vector["record"].items()
    }
    return Record(**fields)


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_good_vector(vector):
    secrets = VECTORS["secrets"]
    signer = Signer(KeyRing(secrets[vector["secret"]]), VECTORS["purpose"])
    assert signer.seal(record_of(vector), vector["issued_at"], NONCE) == vector["text"]
    ring = Signer(KeyRing.of(secrets), VECTORS["purpose"], clock_skew=VECTORS["clock_skew"])
    assert ring.unseal(vector["text"], vector["now"]) == record_of(vector)


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_vector(vector):
    signer = Signer(KeyRing.of(VECTORS["secrets"]), VECTORS["purpose"], clock_skew=VECTORS["clock_skew"])
    assert refused(signer, vector["text"], vector["now"]) == vector["reason"]


def test_vectors_have_every_reason():
    assert {vector["reason"] for vector in VECTORS["bad"]} == {
        "malformed", "unknown_key", "forged", "expired", "future"
    }  # fmt: skip


def test_the_vectors_keys_are_the_derived_ones():
    for secret, derived in zip(VECTORS["secrets"], VECTORS["derived"], strict=True):
        key_id, key = by_the_book(secret, VECTORS["purpose"])
        assert (padded(key_id).hex(), key.hex()) == (derived["key_id_hex"], derived["key_hex"])


def test_a_client_can_read_it():
    version, key_id, header, payload, signature = SIGNED.split(".")
    expected_id, key = by_the_book(NEW, PURPOSE)
    assert (version, key_id) == ("1", expected_id)
    assert json.loads(padded(header)) == {
        "id": ALICE.id,
        "issued_at": NOW,
        "created_at": NOW - 10,
        "last_activity": NOW - 5,
        "expires_at": NOW + 100,
        "absolute_expires_at": NOW + 1000,
    }
    assert padded(payload) == ALICE.payload
    assert signature == mac(key, SIGNED.rpartition(".")[0])


def test_what_is_null_in_most_records_is_in_the_header_where_it_is_set():
    _, _, header, payload, _ = signs.seal(LATE, 2**32, NONCE).split(".")
    names = ("created_at", "last_activity", "expires_at", "absolute_expires_at")
    names += ("user_id", "lifetime", "login_ip", "login_user_agent")
    expected = {"id": LATE.id, "issued_at": 2**32, **{name: getattr(LATE, name) for name in names}}
    assert json.loads(padded(header)) == expected
    assert list(json.loads(padded(header))) == list(expected)
    assert None not in expected.values()
    assert padded(payload) == LATE.payload


def test_after_2106_and_with_every_optional_field_set():
    assert signs.unseal(signs.seal(LATE, 2**33, NONCE), 2**35 - 1) == LATE


def test_what_only_a_store_needs_is_not_in_it():
    stored = msgspec.structs.replace(ALICE, digest=b"d" * 32, version=9, closed=True, successor="x:1")
    assert signs.seal(stored, NOW, NONCE) == SIGNED


def test_itsdangerous_itself_opens_it():
    signer = itsdangerous.Signer(by_the_book(NEW, PURPOSE)[1], key_derivation="none", digest_method=hashlib.sha256)
    assert signer.unsign(SIGNED).decode() == SIGNED.rpartition(".")[0]


times = st.integers(0, 2**34)


texts = st.none() | st.text(max_size=100)
records = st.builds(
    Record, st.text(ALPHABET, min_size=24, max_size=24), st.just(b""), texts, times, times, times, times,
    st.none() | times, texts, texts, st.just(1), st.binary(max_size=300),
)  # fmt: skip


@given(records, times, times)
def test_what_is_signed_comes_back_exactly_while_its_time_lasts(record, issued_at, now):
    text = signs.seal(record, issued_at, NONCE)
    if now < record.expires_at and now < record.absolute_expires_at and issued_at <= now + 60:
        assert signs.unseal(text, now) == record
    else:
        assert refused(signs, text, now) in {"expired", "future"}


def test_the_nonce_makes_no_difference():
    assert signs.seal(ALICE, NOW, b"x" * 12) == SIGNED


def test_only_one_last_character_opens():
    """43 characters carry 258 bits, the MAC has 256: three more spellings decode to it, and are refused."""
    others = [chr(code) for code in range(0x250) if chr(code) != SIGNED[-1]]
    same = [other for other in ALPHABET if padded(SIGNED[-43:-1] + other) == padded(SIGNED[-43:])]
    assert len(same) == 4
    assert {other: refused(signs, SIGNED[:-1] + other) for other in others} == {
        other: "forged" if other in ALPHABET else "malformed" for other in others
    }


def test_no_other_character_opens_at_any_place():
    """Every flipped bit of every character, and whatever else a careless decoder might skip or take for another."""
    for place, character in enumerate(SIGNED):
        flipped = [chr(ord(character) ^ 1 << bit) for bit in range(8)]
        for other in {*flipped, *"+/=. \n\0é"} - {character}:
            changed = SIGNED[:place] + other + SIGNED[place + 1 :]
            assert refused(signs, changed) in {"malformed", "unknown_key", "forged"}


def test_no_part_opens_and_nothing_may_be_added():
    for end in range(len(SIGNED)):
        assert refused(signs, SIGNED[:end]) in {"malformed", "forged"}
        assert refused(signs, SIGNED[len(SIGNED) - end :]) == "malformed"
    for tail in ("A", "=", "==", "\n", " ", "\0", ".", "..", ".A", "é", "\ud800", SIGNED):
        assert refused(signs, SIGNED + tail) == "malformed"
        assert refused(signs, tail + SIGNED) == "malformed"
    for changed in (SIGNED[::-1], SIGNED.swapcase(), SIGNED.replace("-", "+"), SIGNED.replace(".", ":")):
        if changed != SIGNED:
            assert refused(signs, changed) in {"malformed", "unknown_key"}


def test_every_part_is_signed():
    a, b = SIGNED.split("."), signs.seal(BOB, NOW, NONCE).split(".")
    for place in (2, 3, 4):
        mixed = [*a[:place], b[place], *a[place + 1 :]]
        assert refused(signs, ".".join(mixed)) == "forged"
    moved = [a[0], a[1], a[2] + a[3], "", a[4]]  # the dots are signed as well
    assert refused(signs, ".".join(moved)) == "forged"


def test_nothing_is_parsed_before_the_mac(monkeypatch):
    decoded = []
    monkeypatch.setattr("session_mw.core.signed.base64_decode", lambda text: decoded.append(text))
    monkeypatch.setattr("session_mw.core.signed._decode", lambda data: decoded.append(data))
    assert refused(signs, SIGNED[:-1] + ("A" if SIGNED[-1] != "A" else "E")) == "forged"
    assert decoded == []


@pytest.mark.parametrize("version", ["0", "2", "A", "", "11", "１"])
def test_another_version_is_refused(version):
    assert refused(signs, version + SIGNED[1:]) == "malformed"


@pytest.mark.parametrize("purpose", ["shop:__Host-ID", "blog:__Host-id", "flash", "signed:" + PURPOSE, ""])
def test_another_purpose_does_not_open_it(purpose):
    assert refused(Signer(KeyRing(NEW), purpose), SIGNED) == "unknown_key"


def test_sealed_and_signed_do_not_mix():
    sealer = Sealer(KeyRing(NEW), PURPOSE)
    sealed = sealer.seal(ALICE, NOW, NONCE)
    assert refused(signs, sealed) == "malformed"
    assert refused(sealer, SIGNED) == "malformed"
    ids = [{key.key_id for key in KeyRing(NEW).derive(f"{kind}:{PURPOSE}")} for kind in ("seal", "signed", "payload")]
    assert len(set.union(*ids)) == 3


def test_rotation():
    text = Signer(KeyRing(OLD), PURPOSE).seal(ALICE, NOW, NONCE)
    rotated = Signer(KeyRing(NEW, OTHER, OLD), PURPOSE)
    assert rotated.unseal(text, NOW) == ALICE
    assert refused(Signer(KeyRing(NEW, OTHER), PURPOSE), text) == "unknown_key"


def test_the_newest_key_signs():
    """CVE-2025-47278: itsdangerous takes the newest key last, Flask gave it first, and the stalest one signed."""
    ring = Signer(KeyRing.of([NEW, OTHER, OLD]), PURPOSE)
    text = ring.seal(ALICE, NOW, NONCE)
    assert text == SIGNED
    assert refused(Signer(KeyRing(OLD), PURPOSE), text) == "unknown_key"


def test_a_key_id_put_before_another_keys_signature():
    both = Signer(KeyRing(NEW, OLD), PURPOSE)
    old = Signer(KeyRing(OLD), PURPOSE).seal(ALICE, NOW, NONCE)
    assert refused(both, SIGNED[:8] + old[8:]) == "forged"
    assert refused(both, old[:8] + SIGNED[8:]) == "forged"


@pytest.mark.parametrize("secret", [NEW, OLD, OTHER])
def test_one_attempt_however_many_keys(secret, monkeypatch):
    signer = Signer(KeyRing(NEW, *(generate_key() for _ in range(62)), OLD), PURPOSE)
    text = Signer(KeyRing(secret), PURPOSE).seal(ALICE, NOW, NONCE)
    attempts = []
    real = itsdangerous.signer.HMACAlgorithm.get_signature

    def counted(self, key, value):
        attempts.append(value)
        return real(self, key, value)

    monkeypatch.setattr(itsdangerous.signer.HMACAlgorithm, "get_signature", counted)
    if secret == OTHER:
        assert refused(signer, text) == "unknown_key"
        assert attempts == []
    else:
        assert signer.unseal(text, NOW) == ALICE
        assert len(attempts) == 1


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (NOW - 61, "future"),
        (NOW - 60, None),
        (NOW + 99, None),
        (NOW + 100, "expired"),
        (NOW + 101, "expired"),
        (NOW + 1000, "expired"),
    ],
)
def test_time(now, outcome):
    if outcome is None:
        assert signs.unseal(SIGNED, now) == ALICE
    else:
        assert refused(signs, SIGNED, now) == outcome
    assert refused(Signer(KeyRing(NEW), PURPOSE, clock_skew=0), SIGNED, NOW - 1) == "future"


@given(st.text(max_size=200) | st.text(ALPHABET + ".", max_size=200))
def test_arbitrary_text_is_refused_and_nothing_else(text):
    for candidate in (text, SIGNED[:9] + text, SIGNED[:9] + text + SIGNED[-44:], SIGNED + text):
        if candidate != SIGNED:
            assert refused(signs, candidate) in {"malformed", "unknown_key", "forged"}


def test_nothing_secret_shows():
    ring = KeyRing(NEW, OLD)
    signer = Signer(ring, PURPOSE)
    shown = repr(signer) + repr(signer._signers)
    for text in (SIGNED[:-1] + "\n", SIGNED[:20], SIGNED[::-1]):
        assert refused(signer, text)
    assert not [secret for secret in (NEW, OLD, SIGNED) if secret in shown]
    assert not [key for key in ring.derive(f"signed:{PURPOSE}") if repr(key.key) in shown]
