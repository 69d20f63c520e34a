r"""Softmax.

Notation   x logits, p = softmax(x); ẋ, ṗ tangents; x̄, p̄ cotangents; ∘ elementwise; Σ over `axis`.
Primal     p = e / Σe,  e = exp(x - M),  m = max x,  M its shift (`_numerics`)
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

from . import _arguments as arguments
from . import _numerics as numerics
from . import _rows as rows


def softmax(x: ArrayLike, axis: arguments.Axis = -1, where: ArrayLike | None = None) -> Array:
    r"""Softmax: exponentials that sum to one.

    .. math:: p_i = \frac{\exp x_i}{\sum_j \exp x_j}

    A drop-in for `jax.nn.softmax`, with both derivative rules by hand, accurate to a few units in
    the last place; float16 and bfloat16 are computed in float32 and rounded once.

    Args:
      x: logits, any shape, floating point; integers are converted to float first.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean, broadcastable to `x`. Classes where it is False are taken as absent: they get
        probability 0, and what stands under them, NaN included, has no effect.

    Returns:
      Probabilities of the shape and dtype of `x`. A row with no class left is all 0.

    Raises:
      TypeError: `x` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range; `where` does not broadcast to `x`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import softmax
      >>> softmax(jnp.array([0.0, 0.0, -jnp.inf])).tolist()
      [0.5, 0.5, 0.0]

    See Also:
      `log_softmax`, `softmax_jacobian`.
    """
    x = arguments.floating("softmax", "x", x)
    axes = arguments.axes("softmax", axis, x.ndim)
    mask = arguments.class_mask("softmax", where, x)
    shape = x.shape
    x, axis = numerics.in_one_axis(numerics.masked_rows(x, mask, axes)[0], axes)
    p = numerics.in_axes(_softmax(x, axis=axis), axes, shape)
    # Of a masked class 0 is all there is to say: no derivative passes through it, not even NaN.
    return p if mask is None else jnp.where(mask, p, jnp.zeros_like(p))


def softmax_jacobian(x: ArrayLike, axis: int = -1) -> Array:
    r"""The dense Jacobian of softmax.

    .. math:: J = \operatorname{diag}(p) - p p^\top

    It holds C² numbers a row: for study and for small problems. Products with it are what
    `jax.jvp` and `jax.vjp` of `softmax` compute, without forming it.

    Args:
      x: logits `(..., C, ...)`, floating point.
      axis: the class axis.

    Returns:
      `(..., C, C)` in the dtype of `x`, the batch axes first.

    Raises:
      TypeError: as `softmax`.
      ValueError: `axis` is out of range, or names several axes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import softmax_jacobian
      >>> softmax_jacobian(jnp.zeros(2)).tolist()
      [[0.25, -0.25], [-0.25, 0.25]]
    """
    x = arguments.floating("softmax_jacobian", "x", x)
    axes = arguments.axes("softmax_jacobian", axis, x.ndim)
    if len(axes) != 1:
        raise ValueError(
            f"softmax_jacobian: axis must name one axis, got {axis!r} for an array of {x.ndim} "
            "dimensions. Reshape several class axes into one first."
        )
    p = jnp.moveaxis(softmax(numerics.wide(x), axes), axes[0], -1)
    row, column = p[..., :, None], p[..., None, :]
    classes = jnp.arange(p.shape[-1])
    # pᵢ (1 - pᵢ) as pᵢ Σ of the others: 1 - pᵢ loses the small ones when pᵢ is near 1.
    same = classes[:, None] == classes[None, :]
    others = jnp.sum(jnp.where(same, jnp.zeros_like(p[..., None]), column), -1, keepdims=True)
    return jnp.where(same, row * others, -row * column).astype(x.dtype)


@custom_rules
def _softmax(x: Array, *, axis: int) -> Array:
    dtype, x = x.dtype, numerics.stored(x)
    m = numerics.wide(numerics.row_max(x, (axis,)))
    # The smallest entries are results too. The more room, the fewer of them are rounded.
    room = numerics.most_room(m.dtype, x.shape[axis])
    p = numerics.exponentials(x, m, room) / rows.exact_total(x, m, axis, room)
    return p.astype(dtype)


def _fwd(x: Array, *, axis: int) -> tuple[Array, Array]:
    # float16 has no room for small probabilities: 6e-8 is the least. They are saved in float32.
    p = _softmax(numerics.wide(x) if x.dtype == jnp.float16 else x, axis=axis)
    return p.astype(x.dtype), p


def _jvp(p: Array, x_dot: Array, *, axis: int) -> Array:
    return jacobian_product(p, x_dot, axis).astype(x_dot.dtype)


def _vjp(p: Array, p_bar: Array, *, axis: int) -> tuple[Array]:
    return (jacobian_product(p, p_bar, axis).astype(p_bar.dtype),)


def jacobian_product(p: Array, v: Array, axis: int) -> Array:
    """J v = p ∘ (v - Σ p∘v), accurate for confident p too.

    J has constants in its null space, so v may be taken relative to any class. Relative to the one
    that holds more than half of the probability, if there is one, the entry of that class is a sum
    of small terms instead of the small difference of large ones.
    """
    p, v = numerics.wide(p), numerics.wide(v)
    u = v - lax.stop_gradient(jnp.sum(numerics.majority(p) * v, axis, keepdims=True))
    return p * (u - jnp.sum(p * u, axis, keepdims=True))


_softmax.defrules(_fwd, _jvp, _vjp)
