"""What a step of a config takes of each device's memory, from the compiled program; nothing runs.

JAX_NUM_CPU_DEVICES=8 python -m bench.wide [CONFIG] [--set …]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsoftmax.training.config import RunConfig, load_config
from jaxsoftmax.training.runs import devices, programs
from jaxsoftmax.training.runs.job import horizon_of
from jaxsoftmax.training.solvers import Params, Problem, Settings

MB = 1e6


class Memory(NamedTuple):
    """Bytes of one device: what goes into a step, what comes out, and what it needs on the way."""

    arguments: int
    results: int
    scratch: int


def memory(config: RunConfig, rows: int, features: int, classes: int) -> Memory:
    """That of a step on a batch of so many rows of each epoch."""
    mesh = devices.mesh_of(config.mesh, classes)
    places = devices.Devices(mesh, rows, classes)

    def laid_out(tree):
        def one(leaf):
            layout = None if mesh is None else places.layout(leaf.shape)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=layout)

        return jax.tree.map(one, tree)

    def shape(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(sizes, dtype)

    problem = Problem(
        shape(rows, features), shape(rows, dtype=jnp.int32), shape(rows), shape(), shape()
    )
    params = Params(shape(features, classes), shape(classes))
    settings = Settings(shape(), shape(dtype=jnp.int32))
    solver = config.solver.solver(horizon_of(config, rows))
    sizes = config.solver.batch_size or rows, rows, 1 if mesh is None else mesh.shape["data"]
    number = shape(dtype=jnp.int32)
    with places.context():
        state = laid_out(jax.eval_shape(solver.init, problem, params, settings))
        lowered = programs.batch_steps.lower(
            solver, 0, sizes, laid_out(problem), state, number, number, number
        )
        found = lowered.compile().memory_analysis()
    return Memory(
        found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes
    )


def main(arguments: list[str]) -> None:
    """A line for each number of devices that share the classes."""
    path, *sets = [text for text in arguments if text != "--set"] or ["configs/wide.toml"]
    config = load_config(Path(path), sets)
    shape = config.data.synthetic
    if shape is None:
        sys.exit(f"{path}: has no [data.synthetic]")
    print("| devices | in | out | on the way |\n|--:|--:|--:|--:|")
    count = 1
    while count <= len(jax.devices()):
        mesh = config.mesh.model_copy(update={"data": 1, "classes": count})
        spread = config.model_copy(update={"mesh": mesh})
        found = memory(spread, shape.rows, shape.features, shape.classes)
        print(f"| {count} | " + " | ".join(f"{part / MB:,.1f} MB" for part in found) + " |")
        count *= 2


if __name__ == "__main__":
    main(sys.argv[1:])
