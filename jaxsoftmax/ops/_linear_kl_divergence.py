r"""Distillation of one linear classifier into another: KL divergence of their softmaxes.

Notation   student: features F, kernel W, bias b, logits x = (F W + b) / T;
           teacher: the same with primes, logits x'; p = softmax(x), ℓ = log p; T temperature.
Primal     L = T² Σ p'∘(ℓ' - ℓ) = T² (CE(p', x) - CE(p', x')), of every row
Gradient   ∂L/∂x = T² (p - p'),   ∂L/∂x' = T² p'∘(d - Σ p'∘d),  d = ℓ' - ℓ
JVP, VJP   of each block: the rules of the losses, of softmax and of the products, chained
Saved      the arguments: neither side's logits exist for more than one block of rows
Edges      A row of weight 0 contributes 0 to everything, whatever its features.
Source     Hinton, Vinyals & Dean, arXiv:1503.02531, section 2
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import scaled
from jaxsoftmax.autodiff.varying import varying

from . import _linear_arguments as linear
from ._blocks import stream
from ._linear_block import kept, linear_logits
from ._product import product_dtype
from .call import arguments
from .devices import mesh
from .devices.classes import Classes, Here, Names, Spread
from .log_softmax import log_softmax_of
from .softmax import softmax_of

NAME = "linear_softmax_kl_divergence"


def linear_softmax_kl_divergence(
    features: ArrayLike,
    kernel: ArrayLike,
    teacher_features: ArrayLike,
    teacher_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    teacher_bias: ArrayLike | None = None,
    *,
    temperature: float = 1.0,
    weights: ArrayLike | None = None,
    reduction: linear.Reduction = "mean",
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array:
    r"""KL divergence of a linear classifier from a linear teacher, without the logits of either.

    .. math:: L_i = T^2 \sum_j p'_{ij} \log \frac{p'_{ij}}{p_{ij}}, \quad
       p = \operatorname{softmax}\left(\frac{f W + b}{T}\right)

    Rows are worked on in blocks, in every mode and order of differentiation. The factor T² makes
    gradients comparable at different temperatures. The teacher is differentiated as well, where
    it is asked for.

    Args:
      features: of the student, `(..., D)`, floating point.
      kernel: of the student, `(D, C)`.
      teacher_features: `(..., E)`, with the batch shape of `features`; E need not be D.
      teacher_kernel: `(E, C)`.
      bias: of the student, `(C,)`, or None. A class that is -inf here must be so for the teacher.
      teacher_bias: `(C,)`, or None.
      temperature: T > 0, divides the logits of both.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 is left out.
      reduction: "mean" divides by the summed weight, and is 0 if there is none; "sum"; or "none".
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes: both kernels and biases are then those of the device. See
        `linear_softmax_cross_entropy`.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      A scalar, or the weighted divergence of each row `(...)` with reduction "none"; in float32, or
      in float64 if an argument is.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import linear_softmax_kl_divergence
      >>> features, kernel = jnp.ones((2, 1)), jnp.array([[0.0, 1.0]])
      >>> float(linear_softmax_kl_divergence(features, kernel, features, -kernel))
      0.4621171...

    See Also:
      `linear_softmax_cross_entropy`.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    teacher = linear.operands(
        NAME, teacher_features, teacher_kernel, teacher_bias, prefix="teacher_"
    )
    g, v, c, other = teacher
    if other.shape != like.shape:
        raise ValueError(
            f"{NAME}: student and teacher must have logits of the same shape, got {like.shape} and "
            f"{other.shape}."
        )
    temperature = arguments.number(
        NAME, "temperature", temperature, lambda t: 0 < t < float("inf"), "positive and finite"
    )
    linear.check_reduction(NAME, reduction)
    linear.check_axis(NAME, axis_name)
    dtype = product_dtype(like.dtype, other.dtype)
    u = linear.row_weights(NAME, weights, like.shape[:-1], dtype)
    sizes = linear.Sizes.checked(NAME, block_size, memory_budget)
    job = _Job(temperature, dtype, reduction, sizes, axis_name)
    return _loss(_Given(f, w, b, g, v, c, u), job)


