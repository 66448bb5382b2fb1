"""StoreContract: the conformance kit for stores; import it from ``session_mw.testing``.

Plain ``assert`` and the standard library, so any test runner will do. One method is one rule.
"""

from __future__ import annotations

from .costs import CostCases
from .endings import EndingCases
from .face import Face
from .listing import ListingCases
from .overlap import OverlapCases
from .processes import ProcessCases
from .purging import PurgeCases
from .races import RaceCases
from .records import RecordCases
from .samples import new_record
from .users import UserCases

__all__ = ["Face", "StoreContract", "new_record"]


class StoreContract(
    RecordCases, EndingCases, UserCases, ListingCases, PurgeCases, RaceCases, OverlapCases, ProcessCases, CostCases
):
    """What every store must do. Subclass it in your test suite, under a name your runner collects:

        class TestMyStore(StoreContract):
            def make_store(self, tmp_path):
                return MyStore(tmp_path)

    Each method ``test_…(tmp_path)`` is one rule and raises AssertionError where the store breaks it; ``tmp_path`` is
    an empty directory, as pytest hands it in. A store that must be awaited is given as it is.

    More hooks, for more rules: ``open_again``, ``before_each_command`` or ``commands_sent``, ``lose_record``.
    What a store does not do is declared: ``can_list``, ``expires_itself``, ``purge_skips_locked``, ``payload_limit``,
    ``costs`` (and ``can_rotate``, on the store itself). A rule that cannot be tried is ``None``; ``left_out()`` names
    them.
    """
