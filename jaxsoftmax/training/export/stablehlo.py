"""StableHLO by `jax.export`: a program for any number of rows, on CPU, CUDA and TPU.

import jax
program = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
probabilities = program.call(rows)          # rows (N, K) float32, any N
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export

import jaxsoftmax
from jaxsoftmax.training.model import Classifier

from . import Exported
from .columns import Floats, Groups, check_float32, groups

PLATFORMS = ("cpu", "cuda", "tpu")
FAR = 1e4  # deviations from 0, beyond which float32 has lost the third digit of a feature


def write(model: Classifier) -> Exported:
    """The program from raw rows ``(N, K)`` to probabilities ``(N, C)``, both float32.

    Raises:
      InputError: float32 cannot hold the numbers of a column.
    """
    found = groups(model)
    check_float32((*found.numbers, *found.vectors), "a StableHLO program")
    width = len(found.numbers) + len(found.categories) + sum(len(v.mean) for v in found.vectors)
    program = jax.jit(lambda rows: _probabilities(found, model.columns.unit_length, rows))
    (rows,) = export.symbolic_shape("rows")
    argument = jax.ShapeDtypeStruct((rows, width), jnp.float32)
    exported = export.export(program, platforms=PLATFORMS)(argument)
    return Exported(bytes(exported.serialize()), tuple(_notes(found, model.classes)))


def _probabilities(found: Groups, unit_length: bool, rows: Array) -> Array:
    features, start = [], 0
    if found.numbers:
        start = len(found.numbers)
        numbers = rows[:, :start]
        absent = jnp.isnan(numbers)
        features.append(jnp.where(absent, 0, _standardised(numbers, found.mean, found.scale)))
        features.append(absent[:, np.array(found.indicators, int)].astype(jnp.float32))
    for column in found.categories:
        values = jnp.arange(len(column.values), dtype=jnp.float32)
        features.append((rows[:, start, None] == values[None, :]).astype(jnp.float32))
        start += 1
    for vector in found.vectors:
        wide = rows[:, start : start + len(vector.mean)]
        features.append(_standardised(wide, np.array(vector.mean), np.array(vector.scale)))
        start += len(vector.mean)
    x = jnp.concatenate(features, axis=1)
    if unit_length:
        length = jnp.sqrt(jnp.sum(x * x, axis=1, keepdims=True))
        x = x / jnp.where(length > 0, length, 1)
    logits = jnp.matmul(x, found.kernel, precision=jax.lax.Precision.HIGHEST)
    return jaxsoftmax.softmax(logits + found.bias[None, :])


def _standardised(x: Array, mean: Floats, scale: Floats) -> Array:
    """(x − mean) / scale, with a mean of twice the digits of float32.

    Its two halves are subtracted on either side of the division, where no compiler adds them up.
    """
    high, divisor = mean.astype(np.float32), scale.astype(np.float32)
    low = ((mean - high) / scale).astype(np.float32)
    return (x - high[None, :]) / divisor[None, :] - low[None, :]


def _notes(found: Groups, classes: Sequence[str]) -> list[str]:
    inputs = [column.name for column in found.numbers]
    inputs += [column.name for column in found.categories]
    inputs += [f"{v.name} ({len(v.mean)} numbers)" for v in found.vectors]
    shown = ", ".join(inputs[:12]) + (f" and {len(inputs) - 12} more" if len(inputs) > 12 else "")
    notes = [
        f"takes rows (N, K) float32 with the columns {shown}; a missing number is NaN",
        f"gives probabilities (N, {len(classes)}) in the order of the classes of model.json",
    ]
    if found.categories:
        notes.append(
            "StableHLO has no text, so that a category comes as the number of its value in "
            "model.json, from 0; -1 is any other"
        )
    far = [c.name for c in found.numbers if abs(c.mean) > FAR * c.scale]
    if far:
        notes.append(
            f"rows are float32, which loses digits of {', '.join(map(repr, far[:5]))}: far from 0 "
            f"for its spread; the other formats take float64"
        )
    return notes
