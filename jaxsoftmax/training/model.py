"""Softmax regression: logits = features @ kernel + bias, trained through the package's own loss."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxsoftmax

from .data import Dataset, Features, Standardization


class Params(NamedTuple):
    """``kernel (D, C)`` and ``bias (C,)`` or None."""

    kernel: jax.Array
    bias: jax.Array | None


class Rows(NamedTuple):
    """Standardised rows on the device: ``features (N, D)``, ``labels (N,)``."""

    features: jax.Array
    labels: jax.Array


class Scores(NamedTuple):
    """Mean cross-entropy (nats) and share of right predictions, both scalars."""

    loss: jax.Array
    accuracy: jax.Array


def init(width: int, classes: int, bias: bool) -> Params:
    """All zeros: the loss is convex, so there is no symmetry to break, and it starts at ln C."""
    zeros = jnp.zeros((1 + width, classes), jnp.float32)
    return Params(zeros[1:], zeros[0] if bias else None)


def logits(params: Params, features: jax.Array) -> jax.Array:
    """``features @ kernel + bias``, shape (N, C)."""
    z = features @ params.kernel
    return z if params.bias is None else z + params.bias[jnp.newaxis, :]


def objective(
    params: Params, rows: Rows, weights: jax.Array | None = None, *, l2: float
) -> jax.Array:
    """Mean cross-entropy over the rows that count, plus ``l2/2 ‖kernel‖²``."""
    loss = jaxsoftmax.linear_softmax_cross_entropy(
        rows.features, params.kernel, rows.labels, params.bias, weights=weights, reduction="mean"
    )
    return loss + 0.5 * l2 * jnp.sum(jnp.square(params.kernel))


def scores(params: Params, rows: Rows) -> Scores:
    """Loss (without the L2 term) and accuracy on all rows."""
    right = jnp.argmax(logits(params, rows.features), axis=-1) == rows.labels
    return Scores(objective(params, rows, l2=0.0), jnp.mean(right, dtype=jnp.float32))


class Classifier(NamedTuple):
    """A trained model with all it needs to read raw features and to name its answers."""

    params: Params
    standardization: Standardization
    classes: tuple[str, ...]
    feature_names: tuple[str, ...]

    def rows(self, dataset: Dataset) -> Rows:
        """Raw labelled rows, standardised and placed on the device."""
        features = self.standardization(dataset.features)
        return Rows(jnp.asarray(features), jnp.asarray(dataset.labels))

    def probabilities(
        self, features: Features
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Class probabilities ``(N, C)`` of raw features ``(N, D)``."""
        z = logits(self.params, jnp.asarray(self.standardization(features)))
        return np.asarray(jaxsoftmax.softmax(z, axis=-1))
