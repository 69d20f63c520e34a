"""`custom_rules`: both rules, under every transformation, against JAX's own derivatives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import custom_rules
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.trees import assert_same

# ------------------------------------------------------------------------------------------------
# Two functions with rules, and the same functions without
# ------------------------------------------------------------------------------------------------


def plain_classes(point: Any) -> jax.Array:
    x, w = point
    return jax.nn.log_softmax(x @ w)


classes_rules = custom_rules(lambda x, w: jax.nn.log_softmax(x @ w))


def _classes_fwd(x, w):
    y = classes_rules(x, w)  # itself: second order goes through the rules again
    return y, (x, w, y)


def _classes_jvp(residuals, x_dot, w_dot):
    x, w, y = residuals
    z_dot = x_dot @ w + x @ w_dot
    return z_dot - jnp.sum(jnp.exp(y) * z_dot)


def _classes_vjp(residuals, y_bar):
    x, w, y = residuals
    z_bar = y_bar - jnp.exp(y) * jnp.sum(y_bar)
    return w @ z_bar, jnp.outer(x, z_bar)


classes_rules.defrules(_classes_fwd, _classes_jvp, _classes_vjp)


def classes(point: Any) -> jax.Array:
    return classes_rules(*point)


def plain_loss(point: Any) -> jax.Array:
    x, w = point
    return jax.nn.logsumexp(jnp.sin(x) @ w)


loss_rules = custom_rules(lambda x, w: jax.nn.logsumexp(jnp.sin(x) @ w))


def _loss_fwd(x, w, *, perturbed):
    """Forms, in the forward pass, the gradients that are asked for and no others."""
    y = loss_rules(x, w)
    p = jnp.exp(jnp.sin(x) @ w - y)
    x_bar = (w @ p) * jnp.cos(x) if perturbed[0] else None
    w_bar = jnp.outer(jnp.sin(x), p) if perturbed[1] else None
    return y, (x_bar, w_bar)


def _loss_jvp(gradients, *dots, perturbed):
    return sum(jnp.sum(g * dot) for g, dot in zip(gradients, dots, strict=True) if g is not None)


def _loss_vjp(gradients, y_bar, *, perturbed):
    return tuple(None if g is None else g * y_bar for g in gradients)


loss_rules.defrules(_loss_fwd, _loss_jvp, _loss_vjp, symbolic_zeros=True)


def loss(point: Any) -> jax.Array:
    return loss_rules(*point)


PAIRS = {"classes": (classes, plain_classes), "loss": (loss, plain_loss)}


def point(seed: int, batch: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """(x, w) of shapes (3,) and (3, 4), after batch axes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*batch, 3)), rng.normal(size=(*batch, 3, 4))


# ------------------------------------------------------------------------------------------------
# Every transformation
# ------------------------------------------------------------------------------------------------


def scalar(f: Callable[..., Any]) -> Callable[..., Any]:
    """A scalar of f that is curved, so that the cotangent of f moves with its arguments."""
    return lambda p: jnp.sum(jnp.sin(f(p)))


def _vjp(f, p):
    y, pullback = jax.vjp(f, p)
    return pullback(jnp.cos(y))


def _linear_transpose(f, p):
    y, pushforward = jax.linearize(f, p)
    transposed = jax.linear_transpose(pushforward, p)
    back = jax.linear_transpose(lambda y_bar: transposed(y_bar)[0], y)
    return transposed(jnp.cos(y)), back(p)


def _scan(f, p):
    """The scalar of f three times, each on arguments the last one moved."""

    def step(carry, scale):
        value = scalar(f)(jax.tree.map(lambda leaf: leaf * (scale + carry), p))
        return value, value

    return jnp.sum(jax.lax.scan(step, jnp.ones(()), jnp.linspace(0.0, 1.0, 3))[1])


def _fori(f, p):
    def step(_, q):
        return jax.tree.map(lambda leaf: leaf + scalar(f)(q) / 9, q)

    return jnp.sum(jax.lax.fori_loop(0, 3, step, p)[1])


def _while(f, p):
    def step(carry):
        i, q = carry
        return i + 1, jax.tree.map(lambda leaf: leaf + scalar(f)(q) / 9, q)

    return jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, p))[1][0]


def _cond(f, p):
    return jax.lax.cond(p[0][0] > 0, scalar(f), lambda p: jnp.sum(p[0] ** 3), p)


def _jvp(f, p, dot=None):
    return jax.jvp(f, (p,), (point(1) if dot is None else dot,))


def _over(f, axes, q, out_axes=0):
    """The scalar of f, mapped over the axes of x and w."""
    return jax.vmap(lambda x, w: scalar(f)((x, w)), axes, out_axes)(*q)


rev, fwd, tree = jax.jacrev, jax.jacfwd, jax.tree.map


def batch(*sizes: int) -> Any:
    """A batch of points. Under jit, vmap of a NumPy array stops every custom rule of JAX."""
    return tree(jnp.asarray, point(2, sizes))


