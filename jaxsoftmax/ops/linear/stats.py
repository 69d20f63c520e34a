"""What a row of logits tells besides its loss."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.ops import row as rows
from jaxsoftmax.ops.call import arguments
from jaxsoftmax.ops.devices.classes import Classes
from jaxsoftmax.ops.label_loss import label_loss
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import exponentials, zero_where_dropped


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


def no_tangent() -> Any:
    """The tangent of the statistics."""
    return LossStats(*[None] * len(LossStats._fields))  # type: ignore[arg-type]


def loss_stats(x: Array, labels: Array, keep: Array | None, classes: Classes) -> LossStats:
    """The statistics of canonical logits (N, C), or the shares of this device in them.

    Args:
      x: logits in float32 or wider.
      labels: integers (N, 1) or distributions (N, C).
      keep: boolean (N, 1), or None.
      classes: where the classes are.
    """
    x = xla.stored(zero_where_dropped(lax.stop_gradient(x), keep))
    row = classes.statistics(x, classes.max(x))
    cross_entropy = partial(
        rows.cross_entropy,
        x=x,
        m=row.max,
        excess=row.excess,
        axis=1,
        ask=keep is None and classes.may_ask(x),
    )
    if arguments.are_classes(labels):
        nll = label_loss(x, labels, None, None, keep, classes=classes, z_loss=0.0)
    else:
        nll = cross_entropy(lax.stop_gradient(labels).astype(x.dtype))
    found = (
        classes.first(row.max + row.excess),
        -nll,
        classes.first(classes.argmax(x, row.max).astype(jnp.int32)),
        cross_entropy(exponentials(x, row.max) / row.total),
    )
    return LossStats(*(lax.stop_gradient(value[:, 0]) for value in found))


def of_those(stats: LossStats, counts: Array, classes: Classes) -> LossStats:
    """The statistics of the rows that count, or shares in them; the others are left out."""
    nothing = LossStats(*jax.tree.map(jnp.zeros_like, stats))
    no_class = jnp.full_like(stats.prediction, -1)
    nothing = nothing._replace(prediction=classes.first(no_class))
    return LossStats(*(jnp.where(counts, a, b) for a, b in zip(stats, nothing, strict=True)))