class _Given(NamedTuple):
    """The arrays, with the batch axes as they came."""

    features: Any  # (..., D)
    kernel: Any  # (D, C)
    bias: Any  # (C,), or None
    teacher_features: Any  # (..., E)
    teacher_kernel: Any  # (E, C)
    teacher_bias: Any  # (C,), or None
    weights: Any  # (...), or None


_AXES = _Given(
    features=(mesh.ROWS, None),
    kernel=(None, mesh.CLASSES),
    bias=(mesh.CLASSES,),
    teacher_features=(mesh.ROWS, None),
    teacher_kernel=(None, mesh.CLASSES),
    teacher_bias=(mesh.CLASSES,),
    weights=(mesh.ROWS,),
)


class _Job(NamedTuple):
    """The static options."""

    temperature: float
    dtype: Any  # of the divergences
    reduction: linear.Reduction
    sizes: linear.Sizes
    classes: Names | None  # the mesh axes that spread the classes
    rows: tuple[str, ...] = ()  # and those that spread the rows


def _loss(given: _Given, job: _Job) -> Array:
    """The loss of all devices, wherever the types place the arrays."""
    batch, classes = given.features.shape[:-1], given.kernel.shape[1]
    place = mesh.layout(given, _AXES, batch, classes, spread=job.classes is None)
    if place is None:
        return _local_loss(given, job)
    here = job._replace(rows=place.row_axes, classes=job.classes or place.class_axes)
    out_spec = place.spec((mesh.ROWS,) if job.reduction == "none" else ())

    def local(*arrays: Any) -> Array:
        return _local_loss(_Given(*arrays), here)

    return cast(Array, mesh.on_each_device(local, given, _AXES, place, out_spec))


def _local_loss(given: _Given, job: _Job) -> Array:
    """The loss of what this device has, with what it shares with others added up."""
    batch, classes = given.features.shape[:-1], given.kernel.shape[1]
    rows, axes = math.prod(batch), linear.axes(job.rows, job.classes)
    f, w, b, g, v, c, u = varying(given, axes)
    f, g = (x.reshape(rows, x.shape[-1]) for x in (f, g))
    u = None if u is None else u.reshape(rows)
    keep = None if u is None else u != 0
    size = job.sizes.rows(rows, 2 * classes, job.dtype)

    body = _Divergences(job.temperature, job.dtype, job.classes)
    cut = (True, False, False, True, False, False, True)
    shares = stream(f, w, b, g, v, c, keep, body=body, cut=cut, size=size)[1]
    if job.reduction == "none":
        losses = linear.whole(shares, job.classes).reshape(batch)
        return losses if given.weights is None else scaled(losses, given.weights)
    u = linear.shares(u, rows, keep, job.dtype, job.reduction, job.rows)
    return cast(Array, linear.whole(jnp.sum(scaled(shares, u)), axes))


@dataclasses.dataclass(frozen=True)
class _Divergences:
    """A block of rows -> its divergences, or the shares of this device in them."""

    temperature: float
    dtype: Any
    classes: Names | None

    def __call__(
        self,
        features: Array,
        kernel: Array,
        bias: Array | None,
        teacher_features: Array,
        teacher_kernel: Array,
        teacher_bias: Array | None,
        keep: Array | None,
    ) -> tuple[None, Array]:
        x = self._logits(features, kernel, bias, keep)
        x_teacher = self._logits(teacher_features, teacher_kernel, teacher_bias, keep)
        log_p, log_q = self._log_softmax(x), self._log_softmax(x_teacher)
        q = self._softmax(x_teacher)
        # A class that the teacher rules out has no part, whatever the student thinks of it.
        impossible = log_q == -jnp.inf
        difference = jnp.where(impossible, jnp.zeros_like(log_q), log_q - log_p)
        divergence = jnp.sum(q * difference, 1)
        return None, jnp.asarray(self.temperature**2, self.dtype) * divergence

    @property
    def _where(self) -> Classes:
        return Here(1) if self.classes is None else Spread(self.classes)

    def _softmax(self, x: Array) -> Array:
        return softmax_of(x, classes=self._where)

    def _log_softmax(self, x: Array) -> Array:
        return log_softmax_of(x, classes=self._where)[0]

    def _logits(self, features: Array, kernel: Array, bias: Array | None, keep: Any) -> Array:
        z = linear_logits(kept(features, keep), kernel, bias).astype(self.dtype)
        return z / jnp.asarray(self.temperature, self.dtype)
