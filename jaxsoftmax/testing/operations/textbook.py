"""The formulas as textbooks have them, in NumPy or JAX, which derives through the maximum too."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def softmax(x: Any, xp: Any = jnp) -> Any:
    """exp(x - m) / Σ exp(x - m)."""
    e = xp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x: Any, xp: Any = jnp) -> Any:
    """x - m - log Σ exp(x - m)."""
    z = x - x.max(-1, keepdims=True)
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))


def logsumexp(x: Any, xp: Any = jnp) -> Any:
    """m + log Σ exp(x - m)."""
    m = x.max(-1, keepdims=True)
    return (m + xp.log(xp.exp(x - m).sum(-1, keepdims=True)))[..., 0]


def label_loss(x: Any, y: Any, xp: Any = jnp) -> Any:
    """-log p_y."""
    return -xp.take_along_axis(log_softmax(x, xp), y[..., None], -1)[..., 0]


def distribution_loss(x: Any, t: Any, xp: Any = jnp) -> Any:
    """-Σ t∘log p."""
    return -(t * log_softmax(x, xp)).sum(-1)


def linear_loss(features: Any, kernel: Any, y: Any, xp: Any = jnp) -> Any:
    """The loss of y, of features @ kernel."""
    return label_loss(features @ kernel, y, xp)
