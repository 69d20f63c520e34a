"""The losses of a block of logits and its labels: one class, a distribution, or several classes.

Notation   t target of a row, ℓ = log p, s = logsumexp; ε smoothing, w class weights, λ z-loss
Loss       L = -Σ t∘ℓ + λ s²  of the target  w∘((1 - ε) t + ε / C);  of several classes
           t = Σ_k t_k e_{i_k}, and L is -Σ_k w_{i_k} (1 - ε) t_k ℓ_k and that of ε w / C
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import scaled
from jaxsoftmax.ops.call.options import admissible
from jaxsoftmax.ops.devices.classes import Classes, Here, Spread
from jaxsoftmax.ops.distribution_loss import distribution_loss
from jaxsoftmax.ops.label_loss import label_loss
from jaxsoftmax.ops.log_probabilities import Ask, RowValues, row_values
from jaxsoftmax.ops.row.exponentials import SHORT, pick, static_size, zero_where_dropped

from . import label_tiles, value_tiles
from .problem import OfLogits, Rows, Shared, kept, mask_of
from .stats import LossStats, joined, statistics

# Measured on CPU (docs/performance.md): with more classes row kernels gain nothing in a block.
_FEW = 256


@dataclasses.dataclass(frozen=True)
class CrossEntropy(OfLogits):
    """The losses of a block of logits, and the statistics of its rows if they are asked for."""

    integers: bool  # whether labels are, and not distributions
    stats: bool
    may_turn: bool = False  # whether logits may be laid out with the classes in front

    def of_tiles(self, rows: Rows) -> Any:
        """Of one label a row, without the statistics."""
        return label_tiles if self.integers and not self.stats else None

    @property
    def no_tangent(self) -> Any:
        """That of the statistics, whose derivatives are found apart from the loss."""
        return LossStats(*[None] * len(LossStats._fields)) if self.stats else None  # type: ignore[arg-type]

    def without_stats(self) -> CrossEntropy:
        """The same losses alone."""
        return dataclasses.replace(self, stats=False)

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Array, LossStats | None]:
        """The losses (N,), or the shares of this device in them; and the statistics."""
        x, mask, keep = self.of_block(logits[0], shared, rows), mask_of(shared, rows), kept(rows)
        losses = self.losses(x, rows, mask, keep, shared.class_weights, classes)[:, 0]
        if not self.stats:
            return losses, None
        constant = lax.stop_gradient((x, rows.labels, rows.label_weights))
        return losses, joined(*statistics(*constant, keep, classes))

    def losses(
        self, x: Array, rows: Rows, mask: Any, keep: Any, class_weights: Any, classes: Classes
    ) -> Array:
        """(N, 1)."""
        options = self.options
        given = class_weights, classes, rows.admissible
        if self.integers:
            target = options.target(rows.labels[:, None], x, mask, keep, *given)
            return self.of_few(label_loss, x, target, classes=classes)
        t = options.distribution(rows.labels.astype(x.dtype), mask, *given)
        return self.of_few(distribution_loss, x, t, keep, classes=classes)

    def of_few(self, loss: Any, x: Array, *target: Any, classes: Classes) -> Array:
        """`loss` of each row, (N, 1), in the way that is quickest for its number of classes.

        Of few classes that is a row kernel where there is one; where there is none and they are
        very few, a vector holds one class of many rows, and not the classes of one.
        """
        number, z_loss = static_size(x, 1) or _FEW + 1, self.options.z_loss
        y, *options = jax.tree.leaves(target)
        plain = not options and not z_loss
        losses: Array
        if isinstance(classes, Spread) or number > _FEW:
            losses = loss(x, *target, classes=classes, z_loss=z_loss)
        elif number > SHORT or not self.may_turn or (plain and Here(1).fits(loss.__name__, x, y)):
            losses = loss(x, *target, classes=Here(1), z_loss=z_loss)
        else:
            turned = jax.tree.map(jnp.transpose, (x, *target))
            losses = loss(*turned, classes=Here(0), z_loss=z_loss).T
        return losses


@dataclasses.dataclass(frozen=True)
class SparseCrossEntropy(CrossEntropy):
    """The same of several weighted labels a row."""

    ask: ClassVar[tuple[Ask, ...]] = ("log_prob",)
    discrete: ClassVar[bool] = False

    def of_tiles(self, rows: Rows) -> Any:
        """Of the labels alone, where no class besides has a part in the loss."""
        options = self.options
        return None if self.stats or options.label_smoothing or options.z_loss else value_tiles

    def losses(
        self, x: Array, rows: Rows, mask: Any, keep: Any, class_weights: Any, classes: Classes
    ) -> Array:
        """(N, 1)."""
        options = self.options
        x = zero_where_dropped(x, keep)
        values, _ = row_values(x, rows.labels, classes=classes, ask=self.ask)
        losses = self._of_labels(values, class_weights, rows, classes)
        if options.label_smoothing or options.z_loss:
            alpha = jnp.zeros((1, 1), x.dtype)
            if options.label_smoothing:
                alpha = options.uniform(x, mask, classes, rows.admissible)
            if class_weights is not None:
                alpha = admissible(alpha * class_weights.astype(x.dtype), mask)
            alpha = jnp.broadcast_to(alpha, x.shape)
            z_loss = options.z_loss
            losses = losses + distribution_loss(x, alpha, keep, classes=classes, z_loss=z_loss)
        return zero_where_dropped(losses, keep)

    def made_of(self, values: RowValues, shared: Shared, rows: Rows, classes: Classes) -> Array:
        """The losses (N,), of the log-probabilities of the labels."""
        losses = self._of_labels(values, shared.class_weights, rows, classes)
        return zero_where_dropped(losses, kept(rows))[:, 0]

    def _of_labels(
        self, values: RowValues, class_weights: Any, rows: Rows, classes: Classes
    ) -> Array:
        t = rows.label_weights.astype(values.log_prob.dtype)
        if self.options.label_smoothing:
            t = jnp.asarray(1 - self.options.label_smoothing, t.dtype) * t
        if class_weights is not None:
            t = t * _at_labels(class_weights.astype(t.dtype), rows.labels, classes)
        return -jnp.sum(scaled(values.log_prob, t), 1, keepdims=True)


def _at_labels(class_weights: Array, labels: Array, classes: Classes) -> Array:
    """The weight of each label, (N, K)."""
    own = classes.own(labels, class_weights)
    here = pick(class_weights, own.reshape(1, -1), 1).reshape(labels.shape)
    columns = classes.whole(*jnp.split(here, labels.shape[1], 1))
    return jnp.concatenate(columns, 1)
