"""Every operation of this package beside what else computes it, by name.

automatic    the textbook formula, differentiated by JAX, through the maximum as well
custom       this package
custom_vjp   the same forward pass and the same reverse rule, in plain `jax.custom_vjp`
unfused      this package's loss, on logits that are formed first
jax.nn       JAX's own
optax        the losses of optax, where it is installed
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxsoftmax
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.distribution_loss import distribution_loss
from jaxsoftmax.ops.label_loss import label_loss
from jaxsoftmax.ops.log_softmax import log_softmax_of
from jaxsoftmax.ops.logsumexp import _logsumexp
from jaxsoftmax.ops.row.exponentials import wide
from jaxsoftmax.ops.softmax import softmax_of

from ._compare import compare
from ._comparison import Comparison
from ._modes import Mode

Function = Callable[..., Any]

SOFTMAX = "softmax"
LOG_SOFTMAX = "log_softmax"
LOGSUMEXP = "logsumexp"
INTEGER = "softmax_cross_entropy_with_integer_labels"
DISTRIBUTION = "softmax_cross_entropy"
LINEAR = "linear_softmax_cross_entropy"
OPS = (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, INTEGER, DISTRIBUTION, LINEAR)


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
    args = arguments(op, _sizes(shape) if isinstance(shape, str) else shape, dtype, seed)
    wrt = (0, 1) if op == LINEAR else 0
    return compare(contenders(op), *args, wrt=wrt, modes=modes, seconds=seconds, seed=seed)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if not all(size.isdecimal() for size in sizes):
        raise ValueError(f"Expected a shape such as 4096x1000, got {text!r}.")
    return tuple(map(int, sizes))


def arguments(op: str, shape: Sequence[int], dtype: str, seed: int = 0) -> tuple[Array, ...]:
    """Random logits, features and labels of such a problem."""
    _checked(op)
    sizes = 3 if op == LINEAR else 2
    if len(shape) != sizes or any(n < 1 for n in shape):
        what = "rows, features and classes" if op == LINEAR else "rows and classes"
        raise ValueError(f"The shape of {op} is {what}, all positive, got {tuple(shape)}.")
    if dtype not in ("float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype!r}.")
    if dtype == "float64" and not jax.config.jax_enable_x64:
        raise ValueError("float64 needs JAX's 64-bit mode. Set the environment: JAX_ENABLE_X64=1")

    rng = np.random.default_rng(seed)
    rows, classes = shape[0], shape[-1]

    def normal(*size: int, scale: float = 1.0) -> Array:
        return jnp.asarray(scale * rng.standard_normal(size, np.float32), dtype)

    def labels() -> Array:
        return jnp.asarray(rng.integers(classes, size=rows), jnp.int32)

    if op == LINEAR:
        features = shape[1]
        return normal(rows, features), normal(features, classes, scale=features**-0.5), labels()
    logits = normal(rows, classes, scale=3.0)
    if op == INTEGER:
        return logits, labels()
    if op == DISTRIBUTION:
        weights = rng.random((rows, classes), np.float32)
        return logits, jnp.asarray(weights / weights.sum(-1, keepdims=True), dtype)
    return (logits,)


def contenders(op: str) -> dict[str, Function]:
    """The functions that compute `op` on the last axis, by name; a loss is the mean over rows."""
    _checked(op)
    found = dict(_CONTENDERS[op])
    if op in _OPTAX and importlib.util.find_spec("optax"):
        found["optax"] = _OPTAX[op](importlib.import_module("optax.losses"))
    return found


def _checked(op: str) -> None:
    if op not in OPS:
        raise ValueError(f"There is no operation {op!r}. Choose from {', '.join(OPS)}.")


# ------------------------------------------------------------------------------------------------
# The textbook
# ------------------------------------------------------------------------------------------------


def _textbook_softmax(x: Array) -> Array:
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _textbook_logsumexp(x: Array) -> Array:
    m = x.max(-1, keepdims=True)
    return (m + jnp.log(jnp.exp(x - m).sum(-1, keepdims=True)))[..., 0]


def _textbook_log_softmax(x: Array) -> Array:
    z = x - x.max(-1, keepdims=True)
    return z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))


def _textbook_integer(x: Array, y: Array) -> Array:
    picked = jnp.take_along_axis(_textbook_log_softmax(x), y[..., None], -1)
    return -picked.mean()


def _textbook_distribution(x: Array, t: Array) -> Array:
    return -(t * _textbook_log_softmax(x)).sum(-1).mean()


# ------------------------------------------------------------------------------------------------
# This package's rules in plain jax.custom_vjp
# ------------------------------------------------------------------------------------------------


def _reverse_softmax(x: Array) -> Array:
    return _array(softmax_of.custom_vjp(x, classes=Here(x.ndim - 1)))


def _reverse_log_softmax(x: Array) -> Array:
    return _array(log_softmax_of.custom_vjp(x, classes=Here(x.ndim - 1))[0])


def _reverse_logsumexp(x: Array) -> Array:
    return jnp.squeeze(_array(_logsumexp.custom_vjp(x, classes=Here(x.ndim - 1))[0]), -1)


def _reverse_integer(x: Array, y: Array) -> Array:
    y = y[..., None]
    rows = label_loss.custom_vjp(wide(x), y, None, None, None, classes=Here(x.ndim - 1), z_loss=0.0)
    return jnp.mean(_array(rows))


def _reverse_distribution(x: Array, t: Array) -> Array:
    rows = distribution_loss.custom_vjp(
        wide(x), wide(t), None, classes=Here(x.ndim - 1), z_loss=0.0
    )
    return jnp.mean(_array(rows))


def _array(value: Any) -> Array:
    array: Array = value
    return array


# ------------------------------------------------------------------------------------------------
# The table
# ------------------------------------------------------------------------------------------------


def _mean(loss: Function) -> Function:
    return lambda x, labels: loss(x, labels).mean()


def _on_logits(mean_loss: Function) -> Function:
    return lambda features, kernel, labels: mean_loss(features @ kernel, labels)


_CONTENDERS: dict[str, dict[str, Function]] = {
    SOFTMAX: {
        "automatic": _textbook_softmax,
        "custom": jaxsoftmax.softmax,
        "custom_vjp": _reverse_softmax,
        "jax.nn": jax.nn.softmax,
    },
    LOG_SOFTMAX: {
        "automatic": _textbook_log_softmax,
        "custom": jaxsoftmax.log_softmax,
        "custom_vjp": _reverse_log_softmax,
        "jax.nn": jax.nn.log_softmax,
    },
    LOGSUMEXP: {
        "automatic": _textbook_logsumexp,
        "custom": lambda x: jaxsoftmax.logsumexp(x, -1),
        "custom_vjp": _reverse_logsumexp,
        "jax.nn": lambda x: jax.nn.logsumexp(x, -1),
    },
    INTEGER: {
        "automatic": _textbook_integer,
        "custom": _mean(jaxsoftmax.softmax_cross_entropy_with_integer_labels),
        "custom_vjp": _reverse_integer,
    },
    DISTRIBUTION: {
        "automatic": _textbook_distribution,
        "custom": _mean(jaxsoftmax.softmax_cross_entropy),
        "custom_vjp": _reverse_distribution,
    },
    LINEAR: {
        "automatic": _on_logits(_textbook_integer),
        "custom": jaxsoftmax.linear_softmax_cross_entropy,
        "unfused": _on_logits(_mean(jaxsoftmax.softmax_cross_entropy_with_integer_labels)),
    },
}

_OPTAX: dict[str, Callable[[Any], Function]] = {
    INTEGER: lambda optax: _mean(optax.softmax_cross_entropy_with_integer_labels),
    DISTRIBUTION: lambda optax: _mean(optax.softmax_cross_entropy),
    LINEAR: lambda optax: _on_logits(_mean(optax.softmax_cross_entropy_with_integer_labels)),
}
