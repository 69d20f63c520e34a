r"""Distillation of one linear classifier into another: KL divergence of their softmaxes.

Notation   student: features F, kernel W, bias b, logits x = (F W + b) / T;
           teacher: the same with primes, logits x'; p = softmax(x), ℓ = log p; T temperature.
Primal     L = T² Σ p'∘(ℓ' - ℓ) = T² (CE(p', x) - CE(p', x')), of every row
Gradient   ∂L/∂x = T² (p - p'),   ∂L/∂x' = T² p'∘(d - Σ p'∘d),  d = ℓ' - ℓ
JVP, VJP   those of `rules`; of a block, the rules of log-softmax, softmax and the products, chained
Saved      as in `rules`: neither side's logits exist for more than one block of rows
Edges      as in `rules`. A class that the teacher rules out has no part.
Source     Hinton, Vinyals & Dean, arXiv:1503.02531, section 2
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.ops.call import one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Classes, Names
from jaxsoftmax.ops.log_softmax import log_softmax_of
from jaxsoftmax.ops.softmax import softmax_of

from . import arguments as linear
from .loss import linear_loss
from .problem import OfLogits, Reduction, Rows, Settings, Shared, Sizes
from .product import product_dtype

NAME = "linear_softmax_kl_divergence"


@one_program("temperature", "reduction", "axis_name", "block_size", "memory_budget")
def linear_softmax_kl_divergence(
    features: ArrayLike,
    kernel: ArrayLike,
    teacher_features: ArrayLike,
    teacher_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    teacher_bias: ArrayLike | None = None,
    *,
    temperature: float | Array = 1.0,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
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
      temperature: T > 0, divides the logits of both. A Python number is static; a scalar array is
        differentiated as well.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 adds 0 to
        everything; the derivative in its weight is its divergence.
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
    static, moving = linear.temperature(NAME, temperature)
    linear.check_reduction(NAME, reduction)
    linear.check_axis(NAME, axis_name)
    dtype = product_dtype(like.dtype, other.dtype)
    u = linear.row_weights(NAME, weights, like.shape[:-1], dtype)
    settings = Settings(
        _Divergence(Options(0.0, 0.0, None), static, dtype), dtype, reduction, axis_name
    )
    return linear_loss(
        Shared((w, v), (b, c), temperature=moving),
        Rows((f, g), weights=u),
        settings,
        Sizes.checked(NAME, block_size, memory_budget),
    )[0]


@dataclasses.dataclass(frozen=True)
class _Divergence(OfLogits):
    """The divergences of a block of logits, of the student and of the teacher."""

    dtype: jax.typing.DTypeLike

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Array, None]:
        """The divergences (N,), or the shares of this device in them."""
        x, x_teacher = (self.seen(z.astype(self.dtype), shared, None) for z in logits)
        log_p, log_q = (log_softmax_of(z, classes=classes)[0] for z in (x, x_teacher))
        q = softmax_of(x_teacher, classes=classes)
        # A class that the teacher rules out has no part, whatever the student thinks of it.
        difference = jnp.where(log_q == -jnp.inf, jnp.zeros_like(log_q), log_q - log_p)
        return self.squared(shared) * jnp.sum(q * difference, 1), None

    def squared(self, shared: Shared) -> Array:
        """T²."""
        t = self.temperature if shared.temperature is None else shared.temperature[0, 0]
        squared: Array = jnp.square(jnp.asarray(t, self.dtype))
        return squared
