"""What a row of logits tells besides its loss."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from . import _arguments as arguments
from . import _numerics as numerics
from . import _rows as rows
from . import _spread as spread
from ._integer_loss import integer_loss
from ._spread_loss import Part, first_only, part_labels


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


def loss_stats(x: Array, labels: Array, keep: Array | None) -> LossStats:
    """The statistics of canonical logits (N, C), all as floats: integers have no tangents.

    Args:
      x: logits in float32 or wider.
      labels: integers (N, 1) or distributions (N, C).
      keep: boolean (N, 1), or None.
    """
    x = lax.stop_gradient(x)
    x = numerics.stored(x if keep is None else jnp.where(keep, x, jnp.zeros_like(x)))
    largest = numerics.row_max(x, (1,))
    row = rows.statistics(x, largest, 1)
    p = numerics.exponentials(x, largest) / row.total
    cross_entropy = partial(
        rows.cross_entropy, x=x, m=largest, log_total=row.log_total, axis=1, masked=keep is not None
    )
    entropy = cross_entropy(p)
    if arguments.are_classes(labels):
        nll = integer_loss(x, labels, None, None, keep, axis=1, z_loss=0.0)
    else:
        t = lax.stop_gradient(labels).astype(x.dtype)
        nll = cross_entropy(t)
    prediction = jnp.argmax(x, 1, keepdims=True).astype(x.dtype)
    return _of_rows(keep, largest + row.log_total, -nll, prediction, entropy)


def loss_stats_shares(
    x: Array, labels: Array, keep: Array | None, axis_name: spread.Names
) -> LossStats:
    """As `loss_stats`, of classes spread over devices: what adds up to the statistics."""
    x = lax.stop_gradient(x)
    x = numerics.stored(x if keep is None else jnp.where(keep, x, jnp.zeros_like(x)))
    largest = spread.row_max(x, axis_name)
    row, _ = spread.row_statistics(x, largest, axis_name=axis_name)
    minus_log_p = row.log_total - numerics.shifted(x, largest)
    t = lax.stop_gradient(part_labels(labels, x, Part.of_device(x.shape[1], axis_name)))
    p = spread.row_probabilities(x, row)
    log_prob, entropy = (
        jnp.sum(numerics.weighted(weight, minus_log_p), 1, keepdims=True) for weight in (t, p)
    )
    # The first of the classes that attain the maximum, on the first device that has one.
    classes = x.shape[1]
    own = jnp.argmax(x, 1, keepdims=True)
    has_it = jnp.max(x, 1, keepdims=True) >= largest
    beyond = classes * lax.axis_size(axis_name)
    own = jnp.where(has_it, own + lax.axis_index(axis_name) * classes, beyond)
    prediction = lax.pmin(own, axis_name).astype(x.dtype)
    s, prediction, no_class = (
        first_only(value, axis_name)
        for value in (largest + row.log_total, prediction, -jnp.ones_like(prediction))
    )
    return _of_rows(keep, s, -log_prob, prediction, entropy, no_class=no_class)


def _of_rows(keep: Array | None, *values: Array, no_class: Any = -1.0) -> LossStats:
    """Of values (N, 1), in the order of LossStats; rows that are not kept have no class."""
    if keep is not None:
        left_out = (0.0, 0.0, no_class, 0.0)
        values = tuple(
            jnp.where(keep, value, jnp.asarray(other, value.dtype))
            for value, other in zip(values, left_out, strict=True)
        )
    return LossStats(*(lax.stop_gradient(value[:, 0]) for value in values))
