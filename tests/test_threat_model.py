"""The threat model, held to its word: each claim names tests that exist, or settings that do."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from session_mw.settings import KINDS

PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
NOTHING = "nothing, until it ends: whoever has the cookie *is* the session"  # a claim that nothing can hold


def functions() -> set[str]:
    """Every test, as ``module::function``."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        found |= {f"{path.stem}::{name}" for name in names}
    return found


def claims() -> list[list[str]]:
    """The rows of tables that say what holds them."""
    rows, held = [], False
    for line in PAGE.split("\n"):
        if not line.startswith("|"):
            held = False
        elif line.endswith("| Held by |"):
            held = True
        elif held and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


@pytest.mark.parametrize("row", claims(), ids=lambda row: row[0][:40])
def test_a_claim_is_held_by_a_test_or_a_setting(row: list[str]) -> None:
    *_, said, holders = row
    names = re.findall(r"`([^`]+)`", holders)
    assert names or said == NOTHING
    for name in names:
        assert name in (functions() if "::" in name else KINDS), name


def test_every_test_that_the_text_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+::test_\w+)`", PAGE))
    assert len(named) > 40
    assert named <= functions(), named - functions()
