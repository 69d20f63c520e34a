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

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules, differentiates_as, scaled
from jaxsoftmax.autodiff.select import select

from .call import arguments, one_program
from .call.axes import Axis, axes, merge, merged_axis, split
from .devices.classes import Classes, Here
from .probabilities import Kept, mean, probabilities
from .row import NO_TANGENT, Row, xla
from .row.exponentials import is_class, shifted, wide, zero_where


@one_program
def log_softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> Array:
    r"""Logarithm of softmax.

    .. math:: \ell_i = x_i - \log \sum_j \exp x_j

    A drop-in for `jax.nn.log_softmax`. The log-probability of a confident prediction, which is
    nearly 0, keeps its full relative accuracy.

    Args:
      x: logits, any shape, floating point; integers are converted to float first.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean; it and `x` broadcast. Classes where it is False are taken as absent: they get
        -inf, and what stands under them, NaN included, has no effect.

    Returns:
      Log-probabilities of the dtype of `x`, and of its shape, broadcast with `where`. A row with
      no class left is all -inf.

    Raises:
      TypeError: `x` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range; `where` does not broadcast with `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import log_softmax
      >>> f"{log_softmax(jnp.array([0.0, -40.0]))[0]:.5g}"
      '-4.2484e-18'

    See Also:
      `softmax`, `logsumexp`.
    """
    x = arguments.floating("log_softmax", "x", x)
    x = arguments.broadcast_with("log_softmax", x, where=where)
    class_axes = axes("log_softmax", axis, x.ndim)
    mask = arguments.class_mask("log_softmax", where, x)
    one_axis = merge(arguments.masked_rows(x, mask, class_axes)[0], class_axes)
    log_p, _ = log_softmax_of(one_axis, classes=Here(merged_axis(x.ndim, class_axes)))
    log_p = split(log_p, class_axes, x.shape)
    # Of a masked class -inf is all there is to say: no derivative passes through it.
    return log_p if mask is None else select(mask, log_p, -jnp.inf)


@custom_rules
def log_softmax_of(x: Array, *, classes: Classes) -> tuple[Array, Row]:
    """ℓ of canonical logits, and the statistics of the rows, which carry no derivative."""
    log_p, *row = classes.fused("log_softmax", _log_softmax, x)
    return log_p, Row(*row)


def _log_softmax(x: Array, *, classes: Classes) -> tuple[Array, ...]:
    x = xla.stored(x)
    row = classes.statistics(x, classes.max(x))
    return (shifted(x, row.max) - row.excess).astype(x.dtype), *row


class _Saved(NamedTuple):
    kept: Kept
    main: Array
    others: Array  # 1 - p of the main class


def _fwd(x: Array, *, classes: Classes) -> tuple[Any, _Saved]:
    log_p, row = log_softmax_of(x, classes=classes)
    kept = Kept(x, row.max, jnp.ones_like(row.total) / row.total)
    return (log_p, row), _Saved(kept, row.main, row.others / row.total)


def _jvp(saved: _Saved, x_dot: Array, *, classes: Classes) -> tuple[Array, Row]:
    return (wide(x_dot) - mean(saved.kept, x_dot, classes)).astype(x_dot.dtype), NO_TANGENT


def _vjp(saved: _Saved, bar: Any, *, classes: Classes) -> tuple[Array]:
    arrays = *saved.kept, bar[0], saved.main, saved.others
    return (classes.fused("log_softmax_transposed", _cotangent, *arrays),)


def _cotangent(
    x: Array, m: Array, scale: Array, v: Array, main: Array, others: Array, *, classes: Classes
) -> Array:
    p = probabilities(Kept(x, m, scale), classes)
    return _transposed(p, wide(v), main, others, classes=classes).astype(v.dtype)


def _textbook(p: Array, v: Array, main: Array, others: Array, *, classes: Classes) -> Array:
    return v - scaled(p, classes.sums(v)[0])


@differentiates_as(_textbook)
def _transposed(p: Array, v: Array, main: Array, others: Array, *, classes: Classes) -> Array:
    """v - p Σv, accurate for confident p too.

    At the main class k it is the small difference of large terms; (1 - pₖ) vₖ - pₖ Σ of the others
    is the same without it, and 1 - pₖ is known.
    """
    v_k, v_others = classes.split(v, main)
    at_main = others * v_k - (1 - others) * v_others
    # Where nothing is asked for p may be NaN: of a row of -inf that the caller selects away.
    mass = v_k + v_others
    elsewhere = v - zero_where(mass == 0, p * mass)
    return select(is_class(main, v, classes.axis), at_main, elsewhere)


log_softmax_of.defrules(_fwd, _jvp, _vjp)


class Given(NamedTuple):
    """What is known of rows whose statistics were taken for something else."""

    max: Array
    excess: Array  # log S
    scale: Array  # 1 / Σ exp(x - M)
    main: Array
    others: Array


@custom_rules
def log_softmax_given(x: Array, given: Given, *, classes: Classes) -> Array:
    """ℓ of logits in float32 or wider, without another look for their statistics."""
    del classes
    return shifted(xla.stored(x), given.max) - given.excess


def _given_fwd(x: Array, given: Given, *, classes: Classes) -> tuple[Array, _Saved]:
    saved = _Saved(Kept(x, given.max, given.scale), given.main, given.others)
    return log_softmax_given(x, given, classes=classes), saved


def _given_jvp(saved: _Saved, x_dot: Array, _: Given, *, classes: Classes) -> Array:
    return _jvp(saved, x_dot, classes=classes)[0]


def _given_vjp(saved: _Saved, bar: Array, *, classes: Classes) -> tuple[Array, None]:
    return *_vjp(saved, (bar,), classes=classes), None


log_softmax_given.defrules(_given_fwd, _given_jvp, _given_vjp)
