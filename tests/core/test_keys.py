"""Key rings: what is refused, what is derived, and that no secret is ever shown."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from session_mw.core.keys import KEY_ID_BYTES, DerivedKey, KeyRing, generate_key
from session_mw.errors import ConfigurationError

NEW = "new-WqVxH2mJ8tRz5KpLcY7bNfD3sG9aE4u"
OLD = "old-Zk6TgB1rXvQ9yMw3PhC8jSd5nUe2LfA"


def test_one_key_is_never_a_sequence_of_characters():
    assert KeyRing.of(NEW) == KeyRing(NEW) == KeyRing(NEW.encode()) == KeyRing.of(NEW.encode())
    assert len(KeyRing.of(NEW).derive("p")) == len(KeyRing.of(NEW.encode()).derive("p")) == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_sequence_is_newest_first(kind):
    ring = KeyRing.of(kind([NEW, OLD]))
    assert ring == KeyRing(NEW, OLD) != KeyRing(OLD, NEW)
    assert hash(ring) == hash(KeyRing(NEW, OLD))
    assert ring.derive("p") == (*KeyRing(NEW).derive("p"), *KeyRing(OLD).derive("p"))


def test_a_ring_is_kept_as_it_is():
    ring = KeyRing(NEW)
    assert KeyRing.of(ring) is ring
    assert copy.copy(ring) is ring
    assert copy.deepcopy({"ring": ring})["ring"] is ring
    assert ring != NEW


def test_text_is_utf_8():
    text = "schlüssel-für-die-prüfung-äöü-ß-0123"
    assert KeyRing(text) == KeyRing(text.encode("utf-8"))


def test_a_ring_does_not_change_and_is_not_pickled():
    ring = KeyRing(NEW)
    for name in ("_keys", "other"):
        with pytest.raises(AttributeError):
            setattr(ring, name, ())
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ring)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([""], "primary key is empty"),
        ([b""], "primary key is empty"),
        ([], "has no key"),
        (["secret"], "primary key is too short, 32 bytes are the least"),
        ([NEW[:31]], "too short"),
        ([NEW, OLD[:31]], "retired key 1 is too short"),
        ([NEW, OLD, "x"], "retired key 2 is too short"),
        (["x" * 64], "repeats a text of 1 bytes: it is too short"),
        ([bytes(32)], "repeats a text of 1 bytes"),
        (["changeme" * 8], "repeats a text of 8 bytes"),
        (["supersecretkey1!" * 2], "repeats a text of 16 bytes"),
        (["abcdefg" * 9 + "ab"], "fewer than 8 different bytes"),
        ([NEW, NEW], "retired key 1 is in the key ring already"),
        ([NEW, OLD, OLD.encode()], "retired key 2 is in the key ring already"),
        ([NEW, None], "retired key 1 is of type NoneType"),
        (None, "primary key is of type NoneType"),
        (12345, "of type int"),
        (bytearray(NEW.encode()), "of type int"),
        ([[NEW, OLD]], "of type list"),
        (["\ud800" + NEW], "not valid text"),
    ],
)
def test_refuses(keys, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        KeyRing.of(keys)
    message = str(caught.value)
    if "already" not in says:
        assert "session-mw keygen" in message
        assert 'python -c "import secrets; print(secrets.token_urlsafe(48))"' in message
    for secret in (NEW, OLD, "changeme", "supersecret", "abcdefg"):
        assert secret not in message
    assert caught.value.__cause__ is None


def test_the_line_it_recommends_makes_a_key_it_takes():
    with pytest.raises(ConfigurationError) as caught:
        KeyRing("")
    program = str(caught.value).split('python -c "')[1].split('"')[0]
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert len(made) == 64
    assert KeyRing(made)


def test_exactly_the_least_length_is_enough():
    assert KeyRing(NEW[:32])


def test_a_framework_key_may_be_shorter_but_not_weak():
    assert KeyRing.of(NEW[:16], minimum=16)
    assert KeyRing("half-a-key-12345" * 2, minimum=16)
    assert KeyRing("dev", minimum=1)
    for weak in (NEW[:15], bytes(16), "password" * 4, "aabbccddeeffgabc"):
        with pytest.raises(ConfigurationError):
            KeyRing(weak, minimum=16)
    with pytest.raises(ConfigurationError, match="empty"):
        KeyRing("", minimum=1)


@given(st.binary(min_size=48, max_size=48))
def test_no_key_shows(random):
    if len(set(random)) < 8:
        return
    ring = KeyRing(random, NEW)
    (first, _) = ring.derive("purpose")
    assert repr(ring) == str(ring) == "<KeyRing of 2 keys>"
    assert repr(first) == str(first) == f"<DerivedKey {first.key_id.hex()}>"


def test_repr_counts():
    assert repr(KeyRing(NEW)) == "<KeyRing of 1 key>"


@given(st.binary(min_size=32, max_size=200), st.text(max_size=40).filter(lambda text: text.isprintable()))
def test_derivation_is_hkdf(secret, purpose):
    """RFC 5869, with the implementation of cryptography as the judge."""
    if len(set(secret)) < 8 or (secret + secret).find(secret, 1) < 32:
        return
    expected = HKDF(SHA256(), 36, salt=None, info=b"session_mw/1/" + purpose.encode()).derive(secret)
    assert KeyRing(secret).derive(purpose) == (DerivedKey(expected[32:], expected[:32]),)


def test_every_purpose_and_every_secret_has_its_own_key():
    derived = [key for purpose in ("", "a", "b", "a:b", "ab") for key in KeyRing(NEW, OLD).derive(purpose)]
    assert len({key.key for key in derived}) == len({key.key_id for key in derived}) == 10
    assert {(len(key.key_id), len(key.key)) for key in derived} == {(KEY_ID_BYTES, 32)}
    assert KeyRing(NEW).derive("a") == KeyRing(NEW).derive("a")


def test_keys_that_share_an_id_are_refused():
    pair = ("a secret that collides, number 030571", "a secret that collides, number 043821")  # found by search
    assert len(KeyRing(*pair).derive("another")) == 2
    with pytest.raises(ConfigurationError, match="share a key id") as caught:
        KeyRing(*pair).derive("collision")
    assert not any(secret in str(caught.value) for secret in pair)


def test_generated_keys_are_strong_and_differ():
    keys = {generate_key() for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert len(key) == 64
        assert KeyRing(key)
