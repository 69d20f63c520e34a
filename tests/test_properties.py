"""What holds of softmax and its losses whatever the logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
)
from jaxsoftmax import softmax_cross_entropy_with_integer_labels as integer_ce
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.linear_loss import LINEAR

C = 6
EPS = np.finfo(np.float64).eps
pytestmark = pytest.mark.usefixtures("x64")

rows = hnp.arrays(np.float64, C, elements=st.floats(-200, 200, width=32))
tangents = hnp.arrays(np.float64, C, elements=st.floats(-4, 4, width=16))
labels = st.integers(0, C - 1)
few = settings(max_examples=40)


def close(got: Any, want: Any, scale: Any = 1.0, eps: float = 16) -> None:
    assert np.all(np.abs(np.asarray(got) - np.asarray(want)) <= eps * EPS * np.asarray(scale))


@jax.jit
def results(x: Any, y: Any) -> Any:
    loss, gradient = jax.value_and_grad(integer_ce)(x, y)
    return softmax(x), log_softmax(x), loss, gradient


@few
@given(rows, labels, st.integers(-1000, 1000))
def test_a_shift_changes_nothing(x: Any, y: Any, shift: int) -> None:
    x = np.round(x)  # so that the shift is exact
    for got, want in zip(results(x + shift, y), results(x, y), strict=True):
        close(got, want, np.abs(want) + 1e-300)


@few
@given(rows, labels, st.permutations(range(C)))
def test_a_permutation_permutes(x: Any, y: Any, order: list[int]) -> None:
    p, log_p, loss, gradient = results(x, y)
    moved = results(x[order], order.index(y))
    for got, want in zip(
        moved,
        (p[jnp.array(order)], log_p[jnp.array(order)], loss, gradient[jnp.array(order)]),
        strict=True,
    ):
        close(got, want, np.abs(want) + 1e-300)


@jax.jit
def split(x: Any, t: Any) -> Any:
    """The same distribution, its first class split in two equal ones."""
    first = x[:1] - jnp.log(jnp.asarray(2.0))
    halves = jnp.concatenate([first, first, x[1:]])
    return softmax(halves), softmax_cross_entropy(
        halves, jnp.concatenate([t[:1] / 2, t[:1] / 2, t[1:]])
    )


@few
@given(rows, tangents)
def test_a_class_split_in_two_and_merged_is_the_class(x: Any, t: Any) -> None:
    t = np.abs(t)
    p, loss = split(x, t)
    close(jnp.concatenate([p[:1] + p[1:2], p[2:]]), softmax(x), eps=400)
    # -Σ t log p, where log p of the halves is less by log 2
    whole = softmax_cross_entropy(x, t) + t[0] * np.log(2)
    close(loss, whole, 1 + t.sum() * np.abs(x).max())


@few
@given(hnp.arrays(np.float64, (3, 2), elements=st.floats(-9, 9, width=16)), labels)
def test_a_row_twice_is_a_row_of_weight_two(f: Any, y: int) -> None:
    kernel = np.linspace(-1, 1, 2 * C).reshape(2, C)
    y = np.array([y, 0, 1], np.int32)
    run = jax.value_and_grad(linear_softmax_cross_entropy, argnums=1)
    twice = run(np.vstack([f[:1], f]), kernel, np.append(y[:1], y).astype(np.int32))
    weighted = run(f, kernel, y, weights=np.array([2.0, 1.0, 1.0]))
    jax.tree.map(lambda a, b: close(a, b, 20), twice, weighted)


@jax.jit
def both_modes(x: Any, v: Any, c: Any, y: Any) -> Any:
    """(⟨c, J v⟩, ⟨Jᵀ c, v⟩, their scale) of each op."""
    found = []
    others = {"labels": y, "targets": jnp.abs(c)}
    for op in ALL:
        if op is LINEAR:
            continue

        def f(x: Any, op: Any = op) -> Any:
            return op.function(x, *map(others.get, op.inputs[1:]))

        out, vjp = jax.vjp(f, x)
        bar = c if out.ndim else c[0]
        x_bar, out_dot = vjp(bar)[0], jax.jvp(f, (x,), (v,))[1]
        scale = jnp.sum(jnp.abs(bar * out_dot)) + jnp.sum(jnp.abs(x_bar * v))
        found.append((jnp.sum(bar * out_dot), jnp.sum(x_bar * v), scale))
    return found


@few
@given(rows, tangents, tangents, labels)
def test_forward_and_reverse_rules_are_adjoint(x: Any, v: Any, c: Any, y: Any) -> None:
    for forward, reverse, scale in both_modes(x, v, c, y):
        close(forward, reverse, scale + 1e-300)


@jax.jit
def curvature(x: Any, y: Any) -> Any:
    return jax.hessian(integer_ce)(x, y), jax.hessian(logsumexp)(x)


@few
@given(rows, labels)
def test_the_hessian_is_positive_semidefinite_and_blind_to_shifts(x: Any, y: Any) -> None:
    for hessian in curvature(x, y):
        close(hessian @ np.ones(C), np.zeros(C), np.abs(hessian).max() + 1e-300)
        assert np.linalg.eigvalsh(hessian).min() >= -16 * EPS * np.abs(hessian).max()


@few
@given(rows, labels)
def test_softmax_is_the_gradient_of_logsumexp(x: Any, y: Any) -> None:
    p, _, _, gradient = results(x, y)
    close(jax.grad(logsumexp)(x), p, p + 1e-300, eps=300)
    # and the loss's gradient sums to 0, the label entry being the rest of the others
    close(gradient.sum(), 0, np.abs(gradient).sum() + 1e-300, eps=4)


@few
@given(rows, tangents, labels)
def test_a_loss_is_never_negative(x: Any, t: Any, y: Any) -> None:
    assert results(x, y)[2] >= 0
    assert softmax_cross_entropy(x, np.abs(t)) >= 0
