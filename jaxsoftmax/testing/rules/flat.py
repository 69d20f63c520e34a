"""A function of pytrees, seen as a map from R^n to R^m at one point."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Flat:
    """`f` as a map of the floating elements of its arguments to those of its results.

    Attributes:
      x: the point, a vector in float64.
      size: the number of results.
    """

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        self.f, self.args, self.options = f, args, options
        paths, self._tree = jax.tree.flatten_with_path(args)
        leaves = [_to_numpy(leaf) for _, leaf in paths]
        for leaf in leaves:
            if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
                raise TypeError(
                    f"check_rules: arguments must be real or integer, got {leaf.dtype}"
                    f"{list(leaf.shape)}. Check real and imaginary parts as two arguments."
                )
        self._paths = [jax.tree_util.keystr(path) for path, _ in paths]
        self.moves = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]
        self.owners = [path[0].idx for path, _ in paths]
        given, self.fixed = self.split(leaves)
        floats = [np.asarray(leaf, np.float64) for leaf in given]
        self.shapes = [x.shape for x in floats]
        self.x = np.concatenate([x.ravel() for x in floats] or [np.zeros(0)])
        if not self.x.size:
            raise TypeError(
                "check_rules: there is nothing to differentiate: no argument has a floating "
                "element. Pass arrays of a floating dtype."
            )
        out = jax.tree.leaves_with_path(
            jax.eval_shape(self._outputs, self.leaves(self.x), self.fixed)
        )
        self._results = [(jax.tree_util.keystr(path), y.shape) for path, y in out if _is_float(y)]
        self.size = sum(int(np.prod(shape)) for _, shape in self._results)
        if not self.size:
            raise TypeError(
                "check_rules: there is nothing to differentiate: no result has a floating "
                "element. Return arrays of a floating dtype."
            )

    def like(self, f: Callable[..., Any]) -> Flat:
        """Another function at the same arguments."""
        return Flat(f, self.args, self.options)

    def leaves(self, x: Any) -> list[Any]:
        """The floating arguments out of one vector."""
        ends = itertools.accumulate(int(np.prod(shape)) for shape in self.shapes)
        parts = jnp.split(jnp.asarray(x), list(ends)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def __call__(self, x: Any) -> jax.Array:
        """The floating results as one vector, for the arguments as one vector."""
        return self.at(self.leaves(x), self.fixed)

    def at(self, floats: Sequence[Any], fixed: Sequence[Any]) -> jax.Array:
        """The floating results as one vector, in JAX's default precision."""
        results = [y for y in jax.tree.leaves(self._outputs(floats, fixed)) if _is_float(y)]
        wide = jnp.result_type(float)
        return jnp.concatenate([jnp.ravel(y).astype(wide) for y in results])

    def formula(self, jacobian: Callable[..., Any]) -> Any:
        """A function of the same arguments, in float64."""
        return jacobian(*self._arguments(self.leaves(self.x), self.fixed), **self.options)

    def split(self, leaves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """All leaves of the arguments, as the floating ones and the others."""
        pairs = list(zip(leaves, self.moves, strict=True))
        return [x for x, moves in pairs if moves], [x for x, moves in pairs if not moves]

    def merged(self, floats: Sequence[Any], fixed: Sequence[Any]) -> list[Any]:
        """The inverse of `split`."""
        moving, still = iter(floats), iter(fixed)
        return [next(moving) if moves else next(still) for moves in self.moves]

    def argument(self, index: int) -> str:
        """The name of an element of the arguments."""
        paths, _ = self.split(self._paths)
        return "args" + _element(list(zip(paths, self.shapes, strict=True)), index)

    def result(self, index: int) -> str:
        """The name of an element of the results."""
        return "out" + _element(self._results, index)

    def _outputs(self, floats: Sequence[Any], fixed: Sequence[Any]) -> Any:
        return self.f(*self._arguments(floats, fixed), **self.options)

    def _arguments(self, floats: Sequence[Any], fixed: Sequence[Any]) -> Any:
        leaves = [jnp.asarray(leaf) for leaf in self.merged(floats, fixed)]
        return jax.tree.unflatten(self._tree, leaves)


def _to_numpy(leaf: Any) -> Any:
    """An array that is the same with 64-bit types and without; random keys as they are."""
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended):
        return leaf
    leaf = np.asarray(leaf)
    narrow = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32}
    return leaf.astype(narrow.get(leaf.dtype, leaf.dtype))


def _is_float(y: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(y), jnp.floating))


def _element(parts: Sequence[tuple[str, tuple[int, ...]]], index: int) -> str:
    """The part that a flat index falls into, and its place there."""
    for path, shape in parts:
        size = int(np.prod(shape))
        if index < size:
            place = [int(i) for i in np.unravel_index(index, shape)]
            return path + (str(place) if place else "")
        index -= size
    raise IndexError(index)
