"""The options of the losses, and what each turns into: logits, a target, and the rows that count.

    label_smoothing ε    t = (1 - ε) label + ε / (number of admissible classes), on these classes
    class_weights w      t = w ∘ t, after smoothing; PyTorch's `weight` does the same, but its mean
                         then divides by the summed weight of the labels, and ours by the rows
    where                logits -inf at masked classes; a row with none left does not count
    ignore_index         rows of that label do not count
    logit_softcap c      x = c tanh(z / c), before the mask, so that no masked class comes back
    z_loss λ             adds λ logsumexp(x)² to each row that counts, not weighted by class

A default leaves no trace in compiled code.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from . import _arguments as arguments
from . import _numerics as numerics
from ._integer_loss import Target


class Options(NamedTuple):
    """The static options, checked."""

    label_smoothing: float
    z_loss: float
    logit_softcap: float | None

    @classmethod
    def checked(
        cls, function: str, label_smoothing: float, z_loss: float, logit_softcap: float | None
    ) -> Options:
        """Options in range, or an error that says what the range is."""
        smoothing = arguments.number(
            function, "label_smoothing", label_smoothing, lambda v: 0 <= v <= 1, "between 0 and 1"
        )
        z_loss = arguments.number(
            function, "z_loss", z_loss, lambda v: 0 <= v < float("inf"), "finite and at least 0"
        )
        if logit_softcap is not None:
            logit_softcap = arguments.number(
                function, "logit_softcap", logit_softcap, lambda v: v > 0, "positive, or None"
            )
            logit_softcap = None if logit_softcap == float("inf") else logit_softcap
        return cls(smoothing, z_loss, logit_softcap)

    def logits(self, x: Array, mask: Array | None, axis: int) -> tuple[Array, Array | None]:
        """Capped and masked logits, and the rows that have a class left."""
        if self.logit_softcap is not None:
            if mask is not None:  # what is masked may be NaN: not even its derivative may be formed
                x = jnp.where(mask, x, jnp.zeros_like(x))
            x = numerics.softcap(numerics.wide(x), self.logit_softcap)
        return numerics.masked(x, mask, (axis,))

    def distribution(
        self,
        t: Array,
        mask: Array | None,
        weights: Array | None,
        axis: int,
        count: int | Array | None = None,
    ) -> Array:
        """Smoothed and weighted targets; `count` as for `uniform`."""
        if self.label_smoothing:
            keep = jnp.asarray(1 - self.label_smoothing, t.dtype)
            t = keep * t + self.uniform(t, mask, axis, count)
        t = t if weights is None else t * weights.astype(t.dtype)
        return admissible(t, mask)

    def target(
        self,
        y: Array,
        x: Array,
        mask: Array | None,
        alive: Array | None,
        weights: Array | None,
        ignore_index: int | None,
        axis: int,
    ) -> Target:
        """The target β e_y + α of class labels `y`, which have length 1 on the class axis."""
        keep = alive
        if ignore_index is not None:
            counted = y != jnp.asarray(ignore_index, y.dtype)
            keep = counted if keep is None else keep & counted
        beta = alpha = None
        if self.label_smoothing:
            alpha = self.uniform(x, mask, axis)
            beta = jnp.full((1,) * x.ndim, 1 - self.label_smoothing, x.dtype)
        if weights is not None:
            w = weights.astype(x.dtype)
            at_label = _of_labels(w.ravel(), y)
            beta = at_label if beta is None else beta * at_label
            alpha = None if alpha is None else admissible(alpha * w, mask)
        beta = None if beta is None else jnp.broadcast_to(beta, y.shape)
        alpha = None if alpha is None else jnp.broadcast_to(alpha, x.shape)
        return Target(y, beta, alpha, keep)

    def uniform(
        self, like: Array, mask: Array | None, axis: int, count: int | Array | None = None
    ) -> Array:
        """ε / (number of admissible classes) on these, 0 on the others.

        The number is that of `mask`, or `count` where the classes are those of one device of many.
        """
        spread = jnp.asarray(self.label_smoothing, like.dtype)
        if mask is None:
            number = like.shape[axis] if count is None else count
            return jnp.full((1,) * like.ndim, self.label_smoothing / number, like.dtype)
        classes = mask.astype(like.dtype)
        count = jnp.sum(classes, axis, keepdims=True) if count is None else count
        number = jnp.maximum(jnp.asarray(count, like.dtype), jnp.ones((), like.dtype))
        return classes * (spread / number)


def _of_labels(w: Array, y: Array) -> Array:
    """The weight of each label, where the label is."""
    there = jax.typeof(y).sharding
    if all(name is None for name in there.spec):
        return jnp.take(w, y, mode="clip")
    # On a mesh with explicit axes: all weights on every device.
    w = jax.reshard(w, jax.sharding.NamedSharding(there.mesh, jax.sharding.PartitionSpec(None)))
    return w.at[y].get(mode="clip", out_sharding=there)


def admissible(t: Array, mask: Array | None) -> Array:
    """Targets without those of masked classes, selected last: their derivative -log p is inf."""
    return t if mask is None else jnp.where(mask, t, jnp.zeros_like(t))
