"""The losses on logits, with every option, and the loss on probabilities."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import (
    cross_entropy,
    kernels,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from tests import oracle
from tests.rules import assert_dtypes, assert_rules, assert_third_order
from tests.trees import assert_same

RNG = np.random.default_rng(3)
X = 2 * RNG.normal(size=(3, 4))
LABELS = np.array([3, 0, 2])
TARGETS = RNG.uniform(size=(3, 4))  # which do not sum to 1
PROBS = RNG.dirichlet(np.ones(4), size=3)
MASK = np.array([[True, True, False, True], [True, False, True, True], [False, True, True, True]])
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0])
EVERYTHING: dict[str, Any] = {
    "where": MASK,
    "label_smoothing": 0.2,
    "z_loss": 0.3,
    "logit_softcap": 1.5,
    "class_weights": CLASS_WEIGHTS,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "no option": {},
    "where": {"where": MASK},
    "label_smoothing": {"label_smoothing": 0.2},
    "z_loss": {"z_loss": 0.3},
    "logit_softcap": {"logit_softcap": 1.5},
    "class_weights": {"class_weights": CLASS_WEIGHTS},
    "everything": EVERYTHING,
}
# Batching maps arrays: those without options, and all those that options can add.
MAPPED = ("no option", "everything", "ignore_index")


@pytest.mark.parametrize("name", OPTIONS)
def test_rules_with_distributions(name: str) -> None:
    loss, expected = softmax_cross_entropy, oracle.softmax_cross_entropy
    assert_rules(loss, X, TARGETS, oracle=expected, vmap=name in MAPPED, **OPTIONS[name])


@pytest.mark.parametrize("name", [*OPTIONS, "ignore_index"])
def test_rules_with_classes(name: str) -> None:
    options = OPTIONS.get(name, EVERYTHING | {"ignore_index": 3})
    loss, expected = softmax_cross_entropy_with_integer_labels, oracle.softmax_cross_entropy
    assert_rules(loss, X, LABELS, oracle=expected, vmap=name in MAPPED, **options)


def test_rules_along_another_axis() -> None:
    loss, expected = softmax_cross_entropy, oracle.softmax_cross_entropy
    options = {"axis": 0, "class_weights": CLASS_WEIGHTS}
    assert_rules(loss, X.T, TARGETS.T, oracle=expected, vmap=False, **options)


def test_class_weights_are_differentiated() -> None:
    def loss(x: Any, labels: Any, w: Any) -> Any:
        classes = softmax_cross_entropy_with_integer_labels
        return classes(x, labels, class_weights=w, label_smoothing=0.1)

    def expected(x: Any, labels: Any, w: Any, xp: Any = np) -> Any:
        options = {"class_weights": w, "label_smoothing": 0.1}
        return oracle.softmax_cross_entropy(x, labels, xp=xp, **options)

    assert_rules(loss, X, LABELS, CLASS_WEIGHTS, oracle=expected)


def test_rules_against_the_gradients_of_the_cards() -> None:
    dtypes = ("float32", "bfloat16", "float16")

    def classes(x: Any, y: Any) -> Any:
        return jax.nn.softmax(x) - jnp.where(jnp.arange(4, dtype=y.dtype) == y, 1.0, 0.0)

    def targets(x: Any, t: Any) -> Any:
        return jnp.sum(t) * jax.nn.softmax(x) - t

    # Order 2 and vmap are those of the batches above.
    once = {"oracle": oracle.softmax_cross_entropy, "dtypes": dtypes, "vmap": False, "order": 1}
    loss = softmax_cross_entropy_with_integer_labels
    assert_rules(loss, X[0], np.array(1), jacobian=classes, **once)
    assert_rules(softmax_cross_entropy, X[0], TARGETS[0], jacobian=targets, **once)


@pytest.mark.parametrize("labels", [LABELS, TARGETS], ids=["classes", "distributions"])
def test_third_order_and_dtypes(labels: Any) -> None:
    losses = [softmax_cross_entropy, softmax_cross_entropy_with_integer_labels]
    loss = losses[labels.ndim == 1]
    assert_third_order(loss, X, labels, oracle=oracle.softmax_cross_entropy, **EVERYTHING)
    assert_dtypes(partial(loss, **EVERYTHING), X, labels, keeps=False)
    assert_dtypes(cross_entropy, PROBS, labels, keeps=False)


@pytest.mark.parametrize("labels", [LABELS, TARGETS], ids=["classes", "distributions"])
def test_rules_on_probabilities(labels: Any) -> None:
    assert_rules(cross_entropy, PROBS, labels, oracle=oracle.cross_entropy)


def test_rules_on_probabilities_of_which_some_are_masked() -> None:
    """Targets of masked classes are 0: a target that no probability can meet costs infinity."""

    def masked(loss: Callable[..., Any]) -> Callable[..., Any]:
        targets = np.where(MASK, TARGETS, 0.0)
        return lambda q, **options: loss(q, jnp.asarray(targets, q.dtype), where=MASK, **options)

    assert_rules(masked(cross_entropy), PROBS, oracle=masked(oracle.cross_entropy), vmap=False)
    options = {"where": MASK, "vmap": False}
    assert_rules(cross_entropy, PROBS, LABELS, oracle=oracle.cross_entropy, **options)


@pytest.mark.parametrize("labels", [LABELS, TARGETS], ids=["classes", "distributions"])
def test_softmax_then_loss_has_the_derivative_of_the_fused_loss(labels: Any, x64: None) -> None:
    fused = [softmax_cross_entropy, softmax_cross_entropy_with_integer_labels][labels.ndim == 1]
    chained = jax.jacobian(lambda x: cross_entropy(softmax(x), labels))
    assert_same(chained(X), jax.jacobian(fused)(X, labels), rtol=1e-13)


@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS])
def test_the_hessian_of_a_label_that_is_no_class_is_nan_in_its_row(class_weights: Any) -> None:
    labels = np.array([-1, 3, 4])

    def total(x: Any) -> Any:
        loss = softmax_cross_entropy_with_integer_labels
        return jnp.sum(loss(x, labels, class_weights=class_weights))

    hessian = jax.jit(jax.hessian(total))(X.astype(np.float32))
    of_rows = np.moveaxis(np.diagonal(hessian, axis1=0, axis2=2), -1, 0)
    np.testing.assert_array_equal(np.isnan(of_rows).all((1, 2)), [True, False, True])
    assert np.isfinite(of_rows[1]).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("classes", [5, 20, 40, 300, 600])
def test_what_is_no_number_is_none_whatever_the_targets(classes: int, mode: Any) -> None:
    """Targets of 0 throughout hid it, in some ways to add up and not in others."""
    x = np.random.default_rng(0).normal(size=(5, classes)).astype(np.float32)
    x[1, 2], x[2, 1], x[3], x[4, 0] = np.nan, np.inf, -np.inf, -np.inf
    with kernels(mode):
        losses = jax.jit(softmax_cross_entropy)(x, np.zeros_like(x))
    np.testing.assert_array_equal(losses, [0, np.nan, np.nan, np.nan, 0])