def last() -> Any:
    """Two points, counted along the last axes."""
    return tree(lambda leaf: jnp.moveaxis(leaf, 0, -1), batch(2))


SAVE_NOTHING = jax.checkpoint_policies.nothing_saveable
SAVE_ALL = jax.checkpoint_policies.everything_saveable

TRANSFORMATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "value": lambda f, p: f(p),
    "jvp": _jvp,
    "vjp": _vjp,
    "jacfwd": lambda f, p: fwd(f)(p),
    "jacrev": lambda f, p: rev(f)(p),
    "value_and_grad": lambda f, p: jax.value_and_grad(scalar(f))(p),
    "grad in one argument": lambda f, p: jax.grad(lambda w: scalar(f)((p[0], w)))(p[1]),
    "jvp in one argument": lambda f, p: jax.jvp(lambda x: f((x, p[1])), (p[0],), (point(1)[0],)),
    "linearize": lambda f, p: jax.linearize(f, p)[1](point(1)),
    "linear_transpose": _linear_transpose,
    "jacfwd of jacfwd": lambda f, p: fwd(fwd(scalar(f)))(p),
    "jacfwd of jacrev": lambda f, p: fwd(rev(scalar(f)))(p),
    "jacrev of jacfwd": lambda f, p: rev(fwd(scalar(f)))(p),
    "jacrev of jacrev": lambda f, p: rev(rev(scalar(f)))(p),
    "jvp of vjp": lambda f, p: _jvp(lambda q: _vjp(f, q), p),
    "vjp of jvp": lambda f, p: _vjp(lambda q: _jvp(f, q, q)[1], p),
    "mixed second": lambda f, p: fwd(lambda w: rev(lambda x: scalar(f)((x, w)))(p[0]))(p[1]),
    "third, fwd rev rev": lambda f, p: fwd(lambda q: _jvp(rev(scalar(f)), q)[1])(p),
    "third, rev rev fwd": lambda f, p: rev(
        lambda q: rev(lambda r: _jvp(scalar(f), r)[1])(q)[0].sum()
    )(p),
    "third, fwd fwd fwd": lambda f, p: fwd(lambda q: _jvp(lambda r: _jvp(scalar(f), r)[1], q)[1])(
        p
    ),
    "jit inside": lambda f, p: jax.hessian(scalar(jax.jit(f)))(p),
    "jit between": lambda f, p: fwd(jax.jit(rev(jax.jit(scalar(f)))))(p),
    "vmap": lambda f, p: jax.vmap(f)(batch(2)),
    "vmap of jvp": lambda f, p: jax.vmap(partial(_jvp, f))(batch(2)),
    "vmap of tangents": lambda f, p: jax.vmap(lambda dot: _jvp(f, p, dot)[1])(batch(2)),
    "vmap of hessian": lambda f, p: jax.vmap(jax.hessian(scalar(f)))(batch(2)),
    "vmap of x": lambda f, p: jax.grad(lambda x: _over(f, (0, None), (x, p[1])).sum())(batch(2)[0]),
    "vmap of w": lambda f, p: jax.grad(lambda x: _over(f, (None, 0), (x, batch(2)[1])).sum())(p[0]),
    "hessian of vmap": lambda f, p: jax.hessian(lambda q: _over(f, 0, q).prod())(batch(2)),
    "vmap of last axes": lambda f, p: jax.grad(lambda q: _over(f, (1, 2), q).prod())(last()),
    "vmap of mixed axes": lambda f, p: jax.vmap(jax.jacrev(f), ((-1, 0),), -1)(
        (last()[0], batch(2)[1])
    ),
    "vmap of vmap": lambda f, p: jax.vmap(jax.vmap(jax.grad(scalar(f)), 0), 1)(batch(2, 3)),
    "grad of vmap of vmap": lambda f, p: jax.grad(
        lambda q: jnp.sum(jax.vmap(partial(_over, f, (None, 0)), ((None, 1),))(q) ** 2)
    )((p[0], batch(2, 3)[1])),
    "vmap with collectives": lambda f, p: jax.vmap(
        jax.grad(lambda q: jax.lax.psum(scalar(f)(q), "batch") ** 2), axis_name="batch"
    )(batch(2)),
    "checkpoint": lambda f, p: jax.hessian(scalar(jax.checkpoint(f)))(p),
    "checkpoint, save all": lambda f, p: rev(rev(jax.checkpoint(scalar(f), policy=SAVE_ALL)))(p),
    "checkpoint, save nothing": lambda f, p: rev(jax.vmap(jax.checkpoint(f, policy=SAVE_NOTHING)))(
        batch(2)
    ),
    "scan": lambda f, p: (jax.grad(partial(_scan, f))(p), _jvp(partial(_scan, f), p)),
    "hessian of scan": lambda f, p: fwd(rev(partial(_scan, f)))(p),
    "grad of scan of checkpoint": lambda f, p: jax.grad(partial(_scan, jax.checkpoint(f)))(p),
    "scan of grad": lambda f, p: jax.lax.scan(lambda c, q: (c, rev(f)(q)), 0.0, batch(2))[1],
    "fori_loop": lambda f, p: (jax.grad(partial(_fori, f))(p), fwd(rev(partial(_fori, f)))(p)),
    "while_loop": lambda f, p: _jvp(partial(_while, f), p),
    "cond": lambda f, p: (jax.grad(partial(_cond, f))(p), _jvp(partial(_cond, f), p)),
    "vmap of cond": lambda f, p: jax.vmap(jax.grad(partial(_cond, f)))(batch(2)),
    "map": lambda f, p: jax.grad(lambda q: jnp.sum(jnp.sin(jax.lax.map(f, q))))(batch(2)),
}


