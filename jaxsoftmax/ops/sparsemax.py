r"""Sparsemax and its loss.

Notation   x logits, p = sparsemax(x), S = {j: p_j > 0} its support, τ its threshold; y label, L
           loss; ẋ, ṗ, L̇ tangents; p̄, x̄, L̄ cotangents; ∘ elementwise; Σ over the class axis.
Primal     p = max(x - τ, 0),  τ = (Σ_S x - 1) / |S|: the point of the simplex nearest to x
           L = ½ ‖p - e_y‖² + max(τ - x_y, 0), which is ½ Σ_S (x² - τ²) + ½ - x_y
Jacobian   ∂pᵢ/∂xⱼ = δᵢⱼ - 1/|S| for i, j in S, else 0;  J = diag(s) - s sᵀ/|S| = Jᵀ, s of S
JVP        ṗ = s ∘ (ẋ - Σ s∘ẋ / |S|);  L̇ = Σ (p - e_y)∘ẋ
VJP        x̄ = s ∘ (p̄ - Σ s∘p̄ / |S|);  x̄ = (p - e_y) L̄
Saved      p; p - e_y
Edges      as softmax and the loss on labels, but that a class of probability 0 has a finite loss.
           Where an entry is just about to join S it counts as outside. J does not change with x
           where it exists: its derivative is 0, of which nothing is computed.
Source     Martins & Astudillo, ICML 2016, arXiv:1602.02068; Michelot, J. Optim. Theory Appl. 50
           (1986), doi:10.1007/BF00938486, for the iteration
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules, differentiates_as
from jaxsoftmax.autodiff.select import select

from .call import arguments, one_program
from .call.axes import Axis, axes, class_axes, merge, merged_axis, split
from .call.options import counted
from .devices.classes import Here
from .row import xla
from .row.exponentials import exists, is_class, shifted, wide, zero_where, zero_where_dropped
from .row.label import nan_where


@one_program
def sparsemax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> Array:
    r"""Sparsemax: the distribution nearest to the logits, 0 for all but the largest.

    .. math:: p = \operatorname{argmin}_{q \in \Delta} \|q - x\|^2
        = \max(x - \tau, 0), \qquad \textstyle\sum_j p_j = 1

    Takes the place of softmax where exact zeros are wanted, as in attention.

    Args:
      x: logits, any shape, floating point; integers are converted to float first.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean, broadcastable to `x`. Classes where it is False are taken as absent.

    Returns:
      Probabilities of the shape and dtype of `x`. A row with no class left is all 0.

    Raises:
      TypeError: `x` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range; `where` does not broadcast to `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import sparsemax
      >>> sparsemax(jnp.array([1.0, 0.5, -1.0])).tolist()
      [0.75, 0.25, 0.0]

    See Also:
      `softmax`, `sparsemax_loss`.
    """
    x = arguments.floating("sparsemax", "x", x)
    over = axes("sparsemax", axis, x.ndim)
    mask = arguments.class_mask("sparsemax", where, x)
    one_axis = merge(arguments.masked_rows(x, mask, over)[0], over)
    p = split(sparsemax_of(one_axis, classes=Here(merged_axis(x.ndim, over))), over, x.shape)
    return zero_where_dropped(p, mask)


@one_program
def sparsemax_loss(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> Array:
    r"""The convex loss of class labels whose gradient is sparsemax less the label.

    .. math:: L = \tfrac12 \sum_{j \in S} (x_j^2 - \tau^2) + \tfrac12 - x_y,
        \qquad \nabla L = \operatorname{sparsemax}(x) - e_y

    It is 0 where the label leads by 1 or more. For two classes it is the modified Huber loss.

    Args:
      logits: `(..., C)`, floating point.
      labels: integers in [0, C) of shape `(...)`. Any other label makes its row NaN.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: as for `softmax_cross_entropy_with_integer_labels`.

    Returns:
      The loss of each row, `(...)`, in float32, or in float64 if the logits are.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, or there is no class.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import sparsemax_loss
      >>> jax.grad(sparsemax_loss)(jnp.array([1.0, 0.5, -1.0]), 0).tolist()
      [-0.25, 0.25, 0.0]

    See Also:
      `sparsemax`, `softmax_cross_entropy_with_integer_labels`.
    """
    name = "sparsemax_loss"
    x = arguments.floating_loss(name, "logits", logits)
    over = class_axes(name, axis, x)
    y = arguments.integer_labels(name, labels, x, over)
    masks = arguments.loss_masks(name, where, x, over)
    here = Here(merged_axis(x.ndim, over))
    mask, rows = (None if given is None else merge(given, over) for given in masks)
    x, alive = arguments.masked(merge(x, over), mask, (here.axis,))
    y = jnp.expand_dims(y, here.axis)
    losses = sparsemax_loss_of(wide(x), y, counted(y, None, alive, rows), classes=here)
    return jnp.squeeze(losses, here.axis)


@custom_rules
def sparsemax_of(x: Array, *, classes: Here) -> Array:
    """p of canonical logits."""
    x = xla.stored(x)
    z = shifted(x, classes.max(x))
    tau = _threshold(z, classes)
    return select(z <= tau, 0, z - tau).astype(x.dtype)  # NaN stays NaN


def _threshold(z: Array, classes: Here) -> Array:
    """τ of logits whose maximum is 0: S shrinks to the support from what lies above -1."""

    def shrink(tau: Array) -> tuple[Array, Array]:
        outside = z <= tau
        total, size = classes.sums(zero_where(outside, z), zero_where(outside, jnp.ones_like(z)))
        return jnp.maximum(tau, (total - jnp.ones_like(total)) / size), size

    def more(carry: tuple[Array, Array, Array]) -> Array:
        _, size, before = carry
        return jnp.any(size < before)

    tau, size = shrink(-jnp.ones_like(classes.max(z)))
    first = tau, size, size + jnp.ones_like(size)
    return lax.while_loop(more, lambda carry: (*shrink(carry[0]), carry[1]), first)[0]


def _fwd(x: Array, *, classes: Here) -> tuple[Array, Array]:
    p = sparsemax_of(wide(x) if x.dtype == jnp.float16 else x, classes=classes)
    return p.astype(x.dtype), p


def _jacobian_product(p: Array, v: Array, classes: Here) -> Array:
    """J v: v less its mean over the support, there; NaN in rows of NaN, if v is not 0."""
    outside = p <= 0
    ones = zero_where(outside, jnp.ones_like(wide(p)))
    total, size = classes.sums(zero_where(outside, wide(v)), ones)
    centred = zero_where(outside, wide(v) - total / jnp.maximum(size, jnp.ones_like(size)))
    asked = jnp.any(v != 0, classes.axis, keepdims=True)
    return (centred + zero_where((p == p) | ~asked, lax.stop_gradient(wide(p)))).astype(v.dtype)


def _jvp(p: Array, x_dot: Array, *, classes: Here) -> Array:
    return _jacobian_product(p, x_dot, classes)


def _vjp(p: Array, p_bar: Array, *, classes: Here) -> tuple[Array]:
    return (_jacobian_product(p, p_bar, classes),)


sparsemax_of.defrules(_fwd, _jvp, _vjp)


@custom_rules
def sparsemax_loss_of(x: Array, y: Array, keep: Array | None, *, classes: Here) -> Array:
    """L of every row, the class axis kept with length 1; both of its terms are at least 0."""
    return _loss_and_gradient(x, y, keep, classes)[0]


def _loss_and_gradient(
    x: Array, y: Array, keep: Array | None, classes: Here
) -> tuple[Array, Array]:
    x = zero_where_dropped(x, keep)
    p = sparsemax_of(x, classes=classes)
    missing = ~exists(y, x, classes.axis)
    nothing = nan_where(missing if keep is None else missing & keep, p.dtype)
    g = _less_label(p, is_class(y, x, classes.axis), classes=classes) + nothing
    m, x_y = classes.max_and_label(x, y)
    below = (m - x_y) - classes.max(p)  # τ - x_y, as τ = m - max p
    distance = classes.sums(jnp.square(g))[0] / 2
    loss = distance + select(below <= 0, 0, below)
    return zero_where_dropped(loss, keep), zero_where_dropped(g, keep)


def _textbook(p: Array, label: Array, *, classes: Here) -> Array:
    return p - label.astype(p.dtype)


@differentiates_as(_textbook)
def _less_label(p: Array, label: Array, *, classes: Here) -> Array:
    """p - e_y, where p_y - 1 is what the others have."""
    return select(label, -classes.sums(zero_where(label, p))[0], p)


def _gradients(
    x: Array, y: Array, keep: Array | None, *, classes: Here, perturbed: tuple[bool, ...]
) -> tuple[Array, tuple[Array | None, ...]]:
    loss, g = _loss_and_gradient(x, y, keep, classes)
    return loss, (g, None, None)


sparsemax_loss_of.defgradients(_gradients)
