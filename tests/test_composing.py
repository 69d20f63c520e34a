"""The same model trained twice in each library, with its own losses and with ours: equal curves.

And the transformations that second-order, private and sharded training are made of.
"""

import functools
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax.experimental import checkify

import jaxsoftmax
from tests.trees import assert_same

pytestmark = [
    pytest.mark.default_modes,  # these libraries promote
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]

ROWS, WIDTH, CLASSES, STEPS = 32, 8, 11, 6
KEYS = jax.random.split(jax.random.key(3), 4)
X = jax.random.normal(KEYS[0], (ROWS, WIDTH))
Y = jax.random.randint(KEYS[1], (ROWS,), 0, CLASSES)

LOSSES = {
    "theirs": optax.losses.softmax_cross_entropy_with_integer_labels,
    "ours": jaxsoftmax.softmax_cross_entropy_with_integer_labels,
}


def curve(params: Any, loss: Any, optimizer: Any = None) -> list[float]:
    """The loss of each step of training."""
    optimizer = optimizer or optax.adam(0.05)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(STEPS):
        params, state, value = step(params, state)
        values.append(float(value))
    return values


def of_nnx(loss: Any) -> list[float]:
    model = nnx.Sequential(
        nnx.Linear(WIDTH, 16, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(16, CLASSES, rngs=nnx.Rngs(1))
    )
    graph, params = nnx.split(model)
    return curve(params, lambda p: loss(nnx.merge(graph, p)(X), Y).mean())


def of_linen(loss: Any) -> list[float]:
    model = linen.Sequential([linen.Dense(16), linen.relu, linen.Dense(CLASSES)])
    params = model.init(jax.random.key(0), X)
    return curve(params, lambda p: loss(model.apply(p, X), Y).mean())


def of_haiku(loss: Any) -> list[float]:
    def forward(x: Any) -> Any:
        return hk.nets.MLP([16, CLASSES])(x)

    model = hk.without_apply_rng(hk.transform(forward))
    params = model.init(jax.random.key(0), X)
    return curve(params, lambda p: loss(model.apply(p, X), Y).mean())


def of_equinox(loss: Any) -> list[float]:
    params, rest = eqx.partition(
        eqx.nn.MLP(WIDTH, CLASSES, 16, 1, key=jax.random.key(0)), eqx.is_array
    )
    return curve(params, lambda p: loss(jax.vmap(eqx.combine(p, rest))(X), Y).mean())


def of_jax(loss: Any) -> list[float]:
    params = {"w": jax.random.normal(KEYS[2], (WIDTH, CLASSES)), "b": jnp.zeros(CLASSES)}
    return curve(params, lambda p: loss(X @ p["w"] + p["b"], Y).mean())


def of_accumulation(loss: Any) -> list[float]:
    params = jax.random.normal(KEYS[2], (WIDTH, CLASSES))
    steps = optax.MultiSteps(optax.adam(0.05), 2)
    return curve(params, lambda w: loss(X @ w, Y).mean(), steps)


@pytest.mark.parametrize("model", [of_jax, of_nnx, of_linen, of_haiku, of_equinox, of_accumulation])
def test_curves_are_equal(model: Any) -> None:
    theirs, ours = (model(LOSSES[name]) for name in ("theirs", "ours"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert ours[-1] < ours[0]


# ------------------------------------------------------------------------------------------------
# A language model: attention, checkpoints, a scan over layers, bf16, a tied head without logits
# ------------------------------------------------------------------------------------------------

VOCABULARY, D, TIME = 97, 16, 12
TOKENS = jax.random.randint(KEYS[3], (2, TIME + 1), 0, VOCABULARY)


def language_model(params: Any, softmax: Any, policy: Any = None) -> Any:
    def layer(x: Any, p: Any) -> Any:
        q, k, v = jnp.split(x @ p["qkv"], 3, axis=-1)
        weights = softmax(q @ k.mT / D**0.5, where=jnp.tril(jnp.ones((TIME, TIME), bool)))
        return x + jax.nn.gelu(weights @ v) @ p["out"], None

    x = params["embedding"][TOKENS[:, :-1]]
    return jax.lax.scan(jax.checkpoint(layer, policy=policy), x, params["layers"])[0]


def initial() -> Any:
    shapes = {"qkv": (2, D, 3 * D), "out": (2, D, D)}
    layers = {
        name: 0.3 * jax.random.normal(jax.random.key(i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }
    return {"embedding": jax.random.normal(KEYS[0], (VOCABULARY, D)), "layers": layers}


def with_logits(params: Any, policy: Any = None) -> Any:
    def masked(x: Any, where: Any) -> Any:
        return jax.nn.softmax(jnp.where(where, x, -jnp.inf))

    logits = language_model(params, masked, policy) @ params["embedding"].T
    return LOSSES["theirs"](logits.astype(jnp.float32), TOKENS[:, 1:]).mean()


def streamed(params: Any, policy: Any = None) -> Any:
    x = language_model(params, jaxsoftmax.softmax, policy)
    return jaxsoftmax.linear_softmax_cross_entropy(x, params["embedding"].T, TOKENS[:, 1:])


POLICIES = [None, jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.nothing_saveable]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_language_model_learns_the_same(policy: Any) -> None:
    theirs, ours = (
        curve(initial(), functools.partial(loss, policy=policy)) for loss in (with_logits, streamed)
    )
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


def test_a_language_model_in_bfloat16_is_not_further_from_float32() -> None:
    exact = curve(initial(), with_logits)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), initial())
    theirs, ours = (curve(half, loss) for loss in (with_logits, streamed))
    off = [np.max(np.abs(np.subtract(found, exact))) for found in (theirs, ours)]
    assert off[1] <= 1.5 * off[0]


# ------------------------------------------------------------------------------------------------
# Second order and other transformations
# ------------------------------------------------------------------------------------------------

W = jax.random.normal(KEYS[2], (WIDTH, CLASSES))


def objective(w: Any) -> Any:
    return jaxsoftmax.linear_softmax_cross_entropy(X, w, Y) + 0.01 * jnp.sum(w**2)


def textbook(w: Any) -> Any:
    return LOSSES["theirs"](X @ w, Y).mean() + 0.01 * jnp.sum(w**2)


def test_lbfgs_of_optax_goes_the_same_way() -> None:
    def run(f: Any) -> Any:
        solver = optax.lbfgs()

        @jax.jit
        def step(w: Any, state: Any) -> Any:
            value, gradient = optax.value_and_grad_from_state(f)(w, state=state)
            updates, state = solver.update(
                gradient, state, w, value=value, grad=gradient, value_fn=f
            )
            return optax.apply_updates(w, updates), state

        w, state = W, solver.init(W)
        for _ in range(10):
            w, state = step(w, state)
        return w

    np.testing.assert_allclose(run(objective), run(textbook), atol=2e-4)


def test_hessians_gauss_newton_and_influence(x64: None) -> None:
    w, x = W.astype(jnp.float64), X.astype(jnp.float64)

    def ours(w: Any) -> Any:
        return jaxsoftmax.linear_softmax_cross_entropy(x, w, Y)

    def theirs(w: Any) -> Any:
        return LOSSES["theirs"](x @ w, Y).mean()

    assert_same(jax.hessian(ours)(w), jax.hessian(theirs)(w), rtol=1e-11)

    # Gauss-Newton of a linear model is its Hessian: Jᵀ H_z J, by jvp and vjp.
    v = jnp.cos(w)
    z, z_dot = jax.jvp(lambda w: x @ w, (w,), (v,))
    inner = jax.jvp(jax.grad(lambda z: LOSSES["ours"](z, Y).mean()), (z,), (z_dot,))[1]
    product = jax.vjp(lambda w: x @ w, w)[1](inner)[0]
    assert_same(jax.jvp(jax.grad(ours), (w,), (v,))[1], product, rtol=1e-11)

    # How the weight of a row moves the loss of another: -gᵀ H⁻¹ g.
    def row(w: Any, i: Any) -> Any:
        return LOSSES["ours"](x[i] @ w, Y[i])

    hessian = jax.hessian(lambda w: theirs(w) + 0.01 * jnp.sum(w**2))(w).reshape(w.size, w.size)
    gradients = jax.vmap(jax.grad(row), (None, 0))(w, jnp.arange(2)).reshape(2, -1)
    influence = -gradients[0] @ jnp.linalg.solve(hessian, gradients[1])
    assert jnp.isfinite(influence)


def test_gradients_of_single_examples_are_clipped_and_summed() -> None:
    """What DP-SGD does: `vmap` of `grad`."""

    def clipped(loss: Any) -> Any:
        each = jax.vmap(jax.grad(loss), (None, 0, 0))(W, X, Y)
        norms = jnp.sqrt(jnp.sum(each**2, (1, 2), keepdims=True))
        return jnp.sum(each / jnp.maximum(1, norms), 0)

    ours = clipped(lambda w, x, y: jaxsoftmax.linear_softmax_cross_entropy(x[None], w, y[None]))
    np.testing.assert_allclose(ours, clipped(lambda w, x, y: LOSSES["theirs"](x @ w, y)), atol=1e-5)


def test_an_exported_step_is_the_step() -> None:
    step = jax.jit(jax.value_and_grad(objective))
    blob = jax.export.export(step)(W).serialize()
    assert_same(jax.export.deserialize(blob).call(W), step(W), rtol=1e-6)


def test_checkify_has_nothing_to_say() -> None:
    error, (value, _) = jax.jit(
        checkify.checkify(jax.value_and_grad(objective), errors=checkify.all_checks)
    )(W)
    assert error.get() is None
    np.testing.assert_allclose(value, objective(W), rtol=1e-6)


def test_labels_have_no_derivative() -> None:
    """Their cotangent is float0, as that of every integer."""
    _, back = jax.vjp(LOSSES["ours"], X @ W, Y)
    x_bar, y_bar = back(jnp.ones(ROWS))
    assert y_bar.dtype == jax.dtypes.float0
    assert x_bar.shape == (ROWS, CLASSES)
