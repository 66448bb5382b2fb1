"""For tests of apps and stores: cookies of who is logged in, a clock to turn by hand, a store that fails, the kit.

Needs no test runner. ``StoreContract`` is explained where it is defined.
"""

from .contract import StoreContract
from .faults import Called, Clock, FaultyAsyncStore, FaultyStore
from .visitor import ClientCookie, aclient_cookie, client_cookie

__all__ = [
    "Called",
    "ClientCookie",
    "Clock",
    "FaultyAsyncStore",
    "FaultyStore",
    "StoreContract",
    "aclient_cookie",
    "client_cookie",
]
