"""Sums in blocks: every place of the main class, the shorter last block included."""

import jax
import numpy as np
import pytest

from jaxsoftmax import (
    log_softmax,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxsoftmax.ops.row import xla

CLASSES = 37  # four blocks of 8, and one of 5
RNG = np.random.default_rng(3)
PLACES = np.arange(CLASSES)


def logits(offset: float) -> np.ndarray:
    """A row for each place of a class that is 30 above the others."""
    x = RNG.normal(size=(CLASSES, CLASSES)) + 30 * np.eye(CLASSES) + offset
    return x.astype(np.float32)


def others(v: np.ndarray) -> np.ndarray:
    """Σ of each row without its main class."""
    return np.sum(np.where(np.eye(CLASSES) == 1, 0, v), 1)


@pytest.mark.parametrize("offset", [0, -91, -60, 80, 1e4])
def test_a_sure_row_is_exact_wherever_the_main_class_is(offset: float) -> None:
    x = logits(offset)
    wide = x.astype(np.float64)
    rest = others(np.exp(wide - wide.diagonal()[:, None]))
    log_p, vjp = jax.vjp(log_softmax, x)
    np.testing.assert_allclose(np.diagonal(log_p), -np.log1p(rest), rtol=6e-7)
    loss = softmax_cross_entropy_with_integer_labels(x, PLACES)
    np.testing.assert_allclose(loss, np.log1p(rest), rtol=6e-7)

    # Nothing but small terms in the cotangent of the others: theirs is the entry of the main class.
    bar = np.where(np.eye(CLASSES) == 1, 1, 1e-12 * RNG.normal(size=x.shape)).astype(np.float32)
    p = 1 / (1 + rest)
    expected = p * rest * bar.diagonal() - p * others(bar.astype(np.float64))
    size = rest + others(np.abs(bar))
    assert np.all(np.abs(np.diagonal(vjp(bar)[0]) - expected) <= 1e-6 * size)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
@pytest.mark.parametrize("classes", [4097, 70_000])
def test_rows_of_very_many_classes(classes: int, dtype: type) -> None:
    x = RNG.normal(size=(4, classes)).astype(np.float32)
    labels = np.array([0, 1, 100, 127], dtype)
    x[np.arange(4), labels] += [0, 12, 25, 40]
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    of_label = np.arange(classes) == labels[:, None].astype(int)
    rest = np.sum(np.where(of_label, 0, e), 1) / np.sum(np.where(of_label, e, 0), 1)
    loss = jax.jit(softmax_cross_entropy_with_integer_labels)(x, labels)
    np.testing.assert_allclose(loss, np.log1p(rest), rtol=6e-7)
    np.testing.assert_allclose(jax.jit(softmax)(x), e / e.sum(1, keepdims=True), rtol=6e-7)


@pytest.mark.parametrize("of", [softmax_cross_entropy, jax.vmap(softmax_cross_entropy)])
@pytest.mark.usefixtures("forms")
def test_impossible_classes_cost_and_change_nothing_elsewhere(of) -> None:
    """0 times infinity is left out in the rows that have it; whether one has is asked once."""
    x = RNG.normal(size=(6, CLASSES)).astype(np.float32)
    t = RNG.uniform(size=x.shape).astype(np.float32)
    impossible, none = x.copy(), t.copy()
    impossible[2:4, 5], none[2, 5] = -np.inf, 0
    program = jax.jit(of).lower(x, t).compile()
    if xla.barrier_holds():
        assert " conditional(" in program.as_text()
        # Where a mask says that there are some, nothing is asked.
        masked = jax.jit(lambda x, t: softmax_cross_entropy(x, t, where=t > 0)).lower(x, t)
        assert " conditional(" not in masked.compile().as_text()
    possible, loss = np.asarray(program(x, t)), np.asarray(program(impossible, none))
    np.testing.assert_array_equal(loss[[0, 1, 4, 5]], possible[[0, 1, 4, 5]])
    without = np.delete(x[2], 5), np.delete(t[2], 5)
    np.testing.assert_allclose(loss[2:4], [softmax_cross_entropy(*without), np.inf], rtol=1e-6)
