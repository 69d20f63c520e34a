r"""Softmax.

Notation   x logits, p = softmax(x); ẋ, ṗ tangents; x̄, p̄ cotangents; ∘ elementwise; Σ over `axis`.
Primal     p = e / Σe,  e = exp(x - M),  m = max x,  M its shift (`row.exponentials`)
Jacobian   ∂pᵢ/∂xⱼ = pᵢ (δᵢⱼ - pⱼ),  J = diag(p) - p pᵀ = Jᵀ
JVP        ṗ = p ∘ (ẋ - Σ p∘ẋ)
VJP        x̄ = p ∘ (p̄ - Σ p∘p̄)                the same map, since J = Jᵀ
Saved      p
Edges      -inf: p = 0 and no derivative. NaN or +inf: NaN in its row. A row of -inf: NaN.
           `where`: a masked class has p = 0 and no derivative; so has a row masked throughout.
Source     Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules
from jaxsoftmax.autodiff.select import select

from .call import arguments, one_program
from .call.axes import Axis, axes, merge, merged_axis, split
from .devices.classes import Classes, Here
from .devices.mesh import placed_like
from .row import xla
from .row.exponentials import exponentials, majority, wide, zero_where_dropped


@one_program
def softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> Array:
    r"""Softmax: exponentials that sum to one.

    .. math:: p_i = \frac{\exp x_i}{\sum_j \exp x_j}

    A drop-in for `jax.nn.softmax`, with both derivative rules by hand, accurate to a few units in
    the last place; float16 and bfloat16 are computed in float32 and rounded once.

    Args:
      x: logits, any shape, floating point; integers are converted to float first.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean; it and `x` broadcast. Classes where it is False are taken as absent: they get
        probability 0, and what stands under them, NaN included, has no effect.

    Returns:
      Probabilities of the dtype of `x`, and of its shape, broadcast with `where`. A row with
      no class left is all 0.

    Raises:
      TypeError: `x` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range; `where` does not broadcast with `x`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import softmax
      >>> softmax(jnp.array([0.0, 0.0, -jnp.inf])).tolist()
      [0.5, 0.5, 0.0]

    See Also:
      `log_softmax`, `softmax_jacobian`.
    """
    x = arguments.floating("softmax", "x", x)
    x = arguments.broadcast_with("softmax", x, where=where)
    class_axes = axes("softmax", axis, x.ndim)
    mask = arguments.class_mask("softmax", where, x)
    one_axis = merge(arguments.masked_rows(x, mask, class_axes)[0], class_axes)
    p = softmax_of(one_axis, classes=Here(merged_axis(x.ndim, class_axes)))
    p = split(p, class_axes, x.shape)
    # Of a masked class 0 is all there is to say: no derivative passes through it, not even NaN.
    return zero_where_dropped(p, mask)


@one_program
def softmax_jacobian(x: ArrayLike, axis: Axis = -1) -> Array:
    r"""The dense Jacobian of softmax.

    .. math:: J = \operatorname{diag}(p) - p p^\top

    It holds C² numbers a row: for study and for small problems. Products with it are what
    `jax.jvp` and `jax.vjp` of `softmax` compute, without forming it.

    Args:
      x: logits `(..., C, ...)`, floating point.
      axis: the class axis, or a tuple of axes that share one distribution: their classes are
        numbered in the order of the axes.

    Returns:
      `(..., C, C)` in the dtype of `x`, the batch axes first.

    Raises:
      TypeError: as `softmax`.
      ValueError: `axis` is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import softmax_jacobian
      >>> softmax_jacobian(jnp.zeros(2)).tolist()
      [[0.25, -0.25], [-0.25, 0.25]]
    """
    x = arguments.floating("softmax_jacobian", "x", x)
    class_axes = axes("softmax_jacobian", axis, x.ndim)
    one_axis = jnp.moveaxis(merge(wide(x), class_axes), merged_axis(x.ndim, class_axes), -1)
    p = softmax_of(one_axis, classes=Here(one_axis.ndim - 1))
    # Where the classes are spread over devices, the rows of J are.
    whole = placed_like(p, p, (*range(p.ndim - 1), None))
    row, column = p[..., :, None], whole[..., None, :]
    classes = jnp.arange(p.shape[-1])
    # pᵢ (1 - pᵢ) as pᵢ Σ of the others: 1 - pᵢ loses the small ones when pᵢ is near 1.
    same = classes[:, None] == classes[None, :]
    others = jnp.sum(select(same, 0, column), -1, keepdims=True)
    return select(same, row * others, -row * column).astype(x.dtype)


@custom_rules
def softmax_of(x: Array, *, classes: Classes) -> Array:
    """p of canonical logits."""
    p: Array = classes.fused("softmax", _softmax, x)
    return p


def _softmax(x: Array, *, classes: Classes) -> Array:
    dtype, x = x.dtype, xla.stored(x)
    m = classes.max(x)
    room = classes.most_room(x)  # the smallest entries are results too: the fewer are rounded
    return (exponentials(x, m, room) / classes.exact_total(x, m, room)).astype(dtype)


def _fwd(x: Array, *, classes: Classes) -> tuple[Array, Array]:
    # float16 has no room for small probabilities: 6e-8 is the least. They are saved in float32.
    p = softmax_of(wide(x) if x.dtype == jnp.float16 else x, classes=classes)
    return p.astype(x.dtype), p


def _jvp(p: Array, x_dot: Array, *, classes: Classes) -> Array:
    return jacobian_product(p, x_dot, classes)


def _vjp(p: Array, p_bar: Array, *, classes: Classes) -> tuple[Array]:
    return (jacobian_product(p, p_bar, classes),)


def jacobian_product(p: Array, v: Array, classes: Classes) -> Array:
    """J v = p ∘ (v - Σ p∘v) in the dtype of v, accurate for confident p too.

    J has constants in its null space, so v may be taken relative to any class. Relative to the one
    that holds more than half of the probability, if there is one, the entry of that class is a sum
    of small terms instead of the small difference of large ones.
    """
    product: Array = classes.fused("softmax_product", _jacobian_product, p, v)
    return product


def _jacobian_product(p: Array, v: Array, *, classes: Classes) -> Array:
    dtype, p, v = v.dtype, wide(p), wide(v)
    u = v - lax.stop_gradient(classes.sums(majority(p) * v)[0])
    return (p * (u - classes.sums(p * u)[0])).astype(dtype)


def centred_product(p: Array, v: Array, classes: Classes) -> Array:
    """J v, whose derivative in v is as accurate: v̇ is taken relative to the main class too."""
    v = v - classes.sums(lax.stop_gradient(majority(p)) * v)[0]
    return jacobian_product(p, v, classes)


softmax_of.defrules(_fwd, _jvp, _vjp)
