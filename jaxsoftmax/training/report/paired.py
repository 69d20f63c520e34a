"""Two models on the same rows: is one better, or is it chance?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

RESAMPLES = 1000


class Answers(NamedTuple):
    """What a model said of N rows: whether it was right, and its loss in nats."""

    right: npt.NDArray[np.bool_]
    losses: npt.NDArray[np.float64]


class Paired(NamedTuple):
    """Two models, the second against the first.

    Attributes:
      rows: that both have answered.
      both: rows that both have right.
      first: rows that only the first has right.
      second: rows that only the second has right.
      neither: rows that neither has right.
      p_value: of McNemar's exact test that both are right equally often.
      loss: how much lower the second's log-loss is, in nats.
      interval: 95 % of resamples of the rows have a difference in loss between these.
    """

    rows: int
    both: int
    first: int
    second: int
    neither: int
    p_value: float
    loss: float
    interval: tuple[float, float]


def compare(first: Answers, second: Answers, seed: int = 0) -> Paired:
    """Compares the answers of two models to the same rows.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages, Psychometrika 12, 1947; the exact form is a two-sided sign test.
    """
    only_first = int(np.sum(first.right & ~second.right))
    only_second = int(np.sum(second.right & ~first.right))
    rows = len(first.right)
    difference = first.losses - second.losses
    random = np.random.default_rng(seed)
    means = [float(difference[random.integers(0, rows, rows)].mean()) for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Paired(
        rows,
        int(np.sum(first.right & second.right)),
        only_first,
        only_second,
        int(np.sum(~first.right & ~second.right)),
        sign_test(only_first, only_second),
        float(difference.mean()),
        (float(low), float(high)),
    )


def sign_test(first: int, second: int) -> float:
    """The two-sided probability of so uneven a split of rows, if either side is as likely."""
    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5)))


def lines(found: Paired, names: tuple[str, str]) -> str:
    """For a terminal."""
    a, b = names
    accuracies = (found.both + found.first) / found.rows, (found.both + found.second) / found.rows
    low, high = found.interval
    return "\n".join(
        [
            (
                f"rows     {found.rows:,} that both were tested on: both right {found.both:,}, "
                f"neither {found.neither:,}"
            ),
            f"only     {a}: {found.first:,}",
            f"only     {b}: {found.second:,}",
            (
                f"accuracy {accuracies[0]:.4f} and {accuracies[1]:.4f}; "
                f"McNemar's exact test: p = {found.p_value:.3g}"
            ),
            (
                f"loss     of the second lower by {found.loss:.6f} nats "
                f"(95 %: {low:.6f} to {high:.6f})"
            ),
        ]
    )
