"""In the place of jax.nn and optax: each form of call gives what theirs gives, or is listed.

The list is the table "Semantics where peers differ" of docs/design.md.
"""

import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.losses import _classification

import jaxsoftmax

pytestmark = pytest.mark.default_modes

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softmax": (jaxsoftmax.softmax, jax.nn.softmax),
    "log_softmax": (jaxsoftmax.log_softmax, jax.nn.log_softmax),
    "logsumexp": (jaxsoftmax.logsumexp, jax.nn.logsumexp),
    "labels": (
        jaxsoftmax.softmax_cross_entropy_with_integer_labels,
        optax.losses.softmax_cross_entropy_with_integer_labels,
    ),
    "targets": (jaxsoftmax.softmax_cross_entropy, optax.losses.softmax_cross_entropy),
}
X = jnp.array([[1.0, 2.0, 3.0], [0.0, 1.0, 5.0]])
Y, ONE_HOT = jnp.array([0, 2]), jnp.eye(3)[jnp.array([0, 2])]
M = jnp.array([[True, False, True], [True, True, True]])
NAN, INF = jnp.nan, jnp.inf
MAPS = ("softmax", "log_softmax", "logsumexp")

# Of each function: forms of call that are the same. Arguments by position, then by name.
SAME: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    *((op, args, named) for op in MAPS for args, named in (
        ((X,), {}),
        ((X,), {"axis": 0}),
        ((X, -1), {}),
        ((X,), {"axis": (0, 1)}),
        ((X,), {"axis": ()}),
        ((X,), {"axis": -1, "where": M}),
        ((X,), {"axis": -1, "where": M[:1]}),
        ((X,), {"axis": -1, "where": jnp.array(False)}),
        ((1.0,), {"axis": None}),
        ((jnp.zeros(0),), {}),
        ((jnp.zeros((0, 3)),), {"axis": -1}),
        ((jnp.array([1, 2]),), {}),
        ((jnp.array([INF, 1.0]),), {}),
        ((jnp.array([-INF, -INF]),), {}),
        ((jnp.array([NAN, 1.0]),), {}),
        ((X.astype(jnp.bfloat16),), {}),
    )),
    *(("logsumexp", (X,), named) for named in (
        {"b": X, "axis": -1},
        {"b": M, "axis": -1},
        {"b": jnp.array([1, 0, 2]), "axis": -1},
        {"b": 2.0},
        {"b": -1.0},
        {"b": jnp.array([1.0, -50.0, 1.0]), "axis": -1, "return_sign": True},
        {"keepdims": True},
        {"return_sign": True, "axis": 0},
    )),
    ("logsumexp", (X[0],), {"b": X, "axis": -1}),
    ("logsumexp", (X[0],), {"b": X, "axis": 0}),
    ("logsumexp", (X[0],), {"b": X}),
    ("logsumexp", (X[0],), {"where": M, "axis": 0}),
    ("logsumexp", (X[:, :1],), {"b": X, "axis": -1}),
    ("logsumexp", (X.astype(jnp.bfloat16),), {"b": X, "axis": -1}),
    ("logsumexp", (X.astype(jnp.bfloat16),), {"b": 2, "axis": -1}),
    ("logsumexp", (jnp.array([-INF]),), {"return_sign": True}),
    ("labels", (X, Y), {}),
    ("labels", (X, Y.astype(jnp.uint8)), {}),
    ("labels", (X, jnp.array([0, 1, 1])), {"axis": 0}),
    ("labels", (X[None], jnp.array([4])), {"axis": (2, 1)}),
    ("labels", (X, Y), {"where": jnp.array([True, False])}),
    ("labels", (X, Y), {"where": M}),
    ("labels", (X, Y), {"where": M[:1]}),
    ("targets", (X, ONE_HOT), {}),
    ("targets", (X, ONE_HOT.astype(int)), {}),
    ("targets", (X, ONE_HOT.astype(bool)), {}),
    ("targets", (X.astype(jnp.bfloat16), ONE_HOT), {}),
    ("targets", (X, ONE_HOT), {"where": jnp.array([True, False])}),
    ("targets", (X, ONE_HOT), {"where": M}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("number", range(len(SAME)))
def test_a_form_of_call_is_the_same(number: int) -> None:
    op, args, named = SAME[number]
    ours, peer = (f(*args, **named) for f in PAIRS[op])
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(peer), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        # The peers round what they compute of half types to half types on the way.
        half = jnp.bfloat16 in (a.dtype, jnp.result_type(args[0]))
        rtol, atol = (1e-2, 2e-3) if half else (1e-5, 1e-6)
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=rtol, atol=atol)


