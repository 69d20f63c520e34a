"""What a row of logits tells besides its loss."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from . import row as rows
from .call import arguments
from .devices.classes import Classes
from .label_loss import label_loss
from .row import xla
from .row.exponentials import exponentials, zero_where_dropped


class LossStats(NamedTuple):
    """Of each row, `(...)`. They are not differentiated.

    They are those of the logits that the loss sees: capped, and without the masked classes. A row
    that is left out has prediction -1, and 0 in the others.
    """

    logsumexp: Array
    """s = log Σ exp x."""
    log_prob: Array
    """log p of the label; of a target distribution t, Σ t log p."""
    prediction: Array
    """The most probable class, int32; the first of several."""
    entropy: Array
    """-Σ p log p, in nats."""


def loss_stats(x: Array, labels: Array, keep: Array | None, classes: Classes) -> LossStats:
    """The statistics of canonical logits (N, C), all as floats: integers have no tangents.

    Of classes spread over devices: what adds up to the statistics.

    Args:
      x: logits in float32 or wider.
      labels: integers (N, 1) or distributions (N, C).
      keep: boolean (N, 1), or None.
      classes: where the classes are.
    """
    x = xla.stored(zero_where_dropped(lax.stop_gradient(x), keep))
    row = classes.statistics(x, classes.max(x))
    ask = keep is None and classes.may_ask(x)
    cross_entropy = partial(rows.cross_entropy, x=x, m=row.max, excess=row.excess, axis=1, ask=ask)
    entropy = cross_entropy(exponentials(x, row.max) / row.total)
    if arguments.are_classes(labels):
        nll = label_loss(x, labels, None, None, keep, classes=classes, z_loss=0.0)
    else:
        nll = cross_entropy(lax.stop_gradient(labels).astype(x.dtype))
    prediction = classes.argmax(x, row.max).astype(x.dtype)
    s, prediction, no_class = (
        classes.first(value)
        for value in (row.max + row.excess, prediction, -jnp.ones_like(prediction))
    )
    return _of_rows(keep, s, -nll, prediction, entropy, no_class=no_class)


def _of_rows(keep: Array | None, *values: Array, no_class: Any = -1.0) -> LossStats:
    """Of values (N, 1), in the order of LossStats; rows that are not kept have no class."""
    if keep is not None:
        left_out = (0.0, 0.0, no_class, 0.0)
        values = tuple(
            jnp.where(keep, value, jnp.asarray(other, value.dtype))
            for value, other in zip(values, left_out, strict=True)
        )
    return LossStats(*(lax.stop_gradient(value[:, 0]) for value in values))
