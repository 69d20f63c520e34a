r"""Work on rows, block by block, so that what is as long as rows × classes never exists at once.

Notation   f a function of shared arguments a and of rows x, which gives sums S and rows y:
           (S, y) = stream(f)(a, x),  S = Σ_blocks S_k,  (S_k, y_k) = f(a, x_k)
JVP        the stream of the JVP of f
VJP        the stream of the VJP of f: ā is among its sums, x̄ among its rows
Saved      a, x: each block is computed again, so no mode and no order holds more than one
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules
from jaxsoftmax.autodiff.varying import varying_axes, zeros_varying

from .row.exponentials import wide

Flags = tuple[bool, ...]

# (arguments) -> (sums, rows); hashable, equal where it does the same.
Body = Callable[..., tuple[Any, Any]]


@custom_rules
def stream(*args: Any, body: Body, cut: Flags, size: int) -> tuple[Any, Any]:
    """`body` of all rows, `size` of them at a time: its sums added up, its rows joined.

    A number of rows that `size` does not divide leaves a last, shorter block, which is compiled for
    itself: nothing is padded.

    Args:
      *args: pytrees of arrays. Those that are cut have the rows in front.
      body: takes them with any number of rows.
      cut: which arguments are cut into blocks; the others are shared.
      size: rows in a block.
    """
    rows = [arg for arg, is_cut in zip(args, cut, strict=True) if is_cut]
    number = jax.tree.leaves(rows)[0].shape[0]

    def at(rows: Any) -> tuple[Any, Any]:
        given = iter(rows)
        return body(*(next(given) if c else a for a, c in zip(args, cut, strict=True)))

    if number <= size:
        return at(rows)
    count, rest = divmod(number, size)
    split = count * size
    head = jax.tree.map(lambda a: a[:split], rows)
    sums, results = _scan(at, head, count, varying_axes(args))
    if rest:
        last_sums, last = at(jax.tree.map(lambda a: a[split:], rows))
        sums = jax.tree.map(jnp.add, sums, last_sums)
        results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, last)
    return sums, results


# The places from which a block takes neighbouring rows, at most.
_PLACES = 64


def _scan(at: Body, rows: Any, count: int, varying: tuple[Any, ...]) -> tuple[Any, Any]:
    """`at` of `count` blocks.

    A block takes as many neighbouring rows from each of several places, a power of two. Of rows on
    that many devices each block then has some of each, where one run of neighbours would have to be
    moved from the device whose turn it is; and single rows would touch all pages of memory in every
    block.
    """
    number = jax.tree.leaves(rows)[0].shape[0]
    places = math.gcd(number // count, _PLACES)
    blocks = jax.tree.map(lambda a: a.reshape(places, count, -1, *a.shape[1:]), rows)

    def block(i: Any) -> Any:
        def of(a: Array) -> Array:
            part: Array = lax.dynamic_index_in_dim(a, i, 1, keepdims=False)
            return part.reshape(-1, *a.shape[3:])

        return jax.tree.map(of, blocks)

    def step(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        def put(a: Array, b: Array) -> Array:
            part = b.reshape(places, -1, *b.shape[1:])
            joined: Array = lax.dynamic_update_index_in_dim(a, part, i, 1)
            return joined

        sums, results = at(block(i))
        return jax.tree.map(jnp.add, carry[0], sums), jax.tree.map(put, carry[1], results)

    sums, results = jax.eval_shape(at, block(0))
    sums = jax.tree.map(lambda a: zeros_varying(a.shape, a.dtype, varying), sums)
    results = jax.tree.map(
        lambda a: zeros_varying(
            (places, count, a.shape[0] // places, *a.shape[1:]), a.dtype, varying
        ),
        results,
    )
    sums, results = lax.fori_loop(0, count, step, (sums, results))
    return sums, jax.tree.map(lambda a: a.reshape(-1, *a.shape[3:]), results)


# ------------------------------------------------------------------------------------------------
# The rules
# ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Tangent:
    """The JVP of `body`: of its arguments, then the tangents of those that move."""

    body: Body
    moves: Flags

    def __call__(self, *args: Any) -> tuple[Any, Any]:
        fixed, moving, dots = _split(args, self.moves)
        out: tuple[Any, Any] = jax.jvp(
            lambda *m: self.body(*_join(fixed, m, self.moves)), moving, dots
        )[1]
        return out


@dataclasses.dataclass(frozen=True)
class _Cotangent:
    """The VJP of `body`: of its arguments, then the cotangents of its sums and rows."""

    body: Body
    moves: Flags
    cut: Flags

    def __call__(self, *args: Any) -> tuple[Any, Any]:
        fixed, moving, bar = _split(args, self.moves)
        back = jax.vjp(lambda *m: self.body(*_join(fixed, m, self.moves)), *moving)[1]
        bars = _join([None] * len(self.moves), back(bar), self.moves)
        sums = [None if c else bar for bar, c in zip(bars, self.cut, strict=True)]
        rows = [bar if c else None for bar, c in zip(bars, self.cut, strict=True)]
        return jax.tree.map(wide, sums), rows


def _split(args: Any, moves: Flags) -> tuple[list[Any], tuple[Any, ...], tuple[Any, ...]]:
    """Arguments that are fixed (None in place of the others), those that move, and what follows."""
    fixed = [None if m else a for a, m in zip(args, moves, strict=False)]
    moving = tuple(a for a, m in zip(args, moves, strict=False) if m)
    return fixed, moving, tuple(args[len(moves) :])


def _join(fixed: Any, moving: Any, moves: Flags) -> list[Any]:
    given = iter(moving)
    return [next(given) if m else f for f, m in zip(fixed, moves, strict=True)]


def _fwd(*args: Any, perturbed: Flags, **options: Any) -> tuple[Any, Any]:
    return stream(*args, **options), args


def _jvp(args: Any, *dots: Any, body: Body, cut: Flags, size: int, perturbed: Flags) -> Any:
    moving = [dot for dot, moves in zip(dots, perturbed, strict=True) if moves]
    moving_cut = tuple(c for c, moves in zip(cut, perturbed, strict=True) if moves)
    tangent = _Tangent(body, perturbed)
    return stream(*args, *moving, body=tangent, cut=cut + moving_cut, size=size)


def _vjp(
    args: Any,
    bar: Any,
    *,
    body: Body,
    cut: Flags,
    size: int,
    perturbed: Flags,
) -> tuple[Any, ...]:
    cotangent = _Cotangent(body, perturbed, cut)
    sums, rows = stream(*args, *bar, body=cotangent, cut=(*cut, False, True), size=size)
    bars = (row if c else total for total, row, c in zip(sums, rows, cut, strict=True))
    return tuple(
        bar if bar is None else jax.tree.map(lambda b, a: b.astype(a.dtype), bar, arg)
        for arg, bar in zip(args, bars, strict=True)
    )


stream.defrules(_fwd, _jvp, _vjp, symbolic_zeros=True)


class Tile(NamedTuple):
    """The size of a block of logits."""

    rows: int
    classes: int


# Measured on CPU: from 512 rows on the sums of a block, which go to memory, no longer count beside
# its products, and 64 MiB of logits still come from the same pages in every block. Of fewer than 64
# rows of all classes each product waits for its kernel; tiles then take half of the time, although
# they compute the logits twice (docs/performance.md).
_ROWS = 1024
_FEW_ROWS = 64
_FEW_CLASSES = 128  # of a tile
_BUDGET = 64 << 20


def block_rows(number: int, row_bytes: int, memory_budget: int | None) -> int:
    """Rows in a block: 1024, or as many as `memory_budget` bytes hold, but for one at the least.

    Among the sizes from half of that up the one that leaves no rest is preferred, if there is one:
    a rest makes XLA copy the rows before it.
    """
    most = max(1, min(number, _ROWS, _budget(memory_budget) // max(1, row_bytes)))
    divisors = (size for size in range(most, most // 2, -1) if number % size == 0)
    return next(divisors, most)


def block_tile(number: int, classes: int, itemsize: int, memory_budget: int | None) -> Tile | None:
    """The tile of blocks that hold some of the classes, or None where enough rows of all fit."""
    entries = _budget(memory_budget) // itemsize
    if entries >= classes * min(number, _FEW_ROWS):
        return None
    rows = max(1, min(number, _ROWS, entries // _FEW_CLASSES))
    return Tile(rows, max(1, min(classes, entries // rows)))


def _budget(memory_budget: int | None) -> int:
    return _BUDGET if memory_budget is None else memory_budget
