r"""What a row of logits tells, on canonical arrays: the rules of all of it at once.

Notation   x logits, m = max x, p = softmax(x), ℓ = log p; i_k the picked classes, K of a row, the
           same one as often as one likes; q softmax of the classes that are not picked, the rest,
           and κ = Σ p of those that are; a dot a tangent, a bar a cotangent; Σ over the classes
Primal     s = logsumexp(x),  ℓ_k = ℓ at i_k,  H = -Σ p∘ℓ = log S + d  with  S = Σ exp(x - m)  and
           d = Σ p∘(m - x): two terms >= 0,  r = log(1 - κ)
JVP        ṡ = Σ p∘ẋ,  ℓ̇_k = ẋ_k - Σ p∘ẋ,  Ḣ = -Σ p∘(ℓ + H)∘ẋ,  ṙ = Σ q∘ẋ - Σ p∘ẋ
VJP        x̄ = p s̄ + (v - p Σ v) - p∘(ℓ + H) H̄ + (q - p) r̄,  v = Σ_k ℓ̄_k e_{i_k}, where
           ℓ + H = d - (m - x), and q - p is κ q in the rest, -p at the picked
Saved      x, m, 1 / S, d, the class that holds most of p, 1 - p of it
Edges      -inf contributes 0; one class alone has H = 0 with derivative 0. A pick that is no class:
           NaN in ℓ_k and its derivative. No rest: r = -inf. NaN or +inf, or a row of -inf: NaN.
Devices    Where the classes are `Spread` results are shares, and both rules are this device's own.
Source     Cover & Thomas, Elements of Information Theory, chapter 2
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules, differentiates_as, scaled
from jaxsoftmax.autodiff.select import select
from jaxsoftmax.autodiff.varying import varying_like

from . import row as rows
from .devices.classes import Classes
from .probabilities import Kept, probabilities
from .row import Row, xla
from .row.exponentials import (
    exists,
    exponentials,
    finite,
    is_class,
    is_impossible,
    largest_exponential,
    log1p,
    pick,
    zero_where,
)
from .row.label import nan_where
from .softmax import centred_product

Ask = Literal["logsumexp", "log_prob", "entropy", "rest"]


class RowValues(NamedTuple):
    """Of each row; what is not asked for is None."""

    logsumexp: Any = None  # s (N, 1)
    log_prob: Any = None  # ℓ_k (N, K)
    entropy: Any = None  # H (N, 1)
    rest: Any = None  # r (N, 1)


class Known(NamedTuple):
    """A `Row` of logits, and d where the entropy is asked for."""

    max: Array
    main: Array
    others: Array
    total: Array
    excess: Array
    distance: Any = None


@custom_rules
def row_values(
    x: Array, picks: Any, *, classes: Classes, ask: tuple[Ask, ...]
) -> tuple[RowValues, Known]:
    """What is asked for, and what else is known of the rows, which carries no derivative.

    Args:
      x: logits (N, C) in float32 or wider; without picks the classes may lie along any axis.
      picks: classes (N, K), or None.
      classes: where the classes are.
      ask: which of the values.
    """
    x = xla.stored(x)
    row = classes.statistics(x, classes.max(x))
    own = at_picks = distance = None
    if "log_prob" in ask:
        own = classes.own(picks, x)
        at_picks = pick(x, own, 1)
    if "entropy" in ask:
        far = total_distance(x, row.max, classes.axis, ask=classes.may_ask(x))
        distance = classes.whole(far)[0] / row.total
    known = Known(*row, distance)
    values = values_of(known, at_picks, ask)
    smooth = {name: classes.first(v) for name, v in values._asdict().items() if v is not None}
    values = RowValues(**smooth | {"log_prob": values.log_prob})
    if own is not None:
        log_p = zero_where(~exists(own, x, 1), values.log_prob)
        nothing = nan_of_none(picks, classes.number(x), x.dtype)
        values = values._replace(log_prob=log_p + classes.first(nothing))
    if "rest" in ask:
        kept = Kept(x, row.max, jnp.ones_like(row.total) / row.total)
        values = values._replace(rest=classes.first(_log_rest(kept, row, picks, classes)))
    return values, known


def total_distance(x: Array, m: Array, axis: int, *, ask: bool) -> Array:
    """Σ exp(x - M) (m - x) of the logits that are here."""
    return rows.cross_entropy(exponentials(x, m), x, m, jnp.zeros_like(m), axis, ask=ask)


def values_of(known: Known, at_picks: Any, ask: tuple[Ask, ...]) -> RowValues:
    """What is asked for but the rest, of what is known of rows and of their picked logits."""
    return RowValues(
        logsumexp=known.max + known.excess if "logsumexp" in ask else None,
        log_prob=(at_picks - known.max) - known.excess if "log_prob" in ask else None,
        entropy=known.excess + known.distance if "entropy" in ask else None,
    )


def _log_rest(kept: Kept, row: Row, picks: Array, classes: Classes) -> Array:
    """log(1 - κ), from κ where that is small, else from what is left."""
    rest = _Rest.of(kept, picks, classes)
    m, one = row.max, jnp.ones_like(row.max)
    left = (rest.max - m) + jnp.log(rest.total / largest_exponential(rest.max)) - row.excess
    return select(rest.picked < one / 2, log1p(-rest.picked), left)


class _Rest(NamedTuple):
    """The classes that are not picked."""

    is_picked: Array  # (N, C)
    x: Array  # logits, -inf at the picked
    max: Array
    total: Array  # Σ exp(x - M)
    picked: Array  # κ

    @classmethod
    def of(cls, kept: Kept, picks: Array, classes: Classes) -> _Rest:
        """From the logits of a row and its picked classes."""
        is_picked = _at_classes(classes.own(picks, kept.x), jnp.ones_like(picks, bool), kept.x)
        x = select(is_picked, -jnp.inf, kept.x)
        m = finite(classes.max(lax.stop_gradient(x)))
        p = probabilities(kept, classes)
        total, picked = classes.sums(exponentials(x, m), zero_where(~is_picked, p))
        return cls(is_picked, x, m, lax.stop_gradient(total), picked)


def _at_classes(own: Array, values: Array, like: Array) -> Array:
    """The sum of the values of each class, (N, C), 0 at a class that has none."""
    if own.shape[1] == 1:
        return zero_where(~is_class(own, like, 1), jnp.broadcast_to(values, like.shape))
    classes = like.shape[1]
    own = select(exists(own, like, 1), own, jnp.asarray(classes, own.dtype))
    rows = jnp.arange(own.shape[0], dtype=own.dtype)[:, None]
    nothing = varying_like(jnp.zeros(like.shape, values.dtype), (like, values, own))
    values = varying_like(values, nothing)
    at = nothing.at[rows, own]
    add = at.max if values.dtype == bool else at.add
    sums: Array = add(values, mode="drop")
    return sums


def nan_of_none(picks: Array, number: Any, dtype: Any) -> Array:
    """NaN where a pick is none of so many classes, else 0."""
    return nan_where((picks < 0) | (picks >= number), dtype)


# ------------------------------------------------------------------------------------------------
# The rules
# ------------------------------------------------------------------------------------------------


class _Saved(NamedTuple):
    kept: Kept
    picks: Any
    distance: Any  # d
    main: Array
    others: Array  # 1 - p of the main class


def _fwd(x: Array, picks: Any, *, classes: Classes, ask: tuple[Ask, ...]) -> tuple[Any, _Saved]:
    values, row = row_values(x, picks, classes=classes, ask=ask)
    known = lax.stop_gradient(row)
    kept = Kept(x, known.max, jnp.ones_like(known.total) / known.total)
    return (values, row), _Saved(
        kept, picks, known.distance, known.main, known.others / known.total
    )


def _jvp(
    saved: _Saved, x_dot: Array, _: Any, *, classes: Classes, ask: tuple[Ask, ...]
) -> tuple[RowValues, Known]:
    kept, picks, distance, *of_main = saved
    p = probabilities(kept, classes)
    axis = classes.axis
    mean = _sum(p * x_dot, axis)
    values = RowValues()
    if "logsumexp" in ask:
        values = values._replace(logsumexp=mean)
    if "log_prob" in ask:
        known = jnp.ones((), p.dtype) + nan_of_none(picks, classes.number(p), p.dtype)
        own = classes.own(picks, p)
        log_p_dot = scaled(known, _along(p, own, x_dot, *of_main))
        values = values._replace(log_prob=log_p_dot)
    if "entropy" in ask:
        values = values._replace(
            entropy=-_sum(_of_entropy(p, distance, *kept, classes=classes) * x_dot, axis)
        )
    if "rest" in ask:
        values = values._replace(rest=_sum(_of_rest(p, kept, picks, classes) * x_dot, axis))
    nothing = Known(*[None] * len(Known._fields))  # type: ignore[arg-type]
    return values, nothing


def _vjp(saved: _Saved, bar: Any, *, classes: Classes, ask: tuple[Ask, ...]) -> tuple[Array, None]:
    kept, picks, distance, *of_main = saved
    bars: RowValues = bar[0]
    p = probabilities(kept, classes)
    own = none = None
    if "log_prob" in ask:
        own, none = classes.own(picks, p), nan_of_none(picks, classes.number(p), p.dtype)
    terms = pulled_back(p, kept, (own, none), (distance, *of_main), bars, classes)
    if "rest" in ask:
        terms.append(scaled(_of_rest(p, kept, picks, classes), bars.rest))
    return sum(terms[1:], terms[0]), None


def pulled_back(
    p: Array, kept: Kept, picked: Any, known: Any, bars: RowValues, classes: Classes
) -> list[Array]:
    """The terms of x̄ but that of the rest, of classes that may be some of a row's.

    Args:
      p: softmax(x), (N, C).
      kept: x, m, 1 / S.
      picked: the picks as numbers among these classes, and NaN where they are none of any, else 0.
      known: d, the main class as a number among these, 1 - p of it.
      bars: s̄, ℓ̄ and H̄, None where none is asked for.
      classes: where these are.
    """
    (own, none), (distance, main, others) = picked, known
    terms = []
    if bars.logsumexp is not None:
        terms.append(scaled(p, bars.logsumexp))
    if bars.log_prob is not None:
        v = scaled(jnp.ones((), p.dtype) + none, bars.log_prob)
        terms.append(_of_log_probs(p, own, v, main, others))
    if bars.entropy is not None:
        terms.append(-scaled(_of_entropy(p, distance, *kept, classes=classes), bars.entropy))
    return terms


def _sum(x: Array, axis: int = 1) -> Array:
    """Over the classes of this device, or over the picked ones."""
    return jnp.sum(x, axis, keepdims=True)


def _far(x: Array, m: Array) -> Array:
    """m - x, and 0 at an impossible class, where p = 0 makes nothing of it in the value alone."""
    return zero_where(is_impossible(x), m - xla.at_most(x, m))


def _of_entropy_textbook(
    p: Array, distance: Array, x: Array, m: Array, scale: Array, *, classes: Classes
) -> Array:
    return -centred_product(p, _far(x, m), classes)


@differentiates_as(_of_entropy_textbook)
def _of_entropy(
    p: Array, distance: Array, x: Array, m: Array, scale: Array, *, classes: Classes
) -> Array:
    """p∘(ℓ + H), from d, which is known: a sum would have to keep what it is of."""
    return p * (distance - _far(x, m))


def _of_rest(p: Array, kept: Kept, picks: Array, classes: Classes) -> Array:
    """q - p."""
    rest = _Rest.of(kept, picks, classes)
    scale = select(rest.total == 0, 0, 1 / rest.total)
    q = probabilities(Kept(rest.x, rest.max, scale), classes)
    return select(rest.is_picked, -p, rest.picked * q)


def _along_textbook(p: Array, own: Array, x_dot: Array, main: Array, others: Array) -> Array:
    return pick(x_dot, own, 1) - _sum(p * x_dot)


@differentiates_as(_along_textbook)
def _along(p: Array, own: Array, x_dot: Array, main: Array, others: Array) -> Array:
    """ẋ_k - Σ p∘ẋ, where that of the main class is (1 - p_k) ẋ_k - Σ of the others."""
    main = main.astype(own.dtype)
    is_main = own == main
    share = select(is_main, others, 1)
    mean = p * x_dot
    without = _sum(zero_where(is_class(main, p, 1), mean))
    return share * pick(x_dot, own, 1) - select(is_main, without, _sum(mean))


def _textbook(p: Array, own: Array, v: Array, main: Array, others: Array) -> Array:
    return _at_classes(own, v, p) - p * _sum(v)


@differentiates_as(_textbook)
def _of_log_probs(p: Array, own: Array, v: Array, main: Array, others: Array) -> Array:
    """v - p Σ v, where at the main class k (1 - p_k) v_k - p_k Σ of the others is no difference."""
    is_main = own == main.astype(own.dtype)
    v_main, v_others = _sum(zero_where(~is_main, v)), _sum(zero_where(is_main, v))
    at_main = others * v_main - (jnp.ones_like(others) - others) * v_others
    elsewhere = _at_classes(own, v, p) - p * (v_main + v_others)
    return select(is_class(main, p, 1), at_main, elsewhere)


row_values.defrules(_fwd, _jvp, _vjp)
