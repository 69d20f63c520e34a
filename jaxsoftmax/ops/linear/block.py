"""One block of rows: their values, and the gradients.

The notation is that of `rules`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff.varying import varying_like
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import zero_where_dropped

from .problem import Rows, Settings, Shared
from .product import product, product_dtype
from .stream import moving_leaves

# The values of the rows, a tree of (N,) or (N, K), and what they tell besides or None.
Results = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class BlockValues:
    """A block of rows -> its values."""

    settings: Settings

    def __call__(self, shared: Shared, rows: Rows) -> tuple[None, Results]:
        """No sums, and the values."""
        logits = tuple(map(linear_logits, kept(rows), shared.kernels, shared.biases))
        return None, self.settings.of_logits(logits, shared, rows)


@dataclasses.dataclass(frozen=True)
class BlockGradients:
    """A block of rows with cotangents ȳ -> y, and the gradient of Σ ⟨ȳ, y⟩ in what is asked for."""

    settings: Settings
    asked: tuple[Shared, Rows]

    def __call__(
        self, shared: Shared, rows_and_bars: tuple[Rows, Any]
    ) -> tuple[Shared, tuple[Results, Rows]]:
        """The gradients in what rows share, which add up, and those in what each has."""
        rows, y_bars = rows_and_bars
        features = kept(rows)
        logits = tuple(map(linear_logits, features, shared.kernels, shared.biases))
        # What the values depend on besides the logits.
        asked = without_maps(*self.asked)
        others, of_others = moving_leaves(without_maps(shared, rows), asked, lambda *others: others)

        def values(logits: Any, *others: Any) -> Results:
            return self.settings.of_logits(logits, *of_others(*others))

        y, back, stats = jax.vjp(values, logits, *others, has_aux=True)
        gs, *bars = back(jax.tree.map(_cotangent, y_bars, y))
        shared_bar, rows_bar = in_place(asked, bars)
        maps = map(linear_bars, gs, features, shared.kernels, self.asked_maps())
        f_bars, w_bars, b_bars = zip(*maps, strict=True)
        return (
            shared_bar._replace(kernels=w_bars, biases=b_bars),
            ((y, stats), rows_bar._replace(features=f_bars)),
        )

    def asked_maps(self) -> list[tuple[Any, Any, Any]]:
        """Of each map: are gradients asked for in its features, kernel and bias?"""
        shared, rows = self.asked
        return list(zip(rows.features, shared.kernels, shared.biases, strict=True))


def _cotangent(bar: Array, y: Array) -> Array:
    as_y: Array = varying_like(bar, y).astype(y.dtype)
    return as_y


def without_maps(shared: Shared, rows: Rows) -> tuple[Shared, Rows]:
    """What is left of the arrays when the logits are known."""
    return shared._replace(kernels=(), biases=()), rows._replace(features=(), weights=None)


def in_place(asked: Any, values: Any) -> Any:
    """A tree like `asked` that has the values, in order, where it has True, and None elsewhere."""
    given = iter(values)
    return jax.tree.map(lambda one: next(given) if one else None, asked)


def linear_bars(g: Array, features: Array, kernel: Array, asked: Any) -> tuple[Any, Any, Any]:
    """F̄ = G Wᵀ, W̄ = Fᵀ G (or its transpose), b̄ = Σ G, sums in float32 or wider."""
    of_features, of_kernel, of_bias = asked
    dtype = product_dtype(features.dtype, kernel.dtype)
    b_bar = jnp.sum(g, 0) if of_bias else None
    unit = jnp.ones((), g.dtype)
    if dtype == jnp.float16:  # 1/N of a gradient may be less than float16 has
        largest = lax.stop_gradient(jnp.max(jnp.abs(g), initial=0))
        unit = jnp.where(largest > 0, largest, unit)
        g = g / unit
    f_bar = w_bar = None
    if of_features:
        by_rows = xla.stored(g)  # a transpose would become part of the product, which is slow
        f_bar = (unit * product(by_rows, kernel, over=(1, 1), dtype=dtype)).astype(features.dtype)
    if of_kernel:
        pair = (g, features) if lies(kernel) else (features, g)
        w_bar = unit * product(*pair, over=(0, 0), dtype=dtype)
    return f_bar, w_bar, b_bar


def lies(kernel: Array) -> bool:
    """Whether W̄ᵀ = Gᵀ F is formed: on CPU it is 4 times faster than Fᵀ G for 10 classes of 784."""
    return kernel.shape[1] < kernel.shape[0]


def kept(rows: Rows) -> tuple[Array, ...]:
    """Features with 0 in the rows left out: their gradient is 0, and 0 times NaN would be NaN."""
    keep = None if rows.keep is None else rows.keep[:, None]
    return tuple(zero_where_dropped(features, keep) for features in rows.features)


def linear_logits(features: Array, kernel: Array, bias: Array | None) -> Array:
    """F W + b, in float32 or wider."""
    dtype = product_dtype(features.dtype, kernel.dtype)
    z = product(features, kernel, over=(1, 0), dtype=dtype)
    return z if bias is None else z + bias.astype(z.dtype)[None, :]
