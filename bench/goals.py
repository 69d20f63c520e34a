"""The figures that this package set out to reach on a CPU, measured: which it does, and which not.

Each is a ratio of two programs timed in turns, or of what the compiler says that they need. What
the forms that were tried reached, where a goal was missed, is in docs/performance.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

from bench import machine
from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.testing.cost.compare_op import arguments
from jaxsoftmax.testing.cost.modes import Mode, problem
from jaxsoftmax.testing.cost.timing import in_turns, ratio
from jaxsoftmax.testing.operations.linear_loss import LINEAR
from jaxsoftmax.testing.operations.log_softmax import LOG_SOFTMAX
from jaxsoftmax.testing.operations.logsumexp import LOGSUMEXP
from jaxsoftmax.testing.operations.losses import DISTRIBUTIONS, LABELS
from jaxsoftmax.testing.operations.record import Operation
from jaxsoftmax.testing.operations.softmax import SOFTMAX

FOLDER = Path(__file__).parent / "results"
SHORT = {"float32": "f32", "bfloat16": "bf16"}


class Program(NamedTuple):
    """A compiled program and what it is called with."""

    compiled: Any
    args: tuple[Any, ...]

    def __call__(self) -> Any:
        return self.compiled(*self.args)

    @property
    def scratch(self) -> int:
        """Bytes of memory beside arguments and results."""
        found: int = self.compiled.memory_analysis().temp_size_in_bytes
        return found


class Goal(NamedTuple):
    """What is to be reached, and how it is measured: what came out, and whether that is it.

    It is "yes", "no", or "level" where the interval holds the goal.
    """

    what: str
    than: str
    target: str
    measure: Callable[[], tuple[str, str]]


def program(
    function: Callable[..., Any], args: tuple[Any, ...], wrt: tuple[int, ...], mode: Mode
) -> Program:
    """`function` in `mode`, compiled for `args`."""
    made = problem(function, args, wrt, mode, seed=0)
    return Program(jax.jit(made.program).lower(*made.args).compile(), made.args)


def faster(ours: Program, theirs: Program, least: float) -> tuple[str, str]:
    """How many times as fast ours is."""
    samples = in_turns({"ours": ours, "theirs": theirs}, seconds=4.0)
    found = ratio(samples["theirs"], samples["ours"])
    reached = round(found.estimate, 2) >= least
    return str(found), "yes" if reached else "level" if found.high >= least else "no"


def smaller(ours: int, theirs: int, most: float) -> tuple[str, str]:
    """Which share of theirs ours is."""
    return f"{ours / theirs:.2%}", "yes" if ours <= most * theirs else "no"


# ------------------------------------------------------------------------------------------------
# Functions of logits
# ------------------------------------------------------------------------------------------------


def on_logits() -> Iterator[Goal]:
    """The rules against what JAX derives, and against other libraries."""
    square, vjp, vocabulary = (4096, 4096), "value_and_grad", (512, 65536)
    rows: tuple[tuple[Operation, tuple[int, int], str, Mode, str, float], ...] = (
        (SOFTMAX, square, "float32", "value_and_grad", "automatic", 3.0),
        (SOFTMAX, square, "float32", "value_and_grad", "jax.nn", 1.0),
        (SOFTMAX, square, "bfloat16", "value_and_grad", "jax.nn", 2.0),
        (SOFTMAX, square, "float32", "jvp", "jax.nn", 1.4),
        (SOFTMAX, square, "bfloat16", "jvp", "jax.nn", 1.5),
        (LOG_SOFTMAX, square, "float32", "jvp", "jax.nn", 1.1),
        (LOGSUMEXP, square, "float32", "jvp", "jax.nn", 1.1),
        (LABELS, square, "float32", "value_and_grad", "optax", 1.0),
        (LABELS, vocabulary, "float32", "value_and_grad", "optax", 1.0),
        (LABELS, (65536, 128), "float32", "value_and_grad", "optax", 1.0),
        (LABELS, square, "float32", "value_and_grad", "custom_vjp", 0.97),
        (DISTRIBUTIONS, square, "float32", "value_and_grad", "optax", 1.4),
        (DISTRIBUTIONS, square, "bfloat16", "value_and_grad", "optax", 2.0),
    )
    for op, shape, dtype, mode, than, least in rows:

        def measure(
            op: Operation = op,
            shape: tuple[int, int] = shape,
            dtype: str = dtype,
            mode: Mode = mode,
            than: str = than,
            least: float = least,
        ) -> tuple[str, str]:
            args, functions = arguments(op, shape, dtype), op.contenders()
            ours, theirs = (program(functions[n], args, (0,), mode) for n in ("custom", than))
            return faster(ours, theirs, least)

        name = mode if mode != vjp else "vjp" if op is SOFTMAX else "value and gradient"
        size = f"{shape[0]}×{shape[1]} {SHORT[dtype]}"
        yield Goal(f"{op.name}, {name}, {size}", than, f"{least:g}×", measure)

    def scratch() -> tuple[str, str]:
        args = arguments(DISTRIBUTIONS, square, "float32")
        ours = program(DISTRIBUTIONS.contenders()["custom"], args, (0,), "value_and_grad")
        return smaller(ours.scratch, args[0].nbytes, 0.01)

    what = f"{DISTRIBUTIONS.name}, value and gradient, 4096×4096 f32"
    yield Goal(what, "scratch memory, of the logits", "at most 1 %", scratch)


# ------------------------------------------------------------------------------------------------
# The linear loss
# ------------------------------------------------------------------------------------------------


def linear(*shape: int, dtype: str = "float32") -> tuple[Any, ...]:
    """Features, kernel, labels and bias."""
    bias = jnp.zeros(shape[-1], dtype)
    return (*arguments(LINEAR, shape, dtype), bias)


def three_products(
    features: jax.Array, kernel: jax.Array, labels: jax.Array, bias: jax.Array
) -> Any:
    """The matrix products of a step, and nothing else."""
    z = features @ kernel
    return z @ kernel.T, features.T @ z, z[0, 0]


def on_features() -> Iterator[Goal]:
    """The streaming loss against the logits in memory."""

    def loss(f: Any, w: Any, y: Any, b: Any) -> Any:
        return linear_softmax_cross_entropy(f, w, y, b)

    def materialised(f: Any, w: Any, y: Any, b: Any) -> Any:
        return LABELS.contenders()["optax"](f @ w + b, y)

    def step(function: Any, args: Any, wrt: tuple[int, ...] = (0, 1, 3)) -> Program:
        return program(function, args, wrt, "value_and_grad")

    def against_optax(
        shape: tuple[int, ...], least: float, wrt: tuple[int, ...] = (0, 1, 3)
    ) -> tuple[str, str]:
        args = linear(*shape)
        return faster(step(loss, args, wrt), step(materialised, args, wrt), least)

    def against_products(least: float, of: Any, shape: Any, dtype: str) -> tuple[str, str]:
        args = linear(*shape, dtype=dtype)
        return faster(step(of, args), program(three_products, args, (), "forward"), least)

    def half(of: Callable[[Any], Program], least: float) -> tuple[str, str]:
        f32, bf16 = (linear(2048, 512, 32000, dtype=d) for d in ("float32", "bfloat16"))
        return faster(of(bf16), of(f32), least)

    def scratch() -> tuple[str, str]:
        args = linear(4096, 256, 131072)
        return smaller(step(loss, args).scratch, step(materialised, args).scratch, 0.05)

    def hessian_product() -> tuple[str, str]:
        args = linear(8192, 256, 1000)
        return faster(program(loss, args, (1, 3), "hvp"), step(loss, args, (1, 3)), 1 / 2.5)

    large, head, tall = (2048, 512, 32000), (24000, 768, 1000), (60000, 784, 10)
    vast = (4096, 256, 131072)
    yield Goal("24000×768×1000 f32", "optax", "1.4×", lambda: against_optax(head, 1.4))
    yield Goal(
        "24000×768×1000 f32, optax",
        "three bare products",
        "none",
        lambda: against_products(0, materialised, head, "float32"),
    )
    yield Goal(
        "2048×512×32000 f32",
        "three bare products",
        "0.91×",
        lambda: against_products(1 / 1.1, loss, large, "float32"),
    )
    yield Goal(
        "2048×512×32000 bf16",
        "the same in f32",
        "1.8×",
        lambda: half(lambda args: step(loss, args), 1.8),
    )
    yield Goal(
        "three bare products of 2048×512×32000 bf16",
        "the same in f32",
        "none",
        lambda: half(lambda args: program(three_products, args, (), "forward"), 0),
    )
    yield Goal("4096×256×131072 f32", "optax", "1×", lambda: against_optax(vast, 1.0))
    yield Goal("4096×256×131072 f32", "scratch memory, of optax's", "at most 5 %", scratch)
    yield Goal(
        "60000×784×10 f32, in kernel and bias",
        "optax",
        "1.5×",
        lambda: against_optax(tall, 1.5, (1, 3)),
    )
    yield Goal(
        "8192×256×1000 f32, Hessian product in kernel and bias",
        "the gradient in them",
        "0.4×",
        hessian_product,
    )


def main(console: Console) -> int:
    """Measures all goals, shows them one by one, and writes them beside the other results."""
    head = (
        "Written by `./run bench --goals`: medians over rounds that time both in turns, with a "
        "95 % interval. Above 1× this package is faster."
    )
    lines = [
        f"# The goals on {machine.describe()['name']}, JAX {jax.__version__}",
        "",
        head,
        "",
        "| what | than | goal | reached | |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    counts: Counter[str] = Counter()
    for goal in (*on_logits(), *on_features()):
        found, reached = goal.measure()
        mark = "" if goal.target == "none" else reached
        counts[mark] += 1
        console.print(f"{goal.what}, {goal.than}: {found}, goal {goal.target} {mark}")
        lines.append(f"| {goal.what} | {goal.than} | {goal.target} | {found} | {mark} |")
        jax.clear_caches()
    said = "{yes} are reached, {level} are within the noise of it, {no} are missed."
    lines += ["", said.format_map({"yes": 0, "level": 0, "no": 0} | counts)]
    console.print(lines[-1])
    path = FOLDER / machine.name() / f"goals-jax-{jax.__version__}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0
