"""What a row of logits tells besides its loss."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import scaled
from jaxsoftmax.autodiff.select import select
from jaxsoftmax.ops.call import arguments
from jaxsoftmax.ops.devices.classes import Classes
from jaxsoftmax.ops.distribution_loss import distribution_loss
from jaxsoftmax.ops.log_probabilities import Ask, RowValues, row_values
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import pick, zero_where_dropped

from . import value_tiles
from .problem import OfLogits, Rows, Shared, kept


class LossStats(NamedTuple):
    """Of each row, `(...)`. Those that are floating point are differentiated, to any order.

    They are those of the logits that the loss sees: capped, over the temperature, and without the
    masked classes. A row that is left out has prediction and rank -1, and 0 in the others.
    """

    logsumexp: Array
    """s = log Σ exp x."""
    log_prob: Array
    """log p of the label; of a target distribution, or of several labels, Σ t log p."""
    prediction: Array
    """The most probable class, int32; the first of several."""
    entropy: Array
    """-Σ p log p, in nats."""
    rank: Array
    """How many classes come before the label, int32: those more probable, and of the equally
    probable those with a lower number. It is among the first k if rank < k. Of a target
    distribution, or of several labels, the label is that of the largest weight; of a label that is
    no class the rank is C."""


class Smooth(NamedTuple):
    """The statistics that have derivatives, (N,)."""

    logsumexp: Array
    log_prob: Array
    entropy: Array


class Discrete(NamedTuple):
    """And those that have none, (N,)."""

    prediction: Array
    rank: Array


def joined(smooth: Smooth, discrete: Discrete) -> LossStats:
    """All of them."""
    return LossStats(**smooth._asdict(), **discrete._asdict())


ASK: tuple[Ask, ...] = ("logsumexp", "entropy", "log_prob")


def smooth_of(values: RowValues, weights: Array | None) -> Smooth:
    """Those of a label, or of several with their weights, (N, 1)."""
    log_prob = values.log_prob
    if weights is not None:
        log_prob = jnp.sum(scaled(log_prob, weights.astype(log_prob.dtype)), 1, keepdims=True)
    return Smooth(values.logsumexp, log_prob, values.entropy)


def _label_of(labels: Array, weights: Array | None) -> Array:
    """The label, or that of the largest weight, (N, 1)."""
    if weights is None:
        return labels[:, None]
    return pick(labels, jnp.argmax(weights, 1, keepdims=True), 1)


def _before(x: Array, own: Array, x_y: Array) -> Array:
    """How many of these classes come before one that has the logit `x_y`, (N, 1)."""
    number = lax.broadcasted_iota(own.dtype, x.shape, 1)
    # A logit that is not a number comes before any that is.
    after = (x < x_y) | ((x == x_y) & (number > own)) | (number == own)
    return jnp.sum(~after, 1, keepdims=True, dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class Statistics(OfLogits):
    """The statistics of a block of rows."""

    discrete: bool = True  # whether those without derivatives are asked for

    @property
    def weighed(self) -> bool:
        """A weight says only whether a row counts."""
        return False

    @property
    def no_tangent(self) -> Any:
        """That of a class."""
        return Discrete(None, None) if self.discrete else None  # type: ignore[arg-type]

    def without_stats(self) -> Statistics:
        """Those alone that have derivatives."""
        return dataclasses.replace(self, discrete=False)

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Smooth, Discrete | None]:
        """The statistics, or the shares of this device in them."""
        x = self.of_block(logits[0], shared, rows)
        smooth, discrete = statistics(x, rows.labels, rows.label_weights, kept(rows), classes)
        return smooth, discrete if self.discrete else None

    ask: ClassVar[tuple[Ask, ...]] = ASK
    before = staticmethod(_before)

    def label(self, rows: Rows) -> Array:
        """The class that is ranked, (N, 1)."""
        return _label_of(rows.labels, rows.label_weights)

    def of_tiles(self, rows: Rows) -> Any:
        """Of classes; of a distribution all are needed."""
        return value_tiles if arguments.are_classes(rows.labels) else None

    def made_of(self, values: RowValues, shared: Shared, rows: Rows, classes: Classes) -> Smooth:
        """The statistics that have derivatives."""
        del shared, classes
        smooth: Smooth = _dropped(smooth_of(values, rows.label_weights), kept(rows))
        return smooth

    def discrete_of(self, prediction: Array, rank: Array, rows: Rows) -> Discrete:
        """And the others."""
        discrete: Discrete = _dropped(Discrete(prediction, rank), kept(rows))
        return discrete


def statistics(
    x: Array, labels: Array, weights: Array | None, keep: Array | None, classes: Classes
) -> tuple[Smooth, Discrete]:
    """The statistics of canonical logits (N, C), or the shares of this device in them.

    Args:
      x: logits in float32 or wider.
      labels: integers (N,), distributions (N, C), or integers (N, K).
      weights: of these K, or None.
      keep: boolean (N, 1), or None.
      classes: where the classes are.
    """
    x = xla.stored(zero_where_dropped(x, keep))
    if arguments.are_classes(labels):
        picks = labels[:, None] if weights is None else labels
        values, row = row_values(x, picks, classes=classes, ask=ASK)
        y, smooth = _label_of(labels, weights), smooth_of(values, weights)
    else:
        t = labels.astype(x.dtype)
        values, row = row_values(x, None, classes=classes, ask=ASK[:2])
        log_prob = -distribution_loss(x, t, keep, classes=classes, z_loss=0.0)
        t = lax.stop_gradient(t)
        y = classes.argmax(t, classes.max(t))
        smooth = Smooth(values.logsumexp, log_prob, values.entropy)
    x, m = lax.stop_gradient((x, row.max))
    prediction = classes.first(classes.argmax(x, m).astype(jnp.int32))
    discrete = Discrete(prediction, _rank(x, y, classes))
    of_rows: tuple[Smooth, Discrete] = _dropped((smooth, discrete), keep)
    return of_rows


def _dropped(values: Any, keep: Array | None) -> Any:
    """Values (N, 1) as (N,), with 0 in rows that are not kept."""
    return jax.tree.map(lambda value: zero_where_dropped(value, keep)[:, 0], values)


def _rank(x: Array, y: Array, classes: Classes) -> Array:
    """The number of classes before `y`, or the share of this device in it."""
    y = y.astype(jnp.int64 if y.dtype.itemsize == 8 else jnp.int32)
    own = classes.own(y, x)
    (x_y,) = classes.whole(pick(x, own, 1))
    exists = (y >= 0) & (y < classes.number(x))
    return select(exists, _before(x, own, x_y), jnp.asarray(x.shape[1], jnp.int32))


def without(values: Any, keep: Array | None, classes: Classes) -> Any:
    """What rows tell, or shares in it, with 0 and no class in those that are not kept."""
    if keep is None:
        return values

    def kept(value: Array) -> Array:
        none = jnp.zeros_like(value)
        if jnp.issubdtype(value.dtype, jnp.integer):
            none = classes.first(none - jnp.ones_like(none))
        return select(jnp.expand_dims(keep, tuple(range(1, value.ndim))), value, none)

    return jax.tree.map(kept, values)
