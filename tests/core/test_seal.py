"""Seals: what opens, and everything that must not (truncated, flipped, spliced, re-spelled, foreign, out of time)."""

from __future__ import annotations

import base64
import json
import string
import struct
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from session_mw.core.keys import KeyRing, generate_key
from session_mw.core.record import Record
from session_mw.core.seal import NONCE_BYTES, PADDING, PayloadSealer, Sealer, binding
from session_mw.errors import SealError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "seal-v1.json").read_text("utf-8"))
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"

NEW = "new-WqVxH2mJ8tRz5KpLcY7bNfD3sG9aE4u"
OLD = "old-Zk6TgB1rXvQ9yMw3PhC8jSd5nUe2LfA"
OTHER = "other-Jq4WmZ7xLc2VtNb9KsRf6HgYpDe1uA"
PURPOSE = "shop:__Host-id"
NONCE = bytes(range(NONCE_BYTES))
NOW = 1_800_000_000
ALICE = Record(
    "Alice-Alice_Alice-Alice0", b"", None, NOW - 10, NOW - 5, NOW + 100, NOW + 1000, None, None, None, 1,
    b'{"user":"alice"}\n',
)  # fmt: skip
BOB = msgspec.structs.replace(ALICE, id="Bob_Bob-Bob_Bob-Bob_Bob0", payload=b'{"user":"bobby"}\n')
LATE = Record(
    "A" * 24, bytes(range(32)), "ü" * 40, 2**33, 2**34, 2**35, 2**36, 2**37, "2001:db8::17", "agent " * 50, 2**38,
    b"x" * 300, True, "B" * 24 + ":8589934592",
)  # fmt: skip

seals = Sealer(KeyRing(NEW), PURPOSE)
SEALED = seals.seal(ALICE, NOW, NONCE)

i64 = st.integers(-(2**63), 2**63 - 1)
ids = st.text(ALPHABET, min_size=24, max_size=24)
texts = st.none() | st.text(max_size=300)


def records(times: st.SearchStrategy[int]) -> st.SearchStrategy[Record]:
    payloads = st.binary(max_size=600)
    return st.builds(
        Record, ids, st.binary(max_size=32), texts, times, times, times, times, st.none() | times, texts, texts, i64,
        payloads, st.booleans(), texts,
    )  # fmt: skip


nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


def refused(sealer: Sealer, text: str, now: int = NOW) -> str:
    """The reason for which *text* does not open."""
    opened = sealer.unseal(text, now)
    if not isinstance(opened, str):
        pytest.fail(f"{text!r} opened: {opened!r}")
    return opened


def raw(text: str) -> bytearray:
    return bytearray(base64.urlsafe_b64decode(text))


