"""The tests of the kit: a right store passes every case, a deliberately broken one fails exactly where it should."""

from __future__ import annotations

import asyncio
import unicodedata

import pytest
from kit_driver import failures
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


class ComparesVersionsAsFloats(MemoryStore):
    """As Lua and JavaScript do."""

    def save(self, record, expected_version, *, payload_only=False):
        old = self._live.get(record.id)
        if old is not None and float(old.version) == float(expected_version):
            expected_version = old.version
        return super().save(record, expected_version, payload_only=payload_only)


class KeepsTimesIn32Bits(MemoryStore):
    def touch(self, id, last_activity, expires_at):
        return super().touch(id, min(last_activity, 2**32 - 1), min(expires_at, 2**32 - 1))


class SweepsTimesIn32Bits(MemoryStore):
    """What expires after 2106 looks like 1970."""

    def purge(self, now, limit):
        early = [one for one in self._live.values() if one.expires_at % 2**32 <= now]
        for record in early[:limit]:
            self.delete(record.id)
        return len(early[:limit]) + super().purge(now, limit - len(early[:limit]))


class CutsLargePayloads(MemoryStore):
    """As a column of 1 MiB that truncates."""

    def create(self, record):
        return super().create(structs.replace(record, payload=record.payload[: 2**20]))


class ListsOnePage(MemoryStore):
    def list_user(self, user_id):
        return super().list_user(user_id)[:100]


class EndsOnePage(MemoryStore):
    def delete_user(self, user_id, *, except_id=None):
        ended = [one for one in self.list_user(user_id) if one.id != except_id][:100]
        return [self.delete(one.id) for one in ended].count(Outcome.DELETED)


class SweepsOneBatch(MemoryStore):
    """Whatever the limit, a hundred and no more."""

    def purge(self, now, limit):
        return super().purge(now, min(limit, 100))


class RemembersSwept(MemoryStore):
    """What was purged leaves its id taken."""

    def purge(self, now, limit):
        due = [one.id for one in self._live.values() if one.expires_at <= now]
        count = super().purge(now, limit)
        self.swept = {*getattr(self, "swept", ()), *due}
        return count

    def create(self, record):
        return record.id not in getattr(self, "swept", ()) and super().create(record)


class ListsSwept(MemoryStore):
    """The listing has copies of its own."""

    def __init__(self):
        super().__init__()
        self.swept = []

    def purge(self, now, limit):
        live = list(self._live.values())
        count = super().purge(now, limit)
        self.swept += [record for record in live if record.id not in self._live]
        return count

    def list_user(self, user_id):
        return super().list_user(user_id) + [record for record in self.swept if record.user_id == user_id]


class IndexedApart(MemoryStore):
    """An index beside the records, as in a key-value store; *forgets* names the calls that leave it as it is."""

    forgets = ""

    def __init__(self):
        super().__init__()
        self.index = {}

    def list_user(self, user_id):
        records = [self._live[one] for one in self.index.get(user_id, ()) if one in self._live]
        return sorted(records, key=age, reverse=True)

    def note(self, call, id, user=None):
        if call not in self.forgets:
            for ids in self.index.values():
                ids.discard(id)
        if user is not None:
            self.index.setdefault(user, set()).add(id)

    def create(self, record):
        done = super().create(record)
        if done:
            self.note("create", record.id, record.user_id)
        return done

    def save(self, record, expected_version, *, payload_only=False):
        outcome = super().save(record, expected_version, payload_only=payload_only)
        if outcome is Outcome.SAVED:
            self.note("save", record.id, record.user_id)
        return outcome

    def rotate(self, record, old_id, expected_version, *, until, successor=None):
        outcome = super().rotate(record, old_id, expected_version, until=until, successor=successor)
        if outcome is Outcome.SAVED and "rotate" not in self.forgets:
            self.note("rotate", record.id, record.user_id)
        return outcome


def age(record):
    return record.created_at


class IndexKeepsFormerOwner(IndexedApart):
    forgets = "save"


class IndexMissesRotation(IndexedApart):
    forgets = "rotate"


