"""`./run bench --random N`: cases that nobody chose.

An operation, a mode and a dtype are drawn evenly, numbers of rows and classes evenly on a
logarithmic scale, so that most widths are multiples of nothing. Speeds are against the fastest
other library of the case, with row kernels where they are in use and without. The headline is of
all cases: their geometric mean, the worst tenth, and the share that is slower than 0.97. optax's
sparsemax sorts, which weighs in the mean: the same without it stands beside it.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from bench import machine
from jaxsoftmax import kernels
from jaxsoftmax.testing.cost import programs
from jaxsoftmax.testing.cost.compare import measure
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.modes import MODES, Mode, problem
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.record import Operation

ROWS, CLASSES, FEATURES = (1, 60_000), (2, 300_000), (8, 1024)
NUMBERS = 2**25  # of logits, at most
FLOPS = 2e10  # of a product of features and kernel, at most
DTYPES = ("float32", "bfloat16")
SLOWER = 0.97
OFF = "custom, kernels off"
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
        dtype = DTYPES[random.integers(len(DTYPES))]
        modes = [mode for mode in MODES if mode != "vmapped" or "kernel" not in op.inputs]
        mode = modes[random.integers(len(modes))]
        while True:
            rows, classes, features = number(*ROWS), number(*CLASSES), number(*FEATURES)
            linear = "features" in op.inputs
            if rows * classes <= NUMBERS and (not linear or 2 * rows * classes * features <= FLOPS):
                return Drawn(op, mode, dtype, (rows, *([features] * linear), classes))

    return [case() for _ in range(count)]


def measured(case: Drawn) -> dict[str, Any]:
    """The case, and how fast ours is against the fastest peer that is right."""
    custom, args = case.op.contenders()["custom"], arguments(case.op, case.shape, case.dtype)

    def without_kernels(_: Any) -> programs.Program:
        with kernels("off"):
            given = problem(custom, args, case.op.wrt, case.mode, seed=0)
            return programs.compiled(custom, given, case.op.wrt)

    found = measure(
        {"custom": custom, **_peers(case.op)},
        args,
        case.op.wrt,
        case.mode,
        case.op.contenders()["automatic"],
        None,
        SECONDS,
        seed=0,
        foreign={OFF: without_kernels},
    )
    ours, off = (next(row for row in found if row.name == name) for name in ("custom", OFF))
    speeds = {name: ratio.estimate for name, ratio in ours.against.items() if name != OFF}
    peer = min(speeds, key=speeds.__getitem__, default=None)
    jax.clear_caches()
    gc.collect()
    return {
        "case": str(case),
        "dtype": case.dtype,
        "status": ours.status if off.status == "ok" else off.status,
        "microseconds": 1e6 * ours.seconds,
        "peer": peer,
        "speed": None if peer is None else speeds[peer],
        "speed_without_kernels": None if peer is None else off.against[peer].estimate,
    }


def _peers(op: Operation) -> dict[str, Any]:
    """Other libraries', and not this package's own loss on logits."""
    return {
        name: f for name, f in op.contenders().items() if name in op.peers and name != "unfused"
    }


def summary(records: list[dict[str, Any]]) -> list[str]:
    """The headline, the same of each dtype, and without an operation whose peer is far behind."""
    groups: dict[str, Callable[[dict[str, Any]], bool]] = {"all": lambda record: True}
    groups |= {dtype: lambda record, dtype=dtype: record["dtype"] == dtype for dtype in DTYPES}
    groups["without sparsemax"] = lambda record: "sparsemax" not in record["case"]
    lines = []
    for (group, of_group), key in itertools.product(
        groups.items(), ("speed", "speed_without_kernels")
    ):
        speeds = sorted(r[key] for r in records if r[key] is not None and of_group(r))
        if not speeds:
            continue
        mean = math.exp(statistics.fmean(map(math.log, speeds)))
        worst = speeds[max(0, math.ceil(len(speeds) / 10) - 1)]
        slower = sum(ratio < SLOWER for ratio in speeds) / len(speeds)
        what = group + (", kernels off" if key != "speed" else "")
        lines.append(
            f"{what:31} {len(speeds):4} cases: "
            f"{mean:.2f}× the fastest peer in the geometric mean, "
            f"worst tenth below {worst:.2f}×, {slower:.0%} slower than {SLOWER}×"
        )
    wrong = [record["case"] for record in records if record["status"] != "ok"]
    return [*lines, *(f"wrong or not supported: {case}" for case in wrong)]


def main(count: int, seed: int, console: Console) -> int:
    """Draws, measures, prints and writes; 1 if ours is wrong somewhere."""
    here, records = machine.describe(), []
    asked = "asked for" if here["huge_pages_asked_for"] else "not asked for"
    console.print(
        f"Row kernels: {here['row_kernels'] or 'none'}. "
        f"Huge pages: {here['huge_pages']}, {asked} by malloc. Load: {here['load']:.1f}."
    )
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
    content = {"machine": here, "seed": seed, "records": records}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    console.print(f"Written: bench/results/{folder.name}/{path.name}")
    return int(any(record["status"] == "wrong" for record in records))
