"""The linear loss against the loss on logits: every derivative, memory, work."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import kernels, linear_softmax_cross_entropy
from jaxsoftmax.ops.linear.problem import Sizes
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.linear_problem import C, N, assert_close, on_logits, problem, streamed

MODES_OF_ORDERS = {
    "forward over reverse": (jax.jacfwd, jax.jacrev),
    "reverse over forward": (jax.jacrev, jax.jacfwd),
    "reverse over reverse": (jax.jacrev, jax.jacrev),
}


def both_orders(order, f):
    """The second derivative and the first, in one program."""
    outer, inner = MODES_OF_ORDERS[order]
    wrt = (0, 1, 2, 3)

    def first(*args):
        jacobian = inner(f, wrt)(*args)
        return jacobian, jacobian

    return outer(first, wrt, has_aux=True)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("order", "reduction"),
    [*((order, "mean") for order in MODES_OF_ORDERS), ("forward over reverse", "none")],
)
def test_derivatives_of_both_orders_in_all_modes(order, reduction):
    """Blocks of 4 of 11 rows: two in the scan and a rest of 3."""
    *moving, labels = problem(jnp.float64)
    options = {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.1, "logit_softcap": 3.0}

    def all_modes(loss, **more):
        return quick_jit(both_orders(order, lambda *args: loss(*args, labels, **options, **more)))

    assert_close(
        all_modes(streamed, block_size=4)(*moving), all_modes(on_logits)(*moving), tolerance=1e-13
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("block_size", "reduction"),
    [(1, "mean"), (5, "sum"), (6, "none"), (11, "none"), (100, "sum"), (None, "mean")],
)
def test_blocks_of_any_size_give_the_same(block_size, reduction):
    """Six rows are three neighbours each from two places."""
    *moving, labels = problem(jnp.float64)
    options = {"reduction": reduction, "block_size": block_size}
    ours = jax.jit(lambda *args: streamed(*args, labels, **options))(*moving)
    assert_close(ours, on_logits(*moving, labels, reduction=reduction), tolerance=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(C,), (N, C), (N, 1), (1, 1)])
def test_masks_of_every_shape(shape):
    *moving, labels = problem(jnp.float64)
    where = jax.random.bernoulli(jax.random.key(5), 0.7, shape).at[..., :1].set(True)
    labels = jnp.where(jnp.broadcast_to(where, (N, C))[jnp.arange(N), labels], labels, 0)

    def grads(loss, **more):
        def total(*args):
            return loss(*args, moving[3], labels, where=where, reduction="sum", **more)

        return quick_jit(jax.value_and_grad(total, (0, 1, 2)))(*moving[:3])

    assert_close(grads(streamed, block_size=4), grads(on_logits), tolerance=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_distributions_and_class_weights_are_differentiated(reduction):
    *moving, labels = problem(jnp.float64)
    targets = jax.random.uniform(jax.random.key(3), (N, C), jnp.float64)
    class_weights = jnp.linspace(0.5, 2.0, C)

    def jacobian(loss, labels, argnums, **more):
        def of(targets, class_weights):
            given = labels if labels is not None else targets
            return loss(*moving, given, class_weights=class_weights, reduction=reduction, **more)

        return quick_jit(jax.jacrev(of, argnums))(targets, class_weights)

    for given, argnums in ((None, (0, 1)), (labels, 1)):
        ours = jacobian(streamed, given, argnums, block_size=4)
        assert_close(ours, jacobian(on_logits, given, argnums), tolerance=1e-13)


@pytest.mark.usefixtures("x64")
def test_gradients_of_each_example_by_vmap():
    features, kernel, bias, _, labels = problem(jnp.float64)
    one = jax.grad(lambda w, f, y: linear_softmax_cross_entropy(f, w, y, bias))
    each = jax.vmap(one, (None, 0, 0))(kernel, features, labels)
    logits = features @ kernel + bias[None, :]
    residual = jax.nn.softmax(logits) - jax.nn.one_hot(labels, C)
    assert_close(each, features[:, :, None] * residual[:, None, :], tolerance=1e-13)


# ------------------------------------------------------------------------------------------------
# Memory and work, as compiled
# ------------------------------------------------------------------------------------------------

MODES = {
    "value": lambda f, v: f,
    "gradient": lambda f, v: jax.grad(f, (0, 1, 2)),
    "jvp": lambda f, v: lambda *a: jax.jvp(f, a, v)[1],
    "forward over reverse": lambda f, v: lambda *a: jax.jvp(jax.grad(f, (0, 1, 2)), a, v)[1],
    "reverse over forward": lambda f, v: jax.grad(lambda *a: jax.jvp(f, a, v)[1], (0, 1, 2)),
    "reverse over reverse": lambda f, v: jax.grad(
        lambda *a: sum(map(jnp.vdot, jax.grad(f, (0, 1, 2))(*a), v)), (0, 1, 2)
    ),
}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_no_mode_holds_the_logits(mode, reduction):
    features, kernel, bias, weights, labels = problem(jnp.float32, rows=96, classes=50)

    def loss(*args):
        losses = streamed(*args, None, labels, reduction=reduction, block_size=16)
        return jnp.sum(weights * losses) if reduction == "none" else losses

    args = (features, kernel, bias)
    text = jax.jit(MODES[mode](loss, args)).lower(*args).compile().as_text()
    sizes = [math.prod(map(int, s.split(","))) for s in re.findall(r"\w\[([\d,]+)\]", text)]
    assert 16 * 50 in sizes  # a block of logits
    assert max(sizes) < 96 * 50


def test_work_is_a_matrix_product_for_each_gradient_asked_for():
    rows, features, classes = 64, 512, 64
    args = problem(jnp.float32, rows, features, classes)[:3]
    labels = jnp.zeros(rows, jnp.int32)

    def products(function):
        flops = jax.jit(function).lower(*args).compile().cost_analysis()["flops"]
        return flops / (2 * rows * features * classes)

    def loss(features, kernel, bias):
        return linear_softmax_cross_entropy(features, kernel, labels, bias)

    probe = jax.grad(loss, (1, 2))
    assert products(loss) == pytest.approx(1, abs=0.2)
    assert products(jax.value_and_grad(loss, (1, 2))) == pytest.approx(2, abs=0.2)
    assert products(jax.value_and_grad(loss, (0, 1, 2))) == pytest.approx(3, abs=0.2)
    # A Hessian product of a linear probe: logits, their tangent, and back.
    hessian_product = functools.partial(jax.jvp, lambda w, b: probe(args[0], w, b), args[1:])
    tangents = args[1:]
    assert products(lambda *a: hessian_product(tangents)[1]) <= 3.2


def test_no_product_of_few_classes_has_its_first_factor_transposed():
    """XLA:CPU takes up to five times as long for one, and makes one of a transpose that follows."""
    features, kernel, bias = problem(jnp.float32, rows=40, features=100, classes=10)[:3]
    probe = jax.grad(linear_softmax_cross_entropy, (0, 1, 3))

    def derivatives(f, w, b):
        def gradient(*args):
            return probe(args[0], args[1], jnp.zeros(40, jnp.int32), args[2])

        return gradient(f, w, b), jax.jvp(lambda w, b: gradient(f, w, b), (w, b), (w, b))[1]

    with kernels("off"):
        text = jax.jit(derivatives).lower(features, kernel, bias).compile().as_text()
    over = re.findall(r" dot\(.*?lhs_contracting_dims=\{(\d)\}", text)
    assert len(over) >= 5
    assert set(over) == {"1"}


@pytest.mark.once
def test_blocks_are_within_the_budget_and_as_large_as_a_cache():
    random = np.random.default_rng(0)
    for _ in range(300):
        powers = random.uniform([0, 0, 0, 3], [6, 6, 4, 9])
        number, row_bytes, of_features, budget = (10**powers).astype(int).tolist()
        size = Sizes(None, budget).rows(number, row_bytes, of_features)
        most = min(number, budget // row_bytes, max(1024, 2**22 // (row_bytes + of_features)))
        assert most // 2 <= size <= max(1, most)
        assert number % size == 0 or all(number % n for n in range(most // 2 + 1, most + 1))