def spelled(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def by_the_book(secret: str, kind: str, purpose: str) -> tuple[bytes, bytes, bytes]:
    """Prefix, associated data and key, as docs/formats/sealed-cookie.md says, by other means than the code."""
    name = f"{kind}:{purpose}".encode()
    made = HKDF(SHA256(), 36, salt=None, info=b"session_mw/1/" + name).derive(secret.encode())
    prefix = b"\x01" + made[32:]
    return prefix, prefix + struct.pack(">I", len(name)) + name, made[:32]


def record_of(vector: dict[str, Any]) -> Record:
    """By name: a vector need not change when the order of the fields does, but then its text is another."""
    fields = {
        name.removesuffix("_hex"): bytes.fromhex(value) if name.endswith("_hex") else value
        for name, value in vector["record"].items()
    }
    return Record(**fields)


INTS = {"B": b"\xcc", "H": b"\xcd", "I": b"\xce", "Q": b"\xcf", "b": b"\xd0", "h": b"\xd1", "i": b"\xd2", "q": b"\xd3"}


def packed(value: object) -> bytes:
    """*value* as MessagePack in its shortest form, by hand."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        if -32 <= value < 128:
            return struct.pack("b", value)
        for form in "BHIQ" if value > 0 else "bhiq":
            try:
                return INTS[form] + struct.pack(">" + form, value)
            except struct.error:
                continue
    if isinstance(value, list):
        assert len(value) < 16
        return bytes([0x90 + len(value)]) + b"".join(map(packed, value))
    data = value.encode() if isinstance(value, str) else value
    assert isinstance(data, bytes)
    if isinstance(value, str) and len(data) < 32:
        return bytes([0xA0 + len(data)]) + data
    if len(data) < 256:
        return (b"\xd9" if isinstance(value, str) else b"\xc4") + bytes([len(data)]) + data
    return (b"\xda" if isinstance(value, str) else b"\xc5") + struct.pack(">H", len(data)) + data


# --- the format -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_good_vector(vector):
    secrets = VECTORS["secrets"]
    sealer = Sealer(KeyRing(secrets[vector["secret"]]), VECTORS["purpose"])
    assert sealer.seal(record_of(vector), vector["issued_at"], bytes.fromhex(vector["nonce_hex"])) == vector["text"]
    ring = Sealer(KeyRing.of(secrets), VECTORS["purpose"], clock_skew=VECTORS["clock_skew"])
    assert ring.unseal(vector["text"], vector["now"]) == record_of(vector)


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_vector(vector):
    sealer = Sealer(KeyRing.of(VECTORS["secrets"]), VECTORS["purpose"], clock_skew=VECTORS["clock_skew"])
    assert refused(sealer, vector["text"], vector["now"]) == vector["reason"]


def test_vectors_have_every_reason():
    assert {vector["reason"] for vector in VECTORS["bad"]} == {
        "malformed", "unknown_key", "forged", "expired", "future"
    }  # fmt: skip


def test_a_vector_has_every_field_set_and_no_two_alike():
    """So a field that is added, removed or moved changes its bytes, even among those that are null in most records."""
    record = next(vector for vector in VECTORS["good"] if vector["name"] == "all optional fields")["record"]
    assert [name.removesuffix("_hex") for name in record] == list(Record.__struct_fields__)
    assert None not in record.values()
    assert len({str(value) for value in record.values()}) == len(record)


def test_the_vectors_keys_are_the_derived_ones():
    for secret, derived in zip(VECTORS["secrets"], VECTORS["derived"], strict=True):
        prefix, _, key = by_the_book(secret, "seal", VECTORS["purpose"])
        assert (prefix[1:].hex(), key.hex()) == (derived["key_id_hex"], derived["key_hex"])


@given(records(i64), i64, nonces)
def test_the_layout_is_the_documented_one(record, issued_at, nonce):
    prefix, associated, key = by_the_book(NEW, "seal", PURPOSE)
    data = bytes(raw(seals.seal(record, issued_at, nonce)))
    assert data[:17] == prefix + nonce
    plain = AESGCM(key).decrypt(nonce, data[17:], associated)
    assert len(plain) % PADDING == 0
    fields = [
        record.id, record.digest, record.user_id, record.created_at, record.last_activity, record.expires_at,
        record.absolute_expires_at, record.lifetime, record.login_ip, record.login_user_agent, record.version,
        record.payload, record.closed, record.successor,
    ]  # fmt: skip
    assert plain == packed([issued_at, fields, bytes(-len(packed([issued_at, fields, b""])) % PADDING)])


times = st.integers(0, 2**34)


@given(records(times), times, nonces, times)
def test_what_is_sealed_comes_back_exactly_while_its_time_lasts(record, issued_at, nonce, now):
    text = seals.seal(record, issued_at, nonce)
    if now < record.expires_at and now < record.absolute_expires_at and issued_at <= now + 60:
        assert seals.unseal(text, now) == record
    else:
        assert refused(seals, text, now) in {"expired", "future"}


def sized(payload: bytes) -> Record:
    return msgspec.structs.replace(ALICE, payload=payload)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0" * 500, b"x" * 5000, bytes(range(256)), b"x" * 70_000])
def test_any_payload_comes_back(payload):
    assert seals.unseal(seals.seal(sized(payload), NOW, NONCE), NOW) == sized(payload)


def test_the_length_tells_the_bucket_only():
    lengths = [len(seals.seal(sized(bytes(size)), NOW, NONCE)) for size in range(200)]
    assert lengths == [44 + 64 * -(-(65 + size) // PADDING) for size in range(200)]
    assert len(set(lengths)) == 5


def test_the_lengths_the_documentation_counts_up():
    _, associated, key = by_the_book(NEW, "seal", PURPOSE)

    def size(**fields: Any) -> int:
        """Bytes before the padding, as another reader of MessagePack finds them."""
        text = seals.seal(msgspec.structs.replace(ALICE, payload=b"", **fields), NOW, NONCE)
        plain = AESGCM(key).decrypt(NONCE, bytes(raw(text)[17:]), associated)
        issued_at, record, padding = msgspec.msgpack.decode(plain)
        assert (issued_at, len(record), padding) == (NOW, 14, bytes(len(padding)))
        assert len(padding) < PADDING
        return len(plain) - len(padding)

    assert size() == 65
    for name in ("user_id", "login_ip", "login_user_agent"):
        assert [size(**{name: "u" * length}) - 65 for length in (0, 8, 31, 32, 200, 256)] == [0, 8, 31, 33, 201, 258]
    assert [size(lifetime=seconds) - 65 for seconds in (100, 200, 1800, 70_000)] == [0, 1, 2, 4]
    assert [size(version=version) - 65 for version in (127, 128, 256, 65536)] == [0, 1, 2, 4]
    assert size(expires_at=2**32) - 65 == 4  # from 2106 on
    assert [len(seals.seal(sized(b"x" * length), NOW, NONCE)) for length in (270, 271)] == [492, 556]  # 66 + 271
    assert [len(seals.seal(sized(b"x" * length), NOW, NONCE)) for length in (17, 31, 32)] == [172, 172, 236]


@pytest.mark.parametrize("length", [0, 8, 11, 13, 16])
def test_a_nonce_has_twelve_bytes(length):
    with pytest.raises(ValueError, match="12 bytes"):
        seals.seal(ALICE, NOW, bytes(length))
    with pytest.raises(ValueError, match="12 bytes"):
        PayloadSealer(KeyRing(NEW), "p").seal(b"", b"", bytes(length))


# --- one spelling -----------------------------------------------------------------------------------------------


def test_only_one_last_character_opens():
    for code in range(0x250):
        other = chr(code)
        if other != SEALED[-1]:
            assert refused(seals, SEALED[:-1] + other) == ("forged" if other in ALPHABET else "malformed")
    assert seals.unseal(SEALED, NOW) == ALICE


def test_no_other_character_opens_at_any_place():
    """Every flipped bit of every character, and whatever else a careless decoder might skip or take for another."""
    for place, character in enumerate(SEALED):
        flipped = [chr(ord(character) ^ 1 << bit) for bit in range(8)]
        for other in {*flipped, *"+/=. \n\0é"} - {character}:
            allowed = {"malformed", "unknown_key", "forged"} if other in ALPHABET else {"malformed"}
            assert refused(seals, SEALED[:place] + other + SEALED[place + 1 :]) in allowed


def test_no_flipped_bit_of_the_bytes_opens():
    for place in range(len(raw(SEALED))):
        for bit in range(8):
            data = raw(SEALED)
            data[place] ^= 1 << bit
            expected = "malformed" if place == 0 else "unknown_key" if place < 5 else "forged"
            assert refused(seals, spelled(data)) == expected


def test_no_part_opens():
    for end in range(len(SEALED)):
        assert refused(seals, SEALED[:end]) in {"malformed", "forged"}
        assert refused(seals, SEALED[len(SEALED) - end :]) in {"malformed", "unknown_key", "forged"}
    data = raw(SEALED)
    for end in range(len(data)):
        assert refused(seals, spelled(data[:end])) in {"malformed", "forged"}


@pytest.mark.parametrize(
    "tail", ["A", "AA", "AAA", "AAAA", "A" * 64, "=", "==", "====", "\n", " ", "\0", ".", '"', "%", ";", "é", "\ud800"]
)
def test_nothing_may_be_added(tail):
    for text in (SEALED + tail, tail + SEALED, SEALED[:20] + tail + SEALED[20:]):
        assert refused(seals, text) in {"malformed", "unknown_key", "forged"}
    if len(tail.encode("utf-8", "surrogatepass")) % 4:
        assert refused(seals, SEALED + tail) == "malformed"


def test_no_other_alphabet_case_or_order():
    made = [seals.seal(ALICE, NOW, bytes([n]) * NONCE_BYTES) for n in range(20)]
    for text in (text for text in made if "-" in text and "_" in text):
        assert seals.unseal(text, NOW) == ALICE
        for respelled in (text.replace("-", "+"), text.replace("_", "/"), text.replace("-", "+").replace("_", "/")):
            assert refused(seals, respelled) == "malformed"
        for changed in (text[::-1], text.swapcase(), text.upper(), text.lower()):
            assert refused(seals, changed) in {"malformed", "unknown_key", "forged"}
    assert any("-" in text and "_" in text for text in made)


def test_a_shorter_bucket_with_padding_is_refused_as_malformed():
    data = bytes(raw(SEALED))
    for cut in (1, 2):
        padded = base64.urlsafe_b64encode(data[:-cut]).decode()
        assert padded.endswith("=" * cut)
        assert len(padded) == len(SEALED)
        assert refused(seals, padded) == "malformed"


@given(st.text(max_size=300) | st.text(ALPHABET, max_size=300) | st.text(st.characters(), max_size=20))
def test_arbitrary_text_is_refused_and_nothing_else(text):
    for candidate in (text, SEALED[:8] + text, SEALED + text):
        if candidate != SEALED:
            assert refused(seals, candidate) in {"malformed", "unknown_key", "forged"}


# --- keys, purposes, splices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 2, 127, 255])
def test_another_version_is_refused(version):
    data = raw(SEALED)
    data[0] = version
    assert refused(seals, spelled(data)) == "malformed"


@pytest.mark.parametrize(
    "purpose",
    ["shop:__Host-ID", "shop:id", "blog:__Host-id", "shop:__Host-id ", "flash", "csrf", "seal:" + PURPOSE, ""],
)
def test_another_purpose_does_not_open_it(purpose):
    assert refused(Sealer(KeyRing(NEW), purpose), SEALED) == "unknown_key"


def test_purpose_and_key_id_are_authenticated_too():
    """Even where the key itself is the same, which derivation prevents, the associated data is not."""
    prefix, associated, key = by_the_book(NEW, "seal", PURPOSE)
    plain = AESGCM(key).decrypt(NONCE, bytes(raw(SEALED)[17:]), associated)
    for wrong in (b"", prefix, associated[:-1], associated + b"x", associated.replace(b"shop", b"blog")):
        assert refused(seals, spelled(prefix + NONCE + AESGCM(key).encrypt(NONCE, plain, wrong))) == "forged"
    assert seals.unseal(spelled(prefix + NONCE + AESGCM(key).encrypt(NONCE, plain, associated)), NOW) == ALICE


def test_rotation():
    text = Sealer(KeyRing(OLD), PURPOSE).seal(ALICE, NOW, NONCE)
    rotated = Sealer(KeyRing(NEW, OTHER, OLD), PURPOSE)
    assert rotated.unseal(text, NOW) == ALICE
    assert refused(Sealer(KeyRing(NEW, OTHER), PURPOSE), text) == "unknown_key"


def test_the_newest_key_seals():
    """The mistake of CVE-2025-47278: the list the wrong way round, so that the oldest key went on signing."""
    text = Sealer(KeyRing.of([NEW, OTHER, OLD]), PURPOSE).seal(ALICE, NOW, NONCE)
    assert text == SEALED
    assert refused(Sealer(KeyRing(OLD), PURPOSE), text) == "unknown_key"


def test_a_key_id_put_before_another_keys_seal():
    both = Sealer(KeyRing(NEW, OLD), PURPOSE)
    old, new = raw(Sealer(KeyRing(OLD), PURPOSE).seal(ALICE, NOW, NONCE)), raw(SEALED)
    assert refused(both, spelled(new[:5] + old[5:])) == "forged"
    assert refused(both, spelled(old[:5] + new[5:])) == "forged"


def test_parts_of_two_seals_do_not_open():
    a, b = raw(seals.seal(ALICE, NOW, NONCE)), raw(seals.seal(BOB, NOW, bytes(12)))
    same_nonce = raw(seals.seal(BOB, NOW, NONCE))
    assert len(a) == len(b)
    for mixed in (
        a[:-16] + b[-16:],  # the ciphertext of one, the tag of the other
        a[:17] + b[17:],  # the nonce of one
        a[:17] + same_nonce[17:-16] + a[-16:],  # the ciphertext swapped under the very same nonce
        a[:-16] + same_nonce[-16:],
        a[:65] + same_nonce[65:],
    ):
        assert refused(seals, spelled(mixed)) == "forged"


@pytest.mark.parametrize("secret", [NEW, OLD, OTHER])
def test_one_attempt_however_many_keys(secret):
    sealer = Sealer(KeyRing(NEW, *(generate_key() for _ in range(62)), OLD), PURPOSE)
    attempts = []

    def counted(decrypt):
        def attempt(*arguments):
            attempts.append(arguments)
            return decrypt(*arguments)

        return attempt

    keys = sealer._envelope._keys
    assert len(keys) == 64
    for prefix, (decrypt, associated) in list(keys.items()):
        keys[prefix] = (counted(decrypt), associated)
    text = Sealer(KeyRing(secret), PURPOSE).seal(ALICE, NOW, NONCE)
    if secret == OTHER:
        assert refused(sealer, text) == "unknown_key"
        assert attempts == []
    else:
        assert sealer.unseal(text, NOW) == ALICE
        assert len(attempts) == 1
        data = raw(text)
        data[-1] ^= 1
        assert refused(sealer, spelled(data)) == "forged"
        assert len(attempts) == 2


# --- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "at", "outcome"),
    [
        ("expires_at", NOW + 1, None),
        ("expires_at", NOW, "expired"),
        ("expires_at", NOW - 1, "expired"),
        ("absolute_expires_at", NOW + 1, None),
        ("absolute_expires_at", NOW, "expired"),
        ("absolute_expires_at", NOW - 1, "expired"),
        ("issued_at", NOW + 60, None),
        ("issued_at", NOW + 61, "future"),
        ("issued_at", NOW + 3600, "future"),
        ("issued_at", 0, None),
    ],
)
def test_time(field, at, outcome):
    times = {"issued_at": NOW, "expires_at": NOW + 100, "absolute_expires_at": NOW + 100, field: at}
    issued_at = times.pop("issued_at")
    record = msgspec.structs.replace(ALICE, **times)
    text = seals.seal(record, issued_at, NONCE)
    if outcome is None:
        assert seals.unseal(text, NOW) == record
    else:
        assert refused(seals, text) == outcome


@pytest.mark.parametrize("skew", [0, 5])
def test_clock_skew_is_a_setting(skew):
    strict = Sealer(KeyRing(NEW), PURPOSE, clock_skew=skew)
    assert strict.unseal(SEALED, NOW - skew) == ALICE
    assert refused(strict, SEALED, NOW - skew - 1) == "future"


def test_after_2106_and_with_every_field_set():
    assert all(getattr(LATE, name) for name in Record.__struct_fields__)
    assert seals.unseal(seals.seal(LATE, 2**33, NONCE), 2**35 - 1) == LATE


def test_a_forged_seal_is_forged_whatever_the_time():
    data = raw(SEALED)
    data[-1] ^= 1
    assert refused(seals, spelled(data), NOW + 10**6) == "forged"
    assert refused(seals, SEALED, NOW + 10**6) == "expired"


# --- a record's payload -----------------------------------------------------------------------------------------


def payload_refused(sealer: PayloadSealer, blob: bytes, bind: bytes) -> str:
    try:  # by hand, for pytest.raises is slow and this runs thousands of times
        opened = sealer.unseal(blob, bind)
    except SealError as error:
        reason, shown = error.reason, (str(error), error.__cause__)
    else:
        pytest.fail(f"{blob!r} opened: {opened!r}")
    assert shown == ("the sealed value does not open", None)
    return reason


@pytest.mark.parametrize("vector", VECTORS["payload"]["good"], ids=lambda vector: vector["name"])
def test_good_payload_vector(vector):
    secrets, purpose = VECTORS["secrets"], VECTORS["payload"]["purpose"]
    payload, bind, blob = (bytes.fromhex(vector[name]) for name in ("payload_hex", "bind_hex", "blob_hex"))
    one = PayloadSealer(KeyRing(secrets[vector["secret"]]), purpose)
    assert one.seal(payload, bind, bytes.fromhex(vector["nonce_hex"])) == blob
    ring = PayloadSealer(KeyRing.of(secrets), purpose)
    assert ring.unseal(blob, bind) == payload


@pytest.mark.parametrize("vector", VECTORS["payload"]["bad"], ids=lambda vector: vector["name"])
def test_bad_payload_vector(vector):
    sealer = PayloadSealer(KeyRing.of(VECTORS["secrets"]), VECTORS["payload"]["purpose"])
    blob, bind = bytes.fromhex(vector["blob_hex"]), bytes.fromhex(vector["bind_hex"])
    assert payload_refused(sealer, blob, bind) == vector["reason"]


@given(st.binary(max_size=300), st.binary(max_size=40), nonces, st.binary(max_size=40))
def test_a_payload_opens_for_its_record_alone(payload, bind, nonce, other):
    sealer = PayloadSealer(KeyRing(NEW), "store")
    blob = sealer.seal(payload, bind, nonce)
    assert len(blob) == len(payload) + 33
    assert sealer.unseal(blob, bind) == payload
    if other != bind:
        assert payload_refused(sealer, blob, other) == "forged"
    prefix, associated, key = by_the_book(NEW, "payload", "store")
    assert blob == prefix + nonce + AESGCM(key).encrypt(nonce, payload, associated + bind)


def test_two_records_payloads_swapped():
    sealer = PayloadSealer(KeyRing(NEW), "store")
    a, b = sealer.seal(b"alice", b"id-a", NONCE), sealer.seal(b"bobby", b"id-b", bytes(12))
    assert payload_refused(sealer, a, b"id-b") == payload_refused(sealer, b, b"id-a") == "forged"


def test_a_damaged_payload():
    sealer = PayloadSealer(KeyRing(NEW, OLD), "store")
    blob = sealer.seal(b"alice", b"id", NONCE)
    for end in range(len(blob)):
        assert payload_refused(sealer, blob[:end], b"id") == ("malformed" if end < 33 else "forged")
    for place in range(len(blob)):
        for bit in range(8):
            data = bytearray(blob)
            data[place] ^= 1 << bit
            expected = "malformed" if place == 0 else "unknown_key" if place < 5 else "forged"
            assert payload_refused(sealer, bytes(data), b"id") == expected
    assert payload_refused(sealer, blob + b"\0", b"id") == "forged"


def test_cookie_and_payload_of_one_purpose_do_not_mix():
    sealer, payloads = Sealer(KeyRing(NEW), "p"), PayloadSealer(KeyRing(NEW), "p")
    text = sealer.seal(ALICE, NOW, NONCE)
    assert payload_refused(payloads, bytes(raw(text)), b"") == "unknown_key"
    assert refused(sealer, spelled(payloads.seal(bytes(96), b"", NONCE))) == "unknown_key"


# --- silence ----------------------------------------------------------------------------------------------------


def test_nothing_secret_shows():
    ring = KeyRing(NEW, OLD)
    secrets = [NEW, OLD, *(key.key.hex() for key in ring.derive(f"seal:{PURPOSE}"))]
    sealer, payloads = Sealer(ring, PURPOSE), PayloadSealer(ring, PURPOSE)
    shown = [repr(thing) for thing in (ring, sealer, payloads, sealer._envelope, ALICE)]
    for text in (SEALED[:-1] + "A", SEALED + "=", "é", SEALED[::-1]):
        assert refused(sealer, text)
    for blob in (b"", raw(SEALED), raw(SEALED)[::-1]):
        try:
            payloads.unseal(bytes(blob), b"")
        except SealError as error:
            shown += [repr(error), *traceback.format_exception(error)]
    assert not [secret for secret in [*secrets, SEALED, "alice"] if secret in "".join(shown)]


def test_what_a_payload_is_bound_to_is_told_in_the_docs():
    """MessagePack of six fields, and of no other."""
    record = msgspec.structs.replace(ALICE, user_id="al", digest=b"d", created_at=1, absolute_expires_at=3, version=4)
    raw = b"\x96" + b"\xb8" + record.id.encode() + b"\xc4\x01d" + b"\xa2al" + b"\x01\x03\x04"
    assert binding(record) == raw
    free = {"last_activity": 9, "expires_at": 9, "lifetime": 9, "login_ip": "::9", "login_user_agent": "9"}
    assert binding(msgspec.structs.replace(record, payload=b"", **free)) == raw
