r"""Logarithm of a sum of exponentials.

Notation   a exponents, b weights, s = logsumexp(a), p = softmax(a); Σ over `axis`.
Primal     s = M + log S,  S = Σ exp(a - M),  m = max a,  M its shift (`row.exponentials`)
Jacobian   ∂s/∂aⱼ = pⱼ,  Hessian diag(p) - p pᵀ
JVP        ṡ = Σ p∘ȧ
VJP        ā = p s̄
Weighted   s = M + log |Σ b∘e|,  e = exp(a - M),  m the maximum where b is not 0,  w = e / Σ b∘e
           ṡ = Σ b∘w∘ȧ + Σ w∘ḃ;   ā = b∘w s̄,  b̄ = w s̄
Saved      a, m, 1 / S; weighted: a, b, m
Edges      -inf contributes 0. A row of -inf: s = -inf, derivative NaN. +inf: s = +inf, derivative
           NaN. NaN: NaN in its row. `where`: a masked entry is absent; a row masked throughout has
           s = -inf and derivative 0.
Source     Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules, scaled
from jaxsoftmax.autodiff.select import select

from . import row
from .call import arguments, one_program
from .call.axes import Axis, axes, merge, merged_axis
from .devices.classes import Here
from .probabilities import Kept, mean, probabilities
from .row import xla
from .row.exponentials import (
    finite,
    is_impossible,
    largest_number,
    row_max,
    shift,
    wide,
    zero_where,
)
from .row.label import nan_where


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: Literal[False] = False,
    where: ArrayLike | None = None,
) -> Array: ...


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    *,
    return_sign: Literal[True],
    where: ArrayLike | None = None,
) -> tuple[Array, Array]: ...


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> Array | tuple[Array, Array]: ...


@one_program
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
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
      b: weights, real or boolean; they and `a` broadcast. Where a weight is 0 its exponent has no
        effect.
      keepdims: keep the summed axes with length 1.
      return_sign: return the logarithm of the absolute value, and the sign of the sum.
      where: boolean; it and `a` broadcast. Entries where it is False are absent.

    Returns:
      The result in the dtype of `a`, or of `a` and `b` together, without the summed axes. With
      `return_sign` a pair (logarithm, sign); without it a negative sum gives NaN.

    Raises:
      TypeError: `a` is boolean, `a` or `b` complex, an 8-bit float or a list; `where` is not
        boolean.
      ValueError: `axis` is out of range; `b` or `where` does not broadcast with `a`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import logsumexp
      >>> f"{logsumexp(jnp.array([1000.0, 1000.0])):.3f}"
      '1000.693'

    See Also:
      `log_softmax`, `softmax`, which is its gradient.
    """
    a, b = arguments.floating("logsumexp", "a", a), arguments.zero_or_one(b)
    a = arguments.broadcast_with("logsumexp", a, b=b, where=where)
    if b is not None:
        a = a.astype(_together(a, b))
    class_axes = axes("logsumexp", axis, a.ndim)
    mask = arguments.class_mask("logsumexp", where, a)
    weights = None if b is None else arguments.weights("logsumexp", "b", b, a)
    here, kept_shape = Here(merged_axis(a.ndim, class_axes)), _kept_shape(a, class_axes)
    if weights is None:
        a, alive = arguments.masked_rows(a, mask, class_axes)
        s = logsumexp_of(merge(a, class_axes), classes=here)[0].reshape(kept_shape)
        if alive is not None:
            s = select(alive, s, -jnp.inf)
        sign = select(is_impossible(s), 0, jnp.ones_like(s))
    else:
        if mask is not None:
            weights = select(mask, weights, 0)
        merged = merge(a, class_axes), merge(weights, class_axes)
        s, sign = (value.reshape(kept_shape) for value in _weighted(*merged, axis=here.axis)[:2])
    if not keepdims:
        s, sign = jnp.squeeze(s, class_axes), jnp.squeeze(sign, class_axes)
    if return_sign:
        return s, lax.stop_gradient(select(jnp.isnan(s), s, sign))
    return s if b is None else s + nan_where(sign < 0, s.dtype)


def _together(a: Array, b: Any) -> Any:
    """The dtype that JAX by default makes of both."""
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(a, b)
    return dtype if jnp.issubdtype(dtype, jnp.floating) else a.dtype


def _kept_shape(a: Array, class_axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in class_axes else n for i, n in enumerate(a.shape))


# ------------------------------------------------------------------------------------------------
# b = 1
# ------------------------------------------------------------------------------------------------


@custom_rules
def logsumexp_of(a: Array, *, classes: Here) -> tuple[Array, Array, Array]:
    """s; and m and S."""
    s, m, total = classes.fused("logsumexp", _logsumexp, a)
    return s, m, total


def _logsumexp(a: Array, *, classes: Here) -> tuple[Array, Array, Array]:
    a = xla.stored(a)
    m = classes.max(a)
    # An infinite maximum is the answer, and is put back; what is summed need only be finite.
    bounded = finite(m)
    total = row.total(a, bounded, classes.axis)
    s = shift(bounded, row.ROOM) + jnp.log(total) + (m - bounded)
    return s.astype(a.dtype), m, total


