"""What must hold of every change: exact counts of the compiler, and no slowdown beyond doubt.

Times on a shared machine move by a third from one minute to the next; the compiler's counts do not
move at all. So memory and operations are gated exactly, and time only where it is off by more than
half.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from jaxsoftmax.testing import Comparison, compare
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.units import count, size
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.linear_loss import LINEAR
from jaxsoftmax.testing.operations.record import Operation

# The linear loss takes its rows in blocks, so it needs enough of them to be seen to.
SHAPES = {op.name: (512, 1000) for op in ALL} | {LINEAR.name: (8192, 32, 2048)}
SLOWEST = 1.5  # times the automatic derivative


@dataclasses.dataclass(frozen=True)
class Gate:
    """One thing that must hold."""

    op: Operation
    what: str
    limit: str
    found: str
    holds: bool


def main(console: Console) -> int:
    """Checks every gate and shows them; 1 if one does not hold."""
    gates = [gate for op in ALL for gate in check(op)]
    table = Table("op", "gate", "limit", "found", "", box=box.SIMPLE_HEAD)
    for gate in gates:
        mark = "[green]holds[/]" if gate.holds else "[bold red]broken[/]"
        table.add_row(gate.op.title, gate.what, gate.limit, gate.found, mark)
    console.print(table)
    holding = sum(gate.holds for gate in gates)
    console.print(f"{holding} of {len(gates)} gates hold.")
    return int(holding < len(gates))


def check(op: Operation) -> list[Gate]:
    """The gates of one op, from one measurement, or two where the first was slow."""
    found = measure(op, seconds=0.2)
    if slowdown(found) > SLOWEST:
        found = measure(op, seconds=1.0)
    return [*right(op, found), *scratch(op, found), *same(op, found), time(op, found)]


def measure(op: Operation, seconds: float) -> Comparison:
    """Ours against the textbook, and against the same rule in plain jax.custom_vjp."""
    names = ("automatic", "custom", "custom_vjp")
    functions = {name: f for name, f in op.contenders().items() if name in names}
    args = arguments(op, SHAPES[op.name], "float32")
    return compare(functions, *args, wrt=op.wrt, modes=["value_and_grad"], seconds=seconds)


def right(op: Operation, found: Comparison) -> Iterator[Gate]:
    """Every contender computes the same as float64."""
    for row in found.measurements:
        what = f"error of {row.name}"
        yield Gate(op, what, f"{row.tolerance:.0e}", f"{row.error:.0e}", row.status == "ok")


def scratch(op: Operation, found: Comparison) -> Iterator[Gate]:
    """A loss needs no rows × classes of memory beyond the gradient that it returns."""
    if not op.loss:
        return
    cost = found.of("custom", "value_and_grad").cost
    rows, classes = SHAPES[op.name][0], SHAPES[op.name][-1]
    limit = op.scratch * 4 * rows * classes
    temp = math.inf if cost is None or cost.temp_bytes is None else cost.temp_bytes
    yield Gate(op, "scratch memory", size(limit), size(temp), temp <= limit)


def same(op: Operation, found: Comparison) -> Iterator[Gate]:
    """Both rules on one function cost what the reverse rule alone does."""
    if "custom_vjp" not in [row.name for row in found.measurements]:
        return
    ours, plain = (found.of(name, "value_and_grad").cost for name in ("custom", "custom_vjp"))
    assert ours is not None
    assert plain is not None
    pairs = (
        ("operations", count, ours.flops, plain.flops),
        ("bytes accessed", size, ours.bytes_accessed, plain.bytes_accessed),
        ("scratch memory", size, ours.temp_bytes, plain.temp_bytes),
    )
    for what, show, got, limit in pairs:
        yield Gate(op, f"{what}, as custom_vjp", show(limit), show(got), got == limit)


def time(op: Operation, found: Comparison) -> Gate:
    """Ours takes at most `SLOWEST` times as long as what JAX derives."""
    ratio = slowdown(found)
    return Gate(op, "time, of automatic", f"{SLOWEST:.2f}×", f"{ratio:.2f}×", ratio <= SLOWEST)


def slowdown(found: Comparison) -> float:
    """Our time over that of automatic at the favourable end of the interval; 0 if one is wrong."""
    against = found.of("custom", "value_and_grad").against.get("automatic")
    return 1 / against.high if against else 0.0
