r"""The cross-entropy losses: what users call.

Arguments are checked, options resolved (`call.options`), and a rule applied: of logits and class
labels (`label_loss`), of logits and target distributions (`distribution_loss`), of probabilities
(`probability_loss`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.autodiff.select import select

from .call import arguments, one_program
from .call.axes import Axis, class_axes, merge, merged_axis
from .call.options import Options, counted
from .devices.classes import Here
from .distribution_loss import distribution_loss
from .label_loss import label_loss
from .probability_loss import probability_loss
from .row.exponentials import is_class, wide, zero_where_dropped
from .row.label import nan_where


@one_program
def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    class_weights: ArrayLike | None = None,
) -> Array:
    r"""Cross-entropy between target distributions and the softmax of logits.

    .. math:: L = -\sum_j t_j \log p_j, \qquad p = \operatorname{softmax}(x)

    A drop-in for `optax.losses.softmax_cross_entropy`.

    Args:
      logits: `(..., C)`, floating point.
      labels: target distributions of the same shape. They need not sum to 1, and are differentiated
        as well. A class with target 0 and logit -inf contributes nothing.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean, with the dimensions of `logits` (or length 1): the classes that exist. A row
        with none left has loss 0 and gradient 0. With the dimensions of the losses: the rows that
        count; the others have loss 0 and gradient 0.
      label_smoothing: ε in [0, 1]; targets become (1 - ε) t + ε / (number of admissible classes).
      z_loss: λ >= 0, adds λ logsumexp(x)², which keeps the logits from drifting.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      class_weights: `(C,)`, multiplies the (smoothed) targets of each class.

    Returns:
      The loss of each row, `(...)`, in float32, or in float64 if the logits are.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import softmax_cross_entropy
      >>> float(softmax_cross_entropy(jnp.array([0.0, -jnp.inf]), jnp.array([1.0, 0.0])))
      0.0

    See Also:
      `softmax_cross_entropy_with_integer_labels`, `cross_entropy` on probabilities.
    """
    name = "softmax_cross_entropy"
    x = arguments.floating_loss(name, "logits", logits)
    t = arguments.distribution_labels(name, labels, x)
    axes = class_axes(name, axis, x)
    mask, rows = arguments.loss_masks(name, where, x, axes)
    weights = arguments.class_weights(name, class_weights, x, axes)
    options = Options.checked(name, label_smoothing, z_loss, logit_softcap)

    here = Here(merged_axis(x.ndim, axes))
    x, t, mask, rows = _merged(axes, x, t, mask, rows)
    x, alive = options.logits(x, mask, here.axis)
    keep = _both(alive, rows)
    if weights is not None:  # whose gradient is a sum over the rows that count
        t = zero_where_dropped(t, keep)
    if mask is not None or weights is not None or label_smoothing:
        t = options.distribution(t.astype(_like(x).dtype), mask, weights, here)
    losses = distribution_loss(x, t, keep, classes=here, z_loss=options.z_loss)
    return jnp.squeeze(losses, here.axis)


@one_program
def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> Array:
    r"""Cross-entropy between class labels and the softmax of logits.

    .. math:: L = -\log p_y, \qquad p = \operatorname{softmax}(x)

    A drop-in for `optax.losses.softmax_cross_entropy_with_integer_labels`, except that a negative
    label is not counted from the end.

    Args:
      logits: `(..., C)`, floating point.
      labels: integers in [0, C) of shape `(...)`. Any other label makes the loss and the gradient
        of its row NaN.
      axis: the class axis, or a tuple of axes that share one distribution (labels are then indices
        into these axes, flattened); None means all.
      where: boolean, with the dimensions of `logits` (or length 1): the classes that exist. A label
        that does not has loss +inf; a row with none left has loss 0 and gradient 0. With the
        dimensions of the losses: the rows that count; the others have loss 0 and gradient 0.
      label_smoothing: ε in [0, 1]; the target is 1 - ε at the label, plus ε / (number of admissible
        classes) everywhere.
      z_loss: λ >= 0, adds λ logsumexp(x)², which keeps the logits from drifting.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      class_weights: `(C,)`, multiplies the (smoothed) target of each class.
      ignore_index: rows with this label have loss 0 and gradient 0, whatever their logits.

    Returns:
      The loss of each row, `(...)`, in float32, or in float64 if the logits are.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import softmax_cross_entropy_with_integer_labels
      >>> logits = jnp.array([[0.0, 0.0], [0.0, -40.0]])
      >>> losses = softmax_cross_entropy_with_integer_labels(logits, jnp.array([1, 0]))
      >>> [f"{loss:.5g}" for loss in losses]
      ['0.69315', '4.2484e-18']

    See Also:
      `softmax_cross_entropy`, `linear_softmax_cross_entropy`.
    """
    name = "softmax_cross_entropy_with_integer_labels"
    x = arguments.floating_loss(name, "logits", logits)
    axes = class_axes(name, axis, x)
    y = arguments.integer_labels(name, labels, x, axes)
    mask, rows = arguments.loss_masks(name, where, x, axes)
    weights = arguments.class_weights(name, class_weights, x, axes)
    options = Options.checked(name, label_smoothing, z_loss, logit_softcap)
    ignore_index = arguments.ignore_index(name, ignore_index)

    here = Here(merged_axis(x.ndim, axes))
    x, mask, rows = _merged(axes, x, mask, rows)
    y = jnp.expand_dims(y, here.axis)
    x, alive = options.logits(x, mask, here.axis)
    keep = counted(y, ignore_index, alive, rows)
    target = options.target(y, _like(x), mask, keep, weights, here)
    losses = label_loss(x, target, classes=here, z_loss=options.z_loss)
    return jnp.squeeze(losses, here.axis)


@one_program
def cross_entropy(
    probs: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> Array:
    r"""Cross-entropy of probabilities, with softmax as a separate step.

    .. math:: L = -\sum_j t_j \log q_j

    The chained derivative of `cross_entropy(softmax(x), labels)` equals that of the losses on
    logits, which are to be preferred: a probability cannot tell e-50 from e-60 in float32.

    Args:
      probs: probabilities q `(..., C)`, floating point. They are not normalised.
      labels: integers in [0, C) of shape `(...)`, or target distributions of the shape of `probs`.
      axis: the class axis, or a tuple of axes; None means all.
      where: boolean, with the dimensions of `probs` (or length 1): the classes that exist. With the
        dimensions of the losses: the rows that count.

    Returns:
      The loss of each row, `(...)`, in float32, or in float64 if the probabilities are. A target
      class of probability 0 has loss +inf.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or `axis` is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import cross_entropy
      >>> float(cross_entropy(jnp.array([0.5, 0.5]), jnp.array(1)))
      0.6931471824645996

    See Also:
      `softmax_cross_entropy`, `softmax_cross_entropy_with_integer_labels`.
    """
    name = "cross_entropy"
    q = arguments.floating_loss(name, "probs", probs)
    axes = class_axes(name, axis, q, what="probs")
    mask, rows = arguments.loss_masks(name, where, q, axes)
    here = Here(merged_axis(q.ndim, axes))
    if arguments.are_classes(labels):
        y = arguments.integer_labels(name, labels, q, axes, what="probs")
        y = jnp.expand_dims(y, here.axis)
        q, mask, rows = _merged(axes, wide(q), mask, rows)
        missing = (y < 0) | (y >= q.shape[here.axis])
        missing = missing if rows is None else missing & rows
        t = is_class(y, q, here.axis).astype(q.dtype) + nan_where(missing, q.dtype)
    else:
        t = arguments.distribution_labels(name, labels, q, what="probs")
        q, t, mask, rows = _merged(axes, wide(q), t, mask, rows)
        t = t.astype(q.dtype)
        # As in the losses on logits: no target on a class that does not exist.
        t = zero_where_dropped(t, mask)
    q = zero_where_dropped(q, mask)
    if mask is not None:
        rows = _both(jnp.any(mask, here.axis, keepdims=True), rows)
    if rows is not None:
        q, t = select(rows, q, 1), select(rows, t, 0)
    return jnp.squeeze(probability_loss(q, t, axis=here.axis), here.axis)


def _merged(axes: tuple[int, ...], *arrays: Array | None) -> tuple[Any, ...]:
    """Arrays with the class axes made one; None stays None."""
    return tuple(None if x is None else merge(x, axes) for x in arrays)


def _both(a: Array | None, b: Array | None) -> Array | None:
    return a if b is None else b if a is None else a & b


def _like(x: Array) -> Any:
    """The shape of logits, and the dtype of their losses."""
    return jax.eval_shape(wide, x)
