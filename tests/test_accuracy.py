"""The figures promised, on small samples of hard distributions; and that they are no formality."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxsoftmax
from jaxsoftmax.ops import _numerics as numerics
from tests import truth

DTYPES = ["float32", "bfloat16", "float16", "float64"]
SIZES = {"rows": 4, "classes": 100, "many": 100}

CALLS: dict[str, Callable[[Any, truth.Problem], Any]] = {
    "softmax": lambda x, p: jaxsoftmax.softmax(x),
    "log_softmax": lambda x, p: jaxsoftmax.log_softmax(x),
    "logsumexp": lambda x, p: jaxsoftmax.logsumexp(x, -1),
    truth.INTEGER: lambda x, p: jaxsoftmax.softmax_cross_entropy_with_integer_labels(x, p.labels),
    "softmax_cross_entropy": lambda x, p: jaxsoftmax.softmax_cross_entropy(x, p.targets),
}


@pytest.fixture
def mode(dtype: str) -> Iterator[None]:
    with jax.enable_x64(dtype == "float64"):
        yield


@functools.cache
def problems(dtype: str) -> tuple[truth.Problem, ...]:
    kept = [name for name in truth.DISTRIBUTIONS if name != "1e5 classes"]
    return tuple(truth.problem(name, jnp.dtype(dtype), **SIZES) for name in kept)


@functools.cache
def true(dtype: str) -> tuple[dict[str, truth.Truth], ...]:
    return tuple(truth.truths(problem) for problem in problems(dtype))


def derivatives(op: str) -> Callable[[truth.Problem], Any]:
    """(value, vjp, jvp, hvp), compiled."""

    def all_of_them(p: truth.Problem) -> Any:
        def f(x: Any) -> Any:
            return CALLS[op](x, p)

        out = f(p.x)
        bar = p.cotangent if out.ndim == 2 else jnp.ones_like(out)

        def vjp(x: Any) -> Any:
            return jax.vjp(f, x)[1](bar)[0]

        return out, vjp(p.x), *(jax.jvp(g, (p.x,), (p.tangent,))[1] for g in (f, vjp))

    return jax.jit(all_of_them)


def misses(op: str, dtype: str) -> list[str]:
    """What is not kept, of what is promised."""
    run = derivatives(op)
    found = []
    for problem, truths, name in zip(
        problems(dtype),
        true(dtype),
        (n for n in truth.DISTRIBUTIONS if n != "1e5 classes"),
        strict=True,
    ):
        arrays = jax.tree.map(jnp.asarray, problem)
        errors = truth.errors(op, run(arrays), truths[op], problem.x)
        for what, error, promise in truth.missed(op, jnp.dtype(dtype), errors):
            found.append(f"{name}: {what} off by {error:.3g}, promised {promise:g}")
    return found


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", truth.OPS)
def test_accuracy_is_as_promised(op: str, dtype: str) -> None:
    assert misses(op, dtype) == []


# ------------------------------------------------------------------------------------------------
# The promises are no formality: the textbook's forms break them
# ------------------------------------------------------------------------------------------------


def _no_error_term(x: Any, largest: Any) -> Any:
    return jnp.exp(jnp.minimum(x, largest) - numerics.shift(largest))


def _no_correction(largest: Any) -> Any:
    return jnp.exp(largest - numerics.shift(largest))


MUTANTS: dict[str, tuple[str, Any, str]] = {
    "rounding of x - m not put right": ("exponentials", _no_error_term, "softmax"),
    "exp of the maximum not put right": ("largest_exponential", _no_correction, "logsumexp"),
    "the label inside the sum": ("without_class", lambda e, y, axis: e, truth.INTEGER),
    "log of the whole sum": ("RowStatistics", None, "log_softmax"),
    "label gradient as p - 1": ("majority", jnp.zeros_like, "softmax"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_textbook_form_breaks_the_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute, mutant, op = MUTANTS[name]
    if mutant is None:
        whole = property(lambda row: jnp.log(row.ties + row.rest))
        monkeypatch.setattr(numerics.RowStatistics, "log_total", whole)
    else:
        monkeypatch.setattr(numerics, attribute, mutant)
    jax.clear_caches()
    try:
        assert misses(op, "float32")
    finally:
        jax.clear_caches()