def _fwd(a: Array, *, classes: Here) -> tuple[Any, Kept]:
    out = _, m, total = logsumexp_of(a, classes=classes)
    # Under an infinite maximum there is no distribution: inf - inf makes all of the row NaN.
    return out, Kept(a, finite(m), jnp.ones_like(total) / total + (m - m))


def _jvp(kept: Kept, a_dot: Array, *, classes: Here) -> tuple[Array, None, None]:
    return mean(kept, a_dot, classes).astype(a_dot.dtype), None, None


def _vjp(kept: Kept, bar: Any, *, classes: Here) -> tuple[Array]:
    return (classes.fused("scaled_probabilities", _cotangent, *kept, wide(bar[0])),)


def _cotangent(a: Array, m: Array, scale: Array, s_bar: Array, *, classes: Here) -> Array:
    return scaled(probabilities(Kept(a, m, scale), classes), s_bar).astype(a.dtype)


logsumexp_of.defrules(_fwd, _jvp, _vjp)


# ------------------------------------------------------------------------------------------------
# Any b
# ------------------------------------------------------------------------------------------------


class _Weighted(NamedTuple):
    a: Array
    b: Array
    max: Array  # of the exponents that have a weight, 0 if there is none
    room: Array  # above the shift


@custom_rules
def _weighted(a: Array, b: Array, *, axis: int) -> tuple[Array, Array, Array, Array]:
    """s, the sign of Σ b∘e, m, and the room above the shift."""
    a = xla.stored(a)
    # An exponent of weight 0 is absent; one that is not, but -inf throughout, leaves log 0.
    present = select(b != 0, a, -largest_number(a))
    m = row_max(present, axis)
    m = zero_where(is_impossible(m), m)
    bounded, room = finite(m), _room(b, axis)
    total = _total(_Weighted(a, b, m, room), axis)[1]
    s = shift(bounded, room) + jnp.log(jnp.abs(total)) + (m - bounded)
    return s.astype(a.dtype), jnp.sign(total).astype(a.dtype), m, room


def _total(kept: _Weighted, axis: int) -> tuple[Array, Array]:
    """e, and Σ b∘e, to which b = 0 adds nothing whatever e is."""
    bounded = finite(kept.max)
    most = select(kept.b != 0, bounded, largest_number(bounded))
    m = shift(bounded, kept.room)
    e = _exp(xla.at_most(wide(xla.stored(kept.a)), most) - m)
    return e, jnp.sum(scaled(e, wide(kept.b)), axis, keepdims=True)


@custom_rules
def _exp(z: Array) -> Array:
    """exp z, which may overflow where b is 0: nothing comes of that where nothing is asked."""
    return jnp.exp(z)


def _exp_fwd(z: Array) -> tuple[Array, Array]:
    e = _exp(z)
    return e, e


_exp.defrules(_exp_fwd, scaled, lambda e, e_bar: (scaled(e, e_bar),))


def _room(b: Array, axis: int) -> Array:
    """The room above the shift: none where a weight is so large that b∘e could overflow."""
    largest = row_max(jnp.abs(b), axis)
    return jnp.where(largest > 2.0**20, jnp.zeros_like(largest), jnp.full_like(largest, row.ROOM))


def _for_derivative(kept: _Weighted, axis: int) -> tuple[Array, Array]:
    """The same; under an infinite maximum there is no distribution: NaN throughout."""
    nothing = kept.max - kept.max
    e, total = _total(kept, axis)
    return e + nothing, total + nothing


def _weighted_fwd(a: Array, b: Array, *, axis: int, perturbed: Any) -> tuple[Any, _Weighted]:
    out = _weighted(a, b, axis=axis)
    return out, _Weighted(a, b, *out[2:])


def _weighted_jvp(
    kept: _Weighted, a_dot: Array | None, b_dot: Array | None, *, axis: int, perturbed: Any
) -> tuple[Array, None, None, None]:
    e, total = _for_derivative(kept, axis)
    terms = []
    if a_dot is not None:
        terms.append(scaled(e * wide(a_dot), wide(kept.b)))
    if b_dot is not None:
        terms.append(scaled(e, wide(b_dot)))
    sums = jnp.sum(functools.reduce(jnp.add, terms), axis, keepdims=True)
    return scaled(jnp.ones_like(total) / total, sums).astype(kept.a.dtype), None, None, None


def _weighted_vjp(
    kept: _Weighted, out_bar: Any, *, axis: int, perturbed: tuple[bool, bool]
) -> tuple[Array | None, Array | None]:
    e, total = _for_derivative(kept, axis)
    share = scaled(jnp.ones_like(total) / total, wide(out_bar[0]))
    a_bar = b_bar = None
    if perturbed[0]:
        a_bar = scaled(scaled(e, share), wide(kept.b)).astype(kept.a.dtype)
    if perturbed[1]:
        b_bar = scaled(e, share).astype(kept.b.dtype)
    return a_bar, b_bar


_weighted.defrules(_weighted_fwd, _weighted_jvp, _weighted_vjp, symbolic_zeros=True)
