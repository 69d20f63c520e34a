"""The timer: several programs in one process, turn by turn, so that all meet the same machine.

A machine is not equally fast from one second to the next. Programs timed one after the other get
different machines; programs timed in turns get the same, and the ratio of two times in one round
says more than either time. Ratios are therefore medians over rounds, with an interval.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

SHORTEST_SAMPLE = 1e-3  # seconds; below it the clock and the dispatch of one call would be seen
FEWEST_ROUNDS = 7  # the smallest odd number whose interval below holds with 98 %
MOST_ROUNDS = 200


class Ratio(NamedTuple):
    """How many times as long the other takes: above 1, this one is faster."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.2f}× [{self.low:.2f}, {self.high:.2f}]"


def in_turns(
    calls: Mapping[str, Callable[[], Any]], *, seconds: float, seed: int = 0
) -> dict[str, list[float]]:
    """Seconds per call of each program, one number a round.

    Each round times all programs in a new random order. A sample is as many calls as fill a
    millisecond, waited for together, as the calls of a training loop are.

    Args:
      calls: what to time, by name; each is called without arguments and its result is waited for.
      seconds: how long to measure all of them together, roughly; never fewer than seven rounds.
      seed: of the order.

    Returns:
      The samples of each name, as many for each, in the order of the rounds.
    """
    repeats = {name: _repeats(call) for name, call in calls.items()}
    order, shuffle = list(calls), random.Random(seed).shuffle  # noqa: S311 - an order, no secret
    samples: dict[str, list[float]] = {name: [] for name in calls}
    collecting = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for done in range(MOST_ROUNDS):
            if done >= FEWEST_ROUNDS and time.perf_counter() - start > seconds:
                break
            shuffle(order)
            for name in order:
                samples[name].append(_sample(calls[name], repeats[name]))
    finally:
        if collecting:
            gc.enable()
    return samples


def _repeats(call: Callable[[], Any]) -> int:
    """How many calls fill a sample; the first call warms up and does not count."""
    jax.block_until_ready(call())
    once = min(_sample(call, 1) for _ in range(2))
    return max(1, math.ceil(SHORTEST_SAMPLE / max(once, 1e-6)))


def _sample(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        result = call()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats


def ratio(other: Sequence[float], this: Sequence[float]) -> Ratio:
    """The median over rounds of other / this, and a 95 % interval of it."""
    values = [theirs / ours for theirs, ours in zip(other, this, strict=True)]
    return Ratio(statistics.median(values), *median_interval(values))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median with this confidence, whatever the distribution.

    The median lies below the k-th smallest of n values when fewer than k of them lie below the
    median, which happens as often as fewer than k heads in n tosses. With too few values for the
    confidence asked, the interval is all they span.
    """
    ordered, n = sorted(values), len(values)
    k, tail = 1, 2 * 0.5**n
    while (tail := tail + 2 * math.comb(n, k) * 0.5**n) <= 1 - confidence:
        k += 1
    return ordered[k - 1], ordered[n - k]
