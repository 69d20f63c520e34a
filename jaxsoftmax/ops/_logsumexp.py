r"""Logarithm of a sum of exponentials.

Notation   a exponents, b weights, s = logsumexp(a), p = softmax(a); Σ over `axis`.
Primal     s = M + log S,  S = Σ exp(a - M),  m = max a,  M its shift (`_numerics`)
Jacobian   ∂s/∂aⱼ = pⱼ,  Hessian diag(p) - p pᵀ
JVP        ṡ = Σ p∘ȧ
VJP        ā = p s̄
Weighted   s = m + log |Σ b∘e|,  e = exp(a - m),  w = e / Σ b∘e
           ṡ = Σ b∘w∘ȧ + Σ w∘ḃ;   ā = b∘w s̄,  b̄ = w s̄
Saved      a, m, 1 / S; weighted: a, b, m
Edges      -inf contributes 0. A row of -inf: s = -inf, derivative NaN. +inf: s = +inf, derivative
           NaN. NaN: NaN in its row. `where`: a masked entry is absent; a row masked throughout has
           s = -inf and derivative 0.
Source     Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules

from . import _arguments as arguments
from . import _numerics as numerics
from . import _rows as rows
from ._probabilities import Kept, mean, probabilities


@overload
def logsumexp(
    a: ArrayLike,
    axis: arguments.Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
    where: ArrayLike | None = None,
) -> Array: ...


@overload
def logsumexp(
    a: ArrayLike,
    axis: arguments.Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    *,
    return_sign: Literal[True],
    where: ArrayLike | None = None,
) -> tuple[Array, Array]: ...


def logsumexp(
    a: ArrayLike,
    axis: arguments.Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> Array | tuple[Array, Array]:
    r"""Logarithm of a sum of exponentials.

    .. math:: s = \log \sum_j b_j \exp a_j

    A drop-in for `jax.nn.logsumexp`, which is also `jax.scipy.special.logsumexp`.

    Args:
      a: exponents, any shape, floating point; integers are converted to float first.
      axis: axis or axes to sum over; None means all.
      b: weights, broadcastable to `a`. Where a weight is 0 its exponent has no effect.
      keepdims: keep the summed axes with length 1.
      return_sign: return the logarithm of the absolute value, and the sign of the sum.
      where: boolean, broadcastable to `a`; entries where it is False are absent.

    Returns:
      The result in the dtype of `a`, without the summed axes. With `return_sign` a pair
      (logarithm, sign); without it a negative sum gives NaN.

    Raises:
      TypeError: `a` or `b` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range; `b` or `where` does not broadcast to `a`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import logsumexp
      >>> f"{logsumexp(jnp.array([1000.0, 1000.0])):.3f}"
      '1000.693'

    See Also:
      `log_softmax`, `softmax`, which is its gradient.
    """
    a = arguments.floating("logsumexp", "a", a)
    axes = arguments.axes("logsumexp", axis, a.ndim)
    mask = arguments.class_mask("logsumexp", where, a)
    shape = tuple(1 if i in axes else n for i, n in enumerate(a.shape))
    if b is None:
        a, alive = numerics.masked_rows(a, mask, axes)
        flat, one = numerics.in_one_axis(a, axes)
        s = numerics.in_axes(_logsumexp(flat, axis=one)[0], axes, shape)
        if alive is not None:
            s = jnp.where(alive, s, jnp.full_like(s, -jnp.inf))
        sign = jnp.where(s == -jnp.inf, jnp.zeros_like(s), jnp.ones_like(s))
    else:
        weights = arguments.weights("logsumexp", "b", b, a)
        if mask is not None:
            weights = jnp.where(mask, weights, jnp.zeros_like(weights))
        s, sign = _weighted(a, weights, axes=axes)
    if not keepdims:
        s, sign = jnp.squeeze(s, axes), jnp.squeeze(sign, axes)
    if return_sign:
        return s, lax.stop_gradient(sign)
    return s if b is None else jnp.where(sign < 0, jnp.full_like(s, jnp.nan), s)


# ------------------------------------------------------------------------------------------------
# b = 1
# ------------------------------------------------------------------------------------------------


@custom_rules
def _logsumexp(a: Array, *, axis: int) -> tuple[Array, Array, Array]:
    """s; and m and S."""
    a = numerics.stored(a)
    m = numerics.wide(numerics.row_max(a, (axis,)))
    # An infinite maximum is the answer, and is put back; what is summed need only be finite.
    bounded = numerics.finite(m)
    total = rows.total(a, bounded, axis)
    s = numerics.shift(bounded, numerics.ROOM) + jnp.log(total) + (m - bounded)
    return s.astype(a.dtype), m, total


def _fwd(a: Array, *, axis: int) -> tuple[Any, Kept]:
    out = _, m, total = _logsumexp(a, axis=axis)
    # Under an infinite maximum there is no distribution: inf - inf makes all of the row NaN.
    return out, Kept(a, numerics.finite(m), jnp.ones_like(total) / total + (m - m))


def _jvp(kept: Kept, a_dot: Array, *, axis: int) -> tuple[Array, None, None]:
    return mean(kept, numerics.wide(a_dot), axis).astype(a_dot.dtype), None, None


def _vjp(kept: Kept, bar: Any, *, axis: int) -> tuple[Array]:
    s_bar = bar[0]
    a_bar = numerics.scaled(probabilities(kept, axis), numerics.wide(s_bar))
    return (a_bar.astype(s_bar.dtype),)


_logsumexp.defrules(_fwd, _jvp, _vjp)


# ------------------------------------------------------------------------------------------------
# Any b
# ------------------------------------------------------------------------------------------------


class _Weighted(NamedTuple):
    a: Array
    b: Array
    max: Array


@custom_rules
def _weighted(a: Array, b: Array, *, axes: numerics.Axes) -> tuple[Array, Array]:
    kept = _keep_weighted(a, b, axes)
    total = jnp.sum(_terms(kept), axes, keepdims=True)
    s = kept.max + jnp.log(jnp.abs(total))
    return s.astype(a.dtype), jnp.sign(total).astype(a.dtype)


def _weighted_fwd(
    a: Array, b: Array, *, axes: numerics.Axes
) -> tuple[tuple[Array, Array], _Weighted]:
    return _weighted(a, b, axes=axes), _keep_weighted(a, b, axes)


def _weighted_jvp(
    kept: _Weighted, a_dot: Array, b_dot: Array, *, axes: numerics.Axes
) -> tuple[Array, None]:
    w, bw = _shares(kept, axes)
    terms = bw * numerics.wide(a_dot) + w * numerics.wide(b_dot)
    return jnp.sum(terms, axes, keepdims=True).astype(kept.a.dtype), None


def _weighted_vjp(
    kept: _Weighted, out_bar: tuple[Array, Array], *, axes: numerics.Axes
) -> tuple[Array, Array]:
    w, bw = _shares(kept, axes)
    s_bar = numerics.wide(out_bar[0])
    return (bw * s_bar).astype(kept.a.dtype), (w * s_bar).astype(kept.b.dtype)


_weighted.defrules(_weighted_fwd, _weighted_jvp, _weighted_vjp)


def _keep_weighted(a: Array, b: Array, axes: numerics.Axes) -> _Weighted:
    # An exponent of weight 0 is absent; one that is not, but -inf throughout, leaves log 0.
    present = jnp.where(b != 0, a, jnp.asarray(-jnp.inf, a.dtype))
    largest = numerics.row_max(numerics.wide(lax.stop_gradient(present)), axes)
    return _Weighted(a, b, jnp.where(jnp.isinf(largest), jnp.zeros_like(largest), largest))


def _terms(kept: _Weighted) -> Array:
    """b exp(a - m), 0 where b is 0 whatever a is."""
    e = jnp.exp(numerics.wide(kept.a) - kept.max)
    return jnp.where(kept.b != 0, numerics.wide(kept.b) * e, jnp.zeros_like(e))


def _shares(kept: _Weighted, axes: numerics.Axes) -> tuple[Array, Array]:
    """w and b w."""
    terms = _terms(kept)
    total = jnp.sum(terms, axes, keepdims=True)
    return jnp.exp(numerics.wide(kept.a) - kept.max) / total, terms / total
