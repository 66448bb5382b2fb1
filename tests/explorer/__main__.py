"""``python -m tests.explorer``: every pair of kinds in every setting, and what came of it."""

from __future__ import annotations

import itertools
import sys
import time

from .calls import CALLS
from .kinds import KINDS
from .search import Setting, Tally, explore
from .world import STARTS

SETTINGS = [Setting(start, can_rotate) for start in STARTS for can_rotate in (True, False)]
SETTINGS += [Setting(start, idle=120) for start in ("anonymous", "alice")]  # a touch is due


def main() -> int:
    """Print the table; 1 if any rule was broken."""
    began = time.perf_counter()
    total = Tally()
    reversible = []
    print(f"{'A':32} {'B':32} {'schedules':>9} {'reversed':>8} {'violations':>10}")
    pairs = list(itertools.combinations_with_replacement(KINDS + CALLS, 2))
    for a, b in pairs:
        pair = Tally()
        for setting in SETTINGS:
            pair.add(explore(setting, a, b))
        total.add(pair)
        if pair.reversed:
            reversible.append((a.name, b.name))
        print(f"{a.name:32} {b.name:32} {pair.schedules:9,} {pair.reversed:8,} {len(pair.violations):10,}")
    seconds = time.perf_counter() - began
    print("\nReversed arrivals can cost these pairs a good token:")
    for name, others in itertools.groupby(reversible, key=lambda pair: pair[0]):
        print(f"  {name}: {', '.join(other for _, other in others)}")
    print(f"\n{len(pairs)} pairs, {len(SETTINGS)} settings, {total.schedules:,} schedules in {seconds:.0f} s")
    print(f"{total.reversed:,} reversed arrivals, {len(total.violations):,} violations")
    firsts = {(violation.rule, violation.kinds): violation for violation in reversed(total.violations)}
    for violation in list(firsts.values())[:40]:
        print(f"\n{violation.rule}: {' + '.join(violation.kinds)}, {violation.setting}")
        print(f"  {violation.schedule}, arrivals {violation.arrivals!r}: {violation.what}")
    return 1 if total.violations else 0


if __name__ == "__main__":
    sys.exit(main())
