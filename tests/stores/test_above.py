"""Who else may put something in a store's place: others are refused, a group is told to the log."""

from __future__ import annotations

import pytest

from session_mw.errors import StoreError
from session_mw.stores.above import look_above
from session_mw.stores.filesystem import FilesystemStore
from session_mw.stores.sqlite import SQLiteStore

GROUP = "the group of the directory above it may put another in its place"


@pytest.mark.parametrize(
    ("mode", "told"), [(0o700, []), (0o755, []), (0o775, [GROUP]), (0o1775, []), (0o1777, []), (0o2750, [])]
)
def test_a_group_is_told_to_the_log(tmp_path, caplog, mode, told):
    tmp_path.chmod(mode)
    look_above(tmp_path / "sessions")
    assert [record.getMessage().partition(": ")[2].partition(",")[0] for record in caplog.records] == told


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o2773])
def test_others_are_refused(tmp_path, mode):
    tmp_path.chmod(mode)
    with pytest.raises(StoreError, match=r"others may write to the directory above it.*\(chmod o-w\)"):
        look_above(tmp_path / "sessions")


def test_a_directory_that_is_missing_is_the_callers_to_tell(tmp_path):
    with pytest.raises(FileNotFoundError):
        look_above(tmp_path / "missing" / "sessions")


@pytest.mark.parametrize("kind", [FilesystemStore, SQLiteStore])
def test_it_is_told_when_a_store_opens_and_no_more(tmp_path, caplog, kind):
    tmp_path.chmod(0o770)
    store = kind(tmp_path / "sessions")
    for _ in range(3):
        store.initialize()
        store.load("x")
    store.teardown()
    assert [GROUP in record.getMessage() for record in caplog.records] == [True]
