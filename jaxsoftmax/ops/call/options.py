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

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsoftmax.autodiff import times
from jaxsoftmax.autodiff.select import select
from jaxsoftmax.ops.devices.classes import Classes, Spread
from jaxsoftmax.ops.devices.mesh import placed_like
from jaxsoftmax.ops.row.exponentials import is_impossible, is_placed, wide, zero_where_dropped
from jaxsoftmax.ops.row.label import Target

from . import arguments


class Options(NamedTuple):
    """The static options, checked."""

    label_smoothing: float
    z_loss: float
    logit_softcap: float | None

    @classmethod
    def checked(
        cls,
        function: str,
        label_smoothing: float,
        z_loss: float,
        logit_softcap: float | None,
        *,
        prefix: str = "",
    ) -> Options:
        """Options in range, or an error that says what the range is."""
        smoothing = arguments.number(
            function, "label_smoothing", label_smoothing, lambda v: 0 <= v <= 1, "between 0 and 1"
        )
        z_loss = arguments.number(
            function, "z_loss", z_loss, lambda v: 0 <= v < float("inf"), "finite and at least 0"
        )
        if logit_softcap is not None:
            name = prefix + "logit_softcap"
            logit_softcap = arguments.number(
                function, name, logit_softcap, lambda v: v > 0, "positive, or None"
            )
            logit_softcap = None if logit_softcap == float("inf") else logit_softcap
        return cls(smoothing, z_loss, logit_softcap)

    def logits(self, x: Array, mask: Array | None, axis: int) -> tuple[Array, Array | None]:
        """Capped and masked logits, and the rows that have a class left."""
        if self.logit_softcap is not None:
            if mask is not None:  # what is masked may be NaN: not even its derivative may be formed
                x = select(mask, x, 0)
            x = _softcap(wide(x), self.logit_softcap)
        return arguments.masked(x, mask, (axis,))

    def distribution(
        self,
        t: Array,
        mask: Array | None,
        weights: Array | None,
        classes: Classes,
        count: Array | None = None,
    ) -> Array:
        """Smoothed and weighted targets; `count` as for `uniform`."""
        if self.label_smoothing:
            keep = jnp.asarray(1 - self.label_smoothing, t.dtype)
            t = keep * t + self.uniform(t, mask, classes, count)
        if weights is not None:  # whose gradient is a sum of t, which may be NaN where masked
            t = times(admissible(t, mask), weights.astype(t.dtype))
        return admissible(t, mask)

    def target(
        self,
        y: Array,
        x: Array,
        mask: Array | None,
        keep: Array | None,
        weights: Array | None,
        classes: Classes,
        count: Array | None = None,
    ) -> Target:
        """The target β e_y + α of class labels `y`, which have length 1 on the class axis.

        Args:
          y: labels.
          x: logits, for their shape and dtype.
          mask: of the classes, or None.
          keep: which rows count, or None.
          weights: of the classes, or None; they broadcast to `x`.
          classes: where the classes are.
          count: as for `uniform`.
        """
        beta = alpha = None
        if self.label_smoothing:
            alpha = self.uniform(x, mask, classes, count)
            beta = jnp.full((1,) * x.ndim, 1 - self.label_smoothing, x.dtype)
        if weights is not None:
            w = weights.astype(x.dtype)
            at_label = _of_labels(w.ravel(), y, classes)
            beta = at_label if beta is None else times(beta, at_label)
            alpha = None if alpha is None else admissible(alpha * w, mask)
        beta = None if beta is None else jnp.broadcast_to(beta, y.shape)
        alpha = None if alpha is None else jnp.broadcast_to(alpha, x.shape)
        return Target(y, beta, alpha, keep)

    def uniform(
        self, like: Array, mask: Array | None, classes: Classes, count: Array | None = None
    ) -> Array:
        """ε / (number of admissible classes) on these, 0 on the others.

        The number is `count` where that is known, as it is of classes of several devices.
        """
        if mask is None:
            number = classes.number(like) if count is None else count
            return jnp.full((1,) * like.ndim, self.label_smoothing / number, like.dtype)
        existing = mask.astype(like.dtype)
        if count is None:
            (count,) = classes.sums(existing)
        number = jnp.maximum(jnp.asarray(count, like.dtype), jnp.ones((), like.dtype))
        return existing * (jnp.asarray(self.label_smoothing, like.dtype) / number)


def counted(y: Array, ignore_index: int | None, *keep: Array | None) -> Array | None:
    """Which rows count: those that all masks keep, and whose label is not to be ignored."""
    masks = [mask for mask in keep if mask is not None]
    if ignore_index is not None:
        limits = np.iinfo(y.dtype)
        if limits.min <= ignore_index <= limits.max:  # another label does not occur
            masks.append(y != jnp.asarray(ignore_index, y.dtype))
    return functools.reduce(jnp.logical_and, masks) if masks else None


def _softcap(x: Array, cap: float) -> Array:
    """cap tanh(x / cap); an impossible class, x = -inf, stays impossible."""
    bounded = jnp.asarray(cap, x.dtype) * jnp.tanh(x / jnp.asarray(cap, x.dtype))
    return select(is_impossible(x), x, bounded)


def _of_labels(w: Array, y: Array, classes: Classes) -> Array:
    """The weight of each label, where the label is."""
    if isinstance(classes, Spread):
        own = classes.own(y, w[None])
        here = (own >= 0) & (own < w.shape[0])
        found = jnp.take(w, own, mode="clip")
        return classes.whole(select(here, found, 0))[0]
    if not (is_placed(w) or is_placed(y)):
        return jnp.take(w, y, mode="clip")
    # On a mesh with explicit axes: all weights on every device.
    w = placed_like(w, y, (None,))
    return w.at[y].get(mode="clip", out_sharding=jax.typeof(y).sharding)


def admissible(t: Array, mask: Array | None) -> Array:
    """Targets without those of masked classes, selected last: their derivative -log p is inf."""
    return zero_where_dropped(t, mask)