class IndexKeepsUsedId(IndexedApart):
    """Nothing takes an entry out; a listing only skips what is not there."""

    forgets = "create"


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
        "large_versions_compare_exactly",
        "save_of_another_version_conflicts",
    },
    SavesStaleTimes: {
        "payload_only_save_keeps_touched_times",
    },
    SavesOnlyPayload: {
        "listing_follows_the_owner",
        "purge_takes_what_is_expired",
        "save_replaces",
        "times_beyond_32_bits",
    },
    SavesFirstOwner: {
        "listing_follows_the_owner",
    },
    TouchRevives: {
        "delete_beats_concurrent_saves",
        "overlapping_calls_end_as_one_after_the_other",
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
        "overlapping_calls_end_as_one_after_the_other",
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
        "listing_follows_a_rotation_to_another_owner",
        "listing_follows_every_ending",
        "rotate_creates_and_closes",
        "rotate_of_gone_creates_nothing",
    },
    RotateLeavesOld: {
        "concurrent_rotations_have_one_winner",
        "listing_follows_a_rotation_to_another_owner",
        "listing_follows_every_ending",
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
        "listing_is_whole",
        "users_compare_byte_by_byte",
    },
    PurgesAll: {
        "purge_goes_on_where_it_stopped",
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
    ComparesVersionsAsFloats: {
        "large_versions_compare_exactly",
    },
    KeepsTimesIn32Bits: {
        "times_beyond_32_bits",
    },
    SweepsTimesIn32Bits: {
        "purge_knows_times_beyond_32_bits",
    },
    CutsLargePayloads: {
        "large_payload_comes_back_as_it_was",
    },
    ListsOnePage: {
        "listing_is_whole",
    },
    EndsOnePage: {
        "listing_is_whole",
    },
    SweepsOneBatch: {
        "one_purge_may_take_many",
    },
    RemembersSwept: {
        "a_purged_id_is_free",
        "overlapping_calls_end_as_one_after_the_other",
    },
    ListsSwept: {
        "a_purged_id_is_free",
        "listing_follows_expiry",
        "one_purge_may_take_many",
        "overlapping_calls_end_as_one_after_the_other",
        "purge_takes_what_is_expired",
    },
    IndexKeepsFormerOwner: {
        "listing_follows_the_owner",
    },
    IndexMissesRotation: {
        "concurrent_rotations_have_one_winner",
        "listing_follows_a_rotation_to_another_owner",
        "listing_follows_every_ending",
        "rotate_creates_and_closes",
    },
    IndexKeepsUsedId: {
        "a_purged_id_is_free",
        "an_id_used_again_is_listed_for_its_new_owner",
        "overlapping_calls_end_as_one_after_the_other",
    },
    DeletesNothing: {
        "an_id_used_again_is_listed_for_its_new_owner",
        "concurrent_creates_have_one_winner",
        "concurrent_rotations_have_one_winner",
        "delete_beats_concurrent_saves",
        "delete_removes",
        "listing_follows_a_rotation_to_another_owner",
        "listing_follows_every_ending",
        "overlapping_calls_end_as_one_after_the_other",
        "rotate_creates_and_closes",
        "save_never_revives",
    },
    LoadsAnything: {
        "concurrent_rotations_have_one_winner",
        "delete_removes",
        "delete_user_takes_all_of_one_user",
        "ids_compare_byte_by_byte",
        "purge_keeps_to_its_limit",
        "purge_knows_times_beyond_32_bits",
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


class SavesTorn(Torn):
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


class SweepsTorn(Torn):
    """Finds what is due, and takes it whatever it has become; counts what it found."""

    async def purge(self, now, limit):
        records = [*self.memory._live.values(), *self.memory._closed.values()]
        due = [record.id for record in records if record.expires_at <= now][:limit]
        await asyncio.sleep(0)
        for one in due:
            self.memory.delete(one)
        return len(due)


class EndsTorn(Torn):
    """Finds what the user has, and takes it, whatever it has been rotated to."""

    async def delete_user(self, user_id, *, except_id=None):
        found = [record.id for record in self.memory.list_user(user_id) if record.id != except_id]
        await asyncio.sleep(0)
        return [self.memory.delete(one) for one in found].count(Outcome.DELETED)


class TouchesTorn(Torn):
    """Writes back the whole of what it read."""

    async def touch(self, id, last_activity, expires_at):
        seen = await self.load(id)
        await asyncio.sleep(0)
        if seen is None or seen.closed:
            return False
        now = self.memory.load(id)
        if now is not None and not now.closed:
            self.memory.save(seen, now.version)
        return self.memory.touch(id, last_activity, expires_at)


TORN = {
    SavesTorn: {
        "concurrent_saves_lose_nothing",
        "delete_beats_concurrent_saves",
        "overlapping_calls_end_as_one_after_the_other",
    },
    SweepsTorn: {
        "concurrent_purges_count_each_record_once",
        "overlapping_calls_end_as_one_after_the_other",
    },
    EndsTorn: {
        "delete_user_meets_every_rotation",
        "overlapping_calls_end_as_one_after_the_other",
    },
    TouchesTorn: {
        "overlapping_calls_end_as_one_after_the_other",
    },
}


@pytest.mark.parametrize("store", TORN, ids=lambda store: store.__name__)
def test_a_torn_store_is_found_by_the_races(store, tmp_path):
    assert failing(store, tmp_path) == TORN[store]


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
    caught = set().union(*BROKEN.values(), *TORN.values())
    plain = {"initialize_and_teardown_may_be_repeated"}
    names = {name.removeprefix("test_") for name in CASES}
    assert names - caught - plain == set()
