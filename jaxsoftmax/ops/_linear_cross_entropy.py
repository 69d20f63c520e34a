"""The linear classifier loss: what users call. The rules are in `_linear_stream`."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, cast, overload

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from . import _arguments as arguments
from . import _linear_arguments as linear
from . import _numerics as numerics
from ._linear_stream import Masks, Plan, row_losses, total_loss
from ._loss_stats import LossStats
from ._options import Options

NAME = "linear_softmax_cross_entropy"


@overload
def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    reduction: linear.Reduction = "mean",
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    return_stats: Literal[False] = False,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array: ...


@overload
def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    reduction: linear.Reduction = "mean",
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    return_stats: Literal[True],
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> tuple[Array, LossStats]: ...


def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    reduction: linear.Reduction = "mean",
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array | tuple[Array, LossStats]:
    r"""Cross-entropy of a linear classifier, without ever holding the logits.

    .. math:: L_i = -\log \operatorname{softmax}(f_i W + b)_{y_i}

    Rows are worked on in blocks, in every mode and order of differentiation. With a reduction the
    forward pass forms the gradients that are asked for, so that a step costs three matrix products
    (two where `features` are not differentiated), as many as with the logits in memory.

    Args:
      features: f `(..., D)`, floating point.
      kernel: W `(D, C)`, floating point. Products are accumulated in float32.
      labels: integers in [0, C) of shape `(...)`, or target distributions `(..., C)`, which need
        not sum to 1 and are differentiated as well. An integer that is no class makes the
        loss and the gradient of its row NaN.
      bias: b `(C,)`, or None.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 is left out:
        it contributes exactly 0 to everything, whatever its features.
      reduction: "mean" divides by the summed weight of the rows that count, and is 0 if none does;
        "sum"; or "none".
      where: boolean, broadcastable to `(..., C)`: the classes that exist. A row with none left does
        not count.
      label_smoothing: ε in [0, 1]; targets become (1 - ε) t + ε / (number of admissible classes).
      z_loss: λ >= 0, adds λ logsumexp(x)², which keeps the logits from drifting.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      class_weights: `(C,)`, multiplies the (smoothed) target of each class.
      ignore_index: rows with this label do not count. For integer labels.
      return_stats: also return the `LossStats` of the rows, from the same pass.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      A scalar, or the weighted loss of each row `(...)` with reduction "none"; in float32, or in
      float64 if an argument is. With `return_stats` a pair of that and the `LossStats`.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import linear_softmax_cross_entropy
      >>> features, kernel, labels = jnp.eye(2), jnp.zeros((2, 2)), jnp.array([0, 1])
      >>> jax.grad(linear_softmax_cross_entropy, argnums=1)(features, kernel, labels).tolist()
      [[-0.25, 0.25], [0.25, -0.25]]

    See Also:
      `softmax_cross_entropy_with_integer_labels`, `softmax_cross_entropy` on logits.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    batch, classes = like.shape[:-1], like.shape[-1]
    rows = math.prod(batch)
    options = Options.checked(NAME, label_smoothing, z_loss, logit_softcap)
    if arguments.are_classes(labels):
        y = arguments.integer_labels(NAME, labels, like, (like.ndim - 1,)).reshape(rows)
    else:
        y = arguments.distribution_labels(NAME, labels, like).reshape(rows, classes)
    flat: Any = jax.ShapeDtypeStruct((rows, classes), like.dtype)
    cw = arguments.class_weights(NAME, class_weights, flat, (1,))
    ignored = _ignored(ignore_index, y)
    u = linear.row_weights(NAME, weights, batch, like.dtype)
    masks = _masks(where, like, ignored, u)
    linear.check_reduction(NAME, reduction)
    block = linear.rows_in_block(NAME, rows, classes, like.dtype, block_size, memory_budget)
    plan = Plan(options, block, jnp.dtype(like.dtype), return_stats)

    problem = (f.reshape(rows, f.shape[-1]), w, b, y, cw)
    if reduction == "none":
        losses, stats = row_losses(*problem, masks, plan=plan)
        loss = (losses if u is None else numerics.scaled(losses, u)).reshape(batch)
    else:
        shares = linear.shares(u, rows, masks.keep, plan.dtype, reduction)
        loss, stats = total_loss(*problem, shares, masks, plan=plan)
    return loss if stats is None else (loss, _shaped(stats, batch))


def _shaped(stats: LossStats, batch: tuple[int, ...]) -> LossStats:
    """Statistics in the batch shape, with a prediction that can index."""
    shaped = LossStats(*(value.reshape(batch) for value in stats))
    return shaped._replace(prediction=shaped.prediction.astype(jnp.int32))


def _ignored(ignore_index: Any, labels: Array) -> Array | None:
    index = arguments.ignore_index(NAME, ignore_index)
    if index is None:
        return None
    if not arguments.are_classes(labels):
        raise ValueError(
            f"{NAME}: ignore_index goes with integer labels, got {labels.dtype} labels. "
            "Give the rows to leave out the weight 0."
        )
    return labels == jnp.asarray(index, labels.dtype)


def _masks(where: Any, like: Any, ignored: Array | None, weights: Array | None) -> Masks:
    """Masks of classes and rows, with the batch axes made one."""
    rows, classes = math.prod(like.shape[:-1]), like.shape[-1]
    shared = entries = None
    keep = [] if ignored is None else [~ignored]
    if weights is not None:
        keep.append(weights != 0)
    shape = jnp.shape(where) if where is not None else ()
    if where is not None and all(n == 1 for n in shape[:-1]):
        where = jnp.asarray(where).reshape(shape[-1:])
        shared = _mask(where, jax.ShapeDtypeStruct((1, classes), like.dtype))
        keep.append(jnp.broadcast_to(jnp.any(shared), (rows,)))
    elif where is not None:
        entries = _mask(where, like).reshape(rows, classes)
        keep.append(jnp.any(entries, 1))
    return Masks(shared, entries, functools.reduce(jnp.logical_and, keep) if keep else None)


def _mask(where: Any, like: Any) -> Array:
    mask = arguments.class_mask(NAME, where, like)
    return cast(Array, mask)