# What stands in the table, and a call of which it is true.
LISTED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "a label outside [0, C)": ("labels", (X, jnp.array([-1, 0])), {}),
    "one label for several rows": ("labels", (X, jnp.array([1])), {}),
    "targets of another shape than the logits": ("targets", (X, ONE_HOT[0]), {}),
    "no class at all": ("labels", (X[:, :0], Y), {}),
    "`where` of softmax with more dimensions than x": (
        "softmax",
        (X[0],),
        {"where": M, "axis": -1},
    ),
    "a target, class weight or smoothed target of 0 on an impossible class": (
        "targets",
        (jnp.array([0.0, -INF]), jnp.array([1.0, 0.0])),
        {},
    ),
    "losses of half types": ("labels", (X.astype(jnp.bfloat16), Y), {}),
    "integer logits": ("softmax", (jnp.array([1, 2], jnp.uint8),), {}),
    "boolean, complex and 8-bit logits": ("softmax", (X.astype(jnp.complex64),), {}),
    "`axis=None` of a loss": ("labels", (X, jnp.array(4)), {"axis": None}),
    "an infinite exponent and weights `b` of both signs": (
        "logsumexp",
        (jnp.array([INF, 90.0]),),
        {"b": jnp.array([1.0, -1.0])},
    ),
    "a list as `axis`": ("labels", (X[None], jnp.array([4])), {"axis": [2, 1]}),
}


@pytest.mark.parametrize("words", LISTED)
def test_what_differs_is_listed(words: str) -> None:
    table = Path(__file__).parents[1].joinpath("docs/design.md").read_text()
    assert f"\n| {words} |" in table
    op, args, named = LISTED[words]

    def outcome(f: Callable[..., Any]) -> Any:
        try:
            out = f(*args, **named)
        except (TypeError, ValueError) as error:
            return type(error).__name__
        wide = np.complex64 if jnp.iscomplexobj(out) else np.float32
        return out.dtype.name, np.round(np.asarray(out, wide), 3).tolist()

    ours, peer = map(outcome, PAIRS[op])
    assert ours != peer


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_a_mask_may_have_more_dimensions(op: str) -> None:
    ours, _ = PAIRS[op]
    expected = np.stack([ours(X[0], where=mask) for mask in M])
    np.testing.assert_array_equal(ours(X[0], where=M), expected)


@pytest.mark.parametrize(
    ("op", "args", "named", "name"),
    [
        ("softmax", ([1.0, 2.0],), {}, "x"),
        ("softmax", (X,), {"where": [True, False, True]}, "where"),
        ("logsumexp", (X,), {"b": [1.0, 2.0, 3.0]}, "b"),
        ("labels", (X, [0, 2]), {}, "labels"),
        ("labels", (X, Y), {"where": [True, False]}, "where"),
        ("targets", (X, [[1.0, 0.0, 0.0]] * 2), {}, "labels"),
    ],
)
def test_lists_are_refused_alike(op: str, args: Any, named: Any, name: str) -> None:
    ours, peer = PAIRS[op]
    with pytest.raises(TypeError, match=rf"{name} must be an array, got a list. Write jnp.asarray"):
        ours(*args, **named)
    with pytest.raises((TypeError, AttributeError)):
        peer(*args, **named)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")
@pytest.mark.parametrize("op", PAIRS)
def test_more_classes_than_an_int32_counts(op: str) -> None:
    """Of shapes alone: as where memory is planned."""
    x = jax.ShapeDtypeStruct((2**31 + 8,), jnp.float32)
    labels = {"labels": (jnp.int32(3),), "targets": (x,)}.get(op, ())
    f = PAIRS[op][0]

    def gradient(x: Any, *labels: Any) -> Any:
        value, back = jax.vjp(lambda x: f(x, *labels, axis=-1), x)
        return back(value)[0]

    assert jax.eval_shape(gradient, x, *labels).shape == x.shape


@pytest.mark.once
@pytest.mark.parametrize(
    "suite",
    ["SoftmaxCrossEntropyTest", "SoftmaxCrossEntropyWithIntegerLabelsTest", "SparsemaxTest"],
)
def test_the_peers_own_tests_pass(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As optax installs them, with our functions in the place of its own."""
    theirs = pytest.importorskip("optax.losses._classification_test")
    monkeypatch.setattr(_classification, "multiclass_sparsemax_loss", jaxsoftmax.sparsemax_loss)
    for ours, peer in (PAIRS["labels"], PAIRS["targets"]):
        monkeypatch.setattr(_classification, peer.__name__, ours)
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(getattr(theirs, suite)).run(result)
    assert result.testsRun >= 3
    assert result.errors + result.failures == []
