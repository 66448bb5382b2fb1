"""What type checkers must see of legacy readers and migrating stores."""

from datetime import UTC, date, datetime, timedelta
from typing import assert_type

from session_mw import SessionConfig
from session_mw.legacy import (
    DjangoCookie,
    FlaskCookie,
    LegacyCookie,
    LegacyReader,
    LegacyRefused,
    LegacySession,
    StarletteCookie,
)
from session_mw.stores.memory import MemoryStore
from session_mw.stores.migrating import MigratingStore


class Mine(LegacyCookie):
    def read(self, value: str, now: int) -> LegacySession:
        if not value:
            raise LegacyRefused("malformed")
        return LegacySession(data={"a": value}, issued_at=now, user_id=5)


READERS: list[LegacyReader] = [
    StarletteCookie("secret", until=date(2030, 1, 1), max_age=None),
    FlaskCookie([b"new", "old"], until=datetime(2030, 1, 1, tzinfo=UTC), max_age=timedelta(days=31)),
    DjangoCookie("secret", until=date(2030, 1, 1), owner_key="_auth_user_id"),
    Mine(name="mine", until=date(2030, 1, 1)),
]
config = SessionConfig(legacy=READERS, store=MemoryStore(), migrate_from="sqlite:///old.db")
assert_type(config.legacy, tuple[LegacyReader, ...])
assert_type(READERS[0].read("x", 5), LegacySession)
assert_type(MigratingStore(MemoryStore(), MemoryStore()).purge(1, 2), int)


StarletteCookie("secret")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
SessionConfig(legacy=[5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