# A rule that forms only the gradients asked for depends on the arguments, the order and the batch.
ASKED = [
    name for name in TRANSFORMATIONS if "argument" in name or "jac" in name or "vmap of" in name
]
CASES = [("classes", name) for name in TRANSFORMATIONS] + [("loss", name) for name in ASKED]


@pytest.mark.parametrize(("pair", "name"), CASES)
def test_every_transformation_gives_what_jax_derives(pair: str, name: str, x64: None) -> None:
    ours, plain = PAIRS[pair]
    transformation = TRANSFORMATIONS[name]
    expected = quick_jit(partial(transformation, plain))(point(0))
    assert_same(quick_jit(partial(transformation, ours))(point(0)), expected, rtol=1e-11)


EAGER = [
    "jvp",
    "vjp",
    "jvp in one argument",
    "linear_transpose",
    "jvp of vjp",
    "vmap of w",
    "while_loop",
]


@pytest.mark.parametrize("name", EAGER)
def test_without_jit(name: str, x64: None) -> None:
    transformation = TRANSFORMATIONS[name]
    p = tree(jnp.asarray, point(0))
    assert_same(transformation(classes, p), transformation(plain_classes, p), rtol=1e-11)


@pytest.mark.default_modes
@pytest.mark.parametrize("name", ["value_and_grad", "jacfwd of jacrev", "vmap of w"])
def test_single_precision_in_the_default_modes(name: str) -> None:
    transformation = TRANSFORMATIONS[name]
    result, expected = (jax.jit(partial(transformation, f))(point(0)) for f in PAIRS["classes"])
    assert_same(result, expected, rtol=2e-6)


@pytest.mark.once
@pytest.mark.parametrize("pair", PAIRS)
def test_no_tracer_leaks(pair: str) -> None:
    f = PAIRS[pair][0]
    with jax.checking_leaks():
        jax.jit(fwd(rev(scalar(f))))(point(4))
        jax.jit(jax.vmap(rev(partial(_scan, f))))(point(4, (2,)))


# ------------------------------------------------------------------------------------------------
# What it costs: the residuals that were named, and the compiled program of jax.custom_vjp
# ------------------------------------------------------------------------------------------------


def test_the_residuals_are_those_named(capsys: pytest.CaptureFixture[str]) -> None:
    def saved(function: Callable[..., Any]) -> list[str]:
        jax.ad_checkpoint.print_saved_residuals(function, *point(0))
        return sorted(line.split(" ")[0] for line in capsys.readouterr().out.splitlines())

    named = ["f32[3,4]", "f32[3]", "f32[4]"]
    assert saved(classes_rules) == sorted(named)
    assert saved(classes_rules.custom_vjp) == sorted(named)
    assert saved(loss_rules) == sorted(named[:2])

    x, w = point(0)
    pullback = jax.vjp(lambda w: loss_rules(x, w), w)[1]
    assert [leaf.shape for leaf in jax.tree.leaves(pullback)] == [(3, 4)]


@pytest.mark.parametrize("rules", [classes_rules, loss_rules], ids=["classes", "loss"])
@pytest.mark.parametrize("mapped", [False, True], ids=["alone", "vmap"])
def test_the_compiled_cost_is_that_of_custom_vjp(rules: Any, mapped: bool) -> None:
    shape = (64, 512), (512, 256)

    def cost(function: Callable[..., Any]) -> dict[str, Any]:
        over = jax.vmap(function, (0, None)) if mapped else lambda x, w: function(x[0], w)

        def total(x: jax.Array, w: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(over(x, w)))

        arrays = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shape]
        compiled = jax.jit(jax.value_and_grad(total, (0, 1))).lower(*arrays).compile()
        costs = compiled.cost_analysis()
        return {
            "flops": costs["flops"],
            "transcendentals": costs["transcendentals"],
            "bytes": costs["bytes accessed"],
            "temporary": compiled.memory_analysis().temp_size_in_bytes,
        }

    ours = cost(rules)
    assert ours["flops"] > 0
    assert ours == cost(rules.custom_vjp)


def test_an_exported_program_differentiates() -> None:
    """Ahead of time: the rules are in the exported program and leave nothing to look up."""
    exported = jax.export.export(jax.jit(jax.grad(scalar(classes))))(point(0))
    assert_same(exported.call(point(0)), jax.grad(scalar(plain_classes))(point(0)), rtol=2e-6)
