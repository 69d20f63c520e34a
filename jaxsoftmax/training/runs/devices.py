"""Where rows and classes lie: on one device, or spread over a mesh of ``data`` × ``classes``.

Loss and model do not depend on it beyond rounding. The arrays of a state have the layout of their
dimensions: one as long as the rows lies along ``data``, one as long as the classes along
``classes``, all others are on every device.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax.training.config.keys import MeshConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.solvers.problem import CLASSES, ROWS


class Devices(NamedTuple):
    """The layout of a run.

    Attributes:
      mesh: None for a single device.
      rows: the length of dimensions along ``data``.
      classes: the length of dimensions along ``classes``.
    """

    mesh: Mesh | None
    rows: int
    classes: int

    def place(self, tree: Any) -> Any:
        """The same values, laid out."""
        return jax.tree.map(self._place, tree)

    def place_rows(self, array: Any, axis: int = 0, dtype: Any = None) -> Any:
        """Rows, laid out, with 0 in the place of missing ones; a process reads those of its devices.

        What is mapped into memory is used where it lies, on one CPU and in the type that it has.
        """

        def part(index: Any) -> npt.NDArray[Any]:
            span = range(self.rows)[index[axis]]
            found = np.asarray(array[(*index[:axis], slice(span.start, span.stop))])
            found = found.astype(dtype or found.dtype, copy=False)
            missing = [(0, 0)] * found.ndim
            missing[axis] = (0, len(span) - found.shape[axis])
            return np.pad(found, missing) if missing[axis][1] else found

        if self.mesh is None:
            return jax.device_put(part((slice(None),) * (axis + 1)))
        shape = (*array.shape[:axis], self.rows, *array.shape[axis + 1 :])
        return jax.make_array_from_callback(shape, self.layout(shape), part)

    def gather(self, tree: Any) -> Any:
        """The same values in NumPy, whole, in every process."""
        return jax.tree.map(self._gather, tree)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """Programs are compiled for the mesh inside."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def _place(self, leaf: Any) -> Any:
        if self.mesh is None:
            return leaf if isinstance(leaf, jax.Array) else jax.device_put(leaf)
        layout = self.layout(np.shape(leaf))
        if isinstance(leaf, jax.Array):
            return jax.device_put(leaf, layout)
        return jax.make_array_from_callback(leaf.shape, layout, lambda part: leaf[part])

    def _gather(self, leaf: Any) -> Any:
        """Of several processes: one array at a time is whole on each device, for a moment."""
        if self.mesh is not None and not leaf.is_fully_addressable:
            everywhere = NamedSharding(self.mesh, P())
            leaf = jax.jit(lambda array: array, out_shardings=everywhere)(leaf)
        return np.asarray(leaf)

    def layout(self, shape: tuple[int, ...]) -> NamedSharding:
        """How an array of this shape lies on the mesh."""
        assert self.mesh is not None
        axes = {self.rows: ROWS, self.classes: CLASSES}
        # Only the first dimension of a length can lie along an axis of the mesh.
        return NamedSharding(self.mesh, P(*(axes.pop(length, None) for length in shape)))


def mesh_of(config: MeshConfig, classes: int) -> Mesh | None:
    """The mesh that a config asks for, of the devices that there are.

    Raises:
      InputError: there are not so many, or the classes cannot be spread evenly.
    """
    there = jax.devices()
    # The devices of one CPU share its cores, so that spreading gains nothing unless it is asked for.
    found = len(there) if jax.process_count() > 1 or there[0].platform != "cpu" else config.classes
    data = config.data if config.data != -1 else max(1, found // config.classes)
    if data * config.classes > len(there):
        raise InputError(
            f"[mesh] data = {config.data}, classes = {config.classes}: needs "
            f"{data * config.classes} devices, and there are {len(there)}"
        )
    if classes % config.classes:
        raise InputError(
            f"[mesh] classes = {config.classes} must divide the number of classes, {classes}"
        )
    if data * config.classes == 1 and jax.process_count() == 1:
        return None
    chosen = np.array(there[: data * config.classes]).reshape(data, config.classes)
    return Mesh(chosen, (ROWS, CLASSES), axis_types=(AxisType.Auto,) * 2)


def padded(rows: int, places: int, mesh: Mesh | None) -> int:
    """The number of rows, rounded up so that places and devices divide it."""
    devices = 1 if mesh is None else mesh.shape[ROWS]
    step = math.lcm(places, devices)
    return math.ceil(rows / step) * step
