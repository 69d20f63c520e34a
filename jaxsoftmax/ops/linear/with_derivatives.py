"""Derivatives of the statistics that come with a loss.

Their values are found with it, in one stream. A derivative that somebody asks for has a stream of
its own; where nobody does, there is none.
"""

from __future__ import annotations

from typing import Any

from jaxsoftmax.autodiff import differentiates_as

from .problem import Rows, Settings, Shared
from .rules import row_values
from .stats import Discrete, LossStats, Smooth, Statistics, joined


def with_derivatives(
    stats: LossStats, shared: Shared, rows: Rows, *, settings: Settings, **how: Any
) -> LossStats:
    """`stats`, differentiated as what they are: functions of the arrays."""
    losses = settings.losses
    of_stats = settings._replace(
        losses=Statistics(losses.options, losses.temperature, discrete=False)
    )
    smooth = Smooth(stats.logsumexp, stats.log_prob, stats.entropy)
    discrete = Discrete(stats.prediction, stats.rank)
    return joined(_smooth(smooth, shared, rows, settings=of_stats, **how), discrete)


def _of_rows(smooth: Smooth, shared: Shared, rows: Rows, **how: Any) -> Any:
    return row_values(shared, rows, **how)[0]


@differentiates_as(_of_rows)
def _smooth(smooth: Smooth, shared: Shared, rows: Rows, **how: Any) -> Smooth:
    return smooth
