"""Compiled with what comes before: no row turns NaN, and a poisoned row stays alone."""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsoftmax
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.linear_loss import LINEAR

N, D, C = 64, 16, 33
RANDOM = np.random.default_rng(0)
H, W = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((N, D), (D, C)))
B = RANDOM.normal(size=(1, C)).astype(np.float32)
Y = RANDOM.integers(C, size=N).astype(np.int32)
T = RANDOM.dirichlet(np.ones(C), size=N).astype(np.float32)

PREFIXES: dict[str, Callable[[Any, Any], Any]] = {
    "scaled": lambda h, w: (h @ w) * 1.7,
    "tempered": lambda h, w: (h @ w + B) / 0.7,
    "affine": lambda h, w: (h @ w) * 0.3 + B * 1e5,
    "one column": lambda h, w: h[:, :1] * w[:1] / 0.7 + B,
    "capped": lambda h, w: 50 * jnp.tanh((h @ w + B) / 50) / 0.7,
    "centred": lambda h, w: ((h @ w) - jnp.mean(h @ w, -1, keepdims=True)) * 1.3,
}
LOSSES: dict[str, Callable[[Any], Any]] = {
    "integer": lambda x: jaxsoftmax.softmax_cross_entropy_with_integer_labels(x, Y),
    "distribution": lambda x: jaxsoftmax.softmax_cross_entropy(x, T),
    "log_softmax": lambda x: -jnp.sum(jnp.maximum(jaxsoftmax.log_softmax(x), -1e30) * T, -1),
    "logsumexp": lambda x: jaxsoftmax.logsumexp(x, -1) - jnp.max(x, -1),
    "softmax": lambda x: jnp.sum(jaxsoftmax.softmax(x) * T, -1),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_row_turns_nan_under_jit(prefix: str, loss: str) -> None:
    def row_losses(h: Any) -> Any:
        return LOSSES[loss](PREFIXES[prefix](h, W))

    @jax.jit
    def run(h: Any) -> Any:
        values, vjp = jax.vjp(row_losses, h)
        return values, vjp(jnp.ones_like(values))[0], PREFIXES[prefix](h, W)

    for magnitude in 10.0 ** np.arange(0, 31, 3):
        values, gradient, logits = run(H * np.float32(magnitude))
        assert np.isfinite(logits).all()
        assert not np.isnan(values).any(), magnitude
        assert not np.isnan(gradient).any(), magnitude
        if loss in ("integer", "distribution"):
            assert np.all(np.asarray(values) >= 0), magnitude


# ------------------------------------------------------------------------------------------------
# Poison
# ------------------------------------------------------------------------------------------------

X = RANDOM.normal(size=(5, 7)).astype(np.float32)
LABELS = RANDOM.integers(7, size=5).astype(np.int32)


@jax.jit
def everything(x: Any, y: Any) -> Any:
    """Values and gradients of every op, a row each."""
    others = {"labels": y, "targets": jnp.abs(X)}
    results = []
    for op in ALL:
        if op is LINEAR:
            continue
        value, vjp = jax.vjp(lambda x, op=op: op.function(x, *map(others.get, op.inputs[1:])), x)
        results += [value, vjp(jnp.ones_like(value) + jnp.asarray(0.5))[0]]
    return results


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, "label"])
def test_a_poisoned_row_leaves_the_others_bit_identical(poison: Any) -> None:
    clean = everything(X, LABELS)
    for row in range(len(X)):
        x, labels = X.copy(), LABELS.copy()
        if poison == "label":
            labels[row] = 99
        else:
            x[row, row] = poison
        others = np.arange(len(X)) != row
        for got, want in zip(everything(x, labels), clean, strict=True):
            np.testing.assert_array_equal(np.asarray(got)[others], np.asarray(want)[others])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_poison_leaves_every_gradient_bit_identical(reduction: Any) -> None:
    f, w = RANDOM.normal(size=(5, 3)).astype(np.float32), W[:3, :7]

    @jax.jit
    def run(f: Any, labels: Any) -> Any:
        loss = functools.partial(
            jaxsoftmax.linear_softmax_cross_entropy, ignore_index=-1, reduction=reduction
        )
        return jax.value_and_grad(loss, argnums=(0, 1))(f, w, labels)

    for row in range(5):
        labels = LABELS.copy()
        labels[row] = -1
        clean = run(f, labels)
        for poison in (np.nan, np.inf):
            bad = f.copy()
            bad[row] = poison
            jax.tree.map(np.testing.assert_array_equal, run(bad, labels), clean)


