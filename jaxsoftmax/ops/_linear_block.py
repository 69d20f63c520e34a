"""One block of rows of the linear classifier loss: its losses, and its gradients.

The notation is that of `_linear_stream`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff.varying import varying_like

from ._blocks import Tile
from ._loss_stats import LossStats, loss_stats
from ._product import product, product_dtype
from .call import arguments
from .call.options import Options
from .devices.classes import Classes, Here, Names, Spread
from .distribution_loss import distribution_loss
from .label_loss import label_loss


class Problem(NamedTuple):
    """What the loss is differentiated in; the weights of the rows come beside it."""

    features: Any  # F
    kernel: Any  # W
    bias: Any  # b, or None
    labels: Any  # (N,) integer, or t (N, C)
    class_weights: Any  # (1, C), or None


class Masks(NamedTuple):
    """Boolean arrays, or None where all count."""

    classes: Array | None  # (1, C), the same in all rows
    entries: Array | None  # (N, C)
    keep: Array | None  # (N,)
    admissible: Array | None = None  # (N, 1), how many, of all classes, if the loss needs it


class Plan(NamedTuple):
    """The static options."""

    options: Options
    block: int  # rows in a block
    dtype: Any  # of the losses
    stats: bool  # whether LossStats come with them
    axis_name: Names | None  # along which the classes are spread: then all losses are shares
    tile: Tile | None = None  # of a block, where not even a few rows of all classes fit


# Losses, and the statistics if the plan says so.
Losses = tuple[Array, LossStats | None]


# Of the fields of Problem and of Masks, which have a row for each row.
CUT = (True, False, False, True, False, False, True, True, True)


@dataclasses.dataclass(frozen=True)
class BlockLosses:
    """A block of rows -> its losses."""

    plan: Plan

    def __call__(self, *args: Any) -> tuple[None, tuple[Array, LossStats | None]]:
        problem, masks = Problem(*args[:5]), Masks(*args[5:])
        features = kept(problem.features, masks.keep)
        z = linear_logits(features, problem.kernel, problem.bias)
        losses = _losses(z, problem.labels, problem.class_weights, masks, self.plan)
        return None, (losses, _stats(z, problem.labels, masks, self.plan))


@dataclasses.dataclass(frozen=True)
class BlockGradients:
    """A block of rows -> its losses, and the gradient of Σ u L in what is asked for."""

    plan: Plan
    asked: Problem

    def __call__(self, *args: Any) -> tuple[Problem, tuple[Losses, Problem]]:
        problem, masks, weights = Problem(*args[:5]), Masks(*args[5:9]), args[9]
        asked, features = self.asked, kept(problem.features, masks.keep)
        z = linear_logits(features, problem.kernel, problem.bias)
        others = {"labels": problem.labels, "class_weights": problem.class_weights}
        moving = {name: value for name, value in others.items() if getattr(asked, name)}

        def losses(z: Array, moving: dict[str, Array]) -> Array:
            return _losses(z, **(others | moving), masks=masks, plan=self.plan)

        loss, back = jax.vjp(losses, z, moving)
        g, bars = back(varying_like(weights, loss))
        f_bar, w_bar, b_bar = linear_bars(g, features, problem.kernel, asked)
        f_bar = None if f_bar is None else f_bar.astype(features.dtype)
        shared = Problem(None, w_bar, b_bar, None, bars.get("class_weights"))
        out = loss, _stats(z, problem.labels, masks, self.plan)
        return shared, (out, Problem(f_bar, None, None, bars.get("labels"), None))


def linear_bars(g: Array, features: Array, kernel: Array, asked: Problem) -> tuple[Any, Any, Any]:
    """F̄ = G Wᵀ, W̄ = Fᵀ G (or its transpose), b̄ = Σ G, in float32 or wider."""
    dtype = product_dtype(features.dtype, kernel.dtype)
    b_bar = jnp.sum(g, 0) if asked.bias else None
    unit = jnp.ones((), g.dtype)
    if dtype == jnp.float16:  # 1/N of a gradient may be less than float16 has
        largest = lax.stop_gradient(jnp.max(jnp.abs(g), initial=0))
        unit = jnp.where(largest > 0, largest, unit)
        g = g / unit
    f_bar = w_bar = None
    if asked.features:
        f_bar = unit * product(g, kernel, over=(1, 1), dtype=dtype)
    if asked.kernel:
        pair = (g, features) if lies(kernel) else (features, g)
        w_bar = unit * product(*pair, over=(0, 0), dtype=dtype)
    return f_bar, w_bar, b_bar


def lies(kernel: Array) -> bool:
    """Whether W̄ᵀ = Gᵀ F is formed: on CPU it is 4 times faster than Fᵀ G for 10 classes of 784."""
    return kernel.shape[1] < kernel.shape[0]


def kept(features: Array, keep: Array | None) -> Array:
    """Features with 0 in the rows left out: their gradient is 0, and 0 times NaN would be NaN."""
    return (
        features if keep is None else jnp.where(keep[:, None], features, jnp.zeros_like(features))
    )


def linear_logits(features: Array, kernel: Array, bias: Array | None) -> Array:
    dtype = product_dtype(features.dtype, kernel.dtype)
    z = product(features, kernel, over=(1, 0), dtype=dtype)
    return z if bias is None else z + bias.astype(z.dtype)[None, :]


def _losses(
    z: Array, labels: Array, class_weights: Array | None, masks: Masks, plan: Plan
) -> Array:
    """L of every row of a block of logits."""
    options = plan.options
    x, mask, keep = _seen(z, masks, options)
    classes = _classes(plan)
    if arguments.are_classes(labels):
        target = options.target(
            labels[:, None], x, mask, keep, class_weights, classes, masks.admissible
        )
        losses = label_loss(x, *target, classes=classes, z_loss=options.z_loss)
    else:
        t = options.distribution(
            labels.astype(x.dtype), mask, class_weights, classes, masks.admissible
        )
        losses = distribution_loss(x, t, keep, classes=classes, z_loss=options.z_loss)
    return losses[:, 0]


def _classes(plan: Plan) -> Classes:
    return Here(1) if plan.axis_name is None else Spread(plan.axis_name)


def _stats(z: Array, labels: Array, masks: Masks, plan: Plan) -> LossStats | None:
    if not plan.stats:
        return None
    x, _, keep = _seen(z, masks, plan.options)
    labels = labels[:, None] if arguments.are_classes(labels) else labels
    return loss_stats(x, labels, keep, _classes(plan))


def _seen(z: Array, masks: Masks, options: Options) -> tuple[Array, Array | None, Array | None]:
    """Logits as the loss sees them, the mask of the classes and that of the rows."""
    mask = masks.classes if masks.entries is None else masks.entries
    return options.logits(z, mask, 1)[0], mask, None if masks.keep is None else masks.keep[:, None]
