"""Two stores as one: the contract, for sessions of either store, and what the contract cannot know of two."""

from __future__ import annotations

from typing import ClassVar

from session_mw.stores.migrating import AsyncMigratingStore, MigratingStore
from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import StoreContract


class Told(MigratingStore):
    """Says when a command is about to be sent; its faces do as well."""

    def __init__(self, new, old, tell=lambda: None):
        super().__init__(new, old)
        self.tell = tell

    def aio(self):
        return AsyncTold(*self._stores, self)

    def _run(self, steps):
        return super()._run(_told(steps, self))


class AsyncTold(AsyncMigratingStore):
    def __init__(self, new, old, owner):
        super().__init__(new, old)
        self._owner = owner

    async def _run(self, steps):
        return await super()._run(_told(steps, self._owner))


def _told(steps, owner):
    try:
        step = next(steps)
        while True:
            owner.tell()
            step = steps.send((yield step))
    except StopIteration as stop:
        return stop.value


class TestContract(StoreContract):
    """Sessions that are born in the new store."""

    costs: ClassVar = {"load": 3, "save": 3, "touch": 3, "list_user": 2}  # most for what is in neither

    def make_store(self, tmp_path):
        return Told(SQLiteStore(tmp_path / "new.db"), SQLiteStore(tmp_path / "old.db"))

    def open_again(self, tmp_path):
        return self.make_store(tmp_path)

    def before_each_command(self, store, tell):
        store.tell = tell


class BornOld(Told):
    """Every session is born in the old store, so that every rule meets one that has yet to move."""

    def create(self, record):
        new, old = self._stores
        return new.load(record.id) is None and old.create(record)

    def aio(self):
        return AsyncBornOld(*self._stores, self)


class AsyncBornOld(AsyncTold):
    async def create(self, record):
        new, old = self._stores
        return await new.load(record.id) is None and await old.create(record)


class TestContractOfWhatMoves(TestContract):
    costs: ClassVar = {"load": 3, "save": 4, "touch": 5, "list_user": 2}

    def make_store(self, tmp_path):
        return BornOld(SQLiteStore(tmp_path / "new.db"), SQLiteStore(tmp_path / "old.db"))

    def _pairs(self):
        """Without those of purge: it counts a session twice that is due while it moves."""
        return [pair for pair in super()._pairs() if pair.needs != "purge"]