# ------------------------------------------------------------------------------------------------
# Constants
# ------------------------------------------------------------------------------------------------

SUMS = re.compile(r" reduce(?:-window)?\(")
labels_loss = jaxsoftmax.softmax_cross_entropy_with_integer_labels
targets_loss = jaxsoftmax.softmax_cross_entropy
# Of what moves, and of all else by its name.
CONSTANTS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "softmax": lambda x, g: jaxsoftmax.softmax(x, where=g["mask"]),
    "log_softmax": lambda x, g: jaxsoftmax.log_softmax(x),
    "logsumexp": lambda x, g: jaxsoftmax.logsumexp(x, -1, g["targets"], where=g["mask"]),
    "labels": lambda x, g: labels_loss(
        x, g["labels"], where=g["mask"], class_weights=g["weights"], label_smoothing=0.1
    ),
    "targets": lambda x, g: targets_loss(x, g["targets"], class_weights=g["weights"]),
    "logits": lambda t, g: targets_loss(g["logits"], t, label_smoothing=0.1),
    "sparsemax": lambda x, g: jaxsoftmax.sparsemax(x),
    "linear": lambda x, g: jaxsoftmax.linear_softmax_cross_entropy(
        g["features"], x, g["labels"], class_weights=g["weights"], weights=g["features"][:, 0]
    ),
}


def _constants(op: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random, classes = np.random.default_rng(1), 4100  # of more than 4096 sums are others
    rows = 2 if op == "linear" else 3  # of the kernel
    numbers: dict[str, np.ndarray] = {
        "x": random.uniform(0.1, 2, (rows, classes)),
        "tangent": random.normal(size=(rows, classes)),
        "logits": random.normal(size=(3, classes)),
        "targets": random.dirichlet(np.ones(classes), 3),
        "weights": random.uniform(0.5, 2, classes),
        "features": random.uniform(0.5, 2, (3, 2)),
    }
    given = {name: value.astype(np.float32) for name, value in numbers.items()}
    given["labels"] = random.integers(classes, size=3).astype(np.int32)
    given["mask"] = random.random((3, classes)) < 0.7
    return given.pop("x"), given


def _sums(f: Callable[..., Any], *args: Any) -> int:
    with jaxsoftmax.kernels("off"):  # of a kernel nothing can be computed
        return len(SUMS.findall(jax.jit(f).lower(*args).compile().as_text()))


@pytest.mark.parametrize("op", CONSTANTS)
def test_with_a_constant_nothing_is_computed_while_compiling(op: str) -> None:
    """XLA takes seconds for the sums of a large one; what is left to do says if it has done it."""
    x, given = _constants(op)

    def all_of_it(x: Any, given: dict[str, Any]) -> Any:
        value, back = jax.vjp(lambda x: CONSTANTS[op](x, given), x)
        bar = given["tangent"] if value.shape == x.shape else given["features"][:, 0]
        bar = bar[0] if not value.ndim else bar
        return (
            value,
            back(bar),
            jax.jvp(lambda x: CONSTANTS[op](x, given), (x,), (given["tangent"],)),
        )

    def constants() -> Any:  # some are traced, and made by an operation of JAX
        made = jax.tree.map(jnp.asarray, given) | {"mask": given["mask"]}
        return all_of_it(jnp.asarray(x), made)

    argument = _sums(all_of_it, x, given)
    assert argument > 2
    assert _sums(constants) >= argument


def test_the_cotangent_of_a_sum_is_not_summed_while_compiling() -> None:
    """XLA takes seconds for windows of one number everywhere too."""
    x, bar = np.ones((2, 3, 4100), np.float32)
    argument = _sums(lambda x, bar: jax.vjp(jaxsoftmax.log_softmax, x)[1](bar), x, bar)
    assert _sums(jax.grad(lambda x: jnp.sum(jaxsoftmax.log_softmax(x))), x) >= argument
