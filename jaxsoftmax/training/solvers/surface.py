"""Value, gradient and products with the Hessian at a point, the second from what the first kept.

With rows x_i − μ, so that the bias is decoupled from the kernel, and weights u_i that sum to 1:

    Z = (X − μ) W + b        G = diag(u) (P − E_y)           gradient = (X − μ)ᵀ G + λ W ; Σ G
    Ż = (X − μ) V + v        Ġ = diag(u) P∘(Ż − Σ P∘Ż)       product  = (X − μ)ᵀ Ġ + λ V ; Σ Ġ

Where P, rows × classes, may be held, a product is two products of matrices and one pass over rows;
otherwise it is the derivative of the gradient of `linear_softmax_cross_entropy`, which streams.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxsoftmax
from jaxsoftmax.training.sparse import SparseRows

from .problem import Params, Problem, decay, mean, objective, penalty, precision


class Point(NamedTuple):
    """f and its gradient at ``params``; ``probabilities (N, C)`` where they are held."""

    params: Params
    value: Array
    gradient: Params
    probabilities: Array | None


def weighted_mean(problem: Problem) -> Array:
    """μ, the mean of the features over the rows that count, ``(D,)``."""

    def of(rows: Problem) -> Array:
        found: Array = row_shares(rows) @ rows.features.astype(precision(rows.features))
        return found

    return mean(of, problem)


def row_shares(problem: Problem) -> Array:
    """u_i / Σ u, and 0 where no row counts."""
    total = jnp.sum(problem.weights)
    return problem.weights / jnp.where(total > 0, total, 1)


def evaluate(problem: Problem, center: Array, params: Params, *, hold: bool) -> Point:
    """The point at ``params``, which are those of centred rows."""
    if not hold or isinstance(problem.features, SparseRows):
        value, gradient = jax.value_and_grad(functools.partial(_centred, problem, center))(params)
        return Point(params, value, gradient, None)
    logits = _forward(problem, center, params)
    shares = row_shares(problem)

    def loss(logits: Array) -> Array:
        losses = jaxsoftmax.softmax_cross_entropy_with_integer_labels(
            logits, problem.labels, label_smoothing=problem.label_smoothing
        )
        return jnp.sum(jnp.where(shares > 0, shares * losses, 0))

    value, rows = jax.value_and_grad(loss)(logits)
    gradient = _backward(problem, center, params, rows)
    return Point(params, value + penalty(problem, params), gradient, jaxsoftmax.softmax(logits))


def product(problem: Problem, center: Array, point: Point, direction: Params) -> Params:
    """H ``direction`` at the point."""
    p = point.probabilities
    if p is None:
        gradient = jax.grad(functools.partial(_centred, problem, center))
        image: Params = jax.jvp(gradient, (point.params,), (direction,))[1]
        return image
    tangents = _forward(problem, center, direction)
    shares = row_shares(problem)[:, jnp.newaxis]
    rows = shares * p * (tangents - jnp.sum(p * tangents, axis=1, keepdims=True))
    return _backward(problem, center, direction, rows)


def shifted(center: Array, params: Params, sign: int) -> Params:
    """The same classifier for rows moved by ``sign`` times the centre."""
    if params.bias is None:
        return params
    return params._replace(bias=params.bias + sign * (center @ params.kernel))


def _centred(problem: Problem, center: Array, params: Params) -> Array:
    return objective(problem, shifted(center, params, -1))


def _forward(problem: Problem, center: Array, params: Params) -> Array:
    bias = shifted(center, params, -1).bias
    logits = _product(problem.features, params.kernel)
    return logits if bias is None else logits + bias[jnp.newaxis, :]


def _backward(problem: Problem, center: Array, params: Params, rows: Array) -> Params:
    # On CPU Xᵀ G takes twice as long as Gᵀ X, and XLA makes the first of the second if it may.
    kernel = jax.lax.optimization_barrier(_product(rows.T, problem.features)).T
    if params.bias is None:
        return Params(kernel + decay(problem, params.kernel), None)
    total = jnp.sum(rows, axis=0)
    kernel = kernel - center[:, jnp.newaxis] * total[jnp.newaxis, :]
    return Params(kernel + decay(problem, params.kernel), total)


def _product(a: Array, b: Array) -> Array:
    """In the precision of the parameters, whichever factor holds the features."""
    dtype = jnp.dtype(jnp.float64 if jnp.float64 in (a.dtype, b.dtype) else jnp.float32)
    return jnp.matmul(a.astype(dtype), b.astype(dtype), precision=jax.lax.Precision.HIGHEST)
