"""Losses of a row's statistics, in the pass that forms their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_row_loss
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of
from tests.ops.linear_row_values import dense_logits, dense_stats, point

N, D, C = 8, 3, 12


def row_loss(stats, given):
    """As a policy's: a ratio to what was, an entropy bonus, a penalty on the logsumexp."""
    ratio = jnp.exp(stats.log_prob - given["old"])
    gain = jnp.minimum(ratio, 1.2) * given["pair"][:, 0] + given["pair"][:, 1] * stats.entropy
    return 0.1 * jnp.square(stats.logsumexp) - gain


def problem(dtype=jnp.float64):
    args, labels = point(dtype, rows=N, features=D, classes=C)
    keys = jax.random.split(jax.random.key(1), 3)
    given = {
        "old": jax.random.normal(keys[0], (N,), dtype) - 2,
        "pair": jax.random.normal(keys[1], (N, 2), dtype),
    }
    return (*args, given, jax.random.uniform(keys[2], (N,), dtype)), labels


LABELS = problem(jnp.float32)[1]


def ours(f, w, b, t, given, u, **options):
    options = {"loss": row_loss, "block_size": 4, "logit_softcap": 2.0} | options
    return linear_softmax_row_loss(
        f, w, LABELS, b, arrays=given, weights=u, temperature=t, **options
    )


class Stats:
    def __init__(self, logsumexp, log_prob, entropy):
        self.logsumexp, self.log_prob, self.entropy = logsumexp, log_prob, entropy


def dense(f, w, b, t, given, u):
    stats = Stats(*dense_stats(dense_logits(f, w, b, t, logit_softcap=2.0), LABELS))
    return jnp.sum(u * row_loss(stats, given)) / jnp.sum(u)


def orders(f, second=True):
    """Value, JVP, VJP, and both nestings."""

    def of(args):
        dots = jax.tree.map(jnp.sin, args)

        def slope(args):
            return jax.jvp(lambda args: f(*args), (args,), (dots,))[1]

        gradient = jax.grad(lambda args: f(*args))
        first = f(*args), slope(args), gradient(args)
        if not second:
            return first
        return first, jax.jvp(gradient, (args,), (dots,))[1], jax.grad(slope)(args)

    return quick_jit(of)


@pytest.mark.usefixtures("x64")
def test_every_order_against_dense_logits():
    args, _ = problem()
    assert_close(orders(ours)(args), orders(dense)(args), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("check_vma", [True, False])
def test_classes_on_devices(check_vma):
    args, _ = problem()
    spread = jax.shard_map(
        functools.partial(ours, axis_name="model"),
        mesh=mesh_of(AxisType.Auto, model=4),
        in_specs=(P(), P(None, "model"), P("model"), P(), P(), P()),
        out_specs=P(),
        check_vma=check_vma,
    )
    found, expected = orders(spread, second=False)(args), orders(dense, second=False)(args)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_step_is_three_products_and_holds_no_logits():
    """A policy loss of `linear_softmax_stats` takes four."""
    args, _ = problem(jnp.float32)
    step = jax.jit(jax.value_and_grad(ours, (0, 1))).lower(*args).compile()
    text = step.as_text()
    assert text.count(" dot(") == 3  # of a block, in the loop
    assert f"f32[{N},{C}]" not in text


def test_rows_left_out_add_nothing():
    (f, w, b, t, given, u), _ = problem(jnp.float32)
    out = jnp.arange(N) % 3 == 1
    f = jnp.where(out[:, None], jnp.nan, f)
    given = jax.tree.map(lambda a: a.at[1::3].set(jnp.nan), given)
    u = jnp.where(out, 0.0, u)
    value, bars = jax.value_and_grad(ours, (0, 1, 4))(f, w, b, t, given, u)
    kept = [jax.tree.map(lambda a: a[~out], a) for a in (f, given, u)]
    expected = linear_softmax_row_loss(
        kept[0],
        w,
        LABELS[~out],
        b,
        loss=row_loss,
        arrays=kept[1],
        weights=kept[2],
        temperature=t,
        logit_softcap=2.0,
    )
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    assert all(np.all(np.isfinite(bar)) for bar in jax.tree.leaves(bars))
    assert not np.any(bars[0][out])


def test_errors():
    (f, w, _, _, given, _), _ = problem(jnp.float32)

    def call(loss, arrays):
        return linear_softmax_row_loss(f, w, LABELS, loss=loss, arrays=arrays)

    with pytest.raises(ValueError, match=r"^linear_softmax_row_loss: arrays must have the shape"):
        call(row_loss, jnp.ones((1,)))
    with pytest.raises(ValueError, match=r"loss must give one number a row, \(2,\) of 2, got"):
        call(lambda stats, _: jnp.sum(stats.log_prob), given)
    with pytest.raises(ValueError, match="encloses an array that is being traced"):
        jax.grad(lambda scale: call(lambda stats, _: scale * stats.log_prob, given))(2.0)
