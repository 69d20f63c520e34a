"""The linear classifier loss: streamed in blocks of rows, and right in every mode."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from jaxsoftmax import linear_softmax_cross_entropy
from tests import oracle
from tests.rules import assert_dtypes, assert_rules, assert_third_order

RNG = np.random.default_rng(5)
FEATURES, KERNEL, BIAS = RNG.normal(size=(3, 2)), RNG.normal(size=(2, 4)), RNG.normal(size=4)
LABELS, TARGETS = np.array([3, 0, 2]), RNG.uniform(size=(3, 4))
WEIGHTS = np.array([0.5, 2.0, 1.25])
MASK = np.array([[True, True, False, True], [True, False, True, True], [False, True, True, True]])
EVERYTHING: dict[str, Any] = {
    "where": MASK,
    "label_smoothing": 0.2,
    "z_loss": 0.3,
    "logit_softcap": 1.5,
    "class_weights": np.array([0.5, 2.0, 1.0, 3.0]),
}


def in_order(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss with every array that can be differentiated as a positional argument."""

    def f(features: Any, kernel: Any, labels: Any, bias: Any, weights: Any, **options: Any) -> Any:
        return loss(features, kernel, labels, bias, weights=weights, **options)

    return f


# Labels, rows in a block, options. Blocks of two leave a rest of the three rows, which takes as
# long to compile again: the losses by row have it once. Blocks of one leave none.
CASES: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "classes, mean": (LABELS, 1, {}),
    "classes, sum": (LABELS, 3, {"reduction": "sum"}),
    "classes, none": (LABELS, 2, {"reduction": "none"}),
    "classes, every option": (LABELS, 1, EVERYTHING | {"ignore_index": 0}),
    "distributions, mean": (TARGETS, 3, {}),
    "distributions, none, every option": (TARGETS, 1, EVERYTHING | {"reduction": "none"}),
}


@pytest.mark.parametrize("case", CASES)
def test_rules(case: str) -> None:
    labels, rows, options = CASES[case]
    f = in_order(partial(linear_softmax_cross_entropy, block_size=rows))
    expected = in_order(oracle.linear_softmax_cross_entropy)
    point = FEATURES, KERNEL, labels, BIAS, WEIGHTS
    # Six batched programs: one case shows what batching the blocks can break.
    vmap = case == "classes, mean"
    assert_rules(f, *point, oracle=expected, vmap=vmap, **options)


def test_rules_without_bias_and_weights_over_two_batch_axes() -> None:
    features, labels = RNG.normal(size=(2, 2, 2)), np.array([[3, 0], [2, 2]])
    f, expected = linear_softmax_cross_entropy, oracle.linear_softmax_cross_entropy
    dtypes = ("float32", "bfloat16")
    assert_rules(f, features, KERNEL, labels, oracle=expected, dtypes=dtypes, vmap=False)
    assert_dtypes(f, FEATURES, KERNEL, LABELS, BIAS, keeps=False)


# The options are elementwise work on a block: third orders of theirs once will do. Blocks of one
# row leave no rest, which would double the time and is the same function.
@pytest.mark.parametrize(
    ("labels", "options"),
    [(LABELS, EVERYTHING), (TARGETS, {})],
    ids=["classes, every option", "distributions"],
)
def test_third_order(labels: Any, options: dict[str, Any]) -> None:
    f = in_order(partial(linear_softmax_cross_entropy, block_size=1))
    expected = in_order(oracle.linear_softmax_cross_entropy)
    point = FEATURES, KERNEL, labels, BIAS, WEIGHTS
    assert_third_order(f, *point, oracle=expected, **options)
