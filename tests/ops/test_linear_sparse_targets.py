"""Several weighted labels a row: the loss of the distribution that has these weights there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import mesh_of
from tests.ops.linear_problem import C, N, assert_close, problem
from tests.ops.linear_row_values import picks_of, weighted_sum

K = 3
EVERYTHING = {"label_smoothing": 0.2, "z_loss": 0.1, "logit_softcap": 2.0}


def point(dtype=jnp.float64, **shape):
    f, w, b, u, _ = problem(dtype, **shape)
    t = jax.random.uniform(jax.random.key(5), (f.shape[0], K), dtype).at[0, 1].set(0)
    class_weights = jnp.linspace(0.5, 2.0, w.shape[1]).astype(dtype)
    return f, w, b, u, t, class_weights


def sparse(picks, *, weighed=True, **options):
    def loss(f, w, b, u, t, cw):
        return linear_softmax_cross_entropy(
            f,
            w,
            picks,
            b,
            label_weights=t,
            weights=u,
            class_weights=cw if weighed else None,
            **options,
        )

    return loss


def dense(picks, *, weighed=True, **options):
    """With a distribution in place of the labels, which is another path through the package."""

    def loss(f, w, b, u, t, cw):
        whole = jnp.zeros((f.shape[0], w.shape[1]), t.dtype)
        whole = whole.at[jnp.arange(f.shape[0])[:, None], picks].add(t)
        return linear_softmax_cross_entropy(
            f, w, whole, b, weights=u, class_weights=cw if weighed else None, **options
        )

    return loss


def orders(loss):
    def f(args):
        return weighted_sum(loss(*args))

    def of(args):
        dots = jax.tree.map(jnp.sin, args)
        return (
            loss(*args),
            jax.grad(f)(args),
            jax.jvp(jax.grad(f), (args,), (dots,))[1],
            jax.grad(lambda x: jax.jvp(f, (x,), (dots,))[1])(args),
        )

    return quick_jit(of)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{}, {"reduction": "none"} | EVERYTHING], ids=["mean", "all"])
def test_equals_the_distribution(options):
    args, picks = point(), picks_of(N, C)
    ours, theirs = (orders(f(picks, block_size=4, **options))(args) for f in (sparse, dense))
    assert_close(ours, theirs, tolerance=1e-13)


@pytest.mark.usefixtures("x64")
def test_against_log_softmax():
    (f, w, b, u, t, _), picks = point(), picks_of(N, C)

    def textbook(f, w, b, u, t, _):
        log_p = jax.nn.log_softmax(f @ w + b[None, :])
        return -jnp.sum(u * jnp.sum(t * jnp.take_along_axis(log_p, picks, 1), 1)) / jnp.sum(u)

    args = f, w, b, u, t, jnp.ones(C)
    ours = sparse(picks, weighed=False, block_size=4)
    assert_close(orders(ours)(args), orders(textbook)(args), tolerance=1e-13)


@pytest.mark.usefixtures("x64")
def test_statistics_of_several_labels():
    (f, w, b, u, t, _), picks = point(), picks_of(N, C)

    def ours(f, w, b, t):
        _, stats = linear_softmax_cross_entropy(
            f, w, picks, b, label_weights=t, return_stats=True, block_size=4
        )
        return jnp.sum(u * stats.log_prob), stats

    def theirs(f, w, b, t):
        log_p = jnp.take_along_axis(jax.nn.log_softmax(f @ w + b[None, :]), picks, 1)
        return jnp.sum(u * jnp.sum(t * log_p, 1))

    (value, stats), bars = jax.jit(jax.value_and_grad(ours, (0, 1, 2, 3), has_aux=True))(f, w, b, t)
    right = jax.jit(jax.value_and_grad(theirs, (0, 1, 2, 3)))(f, w, b, t)
    assert_close((value, bars), right, tolerance=1e-13)
    order = np.argsort(-np.asarray(f @ w + b[None, :]), 1)
    label = np.take_along_axis(np.asarray(picks), np.argmax(t, 1)[:, None], 1)
    np.testing.assert_array_equal(stats.rank, np.argmax(order == label, 1))


def test_a_label_to_ignore_has_no_part():
    (f, w, b, u, t, _), picks = point(jnp.float32), picks_of(N, C)
    ignored = jnp.arange(N * K).reshape(N, K) % 4 == 0
    ignored = ignored.at[2].set(True)
    given = jnp.where(ignored, -100, picks)

    def mean(given, t, u, **options):
        return jax.jit(
            jax.value_and_grad(
                lambda f, w, t: linear_softmax_cross_entropy(
                    f, w, given, b, label_weights=t, weights=u, block_size=4, **options
                ),
                (0, 1, 2),
            )
        )(f, w, t)

    value, bars = mean(given, t, u, ignore_index=-100)
    expected, right = mean(picks, jnp.where(ignored, 0.0, t), u.at[2].set(0))
    assert_close(value, expected, tolerance=1e-6)
    assert_close(bars[:2], right[:2], tolerance=1e-6)
    assert not np.any(np.asarray(bars[2])[ignored])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("check_vma", [True, False])
def test_classes_on_devices(check_vma):
    args, picks = point(rows=8, classes=16), picks_of(8, 16)
    options = EVERYTHING | {"reduction": "none", "block_size": 4}
    spread = jax.shard_map(
        sparse(picks, axis_name="model", **options),
        mesh=mesh_of(AxisType.Auto, model=4),
        in_specs=(P(), P(None, "model"), P("model"), P(), P(), P("model")),
        out_specs=P(),
        check_vma=check_vma,
    )
    ours, one = orders(spread)(args), orders(sparse(picks, **options))(args)
    assert_close(ours, one, tolerance=1e-12)


def test_errors():
    f, w = np.zeros((3, 2), np.float32), np.zeros((2, 4), np.float32)
    t = np.ones((3, 1), np.float32)
    with pytest.raises(
        ValueError, match="with label_weights, labels must be integers of the shape"
    ):
        linear_softmax_cross_entropy(f, w, np.zeros(3, np.int32), label_weights=t)
    with pytest.raises(ValueError, match="label_weights must broadcast to the shape"):
        linear_softmax_cross_entropy(
            f, w, np.zeros((3, 2), np.int32), label_weights=np.ones((3, 4), np.float32)
        )
