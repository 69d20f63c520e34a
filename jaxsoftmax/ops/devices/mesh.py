"""A loss of arrays that their types place on several devices: meshes with explicit axes.

Each device works on its own rows and its own classes, in a `jax.shard_map` made from the types.
What the layout does not spread is gathered: the features axis, and the smaller of two that would
share a mesh axis. The derivatives of the map and of the gathers are JAX's: cotangents are summed
and come back in the layout of their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax.autodiff.gradients import flat

# What the axes of an array stand for: `ROWS` for all axes of the batch, `CLASSES`, or None.
ROWS, CLASSES = "rows", "classes"
Axes = tuple[str | None, ...]


class Layout(NamedTuple):
    """The mesh, and the mesh axes of what is spread over it."""

    mesh: Any
    batch: tuple[Any, ...]  # of each axis of the batch, an entry of a PartitionSpec
    classes: Any  # an entry of a PartitionSpec

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The mesh axes that spread the rows."""
        return tuple(name for entry in self.batch for name in _names(entry))

    @property
    def class_axes(self) -> tuple[str, ...] | None:
        """The mesh axes that spread the classes, or None."""
        return _names(self.classes) or None

    def spec(self, axes: Axes) -> P:
        """Where an array with these axes lies."""
        entries: list[Any] = []
        for axis in axes:
            entries += self.batch if axis == ROWS else [self.classes if axis == CLASSES else None]
        return P(*entries)


def layout(
    arrays: Any, axes: Any, batch: tuple[int, ...], classes: int, *, spread: bool
) -> Layout | None:
    """Where the types say that rows and classes lie, or None if they say nothing.

    Args:
      arrays: a pytree of arrays.
      axes: such a tree that has, for each of them, what its axes stand for.
      batch: the shape of the batch.
      classes: how many.
      spread: whether the classes may be spread; else a surrounding shard_map does that already.
    """
    given = [(jax.typeof(a).sharding, of_a) for a, of_a in _with_axes(arrays, axes)]
    mesh = next((s.mesh for s, _ in given if any(entry is not None for entry in s.spec)), None)
    if mesh is None:
        return None
    found: dict[Any, Any] = {}
    for sharding, names in given:
        for place, entry in zip(_places(names, len(batch)), sharding.spec, strict=True):
            if math.prod(mesh.shape[name] for name in _names(entry)) > 1:
                found.setdefault(place, entry)
    of_batch = tuple(found.get((ROWS, i)) for i in range(len(batch)))
    of_classes = found.get(CLASSES) if spread else None
    # One mesh axis cannot spread both.
    taken = set(_names(of_classes))
    if math.prod(batch) < classes:
        of_batch = tuple(None if taken & set(_names(entry)) else entry for entry in of_batch)
    elif any(taken & set(_names(entry)) for entry in of_batch):
        of_classes = None
    return Layout(mesh, of_batch, of_classes)


def placed_like(value: Any, x: Any, axes: tuple[int | None, ...]) -> Any:
    """`value`, moved to where the type says that `x` lies, if it says so.

    Args:
      value: an array.
      x: an array that `value` goes with, or a mere shape, which lies nowhere.
      axes: for each axis of `value` that of `x` beside it, or None. Where there is none, or one of
        the two has length 1, nothing is spread.
    """
    if not isinstance(x, jax.Array):
        return value
    here, there = jax.typeof(value).sharding, jax.typeof(x).sharding
    beside = zip(value.shape, axes, strict=True)
    spec = P(
        *(None if axis is None or n != x.shape[axis] else there.spec[axis] for n, axis in beside)
    )
    if tuple(here.spec) == tuple(spec):
        return value
    mesh = here.mesh if there.mesh.empty else there.mesh
    return jax.reshard(value, NamedSharding(mesh, spec))


def is_automatic(*arrays: Any) -> bool:
    """Whether XLA may spread these arrays over devices as it likes: their types, or the context."""
    meshes = [jax.typeof(a).sharding.mesh for a in arrays if a is not None]
    return any(
        size > 1 and kind == AxisType.Auto
        for mesh in (*meshes, jax.sharding.get_abstract_mesh())
        for size, kind in zip(mesh.axis_sizes, mesh.axis_types, strict=True)
    )


def _places(axes: Axes, batch: int) -> list[Any]:
    """What each axis of an array stands for, those of the batch one by one."""
    places: list[Any] = []
    for axis in axes:
        places += [(ROWS, i) for i in range(batch)] if axis == ROWS else [axis]
    return places


def _names(entry: Any) -> tuple[str, ...]:
    """The mesh axes of an entry of a PartitionSpec."""
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _with_axes(arrays: Any, axes: Any) -> list[tuple[Any, Axes]]:
    """The arrays of a tree, each with what its axes stand for."""
    leaves, tree = flat(arrays)
    return list(zip(leaves, tree.flatten_up_to(axes), strict=True))


def on_each_device(
    local: Callable[[Any], Any], arrays: Any, axes: Any, place: Layout, out_specs: Any
) -> Any:
    """`local` of what each device has of the arrays.

    Args:
      local: takes the tree of arrays, and gives a pytree of arrays.
      arrays: a pytree of arrays.
      axes: such a tree that has, for each of them, what its axes stand for.
      place: where they lie.
      out_specs: where the results lie.
    """
    specs = [place.spec(of_a) for _, of_a in _with_axes(arrays, axes)]
    leaves, tree = flat(arrays)
    moved = [
        jax.reshard(a, NamedSharding(place.mesh, spec))
        for a, spec in zip(leaves, specs, strict=True)
    ]
    explicit = {
        name
        for name, kind in zip(place.mesh.axis_names, place.mesh.axis_types, strict=True)
        if kind == AxisType.Explicit
    }
    call: Any = jax.shard_map(
        lambda *given: local(tree.unflatten(given)),
        mesh=place.mesh,
        in_specs=tuple(specs),
        out_specs=out_specs,
        axis_names=explicit,
    )
    out: Any = call(*moved)
    return out
