"""All faults, in full: ``./run faults`` prints how many of each kind were survived.

python -m tests.faults [KIND ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from . import scene
from .kinds import KINDS


def main(wanted: list[str]) -> int:
    """Runs them, and prints a table for the README."""
    unknown = set(wanted) - {kind.name for kind in KINDS}
    if unknown:
        print(f"no such kind: {', '.join(unknown)}; there are", *(kind.name for kind in KINDS))
        return 2
    wrong: list[str] = []
    print("| fault | tried | survived |\n|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        made = scene.make(Path(folder))
        for kind in KINDS:
            if not wanted or kind.name in wanted:
                start = time.perf_counter()
                tally = kind.fault(made, kind.full)
                print(f"| {kind.what} | {tally.tried} | {tally.survived} |", flush=True)
                took = time.perf_counter() - start
                print(f"{kind.name}: {took:.0f} s", file=sys.stderr, flush=True)
                wrong += [f"{kind.name}: {what}" for what in tally.wrong]
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
