r"""Log-softmax.

Notation   x logits, ℓ = log_softmax(x), p = exp ℓ; ẋ, ℓ̇ tangents; x̄, ℓ̄ cotangents; Σ over `axis`.
Primal     ℓ = (x - m) - log S,  m = max x,  S = Σ exp(x - m)
Jacobian   ∂ℓᵢ/∂xⱼ = δᵢⱼ - pⱼ,  J = I - 1 pᵀ
JVP        ℓ̇ = ẋ - Σ p∘ẋ
VJP        x̄ = ℓ̄ - p Σ ℓ̄
Saved      x, m, 1 / S, 1 - max p
Edges      -inf: ℓ = -inf. NaN or +inf: NaN in its row. A row of -inf: NaN.
           `where`: a masked class has ℓ = -inf and no derivative; so has a row masked throughout.
Source     Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), doi:10.1093/imanum/draa038
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import custom_rules

from . import _arguments as arguments
from . import _numerics as numerics
from ._probabilities import Kept, probabilities


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
    x, alive = numerics.masked(x, mask, axes)
    log_p = _log_softmax(x, alive, axes=axes)
    # Of a masked class -inf is all there is to say: no derivative passes through it.
    return log_p if mask is None else jnp.where(mask, log_p, jnp.full_like(log_p, -jnp.inf))


@custom_rules
def _log_softmax(x: Array, alive: Array | None, *, axes: numerics.Axes) -> Array:
    wide = numerics.wide(x)
    row = numerics.row_statistics(wide, numerics.row_max(wide, axes, alive), axes)
    return (numerics.shifted(wide, row.max) - row.log_total).astype(x.dtype)


class _Saved(NamedTuple):
    kept: Kept
    others: Array  # 1 - p of the likeliest class


def _fwd(x: Array, alive: Array | None, *, axes: numerics.Axes) -> tuple[Array, _Saved]:
    wide = numerics.wide(lax.stop_gradient(x))
    row = numerics.row_statistics(wide, numerics.row_max(wide, axes, alive), axes)
    one = jnp.ones_like(row.ties)
    scale = one / (row.total * numerics.largest_exponential(row.max))
    saved = _Saved(Kept(x, row.max, scale), ((row.ties - one) + row.rest) / row.total)
    behind = tuple(axis + 1 for axis in axes)
    return _log_softmax(x[None], numerics.apart(alive), axes=behind)[0], saved


def _jvp(saved: _Saved, x_dot: Array, alive: None, *, axes: numerics.Axes) -> Array:
    p, v = probabilities(saved.kept, axes), numerics.wide(x_dot)
    return (v - jnp.sum(p * v, axes, keepdims=True)).astype(x_dot.dtype)


def _vjp(saved: _Saved, l_bar: Array, *, axes: numerics.Axes) -> tuple[Array, None]:
    p, v = probabilities(saved.kept, axes), numerics.wide(l_bar)
    # For the class k with more than half of the probability ℓ̄ₖ - pₖ Σℓ̄ is the small difference of
    # large terms; (1 - pₖ) ℓ̄ₖ - pₖ Σ of the others is the same without it, and 1 - pₖ is known.
    main = lax.stop_gradient(numerics.majority(p))
    main_bar = jnp.sum(main * v, axes, keepdims=True)
    other_bar = jnp.sum(v - main * v, axes, keepdims=True)
    # The second term of it is 0; it carries the derivative.
    rest = saved.others - (p - lax.stop_gradient(p))
    x_bar = v * ((1 - main) + main * rest) - p * (other_bar + (1 - main) * main_bar)
    return x_bar.astype(l_bar.dtype), None


_log_softmax.defrules(_fwd, _jvp, _vjp)
