"""Kinds of input at random: poison under masks and weights of 0, second orders at zeros.

`--fuzz N` draws N inputs of each kind, from a fixed seed; each kind is compiled once, and once for
every 20 with all of its input constants. tests/ops/test_placements.py draws N / 2 placements.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxsoftmax.testing.rules.compile import jit as quick_jit

labels_loss = softmax_cross_entropy_with_integer_labels
Given = dict[str, Any]
N, C = 5, 7
POISON = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32)
OPTIONS: Given = {"label_smoothing": 0.1, "z_loss": 0.1}


# ------------------------------------------------------------------------------------------------
# Poison: what does not count may hold anything, in every mode
# ------------------------------------------------------------------------------------------------

# What is called, and which of its floats do not count: entries, rows, or those with b = 0.
POISONED: dict[str, tuple[Callable[[Given], Any], str]] = {
    "softmax": (lambda g: softmax(g["x"], where=g["mask"]), "entries"),
    "log_softmax": (
        lambda g: jnp.maximum(log_softmax(g["x"], where=g["mask"]), -30.0),
        "entries",
    ),
    "logsumexp": (lambda g: jnp.maximum(logsumexp(g["x"], 1, where=g["mask"]), -99.0), "entries"),
    "logsumexp with b": (lambda g: logsumexp(g["x"], 1, b=g["b"]), "zeros of b"),
    "labels of classes": (lambda g: labels_loss(g["x"], g["y"], where=g["mask"]), "entries"),
    "labels of classes, options": (
        lambda g: labels_loss(g["x"], g["y"], where=g["mask"], logit_softcap=5.0, **OPTIONS),
        "entries",
    ),
    "labels of rows": (lambda g: labels_loss(g["x"], g["y"], where=g["rows"], **OPTIONS), "rows"),
    "labels ignored": (
        lambda g: labels_loss(
            g["x"], jnp.where(g["rows"], g["y"], -7), ignore_index=-7, class_weights=g["w"]
        ),
        "rows",
    ),
    "targets of classes": (
        lambda g: softmax_cross_entropy(
            g["x"], g["t"], where=g["mask"], class_weights=g["w"], **OPTIONS
        ),
        "entries",
    ),
    "targets of rows": (
        lambda g: softmax_cross_entropy(
            g["x"], g["t"], where=g["rows"], class_weights=g["w"], **OPTIONS
        ),
        "rows",
    ),
    "probabilities of classes": (
        lambda g: cross_entropy(jnp.abs(g["x"]) + 0.1, g["t"], where=g["mask"]),
        "entries",
    ),
    "probabilities of rows": (
        lambda g: cross_entropy(jnp.abs(g["x"]) + 0.1, g["t"], where=g["rows"]),
        "rows",
    ),
}


def drawn(random: np.random.Generator) -> Given:
    y = random.integers(0, C, N).astype(np.int32)
    mask = random.random((N, C)) < 0.6
    mask[np.arange(N), y] = True
    mask[random.integers(N)] = False
    b = random.uniform(0.5, 2, (N, C)) * (random.random((N, C)) < 0.6)
    b[:, 0] = 1
    return {
        "x": random.normal(0, 3, (N, C)).astype(np.float32),
        "t": random.dirichlet(np.ones(C), N).astype(np.float32),
        "w": random.uniform(0, 2, C).astype(np.float32),
        "b": b.astype(np.float32),
        "y": y,
        "mask": mask,
        "rows": random.random(N) < 0.6,
    }


def poisoned(given: Given, what: str, random: np.random.Generator) -> Given:
    """The same with poison wherever nothing counts."""
    counts = {
        "entries": given["mask"],
        "rows": np.broadcast_to(given["rows"][:, None], (N, C)),
        "zeros of b": given["b"] != 0,
    }[what]
    names = ("x",) if what == "zeros of b" else ("x", "t")
    return given | {n: np.where(counts, given[n], random.choice(POISON, (N, C))) for n in names}


@pytest.mark.default_modes
@pytest.mark.parametrize("kind", POISONED)
def test_what_does_not_count_may_hold_anything(kind: str, fuzz: int) -> None:
    f, what = POISONED[kind]

    def all_modes(given: Given) -> Any:
        fixed = {name: given[name] for name in ("y", "mask", "rows")}
        # The derivative in a b of 0 is exp(a): of poison there it may be anything.
        moving = ("x",) if what == "zeros of b" else ("x", "t", "w")
        fixed["b"], floats = given["b"], {name: given[name] for name in moving}
        ones = jax.tree.map(jnp.ones_like, floats)

        def total(floats: Given) -> Any:
            value = f(floats | fixed)
            return jnp.sum(value**2), value

        gradient, value = jax.grad(total, has_aux=True)(floats)
        _, forward = jax.jvp(lambda v: f(v | fixed), (floats,), (ones,))
        _, second = jax.jvp(lambda v: jax.grad(total, has_aux=True)(v)[0], (floats,), (ones,))
        return value, gradient, forward, second

    run = quick_jit(all_modes)
    random = np.random.default_rng(3)
    for _ in range(fuzz):
        given = drawn(random)
        clean, dirty = run(given), run(poisoned(given, what, random))
        for right, ours in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
            np.testing.assert_array_equal(ours, right)
            assert np.all(np.isfinite(ours))
    for _ in range(max(1, fuzz // 20)):  # all of it constants of one program
        given = drawn(random)
        dirty = jax.tree.map(jnp.asarray, poisoned(given, what, random))
        constant = quick_jit(lambda dirty=dirty: all_modes(dirty))()
        for right, ours in zip(jax.tree.leaves(run(given)), jax.tree.leaves(constant), strict=True):
            np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------
# Second orders at zeros of every coefficient
# ------------------------------------------------------------------------------------------------


def _log_p(x: Any) -> Any:
    return x - jnp.log(jnp.sum(jnp.exp(x), -1, keepdims=True))


# Ours, and the textbook, of exponents and coefficients.
SECOND: dict[str, tuple[Callable[..., Any], Callable[..., Any], int]] = {
    "b": (lambda x, b: logsumexp(x, -1, b=b), lambda x, b: jnp.log(jnp.sum(b * jnp.exp(x), -1)), 1),
    "targets": (softmax_cross_entropy, lambda x, t: -jnp.sum(t * _log_p(x), -1), 1),
    "targets and class weights": (
        lambda x, t, w: softmax_cross_entropy(
            x, t, class_weights=w, label_smoothing=0.1, z_loss=0.1
        ),
        lambda x, t, w: (
            -jnp.sum(w * (0.9 * t + 0.1 / C) * _log_p(x), -1)
            + 0.1 * jnp.log(jnp.sum(jnp.exp(x), -1)) ** 2
        ),
        2,
    ),
    "class weights of labels": (
        lambda x, w: labels_loss(x, 2, class_weights=w),
        lambda x, w: -w[2] * _log_p(x)[2],
        1,
    ),
    "class weights, smoothed": (
        lambda x, w: labels_loss(x, 2, class_weights=w, label_smoothing=1.0),
        lambda x, w: -jnp.sum(w / C * _log_p(x), -1),
        1,
    ),
    "targets of probabilities": (
        lambda x, t: cross_entropy(jnp.exp(x), t),
        lambda x, t: -jnp.sum(t * x, -1),
        1,
    ),
}


@pytest.mark.default_modes
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", SECOND)
def test_second_orders_at_zeros(kind: str, fuzz: int) -> None:
    ours, textbook, coefficients = SECOND[kind]
    places = tuple(range(1 + coefficients))

    def second(f: Callable[..., Any]) -> Any:
        def orders(*args: Any) -> Any:
            return (
                jax.jacfwd(jax.grad(f, places), places)(*args),
                jax.jacrev(jax.jacfwd(f, places), places)(*args),
            )

        return quick_jit(orders)

    both = second(ours), second(textbook)
    random = np.random.default_rng(4)
    for _ in range(fuzz):
        x = random.normal(size=C)
        given = [random.uniform(0.5, 2, C) * (random.random(C) < 0.5) for _ in places[1:]]
        for coefficient in given:
            coefficient[3] = 1.0  # not all of them are 0
        found, right = (jax.tree.leaves(of(x, *given)) for of in both)
        for a, b in zip(found, right, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
