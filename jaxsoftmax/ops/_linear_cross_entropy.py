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
from . import _numerics as numerics
from ._blocks import block_rows
from ._linear_stream import Masks, Plan, row_losses, total_loss
from ._loss_stats import LossStats
from ._options import Options
from ._product import product_dtype

NAME = "linear_softmax_cross_entropy"
Reduction = Literal["mean", "sum", "none"]


@overload
def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
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
    reduction: Reduction = "mean",
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
    reduction: Reduction = "mean",
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
    f, w, b, like = _operands(features, kernel, bias)
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
    u = None
    if weights is not None:
        per_row: Any = jax.ShapeDtypeStruct(batch, like.dtype)
        u = arguments.weights(NAME, "weights", weights, per_row).astype(like.dtype).reshape(rows)
    masks = _masks(where, like, ignored, u)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{NAME}: reduction must be "mean", "sum" or "none", got {reduction!r}.')
    block = _block(rows, classes, like.dtype, block_size, memory_budget)
    plan = Plan(options, block, jnp.dtype(like.dtype), return_stats)

    problem = (f.reshape(rows, f.shape[-1]), w, b, y, cw)
    if reduction == "none":
        losses, stats = row_losses(*problem, masks, plan=plan)
        loss = (losses if u is None else numerics.scaled(losses, u)).reshape(batch)
    else:
        loss, stats = total_loss(
            *problem, _shares(u, rows, masks, plan, reduction), masks, plan=plan
        )
    return loss if stats is None else (loss, _shaped(stats, batch))


def _shares(
    weights: Array | None, rows: int, masks: Masks, plan: Plan, reduction: Reduction
) -> Array:
    """What the loss of each row is multiplied by before they are added up."""
    u = jnp.ones(rows, plan.dtype) if weights is None else weights
    u = u if masks.keep is None else jnp.where(masks.keep, u, jnp.zeros_like(u))
    if reduction == "sum":
        return u
    total = jnp.sum(u)
    return u / jnp.where(total == 0, jnp.ones_like(total), total)


def _shaped(stats: LossStats, batch: tuple[int, ...]) -> LossStats:
    """Statistics in the batch shape, with a prediction that can index."""
    shaped = LossStats(*(value.reshape(batch) for value in stats))
    return shaped._replace(prediction=shaped.prediction.astype(jnp.int32))


def _operands(features: Any, kernel: Any, bias: Any) -> tuple[Array, Array, Array | None, Any]:
    """The arrays of the linear map, and the shape and dtype of its logits."""
    f = arguments.floating_loss(NAME, "features", features)
    w = arguments.floating_loss(NAME, "kernel", kernel)
    if w.ndim != 2:
        raise ValueError(
            f"{NAME}: kernel must have the shape (D, C), one column a class, got "
            f"{w.dtype}{list(w.shape)}."
        )
    if f.ndim == 0 or f.shape[-1] != w.shape[0]:
        raise ValueError(
            f"{NAME}: features must have the shape (..., {w.shape[0]}) to go with a kernel of "
            f"shape {w.shape}, got {f.dtype}{list(f.shape)}."
        )
    dtype = product_dtype(numerics.wide(f[..., :0]).dtype, numerics.wide(w[:0]).dtype)
    like: Any = jax.ShapeDtypeStruct((*f.shape[:-1], w.shape[1]), dtype)
    arguments.class_axes(NAME, -1, like)
    if bias is None:
        return f, w, None, like
    b = arguments.floating_loss(NAME, "bias", bias)
    if b.shape != w.shape[1:]:
        raise ValueError(
            f"{NAME}: bias must have the shape {w.shape[1:]}, one number a class, got "
            f"{b.dtype}{list(b.shape)}."
        )
    return f, w, b, like


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


def _block(rows: int, classes: int, dtype: Any, size: int | None, budget: int | None) -> int:
    if size is not None:
        return min(_positive("block_size", size), max(1, rows))
    budget = None if budget is None else _positive("memory_budget", budget)
    return block_rows(rows, classes * jnp.dtype(dtype).itemsize, budget)


def _positive(name: str, value: int) -> int:
    whole = arguments.number(
        NAME, name, value, lambda v: v >= 1 and v == int(v), "a whole number, at least 1"
    )
    return int(whole)
