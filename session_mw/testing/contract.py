"""StoreContract: the conformance kit for stores; import it from ``session_mw.testing``.

Plain ``assert`` and the standard library, so any test runner will do. One method is one rule.
"""

from __future__ import annotations

from .endings import EndingCases
from .face import Face
from .races import RaceCases
from .records import RecordCases
from .samples import new_record
from .users import UserCases

__all__ = ["Face", "StoreContract", "new_record"]


class StoreContract(RecordCases, EndingCases, UserCases, RaceCases):
    """What every store must do. Subclass it in your test suite, under a name your runner collects:

        class TestMyStore(StoreContract):
            def make_store(self, tmp_path):
                return MyStore(tmp_path)

    Each method ``test_…(tmp_path)`` is one rule and raises AssertionError where the store breaks it; ``tmp_path`` is
    an empty directory, as pytest hands it in.
    """
