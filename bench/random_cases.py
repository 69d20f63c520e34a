"""`./run bench --random N`: cases that nobody chose.

An operation, a mode and a dtype are drawn evenly, numbers of rows and classes evenly on a
logarithmic scale, so that most widths are multiples of nothing. Speeds are against the fastest
other library of the case. The headline is of all cases: their geometric mean, the worst tenth, and
the share that is slower than 0.97.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from bench import machine
from jaxsoftmax.testing.cost.compare import measure
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.modes import MODES, Mode
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.record import Operation

ROWS, CLASSES, FEATURES = (1, 60_000), (2, 300_000), (8, 1024)
NUMBERS = 2**25  # of logits, at most
FLOPS = 2e10  # of a product of features and kernel, at most
DTYPES = ("float32", "bfloat16")
SLOWER = 0.97
SECONDS = 0.4


class Drawn(NamedTuple):
    """One case."""

    op: Operation
    mode: Mode
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.op.name} {'x'.join(map(str, self.shape))} {self.dtype} {self.mode}"


def draw(count: int, seed: int) -> list[Drawn]:
    """Cases that have a peer, the same for the same seed."""
    random = np.random.default_rng(seed)
    operations = [op for op in ALL if op.peers]

    def number(low: int, high: int) -> int:
        return round(math.exp(random.uniform(math.log(low), math.log(high))))

    def case() -> Drawn:
        op = operations[random.integers(len(operations))]
        mode, dtype = MODES[random.integers(len(MODES))], DTYPES[random.integers(len(DTYPES))]
        while True:
            rows, classes, features = number(*ROWS), number(*CLASSES), number(*FEATURES)
            linear = "features" in op.inputs
            if rows * classes <= NUMBERS and (not linear or 2 * rows * classes * features <= FLOPS):
                return Drawn(op, mode, dtype, (rows, *([features] * linear), classes))

    return [case() for _ in range(count)]


def measured(case: Drawn) -> dict[str, Any]:
    """The case, and how fast ours is against the fastest peer that is right."""
    functions = {"custom": case.op.contenders()["custom"], **_peers(case.op)}
    found = measure(
        functions,
        arguments(case.op, case.shape, case.dtype),
        case.op.wrt,
        case.mode,
        case.op.contenders()["automatic"],
        None,
        SECONDS,
        seed=0,
    )
    ours = next(row for row in found if row.name == "custom")
    speeds = {name: ratio.estimate for name, ratio in ours.against.items()}
    peer = min(speeds, key=speeds.__getitem__, default=None)
    jax.clear_caches()
    gc.collect()
    return {
        "case": str(case),
        "dtype": case.dtype,
        "status": ours.status,
        "microseconds": 1e6 * ours.seconds,
        "peer": peer,
        "speed": None if peer is None else speeds[peer],
    }


def _peers(op: Operation) -> dict[str, Any]:
    """Other libraries', and not this package's own loss on logits."""
    return {
        name: f for name, f in op.contenders().items() if name in op.peers and name != "unfused"
    }


def summary(records: list[dict[str, Any]]) -> list[str]:
    """The headline, and the same of each dtype."""
    lines = []
    for dtype in (None, *DTYPES):
        speeds = sorted(
            record["speed"]
            for record in records
            if record["speed"] is not None and dtype in (None, record["dtype"])
        )
        if not speeds:
            continue
        mean = math.exp(statistics.fmean(map(math.log, speeds)))
        worst = speeds[max(0, math.ceil(len(speeds) / 10) - 1)]
        slower = sum(speed < SLOWER for speed in speeds) / len(speeds)
        lines.append(
            f"{dtype or 'all':9} {len(speeds):4} cases: "
            f"{mean:.2f}× the fastest peer in the geometric mean, "
            f"worst tenth below {worst:.2f}×, {slower:.0%} slower than {SLOWER}×"
        )
    wrong = [record["case"] for record in records if record["status"] != "ok"]
    return [*lines, *(f"wrong or not supported: {case}" for case in wrong)]


def main(count: int, seed: int, console: Console) -> int:
    """Draws, measures, prints and writes; 1 if ours is wrong somewhere."""
    records = []
    for number, case in enumerate(draw(count, seed), 1):
        records.append(measured(case))
        speed = records[-1]["speed"]
        told = "no peer" if speed is None else f"{speed:5.2f}× {records[-1]['peer']}"
        console.print(f"{number:4}/{count}  {told:16} {case}", markup=False)
    for line in summary(records):
        console.print(line, markup=False)
    folder = Path(__file__).parent / "results" / machine.name()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"random-{count}-seed-{seed}-jax-{jax.__version__}.json"
    content = {"machine": machine.describe(), "seed": seed, "records": records}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    console.print(f"Written: bench/results/{folder.name}/{path.name}")
    return int(any(record["status"] == "wrong" for record in records))
