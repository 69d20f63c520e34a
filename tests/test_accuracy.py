"""The figures promised, on small samples of hard distributions; and that they are no formality."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxsoftmax
from bench import truth
from jaxsoftmax.ops import row as rows
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.row import cpu, xla
from jaxsoftmax.ops.row.exponentials import largest_exponential, shift
from jaxsoftmax.ops.softmax import jacobian_product
from jaxsoftmax.testing.operations import OF_HEADS
from jaxsoftmax.testing.operations.heads import ENTROPY, LOG_PROB
from jaxsoftmax.testing.operations.log_softmax import LOG_SOFTMAX
from jaxsoftmax.testing.operations.losses import LABELS
from jaxsoftmax.testing.operations.record import Operation
from jaxsoftmax.testing.operations.softmax import SOFTMAX

DTYPES = ["float32", "bfloat16", "float16", "float64"]
# Few classes are one block of a sum, and their errors do not average out.
CLASSES = [100, 4]


@pytest.fixture
def mode(dtype: str) -> Iterator[None]:
    with jax.enable_x64(dtype == "float64"):
        yield


@functools.cache
def problems(dtype: str, classes: int) -> tuple[truth.Problem, ...]:
    kept = [name for name in truth.DISTRIBUTIONS if name != "1e5 classes"]
    return tuple(truth.problem(n, jnp.dtype(dtype), rows=4, classes=classes) for n in kept)


@functools.cache
def true(dtype: str, classes: int) -> tuple[dict[str, truth.Truth], ...]:
    return tuple(truth.truths(problem) for problem in problems(dtype, classes))


def derivatives(op: Operation) -> Callable[[truth.Problem], Any]:
    """(value, vjp, jvp, hvp), compiled."""

    def all_of_them(p: truth.Problem) -> Any:
        def f(x: Any) -> Any:
            return op.function(x, *p.given(op))

        out = f(p.x)
        bar = p.cotangent if out.ndim == 2 else jnp.ones_like(out)

        def vjp(x: Any) -> Any:
            return jax.vjp(f, x)[1](bar)[0]

        return out, vjp(p.x), *(jax.jvp(g, (p.x,), (p.tangent,))[1] for g in (f, vjp))

    return jax.jit(all_of_them)


def misses(op: Operation, dtype: str, classes: int) -> list[str]:
    """What is not kept, of what is promised."""
    run = derivatives(op)
    found = []
    for problem, truths, name in zip(
        problems(dtype, classes),
        true(dtype, classes),
        (n for n in truth.DISTRIBUTIONS if n != "1e5 classes"),
        strict=True,
    ):
        arrays = jax.tree.map(jnp.asarray, problem)
        errors = truth.errors(op, run(arrays), truths[op.name], problem.x)
        for what, error, promise in truth.missed(op, jnp.dtype(dtype), errors):
            found.append(f"{name}: {what} off by {error:.3g}, promised {promise:g}")
    return found


ON_LOGITS = [op for op in truth.OPERATIONS if op not in OF_HEADS]


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ON_LOGITS, ids=lambda op: op.name)
def test_accuracy_is_as_promised(op: Operation, dtype: str, classes: int) -> None:
    assert misses(op, dtype, classes) == []


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", OF_HEADS, ids=lambda op: op.name)
def test_accuracy_of_what_heads_tell_is_as_promised(op: Operation, dtype: str) -> None:
    assert misses(op, dtype, CLASSES[0]) == []


@pytest.mark.once
@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("op", [LOG_PROB, ENTROPY], ids=lambda op: op.name)
def test_accuracy_of_log_probability_and_entropy_is_as_promised(op: Operation, dtype: str) -> None:
    assert misses(op, dtype, CLASSES[0]) == []


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize("op", ON_LOGITS, ids=lambda op: op.name)
def test_accuracy_is_as_promised_in_the_forms_for_other_devices(
    op: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        xla, "by_platform", lambda cpu, other, *args, results=None: jax.tree.leaves(other(*args))
    )
    monkeypatch.setattr(xla, "stored", lambda x: x)
    monkeypatch.setattr(xla, "at_most", jnp.minimum)
    jax.clear_caches()
    try:
        assert misses(op, "float32", CLASSES[0]) == []
    finally:
        jax.clear_caches()


def gradient_errors(dtype: str, classes: int) -> list[float]:
    """Of distributions that are certain of a class: p - e_y, element-wise, in eps."""

    def gradient(x: Any, t: Any) -> Any:
        return jax.grad(lambda x: jnp.sum(jaxsoftmax.softmax_cross_entropy(x, t)))(x)

    run = jax.jit(gradient)
    found = []
    for problem, truths in zip(problems(dtype, classes), true(dtype, classes), strict=True):
        targets = jax.nn.one_hot(problem.labels, classes, dtype=dtype)
        got = run(jnp.asarray(problem.x), targets)
        found.append(truth.elementwise(got, truths[LABELS.name].vjp))
    return found


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_certain_distribution_has_the_gradient_of_a_label(dtype: str, classes: int) -> None:
    promise = truth.promised(LABELS, jnp.dtype(dtype)).gradient
    assert promise is not None
    assert max(gradient_errors(dtype, classes)) <= promise


# ------------------------------------------------------------------------------------------------
# The promises are no formality: the textbook's forms break them
# ------------------------------------------------------------------------------------------------


_statistics = rows.statistics


def _plain_logarithm(x: Any, m: Any, *args: Any) -> Any:
    row = _statistics(x, m, *args)
    return row._replace(excess=jnp.log(row.total / largest_exponential(m)))


MUTANTS: dict[str, tuple[Any, str, Any, Operation]] = {
    "small probabilities rounded": (
        Here,
        "most_room",
        lambda here, x: rows.ROOM,
        SOFTMAX,
    ),
    "large terms among the small": (rows, "exact_total", rows.total, SOFTMAX),
    "the maximum as the shift": (
        sys.modules[shift.__module__],
        "shift",
        lambda m, room: m,
        LABELS,
    ),
    "the label inside the sum": (cpu, "without_class", lambda e, y, axis: e, LABELS),
    "log of the whole sum": (rows, "statistics", _plain_logarithm, LOG_SOFTMAX),
    "main class like any other": (
        sys.modules[jacobian_product.__module__],
        "jacobian_product",
        lambda p, v, classes: p * (v - classes.sums(p * v)[0]),
        SOFTMAX,
    ),
}


@pytest.mark.usefixtures("forms")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_textbook_form_breaks_the_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute, mutant, op = MUTANTS[name]
    monkeypatch.setattr(module, attribute, mutant)
    jax.clear_caches()
    try:
        assert any(misses(op, "float32", classes) for classes in CLASSES)
    finally:
        jax.clear_caches()


@pytest.mark.usefixtures("forms")
def test_the_main_class_like_any_other_loses_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_main_class(*args: Any) -> Any:
        row = _statistics(*args)
        return row._replace(main=jnp.full_like(row.main, -1), others=row.total)

    monkeypatch.setattr(rows, "statistics", no_main_class)
    jax.clear_caches()
    try:
        assert max(gradient_errors("float32", CLASSES[0])) > 1e3
    finally:
        jax.clear_caches()
