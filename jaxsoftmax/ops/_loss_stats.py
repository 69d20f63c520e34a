"""What a row of logits tells besides its loss."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from . import _arguments as arguments
from . import _numerics as numerics
from ._integer_loss import integer_loss


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
    x = x if keep is None else jnp.where(keep, x, jnp.zeros_like(x))
    largest = numerics.row_max(x, (1,))
    row = numerics.row_statistics(x, largest, (1,))
    below = -numerics.shifted(x, largest)
    p = numerics.row_probabilities(x, row)
    # -Σ p log p = log S + Σ p (m - x), both terms >= 0.
    entropy = row.log_total + jnp.sum(numerics.weighted(p, below), 1, keepdims=True)
    if arguments.are_classes(labels):
        nll = integer_loss(x, labels, None, None, keep, axis=1, z_loss=0.0)
    else:
        t = lax.stop_gradient(labels).astype(x.dtype)
        nll = jnp.sum(numerics.weighted(t, row.log_total + below), 1, keepdims=True)
    prediction = jnp.argmax(x, 1, keepdims=True).astype(x.dtype)
    values: tuple[Array, ...] = (largest + row.log_total, -nll, prediction, entropy)
    if keep is not None:
        left_out = (0.0, 0.0, -1.0, 0.0)
        values = tuple(
            jnp.where(keep, value, jnp.full_like(value, other))
            for value, other in zip(values, left_out, strict=True)
        )
    return LossStats(*(lax.stop_gradient(value[:, 0]) for value in values))
