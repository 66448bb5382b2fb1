"""Runs the cases of a kit by hand, for the tests of the kit."""

from __future__ import annotations


def failures(kit, tmp_path, cases=None):
    """Those of the *cases* of *kit* (of all, unless given) that fail, without ``test_``; each says why, and where."""
    failed = {}
    for name in kit.cases() if cases is None else cases:
        directory = tmp_path / name
        directory.mkdir()
        try:
            getattr(kit, name)(directory)
        except AssertionError as error:
            failed[name.removeprefix("test_")] = error
    assert all(map(str, failed.values())), "a case fails without a word"
    assert all("face of the store" in error.__notes__[0] for error in failed.values())
    return set(failed)
