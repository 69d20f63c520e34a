r"""Work on rows, block by block, so that what is as long as rows × classes never exists at once.

Notation   f a function of shared arguments a and of rows x, which gives sums S and rows y:
           (S, y) = stream(a, x),  S = Σ_blocks S_k,  (S_k, y_k) = f(a, x_k)
JVP        the stream of the JVP of f
VJP        the stream of the VJP of f: ā is among its sums, x̄ among its rows
Saved      a, x: each block is computed again, so no mode and no order holds more than one
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxsoftmax.autodiff import custom_rules
from jaxsoftmax.autodiff.varying import Axes, varying_axes, zeros_varying
from jaxsoftmax.ops.devices.mesh import is_automatic
from jaxsoftmax.ops.row.exponentials import wide

# (shared, rows) -> (sums, rows); hashable, and equal where it does the same.
Body = Callable[[Any, Any], tuple[Any, Any]]


@custom_rules
def stream(shared: Any, rows: Any, live: Array | None, *, body: Body, size: int) -> tuple[Any, Any]:
    """`body` of all rows, `size` of them at a time: its sums added up, its rows joined.

    A number of rows that `size` does not divide leaves a last, shorter block, which is compiled for
    itself: nothing is padded.

    Args:
      shared: a pytree of arrays, the same in every block.
      rows: a pytree of arrays with the rows in front, any number of which `body` takes.
      live: boolean (N,), or None: rows without which the sums are the same, and whose results are
        0 or not wanted, are not live. The live ones come first, and blocks that have none are not
        worked on.
      body: `body(shared, rows) -> (sums, rows)`.
      size: rows in a block.
    """
    number = jax.tree.leaves(rows)[0].shape[0]
    given, axes = jax.tree.leaves((shared, rows)), varying_axes((shared, rows))

    def at(block: Any) -> tuple[Any, Any]:
        return body(shared, block)

    if not isinstance(number, int):
        return _of_any_number(at, rows, size, axes)
    if number <= size:
        return at(rows)
    if is_automatic(*given):
        return _from_places(at, rows, size, axes)
    return _in_turn(at, rows, live, size, axes)


def _in_turn(
    at: Callable[[Any], Any], rows: Any, live: Array | None, size: int, axes: Axes
) -> tuple[Any, Any]:
    """`at` of blocks of neighbours, or of the live rows and then of the others, if need be."""
    number = jax.tree.leaves(rows)[0].shape[0]
    count, rest = divmod(number, size)
    order = alive = None
    if live is not None:
        order, alive = jnp.argsort(~live, stable=True), jnp.sum(live, dtype=jnp.int32)

    def take(start: Any, length: int) -> Any:
        if order is None:
            return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, length), rows)
        which = lax.dynamic_slice_in_dim(order, start, length)
        return jax.tree.map(lambda a: a.at[which].get(mode="clip", unique_indices=True), rows)

    def put(a: Array, part: Array, start: Any) -> Array:
        if order is None:
            return lax.dynamic_update_slice_in_dim(a, part, start, 0)
        which = lax.dynamic_slice_in_dim(order, start, part.shape[0])
        joined: Array = a.at[which].set(part, mode="drop", unique_indices=True)
        return joined

    def step(start: Any, length: int, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        sums, results = at(take(start, length))
        joined = jax.tree.map(lambda a, part: put(a, part, start), carry[1], results)
        return jax.tree.map(jnp.add, carry[0], sums), joined

    def zeros(a: Any, *front: int) -> Any:
        return zeros_varying((*front, *a.shape[len(front) :]), a.dtype, axes)

    sums, results = jax.eval_shape(at, jax.eval_shape(lambda: take(0, size)))
    carry = jax.tree.map(zeros, sums), jax.tree.map(lambda a: zeros(a, number), results)
    blocks = count if alive is None else jnp.minimum(count, (alive + size - 1) // size)
    done: tuple[Any, Any]
    done = lax.fori_loop(0, blocks, lambda i, carry: step(i * size, size, carry), carry)
    if not rest:
        return done
    last = functools.partial(step, count * size, rest)
    if alive is None:
        return last(done)
    done = lax.cond(alive > count * size, last, lambda done: done, done)
    return done


def _of_any_number(at: Callable[[Any], Any], rows: Any, size: int, axes: Axes) -> tuple[Any, Any]:
    """`at` of as many rows as there will be, which is a symbol (`jax.export`).

    The last block is filled up with rows of zeros, and False where they have a mask.
    """
    number = jax.tree.leaves(rows)[0].shape[0]

    def numbers(i: Any) -> Any:
        return i * size + jnp.arange(size)

    def take(i: Any) -> Any:
        return jax.tree.map(lambda a: a.at[numbers(i)].get(mode="fill", fill_value=0), rows)

    def step(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        sums, results = at(take(i))
        joined = jax.tree.map(
            lambda a, part: a.at[numbers(i)].set(part, mode="drop"), carry[1], results
        )
        return jax.tree.map(jnp.add, carry[0], sums), joined

    def zeros(a: Any, *front: Any) -> Any:
        return zeros_varying((*front, *a.shape[len(front) :]), a.dtype, axes)

    sums, results = jax.eval_shape(at, jax.eval_shape(lambda: take(0)))
    carry = jax.tree.map(zeros, sums), jax.tree.map(lambda a: zeros(a, number), results)
    done: tuple[Any, Any] = lax.fori_loop(0, (number + size - 1) // size, step, carry)
    return done


# The places from which a block takes neighbouring rows, at most.
_PLACES = 64


def _from_places(at: Callable[[Any], Any], rows: Any, size: int, axes: Axes) -> tuple[Any, Any]:
    """`at` of blocks of as many neighbouring rows from each of several places, a power of two.

    Of rows on that many devices each block then has some of each, where one run of neighbours would
    have to be moved from the device whose turn it is; and single rows would touch all pages of
    memory in every block.
    """
    number = jax.tree.leaves(rows)[0].shape[0]
    count, rest = divmod(number, size)
    split = count * size
    head = jax.tree.map(lambda a: a[:split], rows)
    sums, results = _scan(at, head, count, axes)
    if rest:
        last_sums, last = at(jax.tree.map(lambda a: a[split:], rows))
        sums = jax.tree.map(jnp.add, sums, last_sums)
        results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, last)
    return sums, results


def _scan(at: Callable[[Any], Any], rows: Any, count: int, axes: Axes) -> tuple[Any, Any]:
    """`at` of `count` blocks that leave no rest."""
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

    def zeros(a: Any) -> Any:
        return zeros_varying(a.shape, a.dtype, axes)

    def places_of(a: Any) -> Any:
        shape = (places, count, a.shape[0] // places, *a.shape[1:])
        return zeros_varying(shape, a.dtype, axes)

    sums, results = jax.eval_shape(at, block(0))
    carry = jax.tree.map(zeros, sums), jax.tree.map(places_of, results)
    sums, results = lax.fori_loop(0, count, step, carry)
    return sums, jax.tree.map(lambda a: a.reshape(-1, *a.shape[3:]), results)


# ------------------------------------------------------------------------------------------------
# The rules
# ------------------------------------------------------------------------------------------------


def moving_leaves(
    tree: Any, moves: Any, function: Callable[..., Any]
) -> tuple[list[Any], Callable[..., Any]]:
    """The leaves of `tree` that move, and `function` of these alone.

    `moves` is a tree with a bool, or None, in the place of each leaf.
    """
    leaves = jax.tree.leaves(tree, is_leaf=_is_none)
    kind: Any = jax.tree.structure(tree, is_leaf=_is_none)
    there = [i for i, one in enumerate(kind.flatten_up_to(moves)) if one]

    def of(*values: Any) -> Any:
        moved = dict(zip(there, values, strict=True))
        return function(*kind.unflatten([moved.get(i, leaf) for i, leaf in enumerate(leaves)]))

    return [leaves[i] for i in there], of


@dataclasses.dataclass(frozen=True)
class _Tangent:
    """The JVP of `body`; each argument is a pair of values and tangents, None where these are 0."""

    body: Body

    def __call__(self, shared: Any, rows: Any) -> tuple[Any, Any]:
        (a, a_dot), (x, x_dot) = shared, rows
        moves = jax.tree.map(lambda dot: dot is not None, (a_dot, x_dot), is_leaf=_is_none)
        values, of = moving_leaves((a, x), moves, self.body)
        out: tuple[Any, Any] = jax.jvp(of, values, jax.tree.leaves((a_dot, x_dot)))[1]
        return out


@dataclasses.dataclass(frozen=True)
class _Cotangent:
    """The VJP of `body`; each argument is a pair, of values and of cotangents of its results."""

    body: Body
    moves: tuple[Any, Any]

    def __call__(self, shared: Any, rows: Any) -> tuple[Any, Any]:
        (a, sums_bar), (x, rows_bar) = shared, rows
        values, of = moving_leaves((a, x), self.moves, self.body)
        out, back = jax.vjp(of, *values)
        bars = iter(back(jax.tree.map(_or_none, out, (sums_bar, rows_bar))))
        a_bar, x_bar = jax.tree.map(
            lambda moves: next(bars) if moves else None, self.moves, is_leaf=_is_none
        )
        return jax.tree.map(wide, a_bar), x_bar


def _or_none(x: Array, bar: Any) -> Any:
    """The cotangent of `x`, or what JAX has for one where `x` is an integer."""
    return np.zeros(x.shape, jax.dtypes.float0) if bar is None else bar


def _is_none(x: Any) -> bool:
    return x is None


def _fwd(
    shared: Any, rows: Any, live: Any, *, body: Body, size: int, perturbed: Any
) -> tuple[Any, Any]:
    return stream(shared, rows, live, body=body, size=size), (shared, rows)


def _jvp(
    saved: Any, a_dot: Any, x_dot: Any, _: Any, *, body: Body, size: int, perturbed: Any
) -> Any:
    # What is 0 in a row that is not live may have a derivative that is not.
    shared, rows = saved
    return stream((shared, a_dot), (rows, x_dot), None, body=_Tangent(body), size=size)


def _vjp(saved: Any, bar: Any, *, body: Body, size: int, perturbed: Any) -> tuple[Any, ...]:
    shared, rows = saved
    back = _Cotangent(body, perturbed[:2])
    bars = stream((shared, bar[0]), (rows, bar[1]), None, body=back, size=size)
    of_arguments: tuple[Any, ...] = jax.tree.map(like, saved, bars, is_leaf=_is_none)
    return *of_arguments, None


def like(x: Any, bar: Any) -> Any:
    """A cotangent in the dtype of what it is one of; None stays None."""
    return None if bar is None else bar.astype(x.dtype)


stream.defrules(_fwd, _jvp, _vjp, symbolic_zeros=True)
