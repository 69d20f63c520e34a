r"""Distillation of one linear classifier into another: divergences of their softmaxes.

Notation   student: features F, kernel W, bias b, logits x = (F W + b) / T;
           teacher: the same with primes, logits x'; p = softmax(x), p' = softmax(x'); T temperature
Primal     T² KL(p' ‖ p), or T² KL(p ‖ p'), or T² JS, of every row: `divergence`; and -Σ t_k log p
           at labels, with T = 1, where they are given
JVP, VJP   those of `rules`; of a block, those of `divergence`
Saved      as in `rules`: neither side's logits exist for more than one block of rows
Edges      as in `rules` and `divergence`. A class that the teacher rules out has no part in KL.
Source     Hinton, Vinyals & Dean, arXiv:1503.02531, section 2; of JS: Agarwal et al.,
           arXiv:2306.13649, section 3.1
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.ops.call import arguments, one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Classes, Names
from jaxsoftmax.ops.divergence import divergence
from jaxsoftmax.ops.row.exponentials import zero_where_dropped

from . import arguments as linear
from .label_losses import SparseCrossEntropy
from .loss import linear_loss
from .problem import OfLogits, Reduction, Rows, Settings, Shared, Sizes, kept, mask_of
from .product import product_dtype

KL, JS = "linear_softmax_kl_divergence", "linear_softmax_js_divergence"


@one_program
def linear_softmax_kl_divergence(
    features: ArrayLike,
    kernel: ArrayLike,
    teacher_features: ArrayLike,
    teacher_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    teacher_bias: ArrayLike | None = None,
    *,
    labels: ArrayLike | None = None,
    label_weights: ArrayLike | None = None,
    reverse: bool = False,
    temperature: float | Array = 1.0,
    logit_softcap: float | None = None,
    teacher_logit_softcap: float | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array:
    r"""KL divergence of a linear classifier from a linear teacher, without the logits of either.

    .. math:: L_i = T^2 \sum_j p'_{ij} \log \frac{p'_{ij}}{p_{ij}}, \quad
       p = \operatorname{softmax}\left(\frac{f W + b}{T}\right)

    With `labels` their cross-entropy is added, of the same logits of the student: the loss of
    Hinton's distillation. Rows are worked on in blocks, in every mode and order of differentiation.
    The factor T² makes gradients comparable at different temperatures. The teacher is
    differentiated as well, where it is asked for. Where the two are nearly the same, the divergence
    and its derivatives, which are nearly 0, keep their relative accuracy; it is never negative.

    Args:
      features: of the student, `(..., D)`, floating point.
      kernel: of the student, `(D, C)`.
      teacher_features: `(..., E)`, with the batch shape of `features`; E need not be D.
      teacher_kernel: `(E, C)`.
      bias: of the student, `(C,)`, or None. A class that is -inf here must be so for the teacher.
      teacher_bias: `(C,)`, or None.
      labels: integers in [0, C) of shape `(...)`, or K of each row `(..., K)`, to which the
        cross-entropy of the student is added, or None. Together they cost one product of the
        student's where calls of their own cost two, and one pass back.
      label_weights: t, broadcastable to the shape of `labels`, or None for 1: -Σ t_k log p_k is
        added, of the student at temperature 1. They are differentiated as well.
      reverse: p and p' change places: KL of the student to the teacher, which is the divergence of
        on-policy distillation. The student must then rule out what the teacher does.
      temperature: T > 0, divides the logits of both, after the soft-caps. A Python number is
        static; a scalar array is differentiated as well.
      logit_softcap: c > 0, replaces logits x of the student by c tanh(x / c).
      teacher_logit_softcap: the same of the teacher.
      where: boolean, broadcastable to `(..., C)`: the classes that exist, for both. A row with none
        left does not count.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 adds 0 to
        everything; the derivative in its weight is its divergence.
      reduction: "mean" divides by the summed weight, and is 0 if there is none; "sum"; or "none".
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes: both kernels and biases, and `where`, are then those of the device. See
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
      `linear_softmax_js_divergence` between the two; `linear_softmax_cross_entropy` with
      `label_weights`, for a teacher that gives only its likeliest classes.
    """
    reverse = bool(reverse)
    return _divergence(
        KL,
        (features, kernel, bias),
        (teacher_features, teacher_kernel, teacher_bias),
        (None, reverse),
        temperature=temperature,
        softcaps=(logit_softcap, teacher_logit_softcap),
        labels=(labels, label_weights),
        where=where,
        weights=weights,
        reduction=reduction,
        axis_name=axis_name,
        sizes=Sizes.checked(KL, block_size, memory_budget),
    )


@one_program
def linear_softmax_js_divergence(
    features: ArrayLike,
    kernel: ArrayLike,
    teacher_features: ArrayLike,
    teacher_kernel: ArrayLike,
    bias: ArrayLike | None = None,
    teacher_bias: ArrayLike | None = None,
    *,
    labels: ArrayLike | None = None,
    label_weights: ArrayLike | None = None,
    beta: float = 0.5,
    temperature: float | Array = 1.0,
    logit_softcap: float | None = None,
    teacher_logit_softcap: float | None = None,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array:
    r"""Jensen-Shannon divergence of a linear classifier and a linear teacher.

    .. math:: L_i = T^2 \Big( \beta \sum_j p'_{ij} \log \frac{p'_{ij}}{\mu_{ij}}
       + (1 - \beta) \sum_j p_{ij} \log \frac{p_{ij}}{\mu_{ij}} \Big), \quad
       \mu = \beta p' + (1 - \beta) p

    The generalized divergence of on-policy distillation, p of the student and p' of the teacher.
    It is finite whatever either rules out. There are no special cases: at β = 0 and 1 it is 0, and
    near them about β KL(p' ‖ p) and (1 - β) KL(p ‖ p'); for these themselves there is
    `linear_softmax_kl_divergence`.

    Args:
      features: of the student, `(..., D)`, floating point.
      kernel: of the student, `(D, C)`.
      teacher_features: `(..., E)`, with the batch shape of `features`; E need not be D.
      teacher_kernel: `(E, C)`.
      bias: of the student, `(C,)`, or None.
      teacher_bias: `(C,)`, or None.
      labels: integers in [0, C) of shape `(...)`, or K of each row `(..., K)`, to which the
        cross-entropy of the student is added, or None. Together they cost one product of the
        student's where calls of their own cost two, and one pass back.
      label_weights: t, broadcastable to the shape of `labels`, or None for 1: -Σ t_k log p_k is
        added, of the student at temperature 1. They are differentiated as well.
      beta: β in [0, 1], the weight of the teacher.
      temperature: T > 0, divides the logits of both, after the soft-caps. A Python number is
        static; a scalar array is differentiated as well.
      logit_softcap: c > 0, replaces logits x of the student by c tanh(x / c).
      teacher_logit_softcap: the same of the teacher.
      where: boolean, broadcastable to `(..., C)`: the classes that exist, for both. A row with none
        left does not count.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 adds 0 to
        everything; the derivative in its weight is its divergence.
      reduction: "mean" divides by the summed weight, and is 0 if there is none; "sum"; or "none".
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes: both kernels and biases, and `where`, are then those of the device. See
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
      >>> from jaxsoftmax import linear_softmax_js_divergence
      >>> features, kernel = jnp.ones((2, 1)), jnp.array([[0.0, 1.0]])
      >>> float(linear_softmax_js_divergence(features, kernel, features, -kernel))
      0.1109...

    See Also:
      `linear_softmax_kl_divergence`.
    """
    beta = arguments.number(JS, "beta", beta, lambda b: 0 <= b <= 1, "between 0 and 1")
    return _divergence(
        JS,
        (features, kernel, bias),
        (teacher_features, teacher_kernel, teacher_bias),
        (beta, False),
        temperature=temperature,
        softcaps=(logit_softcap, teacher_logit_softcap),
        labels=(labels, label_weights),
        where=where,
        weights=weights,
        reduction=reduction,
        axis_name=axis_name,
        sizes=Sizes.checked(JS, block_size, memory_budget),
    )


def _divergence(
    function: str,
    student: tuple[Any, Any, Any],
    teacher: tuple[Any, Any, Any],
    kind: tuple[float | None, bool],
    *,
    temperature: Any,
    softcaps: tuple[Any, Any],
    labels: tuple[Any, Any],
    where: Any,
    weights: Any,
    reduction: Reduction,
    axis_name: Names | None,
    sizes: Sizes,
) -> Array:
    """The loss of checked arguments."""
    f, w, b, like = linear.operands(function, *student)
    g, v, c, other = linear.operands(function, *teacher, prefix="teacher_")
    if other.shape != like.shape:
        raise ValueError(
            f"{function}: student and teacher must have logits of the same shape, got {like.shape} "
            f"and {other.shape}."
        )
    static, moving = linear.temperature(function, temperature)
    options, of_teacher = (
        Options.checked(function, 0.0, 0.0, cap, prefix=prefix)
        for cap, prefix in zip(softcaps, ("", "teacher_"), strict=True)
    )
    linear.check_reduction(function, reduction)
    linear.check_axis(function, axis_name)
    dtype = product_dtype(like.dtype, other.dtype)
    u = linear.row_weights(function, weights, like.shape[:-1], dtype)
    shared_mask, entries = linear.masks(function, where, like)
    y, t = _labels(function, *labels, like)
    loss: Array = linear_loss(
        Shared((w, v), (b, c), classes=shared_mask, temperature=moving),
        Rows((f, g), y, t, weights=u, entries=entries),
        Settings(
            Divergence(options, static, of_teacher, dtype, *kind), dtype, reduction, axis_name
        ),
        sizes,
    )[0]
    return loss


def _labels(function: str, labels: Any, weights: Any, like: Any) -> tuple[Any, Any]:
    """The classes of each row and their weights, (..., K), or None."""
    if labels is None and weights is not None:
        raise ValueError(f"{function}: label_weights go with labels, and these are None.")
    if labels is None:
        return None, None
    weights = 1.0 if weights is None else weights
    y = linear.classes_of_rows(function, "labels", labels, like)
    given = arguments.weights(function, "label_weights", weights, jnp.shape(labels))
    return y, given.reshape(y.shape).astype(like.dtype)


@dataclasses.dataclass(frozen=True)
class Divergence(OfLogits):
    """The divergences of a block of logits, of the student and of the teacher."""

    of_teacher: Options
    dtype: jax.typing.DTypeLike
    beta: float | None  # the weight of the teacher in the mixture of JS, or None for KL
    reverse: bool

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Array, None]:
        """The divergences (N,), or the shares of this device in them."""
        keep = kept(rows)
        student, teacher = (z.astype(self.dtype) for z in logits)
        x = self.of_block(student, shared, rows)
        x_other = dataclasses.replace(self, options=self.of_teacher).of_block(teacher, shared, rows)
        x, x_other = (zero_where_dropped(z, keep) for z in (x, x_other))
        pair = (x_other, x) if self.reverse else (x, x_other)
        losses = zero_where_dropped(divergence(*pair, classes=classes, beta=self.beta), keep)
        t = self.temperature if shared.temperature is None else shared.temperature[0, 0]
        losses = jnp.square(jnp.asarray(t, self.dtype)) * losses
        if rows.labels is not None:
            of_labels = SparseCrossEntropy(self.options, 1.0, integers=True, stats=False)
            shared = shared._replace(temperature=None)
            x, mask = of_labels.of_block(student, shared, rows), mask_of(shared, rows)
            losses = losses + of_labels.losses(x, rows, mask, keep, None, classes)
        return losses[:, 0], None
