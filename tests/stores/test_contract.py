"""The tests of the kit: a right store passes every case, a deliberately broken one fails exactly where it should."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from msgspec import structs

from session_mw.core.operations import Outcome
from session_mw.errors import StoreBusyError, StoreError
from session_mw.stores.faces import Awaited, is_awaited
from session_mw.stores.memory import MemoryStore
from session_mw.testing import StoreContract
from session_mw.testing.contract import new_record

CASES = StoreContract.cases()


def failing(make, tmp_path):
    """The cases that a store made by *make* fails; on its awaited face, where tasks always meet in the same order."""

    class Kit(StoreContract):
        def make_store(self, tmp_path):
            store = make()
            return store if is_awaited(store) else store.aio()

    return failures(Kit(), tmp_path)


def failures(kit, tmp_path):
    """The cases of *kit* that fail."""
    failed = {}
    for name in kit.cases():
        directory = tmp_path / name
        directory.mkdir()
        try:
            getattr(kit, name)(directory)
        except AssertionError as error:
            failed[name.removeprefix("test_")] = error
    assert all(map(str, failed.values())), "a case fails without a word"
    assert all("face of the store" in error.__notes__[0] for error in failed.values())
    for name, error in failed.items():
        print(f"{name}: {error}")
    return set(failed)


class Overwrites(MemoryStore):
    """create replaces what is there."""

    def create(self, record):
        self.delete(record.id)
        return super().create(record)


class CreatesOverClosed(MemoryStore):
    def create(self, record):
        if record.id in self._closed:
            del self._closed[record.id]
        return super().create(record)


class Upserts(MemoryStore):
    """save makes a record that is not there."""

    def save(self, record, expected_version, *, payload_only=False):
        outcome = super().save(record, expected_version, payload_only=payload_only)
        if outcome is Outcome.GONE and record.id not in self._closed:
            self.create(record)
        return outcome


class ReopensOnSave(MemoryStore):
    def save(self, record, expected_version, *, payload_only=False):
        if record.id in self._closed:
            self.delete(record.id)
            self.create(record)
            return Outcome.SAVED
        return super().save(record, expected_version, payload_only=payload_only)


class SavesAnyVersion(MemoryStore):
    def save(self, record, expected_version, *, payload_only=False):
        old = self.load(record.id)
        seen = expected_version if old is None else old.version
        return super().save(record, seen, payload_only=payload_only)


class SavesStaleTimes(MemoryStore):
    """payload_only writes the whole record."""

    def save(self, record, expected_version, *, payload_only=False):
        return super().save(record, expected_version)


class SavesOnlyPayload(MemoryStore):
    """The hint is taken for an order."""

    def save(self, record, expected_version, *, payload_only=False):
        old = self._live.get(record.id)
        if old is not None:
            record = structs.replace(old, version=record.version, payload=record.payload)
        return super().save(record, expected_version, payload_only=payload_only)


class SavesFirstOwner(MemoryStore):
    """The listing never hears of another owner."""

    def _replace(self, old, new):
        super()._replace(old, structs.replace(new, user_id=old.user_id))


class TouchRevives(MemoryStore):
    def touch(self, id, last_activity, expires_at):
        if self.load(id) is None:
            self.create(new_record(id, user_id=None))
        return super().touch(id, last_activity, expires_at)


class TouchLowers(MemoryStore):
    def touch(self, id, last_activity, expires_at):
        old = self._live.get(id)
        if old is None:
            return False
        self._replace(old, structs.replace(old, last_activity=last_activity, expires_at=expires_at))
        return True


class TouchCounts(MemoryStore):
    """touch makes a new version."""

    def touch(self, id, last_activity, expires_at):
        done = super().touch(id, last_activity, expires_at)
        if done:
            self._live[id] = structs.replace(self._live[id], version=self._live[id].version + 1)
        return done


class TouchesClosed(MemoryStore):
    def touch(self, id, last_activity, expires_at):
        if id in self._closed:
            self._closed[id] = structs.replace(self._closed[id], expires_at=expires_at)
            return True
        return super().touch(id, last_activity, expires_at)


class DeletesAnyVersion(MemoryStore):
    def delete(self, id, *, expected_version=None):
        return super().delete(id)


class DeletesAllButClosed(MemoryStore):
    def delete(self, id, *, expected_version=None):
        return super().delete(id, expected_version=-1 if id in self._closed else expected_version)


class ClosesAnyVersion(MemoryStore):
    def close(self, id, expected_version, *, until, successor=None):
        old = self._live.get(id)
        return super().close(id, old.version if old else expected_version, until=until, successor=successor)


class ClosesFully(MemoryStore):
    """close keeps nothing, not even the digest."""

    def close(self, id, expected_version, *, until, successor=None):
        outcome = super().close(id, expected_version, until=until, successor=successor)
        if outcome is Outcome.DELETED:
            self._closed[id] = structs.replace(self._closed[id], digest=b"")
        return outcome


class KeepsClosedData(MemoryStore):
    def _end(self, old, until, successor):
        super()._end(old, until, successor)
        self._closed[old.id] = structs.replace(old, closed=True, expires_at=until, successor=successor)


class ForgetsSuccessor(MemoryStore):
    def close(self, id, expected_version, *, until, successor=None):
        return super().close(id, expected_version, until=until)


class ListsClosed(MemoryStore):
    def list_user(self, user_id):
        return super().list_user(user_id) + (list(self._closed.values()) if user_id == "alice" else [])


class RotateLeavesOld(MemoryStore):
    """The order in which orphans are made: create, and nothing more."""

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        old = self._live.get(old_id)
        if old is None:
            return Outcome.GONE
        if old.version != expected_version:
            return Outcome.CONFLICT
        return Outcome.SAVED if self.create(record) else Outcome.CONFLICT


class RotateCreatesFirst(MemoryStore):
    """Two steps, and the first is not taken back."""

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        if not self.create(record):
            return Outcome.CONFLICT
        ended = self.close(old_id, expected_version, until=until, successor=successor)
        return Outcome.SAVED if ended is Outcome.DELETED else ended


class RotateOverwrites(MemoryStore):
    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        self.delete(record.id)
        return super().rotate(record, old_id, expected_version, until=until, successor=successor)


class ListsOldestFirst(MemoryStore):
    def list_user(self, user_id):
        return super().list_user(user_id)[::-1]


class FoldsCase(MemoryStore):
    """Compares users as MySQL's default collation does."""

    def fold(self, user):
        return user.casefold()

    def list_user(self, user_id):
        return sorted(
            (one for one in self._live.values() if one.user_id and self.fold(one.user_id) == self.fold(user_id)),
            key=lambda one: -one.created_at,
        )


