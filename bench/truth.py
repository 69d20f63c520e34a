"""The truth to 60 digits, ten hard distributions of logits, and what is promised about the error.

The formulas are the textbook's, evaluated by mpmath with 200 bits, so nothing needs to be stable. A
true value is kept as two float64, its rounding and the rest (106 bits), which is exact enough to
measure the error of a float64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import mpmath
import numpy as np

from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.logsumexp import LOGSUMEXP
from jaxsoftmax.testing.operations.record import Exact as Row
from jaxsoftmax.testing.operations.record import Operation, Size

MP = mpmath.MPContext()
MP.prec = 200
_exp = np.vectorize(MP.exp, otypes=[object])

OPERATIONS = tuple(operation for operation in ALL if operation.exact is not None)


# ------------------------------------------------------------------------------------------------
# Inputs
# ------------------------------------------------------------------------------------------------


class Problem(NamedTuple):
    """Logits and all that goes with them; all arrays but the labels in the dtype under test."""

    x: np.ndarray  # (rows, classes)
    labels: np.ndarray  # (rows,), the likeliest class in every other row
    targets: np.ndarray  # (rows, classes), positive, not normalised
    cotangent: np.ndarray  # (rows, classes), for ops with an output per class
    tangent: np.ndarray  # (rows, classes)

    def given(self, op: Operation) -> tuple[Any, ...]:
        """What the operation is called with besides the logits."""
        named = {"labels": self.labels, "targets": self.targets}
        return tuple(named[name] for name in op.inputs[1:])


def _offset(x: np.ndarray, offset: float, dtype: np.dtype) -> np.ndarray:
    return x + min(offset, float(jnp.finfo(dtype).max) / 2)


def _lead(x: np.ndarray, lead: float) -> np.ndarray:
    x = x.copy()
    x[:, 3] = x.max(-1) + lead
    return x


DISTRIBUTIONS: dict[str, Callable[[np.ndarray, np.dtype], np.ndarray]] = {
    "N(0, 1)": lambda x, dtype: x,
    "N(0, 30)": lambda x, dtype: 30 * x,
    "near ties": lambda x, dtype: 1 + 1e-6 * x,
    "one logit +12": lambda x, dtype: _lead(x, 12),
    "one logit +40": lambda x, dtype: _lead(x, 40),
    "1e5 classes": lambda x, dtype: x,
    "+1e4": lambda x, dtype: _offset(x, 1e4, dtype),
    "+1e30": lambda x, dtype: _offset(x, 1e30, dtype),
    "denormal": lambda x, dtype: x * float(jnp.finfo(dtype).tiny) / 100,
    "lse near 0": lambda x, dtype: x - np.log(np.sum(np.exp(x), -1, keepdims=True)),
}


def problem(
    distribution: str, dtype: Any, *, rows: int = 8, classes: int = 1000, many: int = 100_000
) -> Problem:
    """The problem of this name: `rows` x `classes`, or one row of `many` classes for "1e5 classes".

    An offset that the dtype cannot hold (1e30 in float16) is half the largest number instead.
    """
    dtype = np.dtype(dtype)
    if distribution == "1e5 classes":
        rows, classes = 1, many
    random = np.random.default_rng(list(DISTRIBUTIONS).index(distribution))
    x = DISTRIBUTIONS[distribution](random.normal(size=(rows, classes)), dtype).astype(dtype)
    likeliest = x.astype(np.float64).argmax(-1)
    labels = np.where(np.arange(rows) % 2 == 0, likeliest, random.integers(classes, size=rows))
    targets = random.gamma(0.3, size=x.shape) + 1e-3
    targets /= targets.sum(-1, keepdims=True) * random.uniform(0.5, 2, (rows, 1))
    cotangent, tangent = random.normal(size=(2, *x.shape))
    return Problem(
        x, labels.astype(np.int32), *(a.astype(dtype) for a in (targets, cotangent, tangent))
    )


# ------------------------------------------------------------------------------------------------
# Truth
# ------------------------------------------------------------------------------------------------


class Exact(NamedTuple):
    """A true array: its rounding to float64, and what the rounding left."""

    high: np.ndarray
    low: np.ndarray


@dataclasses.dataclass(frozen=True)
class Truth:
    """Value and derivatives of an op, each `(rows, ...)`.

    vjp is the gradient of Σ cotangent ∘ value (of Σ value for one value a row), jvp the derivative
    of the value along the tangent, hvp the derivative of vjp along the tangent. The scale of each
    is, row by row, the largest Σⱼ |Jᵢⱼ||vⱼ|: a sum whose terms cancel cannot be known any better.
    """

    value: Exact
    vjp: Exact
    jvp: Exact
    hvp: Exact
    vjp_scale: np.ndarray
    jvp_scale: np.ndarray
    hvp_scale: np.ndarray
    value_scale: np.ndarray  # NaN where the value's last place is the unit


def truths(problem: Problem) -> dict[str, Truth]:
    """The truth of each operation on this problem, by name."""
    rows = [_row(*arrays) for arrays in zip(*problem, strict=True)]
    found = {}
    for op in (operation.name for operation in OPERATIONS):
        exact = [_exact([row[op][i] for row in rows]) for i in range(4)]
        scales = np.array([row[op][4] for row in rows]).T
        found[op] = Truth(*exact, *scales)
    return found


def _row(
    x: np.ndarray, y: int, t: np.ndarray, c: np.ndarray, v: np.ndarray
) -> dict[str, tuple[Any, ...]]:
    """(value, vjp, jvp, hvp) of each operation in one row, as mpmath numbers, and the scales."""
    size = _size(x, t, c, v)
    x, t, c, v = (_numbers(array) for array in (x, t, c, v))
    e = _exp(x)
    total = MP.fsum(e)
    p = e / total
    pv = MP.fsum(p * v)
    row = Row(x, y, t, c, v, p, MP.log(total), pv, p * (v - pv))
    found = {}
    for operation in OPERATIONS:
        assert operation.exact is not None
        assert operation.terms is not None
        exact = operation.exact(row)
        value, gradient = (np.asarray(part, object).astype(np.float64) for part in exact[:2])
        terms = [float(term) for term in operation.terms(size, value, gradient)]
        found[operation.name] = (*exact, [*terms, np.nan][:4])
    return found


def _size(x: np.ndarray, t: np.ndarray, c: np.ndarray, v: np.ndarray) -> Size:
    x, t, c, v = (array.astype(np.float64) for array in (x, t, c, v))
    e = np.exp(x - x.max())
    return Size(np.abs(c), np.abs(v), e / e.sum(), np.abs(t), _others)


def _others(terms: np.ndarray) -> np.ndarray:
    """Σ of the other terms, for each term; not as a difference where it is small."""
    rest = terms.sum() - terms
    k = terms.argmax()
    rest[k] = np.delete(terms, k).sum()
    return rest


def _numbers(array: np.ndarray) -> np.ndarray:
    return np.array([MP.mpf(v) for v in array.astype(np.float64).tolist()], object)


def _exact(rows: list[Any]) -> Exact:
    numbers = np.array(rows, object)
    high = numbers.astype(np.float64)
    return Exact(high, (numbers - high).astype(np.float64))


# ------------------------------------------------------------------------------------------------
# Errors
# ------------------------------------------------------------------------------------------------
# Where the truth is below the smallest normal number there is no relative accuracy to be had: XLA
# flushes such numbers to 0 on most platforms. There an error of that size is none.


def ulps(got: Any, want: Exact) -> float:
    """The largest error in units in the last place of the truth, in the dtype of `got`."""
    info = jnp.finfo(got.dtype)
    exponent = np.frexp(np.maximum(np.abs(want.high), float(info.tiny)))[1]
    return _largest(_error(got, want) / np.ldexp(1.0, exponent - 1 - info.nmant))


def elementwise(got: Any, want: Exact) -> float:
    """The largest relative error of an element, in eps of the dtype of `got`."""
    info = jnp.finfo(got.dtype)
    scale = np.maximum(np.abs(want.high), float(info.tiny))
    return _largest(_error(got, want) / scale / float(info.eps))


def normwise(got: Any, want: Exact, scale: np.ndarray) -> float:
    """The largest error of a row over its scale, in eps of the dtype of `got`."""
    info = jnp.finfo(got.dtype)
    error = _error(got, want).reshape(len(scale), -1).max(-1)
    return _largest(error / np.maximum(scale, float(info.tiny)) / float(info.eps))


def _error(got: Any, want: Exact) -> np.ndarray:
    """|got - want|; 0 where both are below the smallest normal number."""
    info = jnp.finfo(got.dtype)
    value = np.asarray(got).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs((value - want.high) - want.low)
    if info.dtype == jnp.float16:  # computed in float32, whose range holds float16's subnormals
        return error
    tiny = float(info.tiny) * (1 + 2 * float(info.eps))
    return np.where((np.abs(value) <= tiny) & (np.abs(want.high) < tiny), 0, error)


def _largest(error: np.ndarray) -> float:
    return float("inf") if np.isnan(error).any() else float(error.max())


# ------------------------------------------------------------------------------------------------
# What is promised
# ------------------------------------------------------------------------------------------------


class Promise(NamedTuple):
    """The largest error of each kind; None where nothing is promised."""

    value: float  # units in the last place
    vjp: float  # norm-wise, eps
    jvp: float
    hvp: float
    gradient: float | None = None  # of p - e_y, element-wise, eps


def promised(op: Operation, dtype: Any) -> Promise:
    """The accuracy of `op` on logits of this dtype.

    Half types are computed in float32 and rounded once. Losses of them are returned in float32, and
    so are the losses' tangents: units and eps are then those of float32.
    """
    if np.dtype(dtype).itemsize == 2:
        gradient = 1.0 if op.gradient else None
        return Promise(op.value, 1.0, 4.0, 1.0, gradient) if op.loss else Promise(0.51, 1, 1, 1)
    return Promise(op.value, 4.0, 4.0, 4.0, 100.0 if op.gradient else None)


def errors(
    op: Operation, results: tuple[Any, ...], truth: Truth, x: np.ndarray
) -> dict[str, float]:
    """All errors of (value, vjp, jvp, hvp), by name, in the units of `Promise`."""
    value, vjp, jvp, hvp = results
    found = {
        "value": ulps(value, truth.value)
        if np.isnan(truth.value_scale).all()
        else normwise(value, truth.value, truth.value_scale),
        "vjp": normwise(vjp, truth.vjp, truth.vjp_scale),
        "jvp": normwise(jvp, truth.jvp, truth.jvp_scale),
        "hvp": normwise(hvp, truth.hvp, truth.hvp_scale),
        "vjp elementwise": elementwise(vjp, truth.vjp),
        "jvp elementwise": elementwise(jvp, truth.jvp),
        "hvp elementwise": elementwise(hvp, truth.hvp),
    }
    if op is LOGSUMEXP:  # near 0 it is the difference of large numbers: eps max(1, |m|) will do
        bound = float(jnp.finfo(value.dtype).eps) * np.maximum(1, np.abs(x.astype(float)).max(-1))
        if (_error(value, truth.value) <= bound).all():
            found["value"] = min(found["value"], promised(op, value.dtype).value)
    if op.gradient:
        found["gradient"] = found["vjp elementwise"]
    return found


def missed(
    op: Operation, dtype: Any, found: dict[str, float]
) -> Iterator[tuple[str, float, float]]:
    """(what, error, promise) of each promise that is not kept."""
    for what, promise in promised(op, dtype)._asdict().items():
        if promise is not None and not found[what] <= promise:
            yield what, found[what], promise
