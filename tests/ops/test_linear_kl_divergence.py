"""The streamed KL divergence against the textbook's, on logits."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_kl_divergence
from jaxsoftmax.testing.rules.compile import jit as quick_jit

N, D, E, C = 11, 3, 4, 5


def problem(dtype, rows=N, classes=C):
    keys = jax.random.split(jax.random.key(4), 7)
    shapes = [(rows, D), (D, classes), (rows, E), (E, classes), (classes,), (classes,)]
    return (
        *(jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=False)),
        jax.random.uniform(keys[6], (rows,), dtype),
    )


def streamed(*args, **options):
    *arrays, weights = args
    return linear_softmax_kl_divergence(
        *arrays, weights=weights, temperature=2.0, block_size=4, **options
    )


def textbook(f, w, g, v, b, c, weights, *, reduction):
    log_p = jax.nn.log_softmax((f @ w + b[None, :]) / 2)
    log_q = jax.nn.log_softmax((g @ v + c[None, :]) / 2)
    losses = 4 * weights * jnp.sum(jnp.exp(log_q) * (log_q - log_p), -1)
    return losses if reduction == "none" else jnp.sum(losses) / jnp.sum(weights)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_derivatives_of_both_sides(reduction):
    args = problem(jnp.float64)

    def all_orders(loss):
        def first(*args):
            return jax.jacrev(lambda *a: loss(*a, reduction=reduction), tuple(range(7)))(*args)

        return quick_jit(lambda *a: (loss(*a, reduction=reduction), first(*a)))(*args)

    ours, theirs = all_orders(streamed), all_orders(textbook)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), ours, theirs)


def test_neither_side_holds_its_logits():
    args = problem(jnp.float32, rows=96, classes=50)

    def loss(*a):
        return linear_softmax_kl_divergence(*a, block_size=16)

    text = jax.jit(jax.grad(loss, tuple(range(6)))).lower(*args[:-1]).compile().as_text()
    sizes = [math.prod(map(int, s.split(","))) for s in re.findall(r"\w\[([\d,]+)\]", text)]
    assert 16 * 50 in sizes  # a block of logits
    assert max(sizes) < 96 * 50


def test_rows_of_weight_zero_contribute_nothing_whatever_their_features():
    f, w, g, v, b, c, _ = problem(jnp.float32)
    out = jnp.arange(N) % 3 == 1
    weights = jnp.where(out, 0.0, 1.0)
    gradient = jax.jit(jax.value_and_grad(linear_softmax_kl_divergence, (0, 1, 2, 3)))
    bad = jnp.full((N, 1), jnp.nan)
    value, bars = jax.jit(
        jax.value_and_grad(
            lambda *a: linear_softmax_kl_divergence(*a, weights=weights), (0, 1, 2, 3)
        )
    )(jnp.where(out[:, None], bad, f), w, jnp.where(out[:, None], bad, g), v, b, c)
    expected, expected_bars = gradient(f[~out], w, g[~out], v, b, c)
    assert not np.any(bars[0][out])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    ours = (bars[0][~out], bars[1], bars[2][~out], bars[3])
    for bar, right in zip(ours, expected_bars, strict=True):
        np.testing.assert_allclose(bar, right, rtol=1e-5, atol=1e-6)


def test_a_class_that_does_not_exist_has_no_part():
    f, w, g, v, b, c, _ = problem(jnp.float32)
    b, c = (a.at[2].set(-jnp.inf) for a in (b, c))
    gradient = jax.jit(jax.value_and_grad(linear_softmax_kl_divergence, (0, 1, 2, 3)))
    value, bars = gradient(f, w, g, v, b, c)
    there = jnp.arange(C) != 2
    expected, right = gradient(f, w[:, there], g, v[:, there], b[there], c[there])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(bars[1][:, there], right[1], atol=1e-6)
    np.testing.assert_allclose(bars[3][:, there], right[3], atol=1e-6)
    assert not np.any(bars[1][:, 2])
    assert not np.any(bars[3][:, 2])


KERNEL, BIAS = P(None, "model"), P("model")


@pytest.mark.parametrize(
    ("reduction", "kind"),
    [("mean", "checked map"), ("none", "unchecked map"), ("none", "explicit mesh")],
)
def test_classes_spread_over_devices_equal_those_on_one(reduction, kind):
    f, w, g, v, b, c, u = (a[:10] if len(a) == N else a for a in problem(jnp.float32))
    w, v, b, c = (jnp.concatenate([a, a[..., :1] - 1], -1) for a in (w, v, b, c))
    b, c = (a.at[2].set(-jnp.inf) for a in (b, c))
    given = f, w, g, v, b, c, u

    def loss(f, w, g, v, b, c, u, **options):
        losses = linear_softmax_kl_divergence(
            f, w, g, v, b, c, weights=u, temperature=2.0, reduction=reduction, **options
        )
        return jnp.sum(losses * losses)

    def derivatives(f, given):
        gradient = jax.grad(f, (0, 1, 2, 3, 6))

        def second(given):
            moving = (*given[:4], given[6])

            def of(*moving):
                return gradient(*moving[:4], *given[4:6], moving[4])

            return jax.jvp(of, moving, moving)[1] if kind == "checked map" else None

        return quick_jit(lambda *given: (f(*given), gradient(*given), second(given)))(*given)

    if kind == "explicit mesh":
        mesh = jax.make_mesh(
            (2, 3),
            ("data", "model"),
            axis_types=(AxisType.Explicit,) * 2,
            devices=jax.devices()[:6],
        )
        rows = P("data")
        specs = rows, KERNEL, rows, KERNEL, BIAS, BIAS, rows
        there = [
            jax.device_put(a, NamedSharding(mesh, s)) for a, s in zip(given, specs, strict=True)
        ]
        ours = derivatives(functools.partial(loss, block_size=4), there)
    else:
        mesh = jax.make_mesh(
            (3,), ("model",), axis_types=(AxisType.Auto,), devices=jax.devices()[:3]
        )
        spread = jax.shard_map(
            functools.partial(loss, axis_name="model", block_size=4),
            mesh=mesh,
            in_specs=(P(), KERNEL, P(), KERNEL, BIAS, BIAS, P()),
            out_specs=P(),
            check_vma=kind == "checked map",
        )
        ours = derivatives(spread, given)
    jax.tree.map(
        lambda ours, one: np.testing.assert_allclose(ours, one, rtol=2e-5, atol=2e-6),
        jax.device_get(ours),
        jax.device_get(derivatives(loss, given)),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"teacher_features": jnp.zeros((N - 1, E))},
            "student and teacher must have logits of the same shape, got (11, 5) and (10, 5).",
        ),
        (
            {"teacher_kernel": jnp.zeros((D, C))},
            (
                "teacher_features must have the shape (..., 3) to go with a kernel of shape (3, "
                "5), got float32[11, 4]."
            ),
        ),
        ({"temperature": 0}, "temperature must be positive and finite, got 0."),
    ],
)
def test_errors_are_sentences(changes, message):
    names = ("features", "kernel", "teacher_features", "teacher_kernel")
    arguments = dict(zip(names, problem(jnp.float32), strict=False)) | changes
    sentence = f"linear_softmax_kl_divergence: {message}"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        linear_softmax_kl_divergence(**arguments)
