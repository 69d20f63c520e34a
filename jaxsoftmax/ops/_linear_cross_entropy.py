"""The linear classifier loss, as a composition of a matrix product and the loss on logits."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from ._cross_entropy import (
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)


def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Array:
    """Cross-entropy of the logits `features @ kernel + bias`.

    Args:
      features: `(..., D)`.
      kernel: `(D, C)`.
      labels: integers `(...)` or distributions `(..., C)`.
      bias: `(C,)` or None.
      weights: of the rows, `(...)`, or None.
      reduction: "mean" divides by the summed weight, "sum", or "none".

    Returns:
      A scalar, or `(...)` with reduction "none".
    """
    features, kernel, labels = jnp.asarray(features), jnp.asarray(kernel), jnp.asarray(labels)
    logits = lax.dot_general(features, kernel, (((features.ndim - 1,), (0,)), ((), ())))
    if bias is not None:
        bias = jnp.asarray(bias)
        logits = logits + bias.reshape((1,) * (logits.ndim - 1) + bias.shape)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        loss = softmax_cross_entropy_with_integer_labels(logits, labels)
    else:
        loss = softmax_cross_entropy(logits, labels)
    weight = jnp.ones_like(loss) if weights is None else jnp.asarray(weights).astype(loss.dtype)
    loss = jnp.where(weight == 0, jnp.zeros_like(loss), weight * loss)
    if reduction == "none":
        return loss
    total = jnp.sum(weight)
    scale = jnp.where(total == 0, jnp.ones_like(total), total) if reduction == "mean" else 1.0
    return jnp.sum(loss) / scale
