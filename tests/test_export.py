"""Ahead of time (`jax.export`): sizes that are symbols, and programs for other machines.

Each exported program is run at one size and compared with the textbook in float64.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxsoftmax

N, C, D = 5, 12, 3  # rows, and classes along one axis or two; 36 are a long row, 12 a short one
SYMBOLS = {"batch": "n", "classes": "c d", "both": "n c d"}
FORMS = {"plain": -1, "where": -1, "axis 0": 0, "tuple": (1, 2)}
OPS: dict[str, Callable[..., Any]] = {
    "softmax": jaxsoftmax.softmax,
    "log_softmax": jaxsoftmax.log_softmax,
    "logsumexp": jaxsoftmax.logsumexp,
    "distributions": jaxsoftmax.softmax_cross_entropy,
    "labels": jaxsoftmax.softmax_cross_entropy_with_integer_labels,
    "probabilities": jaxsoftmax.cross_entropy,
}
CALLS = [(op, form) for op in OPS for form in FORMS] + [
    ("logsumexp", "b"),
    ("labels", "class weights"),
    ("distributions", "rows"),
]


def arguments(op: str, form: str, sizes: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and dtypes of a call."""
    n, c, d = (sizes[name] for name in "ncd")
    shape = (n, c, d) if form == "tuple" else (c, n) if form == "axis 0" else (n, c)
    found = {"x": (shape, np.float32)}
    if op in ("distributions", "probabilities"):
        found["labels"] = (shape, np.float32)
    if op == "labels":
        found["labels"] = ((n,), np.int32)
    if form in ("where", "rows"):
        found["where"] = (shape if form == "where" else (n,), np.bool_)
    if form == "b":
        found["b"] = (shape, np.float32)
    if form == "class weights":
        found["class_weights"] = ((c,), np.float32)
    return {name: jax.ShapeDtypeStruct(*kind) for name, kind in found.items()}


def values(specs: dict[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def value(name: str, spec: jax.ShapeDtypeStruct) -> np.ndarray:
        if spec.dtype == np.bool_:
            mask = random.random(spec.shape) < 0.7
            if spec.ndim > 1:  # a label that is masked costs infinity
                mask[..., :5] = True
            return mask
        if spec.dtype == np.int32:
            return random.integers(0, 5, spec.shape, np.int32)
        return random.uniform(0.1, 2, spec.shape).astype(np.float32)

    return {name: value(name, spec) for name, spec in specs.items()}


def called(op: str, form: str) -> Callable[[dict[str, Any]], Any]:
    """The value, and the gradient of a sum of it, of one call."""

    def call(x: Any, given: dict[str, Any]) -> Any:
        rest = {name: value for name, value in given.items() if name != "x"}
        first = [rest.pop("labels")] if "labels" in rest else []
        return OPS[op](x, *first, axis=FORMS.get(form, -1), **rest)

    return lambda given: _value_and_gradient(lambda x: call(x, given), given["x"])


def textbook(op: str, form: str, given: dict[str, Any]) -> Any:
    """The same from the formulas in float64."""
    axis = FORMS.get(form, -1)
    one = jnp.float64(1)

    def call(x: Any) -> Any:
        if form == "tuple":
            x = x.reshape(N, -1)
        of_axis = 1 if form == "tuple" else axis
        there = given["where"] if form == "where" else jnp.full(x.shape, True)
        e = jnp.where(there, jnp.exp(x), 0) * given.get("b", one)
        total = jnp.sum(e, of_axis, keepdims=True)
        if op == "softmax":
            out = e / total
            return out.reshape(N, -1, D) if form == "tuple" else out
        if op == "log_softmax":
            out = jnp.where(there, x - jnp.log(total), -jnp.inf)
            return out.reshape(N, -1, D) if form == "tuple" else out
        if op == "logsumexp":
            return jnp.squeeze(jnp.log(total), of_axis)
        log_p = jnp.log(x) if op == "probabilities" else x - jnp.log(total)
        if op == "labels":
            t = jax.nn.one_hot(given["labels"], x.shape[of_axis], axis=of_axis, dtype=x.dtype)
        else:
            t = given["labels"].reshape(x.shape)
        losses = -jnp.sum(t * given.get("class_weights", one) * jnp.where(there, log_p, 0), of_axis)
        return jnp.where(given["where"], losses, 0) if form == "rows" else losses

    return _value_and_gradient(call, given["x"])


def _value_and_gradient(call: Callable[[Any], Any], x: Any) -> Any:
    """Of squares, so that each entry of the value has another cotangent."""
    value, back = jax.vjp(call, x)
    (gradient,) = back(jnp.where(jnp.isinf(value), 0, 2 * value))
    return value, gradient


@pytest.mark.default_modes
@pytest.mark.parametrize("symbols", SYMBOLS)
@pytest.mark.parametrize(("op", "form"), CALLS)
def test_sizes_may_be_symbols(op: str, form: str, symbols: str) -> None:
    sizes: dict[str, Any] = {"n": N, "c": C, "d": D}
    if form not in ("tuple", "axis 0"):
        sizes["c"] = C * D
    given = values(arguments(op, form, sizes))

    names = SYMBOLS[symbols].split()
    symbolic = export.symbolic_shape(" ".join(names).replace(" ", ","))
    specs = arguments(op, form, sizes | dict(zip(names, symbolic, strict=True)))
    exported = export.export(jax.jit(called(op, form)))(specs)

    got = exported.call(given)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda v: v.astype(np.float64) if v.dtype == np.float32 else v, given)
        expected = textbook(op, form, wide)
    for ours, right in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-6)


@pytest.mark.default_modes
@pytest.mark.parametrize("classes", [10, 40, 5000])
@pytest.mark.parametrize("op", OPS)
def test_a_cpu_exports_for_other_machines(op: str, classes: int) -> None:
    """Of half types, value and derivatives of both modes and orders, with all safety checks on."""
    specs = {
        name: spec.update(dtype=jnp.bfloat16) if spec.dtype == np.float32 else spec
        for name, spec in arguments(op, "plain", {"n": 8, "c": classes, "d": 1}).items()
    }

    def all_of_it(given: dict[str, Any]) -> Any:
        return jax.jvp(called(op, "plain"), (given,), (_tangents(given),))

    def _tangents(given: dict[str, Any]) -> dict[str, Any]:
        zero = jax.dtypes.float0
        return {
            name: np.zeros(v.shape, zero) if v.dtype == np.int32 else v for name, v in given.items()
        }

    exported = export.export(jax.jit(all_of_it), platforms=("cuda", "tpu"))(specs)
    assert exported.platforms == ("cuda", "tpu")
    assert not exported.disabled_safety_checks
    for word in ("optimization_barrier", "LayoutConstraint", "reduce_window"):  # what is the CPU's
        assert word not in exported.mlir_module(), word
