"""Newton-CG: the optimum of SciPy in float64, on inputs that break solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy.optimize import minimize

from jaxsoftmax.training.solvers import Problem, Settings, Status, solve
from jaxsoftmax.training.solvers.newton_cg import NewtonCg
from jaxsoftmax.training.solvers.problem import zeros

ITERATIONS = 60
SOLVERS = {"held": NewtonCg(), "streamed": NewtonCg(held_bytes=0)}
solved = jax.jit(solve, static_argnums=0)


def oracle(params, x, y, u, l2, shape):
    """f and its gradient in NumPy; ``params`` is flat."""
    kernel, bias = np.split(params, [shape[0] * shape[1]])
    kernel = kernel.reshape(shape)
    logits = x @ kernel + bias
    logits -= logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits)
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    losses = np.log(exponentials.sum(axis=1)) - logits[rows, y]
    penalty = np.broadcast_to(l2, shape[:1])[:, None] * kernel
    p[rows, y] -= 1
    p *= (u / u.sum())[:, None]
    value = u @ losses / u.sum() + 0.5 * np.sum(penalty * kernel)
    return value, np.concatenate([(x.T @ p + penalty).ravel(), p.sum(axis=0)])


def optimum(x, y, u, l2, classes):
    shape = x.shape[1], classes
    start = np.zeros((shape[0] + 1) * classes)
    found = minimize(
        oracle,
        start,
        (x.astype(np.float64), y, u, l2, shape),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 10_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    return found.fun


def value(params, x, y, u, l2):
    flat = np.concatenate([np.ravel(params.kernel), params.bias]).astype(np.float64)
    return oracle(flat, x.astype(np.float64), y, u, l2, params.kernel.shape)


def drawn(rows, width, classes, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, width))
    scores = x @ rng.normal(size=(width, classes)) + rng.gumbel(size=(rows, classes))
    return x.astype(np.float32), scores.argmax(axis=1).astype(np.int32)


def ordinary():
    x, y = drawn(300, 8, 4)
    return x, y, np.ones(300), 1e-3, 4


def unpenalised():
    x, y = drawn(300, 8, 4)
    return x, y, np.ones(300), 0.0, 4


def weighted():
    """A third of the rows is absent, and holds nonsense."""
    x, y, _, l2, classes = ordinary()
    u = np.arange(300) % 3
    return np.where(u[:, None] == 0, np.float32(1e3), x), y, u.astype(np.float64), l2, classes


def two_classes():
    x, y, u, _, _ = ordinary()
    return x, y // 2, u, 1e-2, 2


def penalties_of_features():
    x, y, u, _, classes = ordinary()
    return x, y, u, np.geomspace(1e-4, 1e-1, 8), classes


def dependent_columns():
    x, y, u, _, classes = ordinary()
    return np.concatenate([x, x[:, :3], np.ones((300, 2), np.float32)], axis=1), y, u, 0.0, classes


def scales():
    x, y, u, l2, classes = ordinary()
    return x * 10.0 ** np.arange(-5, 3, dtype=np.float32), y, u, l2, classes


def wide():
    """More features than rows, and so many that blocks of the Hessian are not factored."""
    x, y = drawn(50, 160, 5)
    return x, y, np.ones(50), 1e-3, 5


CASES = [
    ordinary, unpenalised, weighted, two_classes, penalties_of_features, dependent_columns, scales,
    wide,
]  # fmt: skip


def run(solver, x, y, u, l2, classes, tolerance=1e-6, iterations=ITERATIONS):
    problem = Problem(
        jnp.asarray(x), jnp.asarray(y), jnp.asarray(u, x.dtype), jnp.asarray(l2, x.dtype)
    )
    settings = Settings(jnp.asarray(tolerance, x.dtype), jnp.int32(iterations))
    return jax.device_get(solved(solver, problem, zeros(problem, classes), settings))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", CASES)
def test_the_optimum_in_float32(case, solver):
    x, y, u, l2, classes = case()
    state = run(SOLVERS[solver], x, y, u, l2, classes, tolerance=2e-6)
    assert state.reason is Status.CONVERGED
    assert state.iterations <= 15
    rows = u > 0
    rest = x[rows], y[rows], u[rows], l2
    ours, gradient = value(state.params, *rest)
    assert ours == pytest.approx(optimum(*rest, classes), rel=1e-6)
    assert state.objective == pytest.approx(ours, rel=1e-6)
    scale = np.abs(x[rows]).max()
    assert np.abs(gradient).max() == pytest.approx(
        float(state.gradient_norm), abs=3e-7 * float(scale)
    )


@pytest.mark.default_modes
def test_the_optimum_in_float64(x64):
    x, y, u, l2, classes = ordinary()
    state = run(SOLVERS["held"], x.astype(np.float64), y, u, l2, classes, tolerance=1e-10)
    assert state.reason is Status.CONVERGED
    ours, gradient = value(state.params, x, y, u, l2)
    assert ours == pytest.approx(optimum(x, y, u, l2, classes), rel=1e-12)
    assert np.abs(gradient).max() <= 2e-10


def test_without_a_bias():
    x, y, u, l2, classes = ordinary()
    problem = Problem(jnp.asarray(x), jnp.asarray(y), jnp.ones(300), l2)
    state = solved(SOLVERS["held"], problem, zeros(problem, classes, bias=False), Settings())
    assert state.params.bias is None
    assert state.reason is Status.CONVERGED
    flat = np.concatenate([np.ravel(state.params.kernel), np.zeros(4)]).astype(np.float64)
    gradient = oracle(flat, x.astype(np.float64), y, u, l2, (8, 4))[1]
    assert np.abs(gradient[: 8 * 4]).max() < 2e-6


def test_separable_classes_and_a_class_without_rows_end_in_large_weights():
    x = drawn(100, 3, 2)[0]
    state = run(SOLVERS["held"], x, (x[:, 0] > 0).astype(np.int32), np.ones(100), 0.0, 3)
    assert state.reason is Status.CONVERGED
    assert state.objective < 1e-4
    kernel, bias = (np.asarray(a, np.float64) for a in state.params)
    assert np.abs(kernel[0]).max() > 100
    # The optimum is at infinity; where a solver stops, the mean is the derivative in the bias.
    assert special.softmax(x @ kernel + bias, 1)[:, 2].mean() < 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("broken", "to"), [("x", np.nan), ("x", np.inf), ("y", 4), ("u", np.nan)])
def test_what_is_not_finite_is_reported_and_nothing_moves(broken, to, solver):
    x, y, u, l2, classes = ordinary()
    {"x": x, "y": y, "u": u}[broken][5] = to
    state = run(SOLVERS[solver], x, y, u, l2, classes)
    assert state.reason is Status.DIVERGED
    assert "diverged" in state.reason.sentence()
    assert np.all(state.params.kernel == 0)


@pytest.mark.parametrize("tolerance", [0.0, 1e-12])
def test_the_end_of_float32_is_no_endless_loop(tolerance):
    state = run(SOLVERS["held"], *ordinary(), tolerance=tolerance)
    assert state.reason is Status.LINE_SEARCH_FAILED
    assert state.iterations < 20
    assert state.gradient_norm < 1e-6


def test_the_limit_of_iterations():
    state = run(SOLVERS["held"], *ordinary(), iterations=2)
    assert state.reason is Status.ITERATION_LIMIT
    assert state.iterations == 2


def test_no_rows_that_count_is_a_problem_solved():
    x, y, _, l2, classes = ordinary()
    state = run(SOLVERS["held"], x, y, np.zeros(300), l2, classes)
    assert state.reason is Status.CONVERGED
    assert state.objective == 0


def test_a_warm_start_is_at_the_optimum_at_once():
    x, y, u, l2, classes = ordinary()
    state = run(SOLVERS["held"], x, y, u, l2, classes)
    problem = Problem(jnp.asarray(x), jnp.asarray(y), jnp.ones(300), l2)
    moved = state.params._replace(
        kernel=state.params.kernel + 3.0, bias=state.params.bias + 1.0
    )  # the same probabilities, with a larger penalty
    for start, most in ((state.params, 0), (moved, 1)):
        again = solved(SOLVERS["held"], problem, start, Settings(2e-6))
        assert again.reason is Status.CONVERGED
        assert again.iterations <= most


def test_a_sweep_is_the_runs_it_replaces():
    x, y, u, _, classes = ordinary()
    problem = Problem(jnp.asarray(x), jnp.asarray(y), jnp.ones(300))
    l2 = jnp.geomspace(1e-4, 1.0, 4)

    def one(l2):
        given = Problem(problem.features, problem.labels, problem.weights, l2)
        return solve(SOLVERS["held"], given, zeros(given, classes), Settings())

    swept = jax.jit(jax.vmap(one))(l2)
    for i, value_of_l2 in enumerate(l2):
        alone = run(SOLVERS["held"], x, y, u, float(value_of_l2), classes)
        assert int(swept.status[i]) == Status.CONVERGED
        assert swept.objective[i] == pytest.approx(alone.objective, rel=1e-6)
