"""What requests leave for the cycle collector: nothing, if no cycle joins session, scope and response."""

from __future__ import annotations

import gc
from collections.abc import Iterable

from . import floors, ours
from .harness import groups, requests, workshop
from .scenarios import SCENARIOS
from .subjects import Builder

__all__ = ["garbage"]

WARM = 5


def garbage(kind: str, *, count: int = 100, builders: Iterable[Builder] = (*ours.BUILDERS, *floors.BUILDERS)) -> int:
    """Objects the collector finds after *count* requests of every scenario, the collector having been off.

    *kind* is a builder's name: ``asgi_cookie``, ``wsgi_sqlite_touch``, …; the first of *builders* so called is run.
    Raises ``ImportError`` when its package is missing, ``LookupError`` for an unknown name.
    """
    builder = next((builder for builder in builders if builder.__name__ == kind), None)
    if builder is None:
        raise LookupError(kind)
    with workshop() as shop:
        grid = groups(shop, [builder(shop)], SCENARIOS)
        cells = [cell for group in grid for cell in group if cell.bare is not None]
        for cell in cells:  # caches, connections and first-time imports are not the garbage of a request
            cell.subject.driver.batch(cell.subject.app, requests(cell, WARM))
        collecting = gc.isenabled()
        gc.collect()
        gc.freeze()  # what is there already need not be searched every time
        gc.disable()
        try:
            return sum(
                cell.subject.driver.within(cell.subject.app, requests(cell, count), gc.collect) for cell in cells
            )
        finally:
            gc.unfreeze()
            if collecting:
                gc.enable()
