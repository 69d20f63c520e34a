r"""Log-softmax.

Notation   x logits, ℓ = log_softmax(x), p = exp ℓ; ẋ, ℓ̇ tangents; x̄, ℓ̄ cotangents; Σ over `axis`.
Primal     ℓ = (x - m) - log S,  m = max x,  S = Σ exp(x - m)
Jacobian   ∂ℓᵢ/∂xⱼ = δᵢⱼ - pⱼ,  J = I - 1 pᵀ
JVP        ℓ̇ = ẋ - Σ p∘ẋ
VJP        x̄ = ℓ̄ - p Σ ℓ̄
Saved      x, m, 1 / S, the class k that holds most of p, 1 - pₖ
Edges      -inf: ℓ = -inf. NaN or +inf: NaN in its row. A row of -inf: NaN.
           `where`: a masked class has ℓ = -inf and no derivative; so has a row masked throughout.
Source     Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules

from . import _arguments as arguments
from . import _numerics as numerics
from . import _rows as rows
from ._probabilities import Kept, mean, probabilities


def log_softmax(x: ArrayLike, axis: arguments.Axis = -1, where: ArrayLike | None = None) -> Array:
    r"""Logarithm of softmax.

    .. math:: \ell_i = x_i - \log \sum_j \exp x_j

    A drop-in for `jax.nn.log_softmax`. The log-probability of a confident prediction, which is
    nearly 0, keeps its full relative accuracy.

    Args:
      x: logits, any shape, floating point; integers are converted to float first.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean, broadcastable to `x`. Classes where it is False are taken as absent: they get
        -inf, and what stands under them, NaN included, has no effect.

    Returns:
      Log-probabilities of the shape and dtype of `x`. A row with no class left is all -inf.

    Raises:
      TypeError: `x` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range; `where` does not broadcast to `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import log_softmax
      >>> f"{log_softmax(jnp.array([0.0, -40.0]))[0]:.5g}"
      '-4.2484e-18'

    See Also:
      `softmax`, `logsumexp`.
    """
    x = arguments.floating("log_softmax", "x", x)
    axes = arguments.axes("log_softmax", axis, x.ndim)
    mask = arguments.class_mask("log_softmax", where, x)
    shape = x.shape
    x, axis = numerics.in_one_axis(numerics.masked_rows(x, mask, axes)[0], axes)
    log_p = numerics.in_axes(_log_softmax(x, axis=axis)[0], axes, shape)
    # Of a masked class -inf is all there is to say: no derivative passes through it.
    return log_p if mask is None else jnp.where(mask, log_p, jnp.full_like(log_p, -jnp.inf))


@custom_rules
def _log_softmax(x: Array, *, axis: int) -> tuple[Array, rows.Row]:
    """ℓ, and the statistics of the rows."""
    x = numerics.stored(x)
    row = rows.statistics(x, numerics.wide(numerics.row_max(x, (axis,))), axis)
    return (numerics.shifted(x, row.max) - row.log_total).astype(x.dtype), row


class _Saved(NamedTuple):
    kept: Kept
    main: Array
    others: Array  # 1 - p of the main class


def _fwd(x: Array, *, axis: int) -> tuple[Any, _Saved]:
    log_p, row = _log_softmax(x, axis=axis)
    kept = Kept(x, row.max, jnp.ones_like(row.total) / row.total)
    return (log_p, row), _Saved(kept, row.main, row.others / row.total)


def _jvp(saved: _Saved, x_dot: Array, *, axis: int) -> tuple[Array, rows.Row]:
    v = numerics.wide(x_dot)
    return (v - mean(saved.kept, v, axis)).astype(x_dot.dtype), rows.NO_TANGENT


def _vjp(saved: _Saved, bar: Any, *, axis: int) -> tuple[Array]:
    l_bar = bar[0]
    v = numerics.wide(l_bar)
    return (_transposed(axis, probabilities(saved.kept, axis), v, saved).astype(l_bar.dtype),)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _transposed(axis: int, p: Array, v: Array, saved: _Saved) -> Array:
    """v - p Σv, accurate for confident p too.

    At the main class k it is the small difference of large terms; (1 - pₖ) vₖ - pₖ Σ of the others
    is the same without it, and 1 - pₖ is known.
    """
    k = saved.main
    v_k, v_others = rows.at(v, k, axis), rows.sum_without(v, k, axis)
    at_main = saved.others * v_k - (1 - saved.others) * v_others
    return jnp.where(numerics.is_class(k, v, axis), at_main, v - p * (v_k + v_others))


@_transposed.defjvp
def _transposed_jvp(axis: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The value above, the derivative of the formula that it stands for."""

    def formula(p: Array, v: Array) -> Array:
        return v - p * jnp.sum(v, axis, keepdims=True)

    return _transposed(axis, *primals), jax.jvp(formula, primals[:2], tangents[:2])[1]


_log_softmax.defrules(_fwd, _jvp, _vjp)
