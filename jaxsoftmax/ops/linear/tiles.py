r"""A block of rows of a linear classifier, some classes at a time: for very many classes.

A tile is a block of rows times a block of classes. What is done with its logits is a rule's
(`Rule`); one pass over the tiles of a block merges what is known of the rows, and where gradients
are asked for a second one forms them: with g that of the logits, F̄ += G Wᵀ, W̄ = Fᵀ G, b̄ = Σ G.

Work       8NDC flops against 6NDC for rows of all classes, but each part of W and of W̄ is read and
           written once for many rows, not once for the few rows that fit.
Order 2    The derivative of all this is taken of the same function in blocks of rows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import differentiates_as
from jaxsoftmax.autodiff.varying import varying_axes, varying_like, zeros_varying
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import zero_where_dropped

from .block import (
    BlockGradients,
    BlockValues,
    kept,
    lies,
    linear_bars,
    linear_logits,
    without_maps,
)
from .problem import Rows, Settings, Shared, Tile
from .stream import Body, stream

T = TypeVar("T")


def tiled(
    body: BlockValues | BlockGradients, shared: Shared, rows: Rows, size: int, tile: Tile | None
) -> tuple[Body, int]:
    """`body`, or the same with tiles where it can be; and how many rows it takes at a time."""
    if tile is None or body.settings.losses.of_tiles(rows) is None or lies(shared.kernels[0]):
        return body, size
    if isinstance(body, BlockGradients) and any(jax.tree.leaves(without_maps(*body.asked))):
        return body, size
    return Tiles(body, tile, size), tile.rows


@dataclasses.dataclass(frozen=True)
class Tiles:
    """What `body` does to a block of rows, with the logits of no more than a tile at once."""

    body: BlockValues | BlockGradients
    tile: Tile
    size: int  # rows in a block of all classes

    def __call__(self, shared: Shared, rows: Any) -> tuple[Any, Any]:
        """As `body`."""
        out: tuple[Any, Any] = _of_tiles(
            shared, rows, body=self.body, tile=self.tile, size=self.size
        )
        return out


def _of_rows(shared: Shared, rows: Any, *, body: Body, tile: Tile, size: int) -> Any:
    return stream(shared, rows, None, body=body, size=size)


@differentiates_as(_of_rows)
def _of_tiles(shared: Shared, rows: Any, *, body: Any, tile: Tile, size: int) -> Any:
    only_rows, bars = (rows, None) if isinstance(body, BlockValues) else rows
    block = Block(body.settings, tile.classes, shared, only_rows)
    rule = body.settings.losses.of_tiles(only_rows)
    known = rule.known(block, block.over_tiles(rule.met, rule.start(block)))
    out = rule.values(block, known)
    if bars is None:
        return None, out
    bars = jax.tree.map(varying_like, bars, out[0])
    of_logits = functools.partial(rule.gradient, known=rule.pulled(block, known, bars))
    f_bar, w_bar, b_bar = block.gradients(of_logits, body.asked_maps()[0])
    shared_bar, rows_bar = jax.tree.map(lambda _: None, body.asked)
    return shared_bar._replace(kernels=(w_bar,), biases=(b_bar,)), (
        out,
        rows_bar._replace(features=(f_bar,)),
    )


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of rows, and what can be told of it tile by tile."""

    settings: Settings
    width: int  # classes in a tile
    shared: Shared
    rows: Rows

    @property
    def classes(self) -> int:
        """How many there are."""
        classes: int = self.shared.kernels[0].shape[1]
        return classes

    @functools.cached_property
    def features(self) -> Array:
        """With 0 in rows that are left out."""
        return kept(self.rows)[0]

    @property
    def keep(self) -> Array | None:
        """Which rows count, (n, 1), or None for all."""
        return None if self.rows.keep is None else self.rows.keep[:, None]

    def over_tiles(self, tile: Callable[[PartOfBlock, T], T], carry: T) -> T:
        """`tile(of some classes, carry)` for all classes in turn; the last may be fewer."""
        width = self.width
        count, rest = divmod(self.classes, width)

        def step(i: Any, so_far: T) -> T:
            return tile(PartOfBlock(self, i * width, width), so_far)

        carry = lax.fori_loop(0, count, step, carry)
        return tile(PartOfBlock(self, count * width, rest), carry) if rest else carry

    def zeros(self, *shape: int, dtype: Any = None) -> Any:
        """Zeros that may be carried through a loop over tiles."""
        axes = varying_axes((self.shared, self.rows))
        return zeros_varying(shape, dtype or self.settings.dtype, axes)

    def column(self, dtype: Any = None) -> Any:
        """A zero for each row, (n, 1)."""
        return self.zeros(self.features.shape[0], 1, dtype=dtype)

    def gradients(
        self, of_logits: Callable[[PartOfBlock, Array], Array], asked: Any
    ) -> tuple[Any, ...]:
        """F̄, W̄ and b̄, from what makes the gradient in the logits of a tile: the second pass."""
        bars = (
            self.zeros(*self.features.shape) if asked[0] else None,
            self.zeros(*self.shared.kernels[0].shape) if asked[1] else None,
            self.zeros(self.classes) if asked[2] else None,
        )

        def step(tile: PartOfBlock, bars: tuple[Any, ...]) -> tuple[Any, ...]:
            x, back = tile.logits()
            (g,) = back(zero_where_dropped(of_logits(tile, x), self.keep))
            f_bar, w_bar, b_bar = linear_bars(g, self.features, tile.kernel, asked)
            w_bar = w_bar.T if w_bar is not None and lies(tile.kernel) else w_bar
            return (
                None if f_bar is None else bars[0] + f_bar,
                _with_part(bars[1], w_bar, tile.start),
                _with_part(bars[2], b_bar, tile.start),
            )

        f_bar, w_bar, b_bar = self.over_tiles(step, bars)
        return None if f_bar is None else f_bar.astype(self.features.dtype), w_bar, b_bar


class PartOfBlock(NamedTuple):
    """A block of rows, and some of the classes."""

    block: Block
    start: Any
    width: int

    def part(self, x: Any) -> Any:
        """Of an array that has the classes behind."""
        if x is None:
            return None
        return lax.dynamic_slice_in_dim(x, self.start, self.width, x.ndim - 1)

    def own(self, classes: Array) -> Array:
        """Classes as numbers among these."""
        return classes - jnp.asarray(self.start).astype(classes.dtype)

    @property
    def kernel(self) -> Array:
        """Of these classes, (D, c)."""
        kernel: Array = self.part(self.block.shared.kernels[0])
        return kernel

    @property
    def mask(self) -> Any:
        """Which of them exist, (1, c) or (n, c), or None for all."""
        shared, rows = self.block.shared, self.block.rows
        return self.part(shared.classes if rows.entries is None else rows.entries)

    def logits(self) -> tuple[Array, Callable[[Array], Any]]:
        """The logits that the loss sees, and their transposed derivative."""
        mask, bias = self.mask, self.part(self.block.shared.biases[0])
        z = linear_logits(self.block.features, self.kernel, bias)
        losses, shared = self.block.settings.losses, self.block.shared
        x, back = jax.vjp(lambda z: losses.seen(z, shared, mask), z)
        return xla.stored(x), back


def _with_part(x: Any, part: Any, start: Any) -> Any:
    """`x` with some of its classes, which are behind, replaced."""
    if x is None:
        return None
    return lax.dynamic_update_slice_in_dim(x, part.astype(x.dtype), start, x.ndim - 1)
