"""A record as a store has kept it, for the tests of what decides upon it."""

from __future__ import annotations

from typing import Any

import msgspec
from harness import token

from session_mw.core.lifetime import Limits
from session_mw.core.login import new_login
from session_mw.core.payload import EMPTY_META, Meta, join, write_meta
from session_mw.core.record import Record

NOW = 1000
LIMITS = Limits(100, 500, 10)
TOKEN = token()
LOGIN = new_login(NOW, b"r" * 36, None, None, bound=False)


def record(data: bytes = b'{"a":1}', meta: Meta = EMPTY_META, **fields: Any) -> Record:
    kept = Record(
        TOKEN.id, b"d", None, NOW, NOW, NOW + 100, NOW + 500, None, None, None, 3, join(data, write_meta(meta))
    )
    return msgspec.structs.replace(kept, **fields)
