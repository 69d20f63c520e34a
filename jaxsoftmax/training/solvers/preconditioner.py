"""What conjugate gradients divide by: the Hessian without its blocks between classes.

    block c = Σ_i u_i p_ic (1 − p_ic) (x_i − μ)(x_i − μ)ᵀ + λ

Up to `DENSE_FEATURES` features each block is factored, from a sample of the rows; beyond that its
diagonal is taken, as var(x_d) · mean(p_c (1 − p_c)) + λ_d, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

import jaxsoftmax

from .problem import Params, Problem, finfo, mean
from .surface import Point, row_shares

DENSE_FEATURES = 128
DENSE_NUMBERS = 2**24  # in the factors of all classes, and in the probabilities of the sample
SAMPLE = 8192
RIDGE = 100  # eps of this many are added to a block of unit diagonal

Solve = Callable[[Params], Params]


def spread(problem: Problem, center: Array) -> Array:
    """The variance of each feature about the centre, ``(D,)``."""

    def squares(rows: Problem) -> Array:
        deviations = rows.features.astype(center.dtype) - center[jnp.newaxis, :]
        return row_shares(rows) @ jnp.square(deviations)

    return mean(squares, problem)


def rounding(center: Array) -> Array:
    """The variance that a constant feature seems to have, from centring in this precision."""
    return jnp.square(100 * finfo(center.dtype).eps * center)


def build(problem: Problem, center: Array, spread: Array, point: Point) -> Solve:
    """Approximately H⁻¹, symmetric and positive definite."""
    width, classes = point.params.kernel.shape
    numbers = classes * max(width**2, min(SAMPLE, len(problem.labels)))
    if width <= DENSE_FEATURES and numbers <= DENSE_NUMBERS:
        return _blocks(problem, center, point)
    return _diagonal(problem, center, spread, point)


def _diagonal(problem: Problem, center: Array, spread: Array, point: Point) -> Solve:
    l2 = jnp.broadcast_to(jnp.asarray(problem.l2, spread.dtype), spread.shape)
    classes = point.params.kernel.shape[1]
    if point.probabilities is None:
        curvature = jnp.full(classes, (1 - 1 / classes) / classes, spread.dtype)
    else:
        p = point.probabilities
        curvature = row_shares(problem) @ (p * (1 - p))
    curvature = jnp.maximum(curvature, 1e-3 * jnp.max(curvature))
    varies = (spread > rounding(center)) | (l2 > 0)
    kernel = spread[:, jnp.newaxis] * curvature[jnp.newaxis, :] + l2[:, jnp.newaxis]
    kernel = jnp.sqrt(jnp.maximum(kernel, finfo(kernel.dtype).eps * jnp.max(kernel)))

    def solve(gradient: Params) -> Params:
        bias = None if gradient.bias is None else gradient.bias / jnp.sqrt(curvature)
        return Params(jnp.where(varies[:, jnp.newaxis], gradient.kernel / kernel, 0), bias)

    return solve


def _blocks(problem: Problem, center: Array, point: Point) -> Solve:
    rows = _sampled(len(problem.labels))
    sampled = problem.features[rows]
    x = sampled.astype(center.dtype) - center[jnp.newaxis, :]
    p = _probabilities(x, point)
    if point.params.bias is not None:
        x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
    weights = problem.weights[rows]
    shares = weights / jnp.maximum(jnp.sum(weights), finfo(weights.dtype).tiny)
    l2 = _padded(jnp.broadcast_to(jnp.asarray(problem.l2, x.dtype), center.shape), x)
    noise = _padded(rounding(center), x)
    ridge = RIDGE * finfo(x.dtype).eps * jnp.eye(x.shape[1], dtype=x.dtype)

    def factor(column: Array) -> tuple[Array, Array]:
        block = (x * (shares * column * (1 - column))[:, jnp.newaxis]).T @ x + jnp.diag(l2)
        size = jnp.diag(block)
        moves = size > noise * jnp.max(column)
        scale = jnp.where(moves, jax.lax.rsqrt(jnp.where(moves, size, 1)), 0)
        unit = block * scale[:, jnp.newaxis] * scale[jnp.newaxis, :]
        return jnp.linalg.cholesky(unit + ridge), scale

    factors, scales = jax.lax.map(factor, p.T)

    def solve(gradient: Params) -> Params:
        stacked = gradient.kernel
        if gradient.bias is not None:
            stacked = jnp.concatenate([stacked, gradient.bias[jnp.newaxis, :]])
        column = (stacked.T * scales)[:, :, jnp.newaxis]
        column = jax.lax.linalg.triangular_solve(factors, column, left_side=True, lower=True)
        column = jax.lax.linalg.triangular_solve(
            factors, column, left_side=True, lower=True, transpose_a=True
        )
        solved = (column[:, :, 0] * scales).T
        width = gradient.kernel.shape[0]
        return Params(solved[:width], None if gradient.bias is None else solved[width])

    return solve


def _probabilities(x: Array, point: Point) -> Array:
    kernel, bias = point.params
    logits = x @ kernel
    return jaxsoftmax.softmax(logits if bias is None else logits + bias[jnp.newaxis, :])


def _padded(vector: Array, x: Array) -> Array:
    """With a 0 for the column of the bias, if there is one."""
    return jnp.pad(vector, (0, x.shape[1] - len(vector)))


def _sampled(rows: int) -> Array:
    """At most `SAMPLE` row numbers, spread evenly and without a period: i φ mod 1."""
    if rows <= SAMPLE:
        return jnp.arange(rows)
    golden = jnp.arange(SAMPLE, dtype=jnp.uint32) * jnp.uint32(2654435769)
    share = golden.astype(jnp.float32) / 2.0**32
    return jnp.minimum((share * rows).astype(jnp.int32), rows - 1)
