"""Tokens: minted, split, compared."""

from __future__ import annotations

import hashlib
import os

import pytest

from session_mw.core.tokens import ID_LENGTH, RANDOM_BYTES, SECRET_LENGTH, Token, digest, is_id, matches, mint, split

TOKEN = mint(bytes(range(200, 200 + RANDOM_BYTES)))


def test_a_minted_token_has_one_spelling() -> None:
    for _ in range(50):
        token = mint(os.urandom(RANDOM_BYTES))
        assert (len(token.id), len(token.secret)) == (ID_LENGTH, SECRET_LENGTH)
        assert split(token.text) == token
        assert is_id(token.id)
    assert mint(b"\xff" * RANDOM_BYTES).text == "_" * ID_LENGTH + "." + "_" * SECRET_LENGTH
    assert ID_LENGTH * 6 >= 128
    assert SECRET_LENGTH * 6 >= 256


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        TOKEN.id,
        TOKEN.secret,
        TOKEN.text + "\n",
        " " + TOKEN.text,
        TOKEN.text + "=",
        TOKEN.text.replace(".", ":"),
        "../" + TOKEN.text[3:],
        "é" + TOKEN.text[1:],
        "٣" + TOKEN.text[1:],
        TOKEN.text.replace(TOKEN.text[0], "+", 1),
    ],
)
def test_anything_else_is_refused_never_repaired(text: str) -> None:
    assert split(text) is None
    assert not is_id(text) or text == TOKEN.id


def test_secrets_are_kept_as_digests() -> None:
    assert digest("secret") == hashlib.sha256(b"secret").digest()
    assert matches("secret", digest("secret"))
    assert not matches("Secret", digest("secret"))
    assert not matches("", b"")
    assert not matches("secret", b"")


def test_a_token_does_not_show_its_secret() -> None:
    assert repr(TOKEN) == f"<Token {TOKEN.id[:6]}…>"
    assert TOKEN.secret not in f"{TOKEN!r} {TOKEN!s} {[TOKEN]}"
    assert Token(TOKEN.id, TOKEN.secret) == TOKEN