class DeletesAlike(MemoryStore):
    def delete_user(self, user_id, *, except_id=None):
        alike = [user for user in self._users if user.rstrip() == user_id.rstrip()]
        return sum(super(DeletesAlike, self).delete_user(user, except_id=except_id) for user in alike)


class NormalisesUsers(MemoryStore):
    def create(self, record):
        user = record.user_id and unicodedata.normalize("NFC", record.user_id)
        return super().create(structs.replace(record, user_id=user))


class SparesNobody(MemoryStore):
    def delete_user(self, user_id, *, except_id=None):
        return super().delete_user(user_id)


class CountsWrongly(MemoryStore):
    def delete_user(self, user_id, *, except_id=None):
        super().delete_user(user_id, except_id=except_id)
        return 0


class PurgesAll(MemoryStore):
    """purge ignores its limit."""

    def purge(self, now, limit):
        return super().purge(now, 10**9)


class PurgesEarly(MemoryStore):
    def purge(self, now, limit):
        return super().purge(now + 1, limit)


class PurgesLate(MemoryStore):
    def purge(self, now, limit):
        return super().purge(now - 1, limit)


class PurgesLiveOnly(MemoryStore):
    def purge(self, now, limit):
        ended, self._closed = self._closed, type(self._closed)()
        try:
            return super().purge(now, limit)
        finally:
            self._closed = ended


class JudgesTime(MemoryStore):
    """Hides what its own clock calls expired."""

    def load(self, id):
        record = super().load(id)
        return None if record is not None and record.expires_at < 1_000_000 else record


class FoldsIds(MemoryStore):
    def load(self, id):
        return super().load(id) or super().load(id.lower())


class TrimsPayloads(MemoryStore):
    def create(self, record):
        return super().create(structs.replace(record, payload=record.payload.rstrip(b"\0\n")))


class ShortTexts(MemoryStore):
    """As a column of 255 characters that truncates."""

    def create(self, record):
        agent = record.login_user_agent and record.login_user_agent[:255]
        return super().create(structs.replace(record, login_user_agent=agent))


