"""What a solver minimises: the mean cross-entropy of a linear classifier with an L2 penalty.

    f(W, b) = Σ_i u_i CE(x_i W + b, y_i) / Σ_i u_i  +  ½ Σ_d λ_d ‖W_d‖²

The bias is not penalised. Everything here is a pytree of arrays and numbers, so that a solver can
be compiled, vmapped over any of them, checkpointed, and placed on several devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.training.sparse import SparseRows, rows_at_a_time

T = TypeVar("T")

ROWS, CLASSES = "data", "classes"  # the axes of a mesh that rows and classes are spread over
finfo: Any = jnp.finfo  # which has no types of its own


class Params(NamedTuple):
    """``kernel (D, C)`` and ``bias (C,)``, or None for a model without one."""

    kernel: Array
    bias: Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows and penalty; the number of classes is the width of the parameters.

    Attributes:
      features: ``(N, D)``, floating point and finite, in rows of weight 0 too; an array, or
        `SparseRows`.
      labels: ``(N,)``, integers in [0, C).
      weights: ``(N,)``, not negative. A row of weight 0 is as if it were absent, so that data can
        be padded to a shape that has been compiled. Weights of classes are multiplied in.
      l2: λ, a number, or ``(D,)`` with one for each feature.
      l1: of the norm Σ_d l1_d ‖W_d‖₁, like ``l2``; for the solver `Proximal` alone, which adds it.
      label_smoothing: ε in [0, 1]; a label counts 1 - ε, and ε is spread over all classes.
    """

    features: Any
    labels: Array
    weights: Array
    l2: ArrayLike = 0.0
    l1: ArrayLike = 0.0
    label_smoothing: float = dataclasses.field(default=0.0, metadata={"static": True})


def zeros(problem: Problem, classes: int, *, bias: bool = True) -> Params:
    """Where to start: the loss is convex, so there is no symmetry to break, and it is ln C."""
    dtype = precision(problem.features)
    kernel = jnp.zeros((problem.features.shape[1], classes), dtype)
    return Params(kernel, jnp.zeros(classes, dtype) if bias else None)


def precision(features: Array) -> jnp.dtype:
    """That of the parameters and of all sums: float32, or float64 where the features are."""
    return jnp.dtype(jnp.float64 if features.dtype == jnp.float64 else jnp.float32)


def objective(problem: Problem, params: Params) -> Array:
    """f(W, b), a scalar; it streams the rows, and so do its derivatives of any order."""
    if isinstance(problem.features, SparseRows):
        rows = dataclasses.replace(problem, l2=0.0)
        return mean(lambda block: objective(block, params), rows) + penalty(problem, params)

    def loss(features: Array, labels: Array, weights: Array, params: Params) -> Array:
        return linear_softmax_cross_entropy(
            features,
            params.kernel,
            labels,
            params.bias,
            weights=weights,
            label_smoothing=problem.label_smoothing,
        )

    value: Array = _laid_out(loss, bias=params.bias is not None)(
        problem.features, problem.labels, problem.weights, params
    )
    return value + penalty(problem, params)


def mean(function: Callable[[Problem], T], problem: Problem) -> T:
    """What is a weighted mean over rows, of rows that are dense only some at a time.

    Args:
      function: Of dense rows, 0 where no weight is; in their number it is compiled once.
      problem: All rows.
    """
    if not isinstance(problem.features, SparseRows):
        return function(problem)
    count, width = problem.features.shape
    devices = jax.sharding.get_abstract_mesh().shape.get(ROWS, 1)
    step = min(count // devices, rows_at_a_time(width))

    def split(leaf: Array) -> Array:
        """``(blocks, rows, …)``, in each as many rows of every device."""
        own = leaf.reshape(devices, -1, *leaf.shape[1:])
        missing = [(0, 0), (0, -own.shape[1] % step)] + [(0, 0)] * (leaf.ndim - 1)
        blocks = jnp.pad(own, missing).reshape(devices, -1, step, *leaf.shape[1:])
        return jnp.swapaxes(blocks, 0, 1).reshape(-1, devices * step, *leaf.shape[1:])

    @jax.checkpoint  # dense rows are made again for a derivative, and not kept
    def weighed(columns: Array, values: Array, labels: Array, weights: Array) -> T:
        dense = SparseRows(columns, values, problem.features.base).dense()
        rows = dataclasses.replace(problem, features=dense, labels=labels, weights=weights)
        result: T = jax.tree.map(lambda leaf: jnp.sum(weights) * leaf, function(rows))
        return result

    def add(total: T, block: tuple[Array, ...]) -> tuple[T, None]:
        return jax.tree.map(jnp.add, total, weighed(*block)), None

    rows = problem.features.columns, problem.features.values, problem.labels, problem.weights
    blocks = jax.tree.map(split, rows)
    shapes = jax.eval_shape(weighed, *(leaf[0] for leaf in blocks))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, weight = jax.lax.scan(add, zeros, blocks)[0], jnp.sum(problem.weights)
    found: T = jax.tree.map(lambda leaf: leaf / jnp.where(weight > 0, weight, 1), total)
    return found


def _laid_out(loss: Callable[..., Array], *, bias: bool) -> Callable[..., Array]:
    """On a mesh of ROWS × CLASSES, the loss is told where they lie.

    Its gradient then crosses devices once, and not in every block of rows.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.axis_names != (ROWS, CLASSES):
        return loss
    params: Any = Params
    layout = P(ROWS, None), P(ROWS), P(ROWS), params(P(None, CLASSES), P(CLASSES) if bias else None)
    told: Callable[..., Array] = jax.sharding.explicit_axes(
        loss, axes=mesh.axis_names, in_sharding=layout
    )
    return told


def penalty(problem: Problem, params: Params) -> Array:
    """½ Σ_d λ_d ‖W_d‖²."""
    return 0.5 * jnp.sum(decay(problem, params.kernel) * params.kernel)


def decay(problem: Problem, kernel: Array) -> Array:
    """The gradient of the penalty, λ_d W_d."""
    l2 = jnp.asarray(problem.l2, kernel.dtype)
    return jnp.broadcast_to(l2, kernel.shape[:1])[:, jnp.newaxis] * kernel


def norm(gradient: Params) -> Array:
    """‖gradient‖∞."""
    return jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient)]).max()
