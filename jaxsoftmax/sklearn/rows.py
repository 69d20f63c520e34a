"""Rows as scikit-learn's users give them, and as a solver takes them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import column_or_1d

from jaxsoftmax.training.solvers import Params, Problem

Matrix = npt.NDArray[np.floating]
Vector = npt.NDArray[np.floating]


class Rows(NamedTuple):
    """Rows as a solver takes them: centred, large features scaled down, and padded.

    Numbers of rows that are nearly the same are padded to one, so that the folds of a
    cross-validation share a program. Scales are powers of 2, and divide exactly.
    """

    features: Matrix
    labels: npt.NDArray[np.int32]
    weights: Vector
    center: Vector
    scale: Vector

    def problem(self, strength: float | Vector, l1_ratio: float, classes: int) -> Problem:
        """With penalties of the given strength on the coefficients of the data as they came.

        Of an array of strengths come penalties with its shape in front.
        """
        strength = np.asarray(strength)[..., np.newaxis]
        # Two columns ∓w/2 have half the squared length of the one column w of two classes.
        square = strength * (1 - l1_ratio) * (2 if classes == 2 else 1)
        dtype = self.features.dtype
        return Problem(
            jnp.asarray(self.features),
            jnp.asarray(self.labels),
            jnp.asarray(self.weights),
            jnp.asarray(square / self.scale**2, dtype),
            jnp.asarray(strength * l1_ratio / self.scale, dtype),
        )

    def params(self, coef: Matrix, intercept: Vector, *, bias: bool) -> Params:
        """Those of these rows, from a coefficient matrix ``(C, D)``, or (1, D) of two classes."""
        if len(coef) == 1:
            coef, intercept = two(coef), two(intercept)
        dtype = self.features.dtype
        kernel = jnp.asarray((coef * self.scale).T, dtype)
        return Params(kernel, jnp.asarray(intercept + coef @ self.center, dtype) if bias else None)

    def coefficients(self, params: Params) -> tuple[Matrix, Vector]:
        """Those of the data as they came, (C, D) and (C,), or (1, D) and (1,) of two classes."""
        coef = np.asarray(params.kernel, np.float64).T / self.scale
        bias = np.zeros(len(coef)) if params.bias is None else np.asarray(params.bias, np.float64)
        if params.bias is not None:
            bias = bias - coef @ self.center
        if len(coef) == 2:
            coef, bias = coef[1:] - coef[:1], bias[1:] - bias[:1]
        dtype = self.features.dtype
        return coef.astype(dtype), bias.astype(dtype)


def two(one: Matrix) -> Matrix:
    """∓w/2: the two columns whose difference is w, and whose sum is 0."""
    return np.concatenate([-one / 2, one / 2])


def prepare(X: Matrix, labels: npt.NDArray[np.int32], weights: Vector, centred: bool) -> Rows:
    """Centred where there is an intercept to make up for it, scaled and padded."""
    rows = padded(X, labels, weights, rounded_up(len(labels)), copy=True)
    count = len(labels)
    center = X.mean(axis=0, dtype=np.float64) if centred else np.zeros(X.shape[1])
    held = rows.features[:count]
    held -= center.astype(X.dtype)
    center = center.astype(X.dtype).astype(np.float64)  # what has been subtracted
    spread = np.sqrt(np.einsum("nd,nd->d", held, held, dtype=np.float64) / count)
    scale = np.exp2(np.ceil(np.log2(np.maximum(spread, 1))))
    if np.any(scale > 1):
        held /= scale.astype(X.dtype)
    return rows._replace(center=center, scale=scale)


def padded(
    X: Matrix, labels: npt.NDArray[np.int32], weights: Vector, size: int, *, copy: bool = False
) -> Rows:
    """Rows of weight 0 up to ``size``."""
    missing = size - len(labels)
    features = X
    if missing or copy:
        features = np.zeros((size, X.shape[1]), X.dtype)
        features[: len(labels)] = X
    nothing = np.zeros(X.shape[1])
    return Rows(
        features,
        np.pad(labels, (0, missing)),
        np.pad(weights, (0, missing)).astype(X.dtype),
        nothing,
        nothing + 1,
    )


def rounded_up(rows: int) -> int:
    """To the next number of a series that grows by a sixteenth at most, in steps of 64."""
    step: int = max(64, 2 ** (int(math.log2(rows)) - 4))
    return -(-rows // step) * step


def row_weights(sample_weight: Any, rows: int) -> Vector:
    """One weight for each row, ``(rows,)``.

    Raises:
      ValueError: they are not finite, negative, all 0, or of another number.
    """
    if sample_weight is None:
        return np.ones(rows)
    weights = np.asarray(sample_weight, np.float64)
    weights = np.full(rows, weights) if weights.ndim == 0 else column_or_1d(weights)
    if len(weights) != rows:
        raise ValueError(
            f"sample_weight must have one number for each row, {rows}, got {len(weights)}"
        )
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise ValueError("sample_weight must be finite and not negative")
    if not np.any(weights > 0):
        raise ValueError("sample_weight must not be zero everywhere: no row has any weight")
    return weights
