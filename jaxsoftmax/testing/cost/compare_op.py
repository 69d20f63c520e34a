"""`compare` of an operation of this package with all that computes the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxsoftmax.testing.operations import named
from jaxsoftmax.testing.operations.record import Operation

from .compare import compare
from .comparison import Comparison
from .modes import Mode


def compare_op(
    op: str,
    shape: Sequence[int] | str,
    dtype: str = "float32",
    modes: Sequence[Mode] = ("value_and_grad", "jvp"),
    *,
    seconds: float = 2.0,
    seed: int = 0,
) -> Comparison:
    """`compare` of an operation of this package with all that computes the same, on random numbers.

    Args:
      op: a public name, such as "softmax" or "softmax_cross_entropy_with_integer_labels". Losses
        are averaged over the rows, so that value_and_grad and jvp are those of a training step.
      shape: rows and classes; for "linear_softmax_cross_entropy" rows, features and classes;
        numbers, or text such as "4096x1000".
      dtype: a floating-point dtype, by name.
      modes: as for `compare`.
      seconds: as for `compare`.
      seed: of the arguments.

    Returns:
      The measurements, in which the textbook formula is the baseline.

    Raises:
      ValueError: an argument makes no sense; the message says what to write.

    Example:
      >>> from jaxsoftmax.testing import compare_op
      >>> result = compare_op("softmax", "64x10", modes=["forward"], seconds=0.01)
      >>> [row.name for row in result.measurements]
      ['automatic', 'custom', 'custom_vjp', 'jax.nn']
    """
    operation = named(op)
    args = arguments(operation, _sizes(shape) if isinstance(shape, str) else shape, dtype, seed)
    functions, wrt = operation.contenders(), operation.wrt
    return compare(functions, *args, wrt=wrt, modes=modes, seconds=seconds, seed=seed)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if not all(size.isdecimal() for size in sizes):
        raise ValueError(f"Expected a shape such as 4096x1000, got {text!r}.")
    return tuple(map(int, sizes))


def arguments(
    operation: Operation, shape: Sequence[int], dtype: str, seed: int = 0
) -> tuple[Array, ...]:
    """Random inputs of an operation at a shape: rows, features where it has them, and classes."""
    linear = "features" in operation.inputs
    if len(shape) != 2 + linear or any(n < 1 for n in shape):
        what = "rows, features and classes" if linear else "rows and classes"
        raise ValueError(
            f"The shape of {operation.name} is {what}, all positive, got {tuple(shape)}."
        )
    if dtype not in ("float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype!r}.")
    if dtype == "float64" and not jax.config.jax_enable_x64:
        raise ValueError("float64 needs JAX's 64-bit mode. Set the environment: JAX_ENABLE_X64=1")

    rng = np.random.default_rng(seed)
    rows, width, classes = shape[0], shape[-2], shape[-1]

    def normal(*size: int, scale: float = 1.0) -> Array:
        return jnp.asarray(scale * rng.standard_normal(size, np.float32), dtype)

    def targets() -> Array:
        weights = rng.random((rows, classes), np.float32)
        return jnp.asarray(weights / weights.sum(-1, keepdims=True), dtype)

    draw: dict[str, Callable[[], Array]] = {
        "logits": lambda: normal(rows, classes, scale=3.0),
        "labels": lambda: jnp.asarray(rng.integers(classes, size=rows), jnp.int32),
        "targets": targets,
        "features": lambda: normal(rows, width),
        "kernel": lambda: normal(width, classes, scale=width**-0.5),
    }
    return tuple(draw[name]() for name in operation.inputs)