class NullForEmpty(MemoryStore):
    """As Oracle, where an empty value is none."""

    def create(self, record):
        return super().create(structs.replace(record, lifetime=record.lifetime or None))


class ListsAnonymous(MemoryStore):
    """As where the owner went through str()."""

    def create(self, record):
        return super().create(structs.replace(record, user_id=str(record.user_id)))

    def load(self, id):
        record = super().load(id)
        return record and structs.replace(record, user_id=None if record.user_id == "None" else record.user_id)


class DeletesNothing(MemoryStore):
    """delete answers, and marks nothing."""

    def delete(self, id, *, expected_version=None):
        record = self._live.get(id)
        if record is None or expected_version not in (None, record.version):
            return super().delete(id, expected_version=expected_version)
        return Outcome.DELETED


class LoadsAnything(MemoryStore):
    def load(self, id):
        return super().load(id) or next(iter(self._live.values()), None)


BROKEN = {
    Overwrites: {
        "concurrent_creates_have_one_winner",
        "create_never_overwrites",
        "create_never_overwrites_closed",
    },
    CreatesOverClosed: {
        "create_never_overwrites_closed",
    },
    Upserts: {
        "delete_beats_concurrent_saves",
        "save_never_revives",
    },
    ReopensOnSave: {
        "save_never_reopens_closed",
    },
    SavesAnyVersion: {
        "concurrent_saves_lose_nothing",
        "save_of_another_version_conflicts",
    },
    SavesStaleTimes: {
        "payload_only_save_keeps_touched_times",
    },
    SavesOnlyPayload: {
        "listing_follows_the_owner",
        "purge_takes_what_is_expired",
        "save_replaces",
    },
    SavesFirstOwner: {
        "listing_follows_the_owner",
    },
    TouchRevives: {
        "delete_beats_concurrent_saves",
        "touch_never_revives",
    },
    TouchLowers: {
        "touch_never_lowers",
    },
    TouchCounts: {
        "payload_only_save_keeps_touched_times",
        "touch_raises_times_only",
    },
    TouchesClosed: {
        "touch_leaves_closed_alone",
    },
    DeletesAnyVersion: {
        "delete_of_another_version_conflicts",
        "delete_takes_closed_only_without_version",
    },
    DeletesAllButClosed: {
        "delete_takes_closed_only_without_version",
    },
    ClosesAnyVersion: {
        "close_of_another_version_conflicts",
    },
    ClosesFully: {
        "close_keeps_id_and_digest_only",
        "close_of_gone_changes_nothing",
        "close_points_to_its_successor",
    },
    KeepsClosedData: {
        "close_keeps_id_and_digest_only",
        "close_of_gone_changes_nothing",
        "close_points_to_its_successor",
        "rotate_creates_and_closes",
    },
    ForgetsSuccessor: {
        "close_points_to_its_successor",
    },
    ListsClosed: {
        "closed_is_neither_listed_nor_counted",
        "concurrent_rotations_have_one_winner",
        "delete_user_meets_every_rotation",
        "rotate_creates_and_closes",
        "rotate_of_gone_creates_nothing",
    },
    RotateLeavesOld: {
        "concurrent_rotations_have_one_winner",
        "rotate_creates_and_closes",
    },
    RotateCreatesFirst: {
        "concurrent_rotations_have_one_winner",
        "delete_user_meets_every_rotation",
        "rotate_of_another_version_conflicts",
        "rotate_of_gone_creates_nothing",
    },
    RotateOverwrites: {
        "rotate_never_overwrites",
    },
    ListsOldestFirst: {
        "listing_is_newest_first",
    },
    FoldsCase: {
        "users_compare_byte_by_byte",
    },
    DeletesAlike: {
        "users_compare_byte_by_byte",
    },
    NormalisesUsers: {
        "users_compare_byte_by_byte",
    },
    SparesNobody: {
        "delete_user_spares_one",
    },
    CountsWrongly: {
        "closed_is_neither_listed_nor_counted",
        "delete_user_spares_one",
        "delete_user_takes_all_of_one_user",
        "users_compare_byte_by_byte",
    },
    PurgesAll: {
        "purge_keeps_to_its_limit",
    },
    PurgesEarly: {
        "purge_takes_closed",
        "purge_takes_what_is_expired",
    },
    PurgesLate: {
        "purge_takes_closed",
        "purge_takes_what_is_expired",
    },
    PurgesLiveOnly: {
        "purge_takes_closed",
    },
    JudgesTime: {
        "time_is_judged_by_purge_alone",
    },
    FoldsIds: {
        "ids_compare_byte_by_byte",
    },
    TrimsPayloads: {
        "payload_comes_back_as_it_was",
    },
    ShortTexts: {
        "record_comes_back_as_it_was",
    },
    NullForEmpty: {
        "record_comes_back_as_it_was",
    },
    ListsAnonymous: {
        "anonymous_is_not_listed",
    },
    DeletesNothing: {
        "concurrent_creates_have_one_winner",
        "concurrent_rotations_have_one_winner",
        "delete_beats_concurrent_saves",
        "delete_removes",
        "save_never_revives",
    },
    LoadsAnything: {
        "delete_removes",
        "delete_user_takes_all_of_one_user",
        "ids_compare_byte_by_byte",
        "purge_takes_what_is_expired",
        "rotate_of_another_version_conflicts",
        "unknown_id_loads_nothing",
    },
}


