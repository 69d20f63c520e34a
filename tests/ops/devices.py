"""Meshes of the fake CPU devices, and what the tests of sharded functions compare."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def mesh_of(kind: AxisType, **shape: int) -> Mesh:
    """The first devices as a mesh, with the size of each axis by its name."""
    devices = jax.devices()[: math.prod(shape.values())]
    sizes, kinds = tuple(shape.values()), (kind,) * len(shape)
    return jax.make_mesh(sizes, tuple(shape), axis_types=kinds, devices=devices)


def placed(mesh: Mesh, specs: Any, arrays: Any) -> Any:
    """A tree of arrays, each where the spec at its place says."""
    places = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        specs,
        is_leaf=lambda x: isinstance(x, PartitionSpec),
    )
    return jax.tree.map(jax.device_put, arrays, places)


def assert_close(ours: Any, expected: Any, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    """The same numbers, or a message with the path to each array that is off.

    The tolerances are those of float32 sums of numbers of size 1, in another order.
    """
    ours, expected = jax.device_get((ours, expected))

    def complaint(path: Any, a: Any, b: Any) -> str:
        try:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
        except AssertionError as error:
            return f"{jax.tree_util.keystr(path, simple=True, separator=' > ')}: {error}\n"
        return ""

    off = "".join(jax.tree.leaves(jax.tree.map_with_path(complaint, ours, expected)))
    assert not off, off
