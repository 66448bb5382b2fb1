from session_mw.stores.sqlite import SQLiteStore
from session_mw.testing import StoreContract


class TestSQLiteStore(StoreContract):
    def make_store(self, tmp_path):
        return SQLiteStore(tmp_path / "s.db")


class TestDurableSQLiteStore(StoreContract):
    def make_store(self, tmp_path):
        return SQLiteStore(tmp_path / "s.db", durable=True)