@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_a_broken_store_fails_exactly_where_it_should(store, tmp_path):
    assert failing(store, tmp_path) == BROKEN[store]


class Torn(Awaited):
    """An awaited store that looks, waits, and then writes whatever happened meanwhile."""

    def __init__(self):
        self.memory = MemoryStore()
        super().__init__(self.memory, self.memory)

    async def save(self, record, expected_version, *, payload_only=False):
        seen = await self.load(record.id)
        await asyncio.sleep(0)
        if seen is None or seen.closed:
            return Outcome.GONE
        if seen.version != expected_version:
            return Outcome.CONFLICT
        now = self.memory.load(record.id)
        if now is None:
            self.memory.create(record)
            return Outcome.SAVED
        return self.memory.save(record, now.version, payload_only=payload_only)


def test_a_torn_compare_and_swap_is_found_by_the_races(tmp_path):
    assert failing(Torn, tmp_path) == {"concurrent_saves_lose_nothing", "delete_beats_concurrent_saves"}


class CannotRotate(MemoryStore):
    can_rotate = False

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        raise AssertionError("a store that cannot rotate is never asked to")


class TestStoreThatCannotRotate(StoreContract):
    def make_store(self, tmp_path):
        return CannotRotate()


class TestStoreThatMustBeAwaited(StoreContract):
    def make_store(self, tmp_path):
        return MemoryStore().aio()


class Wary(MemoryStore):
    """Its inline face declines everything: the kit goes on with the store itself."""

    def inline(self):
        return Declining(self)


class Declining(MemoryStore):
    def __init__(self, store):
        super().__init__()
        self.can_rotate = store.can_rotate

    def _busy(self, *args, **options):
        raise StoreBusyError("not here")

    load = create = save = touch = delete = close = rotate = list_user = delete_user = purge = _busy


class TestStoreThatDeclinesInline(StoreContract):
    def make_store(self, tmp_path):
        return Wary()


def test_a_store_that_is_busy_when_called_is_told_as_it_is(tmp_path):
    class Kit(StoreContract):
        def make_store(self, tmp_path):
            return Declining(MemoryStore())

    with pytest.raises(StoreBusyError) as caught:
        Kit().test_create_never_overwrites(tmp_path)
    assert caught.value.__notes__ == ["on the called face of the store"]


def test_a_fault_on_a_thread_of_a_race_is_told(tmp_path):
    class Kit(StoreContract):
        def make_store(self, tmp_path):
            store = MemoryStore()
            store.save = fails
            return store

    def fails(*args, **options):
        raise StoreError("it broke")

    with pytest.raises(StoreError, match="it broke"):
        Kit().test_concurrent_saves_lose_nothing(tmp_path)


def test_the_kit_without_make_store_says_what_is_missing(tmp_path):
    with pytest.raises(TypeError, match="make_store"):
        StoreContract().test_create_never_overwrites(tmp_path)


def test_every_case_has_a_broken_store_that_fails_it():
    caught = set().union(*BROKEN.values())
    plain = {"initialize_and_teardown_may_be_repeated"}
    names = {name.removeprefix("test_") for name in CASES}
    assert names - caught - plain == set()
