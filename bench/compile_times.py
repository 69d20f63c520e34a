"""What tracing and compiling a gradient takes, as a multiple of what it takes with the peers.

    python -m bench.compile_times                8×10, 256×1000, 100×50257; printed
    python -m bench.compile_times 256x1000       other shapes

Each is value and gradient of a scalar, traced, lowered and compiled from nothing: new functions,
and no cache of JAX's. They take turns in one process, with and without row kernels; a row has the
medians, of trace and lowering together and of compiling, and what the compiler made of it.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxsoftmax

ROUNDS = 7
SHAPES = ("8x10", "256x1000", "100x50257")
MODES = ("kernels", "forms")


def _targets_of(labels: Any, logits: Any) -> Any:
    return optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), 0.1)


# name: (ours, the peer's, what goes with the logits)
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "softmax": (jaxsoftmax.softmax, jax.nn.softmax, "cotangents"),
    "log_softmax": (jaxsoftmax.log_softmax, jax.nn.log_softmax, "cotangents"),
    "logsumexp": (
        lambda x: jaxsoftmax.logsumexp(x, -1),
        lambda x: jax.nn.logsumexp(x, -1),
        "",
    ),
    "labels": (
        jaxsoftmax.softmax_cross_entropy_with_integer_labels,
        optax.losses.softmax_cross_entropy_with_integer_labels,
        "labels",
    ),
    "targets": (jaxsoftmax.softmax_cross_entropy, optax.losses.softmax_cross_entropy, "targets"),
    "smoothed": (
        lambda x, y: jaxsoftmax.softmax_cross_entropy_with_integer_labels(
            x, y, label_smoothing=0.1
        ),
        lambda x, y: optax.losses.softmax_cross_entropy(x, _targets_of(y, x)),
        "labels",
    ),
}


class Times(NamedTuple):
    """Seconds."""

    trace: float  # and lowering
    compile: float


def measured(function: Callable[..., Any], kind: str, args: Any) -> tuple[Times, str]:
    """What a program takes from nothing, and the program."""

    def scalar(x: Any, *more: Any) -> Any:
        if kind == "cotangents":
            return jnp.sum(function(x) * more[0])
        return jnp.mean(function(x, *more))

    jax.clear_caches()
    jitted = jax.jit(jax.value_and_grad(scalar))
    start = time.perf_counter()
    lowered = jitted.lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    return Times(traced - start, time.perf_counter() - traced), program.as_text() or ""


def rows_of(shape: str, dtype: str) -> list[tuple[str, str, Times, Times, int, int]]:
    """Of each function and mode: its times, the peer's, and the kernels that both are made of."""
    sizes = tuple(int(n) for n in shape.split("x"))
    x, labels = jnp.zeros(sizes, dtype), jnp.zeros(sizes[:-1], jnp.int32)
    beside = {"cotangents": (x,), "targets": (x,), "labels": (labels,), "": ()}
    rows = []
    for name, (ours, peer, kind) in FUNCTIONS.items():
        times: dict[str, list[Times]] = {who: [] for who in (*MODES, "peer")}
        programs = {}
        for _ in range(ROUNDS):
            for who, taken in times.items():
                with jaxsoftmax.kernels("off" if who == "forms" else "auto"):
                    function = peer if who == "peer" else ours
                    time_taken, programs[who] = measured(function, kind, (x, *beside[kind]))
                taken.append(time_taken)
        typical = {
            who: Times(*map(statistics.median, zip(*t, strict=True))) for who, t in times.items()
        }
        fusions = {who: text.count(" fusion(") for who, text in programs.items()}
        for mode in MODES:
            found = typical[mode], typical["peer"], fusions[mode], fusions["peer"]
            rows.append((name, mode, *found))
    return rows


def main(shapes: list[str]) -> None:
    """Print the table."""
    print(f"jax {jax.__version__}, medians of {ROUNDS}, ms and multiples of the peer's\n")
    print("| shape | dtype | function | | trace | | compile | | fusions, the peer's |")
    print("|---|---|---|---|--:|--:|--:|--:|--:|")
    ratios: dict[str, list[Times]] = {mode: [] for mode in MODES}
    for shape in shapes or SHAPES:
        for dtype in ("float32", "bfloat16"):
            for name, mode, own, peer, fusions, of_peer in rows_of(shape, dtype):
                ratio = Times(own.trace / peer.trace, own.compile / peer.compile)
                ratios[mode].append(ratio)
                print(
                    f"| {shape} | {dtype} | {name} | {mode} | {own.trace * 1e3:.0f} | "
                    f"{ratio.trace:.1f} | {own.compile * 1e3:.0f} | {ratio.compile:.1f} | "
                    f"{fusions}, {of_peer} |",
                    flush=True,
                )
    print()
    for mode, found in ratios.items():
        means = (
            math.exp(statistics.mean(map(math.log, column))) for column in zip(*found, strict=True)
        )
        print(mode, *(f"{mean:.2f}" for mean in means), "geometric means of trace and compile")


if __name__ == "__main__":
    main(sys.argv[1:])
