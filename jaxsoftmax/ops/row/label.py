r"""What a class label asks of a row of logits.

Notation   x logits, m = max x, M the shift, p = softmax(x), ℓ = log p; y the label;
           S = Σ exp(x - m), r = Σ exp(x - M) over all classes but y

-ℓ_y = log(1 + r / exp(x_y - M)) is accurate when the label is likely, where the divisor is not 0;
-ℓ_y = (m - x_y) + log S when it is not, and both of these terms are >= 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxsoftmax.autodiff.select import select

from . import xla
from .exponentials import exponentials, is_impossible, largest_exponential, zero_where


class Target(NamedTuple):
    """t = β e_y + α of every row, and which rows count."""

    label: Any  # y, integer, class axis of length 1
    beta: Array | None = None  # β, class axis of length 1; None means 1
    alpha: Array | None = None  # α, the shape of the logits; None means 0
    keep: Array | None = None  # boolean, class axis of length 1; None means all


class LabelRow(NamedTuple):
    """What the loss and the gradient of a row are made of; NaN throughout if y is no class."""

    max: Array  # m
    excess: Array  # log S = logsumexp(x) - m
    nll: Array  # -ℓ_y
    probability: Array  # p_y
    others: Array  # 1 - p_y
    scale: Array  # p / exp(x - M)


def label_row(m: Array, r: Array, x_y: Array, is_class: Array) -> LabelRow:
    """From the maximum, the sum without the label, its logit, and whether it is a class at all."""
    one = jnp.ones((), m.dtype)
    e_y, largest = exponentials(x_y, m), largest_exponential(m)
    total = xla.at_least(r + e_y, largest)
    excess, below = jnp.log(total / largest), m - x_y
    near = exponentials(jnp.maximum(x_y, m - one), m)
    nll = select(below < one, jnp.log1p(r / near), below + excess)
    nothing = nan_where(~is_class, m.dtype)
    row = LabelRow(m, excess, nll, e_y / total, r / total, one / total)
    return LabelRow(m, *(value + nothing for value in row[1:]))


def weighted_nll(beta: Array, nll: Array) -> Array:
    """β (-ℓ_y), and 0 where β is 0 and the label is impossible."""
    return beta * zero_where((beta == 0) & is_impossible(-nll), nll)


def nan_where(which: Array, dtype: Any) -> Array:
    """NaN where `which` is True, else 0: to be added, so that nothing can drop it."""
    one = jnp.ones((), dtype)
    return jnp.log(select(which, -one, one))
