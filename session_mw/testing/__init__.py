"""For tests of apps and stores: the conformance kit, a clock to turn by hand, a store that fails when told to.

Needs no test runner. ``StoreContract`` is explained where it is defined.
"""

from .contract import StoreContract
from .faults import Called, Clock, FaultyAsyncStore, FaultyStore

__all__ = ["Called", "Clock", "FaultyAsyncStore", "FaultyStore", "StoreContract"]
