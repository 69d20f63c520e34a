"""``./run fuzz``: atheris on every parser, each for so many seconds.

python -m tests.fuzz [--seconds N] [PARSER ...]

What raises anything but a refusal in words, or takes more than ten seconds or a GB at once, is a
fault; the input is then in ``crash-…``, ``timeout-…`` or ``oom-…`` of the folder that is told.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile

from .parsers import PARSERS


def main() -> int:
    """Each parser in a process of its own; prints a table."""
    asked = argparse.ArgumentParser(prog="./run fuzz")
    asked.add_argument("--seconds", type=int, default=60, help="for each parser")
    asked.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(PARSERS))
    given = asked.parse_args()
    if unknown := set(given.parsers) - set(PARSERS):
        asked.error(f"no such parser: {', '.join(unknown)}; there are {', '.join(PARSERS)}")
    print("| parser | inputs | |\n|---|--:|---|", flush=True)
    faults = 0
    for name in given.parsers or PARSERS:
        folder = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", name, folder, str(given.seconds)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        lines = (done.stdout + done.stderr).splitlines()
        tried = [line.split()[-1] for line in lines if "number_of_executed_units" in line]
        right = done.returncode == 0 and bool(tried)
        how = "no fault" if right else f"a fault: see {folder}"
        print(f"| {name} | {tried[0] if tried else '?'} | {how} |", flush=True)
        if not right:
            faults += 1
            print("\n".join(lines[-25:]), file=sys.stderr)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
