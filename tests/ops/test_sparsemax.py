"""Sparsemax and its loss, against the projection by sorting and by quadratic programming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxsoftmax import sparsemax, sparsemax_loss
from jaxsoftmax.testing.operations.sparsemax import SPARSEMAX, SPARSEMAX_LOSS
from tests.mutants import Parts, elementwise, survives, total
from tests.rules import assert_dtypes, hold

RANDOM = np.random.default_rng(0)
# Far from kinks, where differences settle: supports of 3, 1, 2 and 6.
X = np.array(
    [
        [0.3, 0.1, -0.9, 0.5, -2.0, -1.5],
        [3.0, 0.0, 1.0, -1.0, 0.5, 1.5],
        [0.2, -1.4, -0.8, -1.1, 0.0, -2.0],
        [0.01, 0.03, -0.02, 0.0, 0.05, -0.04],
    ]
)
Y = np.array([0, 5, 2, 3], np.int32)


def by_sorting(x, xp=np):
    return SPARSEMAX.textbook(x, xp)


def loss_by_sorting(x, y, xp=np):
    return SPARSEMAX_LOSS.textbook(x, y, xp)


def dense(x):
    """diag(s) - s sᵀ/|S|."""
    s = (by_sorting(x, jnp) > 0).astype(x.dtype)
    return s[:, None] * (jnp.eye(len(x), dtype=x.dtype) - s[None] / s.sum())


@pytest.mark.parametrize(
    ("call", "how"),
    [
        ((sparsemax, X), {"oracle": by_sorting}),
        ((sparsemax, X[0]), {"oracle": by_sorting, "jacobian": dense}),
        ((sparsemax_loss, X, Y), {"oracle": loss_by_sorting}),
    ],
)
def test_rules(call, how):
    """All but what steps over a kink, which says that it cannot tell."""
    report = hold(*call, **how)
    odd = {check.mode: check.status for check in report.checks if check.status != "ok"}
    assert set(odd.values()) <= {"undecided"}, report
    assert all("finite differences" in name for name in odd), report


RIGHT: Parts = {
    "p": SPARSEMAX.textbook,
    "jvp": lambda p, v: (p > 0) * (v - total((p > 0) * v) / total(p > 0)),
    "vjp": lambda p, v: (p > 0) * (v - total((p > 0) * v) / total(p > 0)),
}
MUTANTS: dict[str, Parts] = {
    "none": {},
    "mean over all classes": {"vjp": lambda p, v: (p > 0) * (v - jnp.mean(v, -1, keepdims=True))},
    "support forgotten outside": {"jvp": lambda p, v: v - total((p > 0) * v) / total(p > 0)},
    "p where s is right": {"vjp": lambda p, v: p * (v - total(p * v))},
}


@pytest.mark.once
@pytest.mark.default_modes
@pytest.mark.parametrize("slip", MUTANTS)
def test_a_slip_of_the_pen_is_found(slip):
    mutant = elementwise(SPARSEMAX.textbook, RIGHT | MUTANTS[slip])
    x = np.random.default_rng(4).normal(size=(2, 3))
    assert survives(mutant, x, oracle=SPARSEMAX.textbook) == (slip == "none")


def test_short_steps_stay_on_one_piece(x64):
    v = np.cos(np.arange(24.0)).reshape(4, 6)
    for f in (sparsemax, lambda x: sparsemax_loss(x, Y)):
        _, along = jax.jvp(f, (X,), (v,))
        np.testing.assert_allclose((f(X + 1e-4 * v) - f(X - 1e-4 * v)) / 2e-4, along, atol=1e-8)


def test_an_entry_at_the_threshold_is_outside():
    """Logits on a coarse grid, as half types have them, are there in one row of three."""
    x = np.round(2 * np.random.default_rng(1).normal(size=(300, 6))) / 2
    c = np.random.default_rng(2).normal(size=x.shape)
    p = by_sorting(x)
    ties = p.max(1, keepdims=True) - (x.max(1, keepdims=True) - x) == 0
    assert ties.any(1).mean() > 0.3
    s = (p > 0).astype(float)
    expected = s * (c - (s * c).sum(1, keepdims=True) / s.sum(1, keepdims=True))
    for dtype, atol in ((jnp.float32, 1e-6), (jnp.bfloat16, 0.02)):
        given = jnp.asarray(x, dtype), jnp.asarray(c, dtype)
        for f in (sparsemax, lambda x: by_sorting(x, jnp)):
            gradient = jax.vjp(f, given[0])[1](given[1])[0]
            np.testing.assert_allclose(np.asarray(gradient, float), expected, atol=atol)


def test_the_second_derivative_is_0_and_costs_nothing():
    def along(x, v):
        return jax.jvp(jax.grad(lambda x: jnp.sum(X * sparsemax(x))), (x,), (v,))[1]

    program = jax.jit(along).lower(X, X).compile()
    np.testing.assert_array_equal(program(X, X), 0)
    assert "while" not in program.as_text()


def test_dtypes():
    assert_dtypes(sparsemax, X, keeps=True)
    assert_dtypes(sparsemax_loss, X, Y, keeps=False)


def test_it_is_the_nearest_point_of_the_simplex():
    x, whole = X[0], optimize.LinearConstraint(np.ones((1, 6)), 1, 1)
    near = optimize.minimize(
        lambda q: np.sum((q - x) ** 2), np.full(6, 1 / 6), bounds=[(0, 1)] * 6, constraints=whole,
        options={"ftol": 1e-14},
    )  # fmt: skip
    np.testing.assert_allclose(sparsemax(x), near.x, atol=1e-5)


@pytest.mark.parametrize("axis", [0, -1, (1, 0), None])
def test_axes_and_masks(axis, x64):
    where = RANDOM.random(X.shape) < 0.7
    where[0], where[:, 0] = True, True  # a row of -inf is NaN, one that is masked throughout is 0
    hidden = np.where(where, X, -np.inf)
    np.testing.assert_allclose(sparsemax(X, axis, where), sparsemax(hidden, axis), atol=1e-15)
    np.testing.assert_allclose(sparsemax(X, axis).sum(axis), 1, rtol=1e-14)
    poisoned = np.where(where, X, np.nan)
    gradient = jax.grad(lambda x: jnp.sum(sparsemax(x, axis, where) * X))(poisoned)
    np.testing.assert_array_equal(np.asarray(gradient)[~where], 0)
    assert np.all(np.isfinite(gradient))


def test_the_edge_contract():
    inf, nan = np.inf, np.nan
    for row in ([nan, 1.0], [inf, 1.0], [-inf, -inf]):
        assert np.isnan(sparsemax(np.float32(row))).all()
        assert np.isnan(jax.grad(sparsemax_loss)(np.float32(row), 0)).all()
    np.testing.assert_array_equal(sparsemax(np.float32([-inf, 3.0])), [0, 1])
    np.testing.assert_array_equal(sparsemax(np.ones((2, 3), np.float32), where=np.False_), 0)
    assert np.isnan(sparsemax_loss(np.float32([0, 0]), 2))
    assert np.isnan(sparsemax_loss(np.float32([0, 0]), -1))
    assert sparsemax_loss(np.float32([0, -inf]), 1) == inf
    loss, gradient = jax.value_and_grad(sparsemax_loss)(np.float32([9, 0]), 0)
    assert (loss, *gradient) == (0, 0, 0)
    x, counted = np.float32([[0, 1], [nan, 0]]), np.array([True, False])
    rows = sparsemax_loss(x, np.array([0, 1]), where=counted)
    assert rows.tolist() == [1.0, 0.0]


def test_many_rows_and_ties_and_large_logits():
    x = RANDOM.normal(size=(200, 50)) * 10.0 ** RANDOM.integers(-3, 6, (200, 1))
    x = x.astype(np.float32)
    x[:50] = np.round(x[:50])
    exact = by_sorting(x.astype(np.float64), np)
    np.testing.assert_allclose(sparsemax(x), exact, rtol=0, atol=2e-6)
    under_vmap = jax.vmap(jax.vmap(sparsemax))(x[:, None])
    np.testing.assert_array_equal(under_vmap[:, 0], sparsemax(x))
