"""A small problem of the linear loss, and the loss on logits that it equals."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)

N, D, C = 11, 3, 5


def problem(dtype, rows=N, features=D, classes=C):
    keys = jax.random.split(jax.random.key(1), 5)
    return (
        jax.random.normal(keys[0], (rows, features), dtype),
        jax.random.normal(keys[1], (features, classes), dtype),
        jax.random.normal(keys[2], (classes,), dtype),
        jax.random.uniform(keys[3], (rows,), dtype),
        jax.random.randint(keys[4], (rows,), 0, classes),
    )


def on_logits(features, kernel, bias, weights, labels, *, reduction="mean", where=None, **options):
    logits = features @ kernel + bias[None, :]
    where = None if where is None else jnp.broadcast_to(where, logits.shape)
    loss = softmax_cross_entropy_with_integer_labels
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        loss = softmax_cross_entropy
    losses = weights * loss(logits, labels, -1, where, **options)
    if reduction == "none":
        return losses
    return jnp.sum(losses) / (jnp.sum(weights) if reduction == "mean" else 1)


def streamed(features, kernel, bias, weights, labels, **options):
    return linear_softmax_cross_entropy(features, kernel, labels, bias, weights=weights, **options)


def assert_close(ours, theirs, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, theirs
    )
