"""The likeliest classes: which, with what log-probabilities, on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_top_k
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of
from tests.ops.linear_row_values import dense_logits, point

N, C, K = 8, 24, 5


def textbook(f, w, b, t, **options):
    log_p = jax.nn.log_softmax(dense_logits(f, w, b, t, **options))
    order = jnp.argsort(-log_p, 1, stable=True)[:, :K]
    return jnp.take_along_axis(log_p, order, 1), order.astype(jnp.int32)


def ours(f, w, b, t, **options):
    return linear_top_k(f, w, K, b, temperature=t, block_size=4, **options)


def with_gradients(top):
    def total(args):
        log_prob, classes = top(*args)
        return jnp.sum(jnp.sin(log_prob)), (log_prob, classes)

    return quick_jit(jax.value_and_grad(total, has_aux=True))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{}, {"logit_softcap": 2.0}])
def test_values_and_gradients(options):
    args, _ = point(jnp.float64, rows=N, classes=C)
    found, expected = (
        with_gradients(functools.partial(f, **options))(args) for f in (ours, textbook)
    )
    assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("count", "check_vma"), [(8, True), (4, False), (2, True)])
def test_classes_on_devices(count, check_vma):
    """Of eight devices each has three classes, fewer than are asked for; and there are ties."""
    (f, w, _, t), _ = point(jnp.float64, rows=N, classes=C)
    args = f, w.at[:, 9].set(w[:, 2]).at[:, 20].set(w[:, 2]), jnp.zeros(C), t
    spread = jax.shard_map(
        functools.partial(ours, axis_name="model"),
        mesh=mesh_of(AxisType.Auto, model=count),
        in_specs=(P(), P(None, "model"), P("model"), P()),
        out_specs=P(),
        check_vma=check_vma,
    )
    assert_close(with_gradients(spread)(args), with_gradients(textbook)(args), 1e-13, 1e-13)


def test_masked_classes():
    (f, w, b, t), _ = point(jnp.float32, rows=N, classes=C)
    where = jax.random.bernoulli(jax.random.key(0), 0.6, (N, C)).at[3].set(False)
    where = where.at[5].set(jnp.arange(C) < 2)
    log_prob, classes = ours(f, w, b, t, where=where)
    expected, order = textbook(f, w, b, t, where=where)
    rest = np.array([0, 1, 2, 4, 6, 7])
    assert_close((log_prob[rest], classes[rest]), (expected[rest], order[rest]))
    assert np.all(np.isneginf(log_prob[5, 2:]))
    assert np.all(classes[3] == -1)
    assert not np.any(log_prob[3])


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (0, "k must be a whole number, at least 1, got 0."),
        (5, "k must be at most the number of classes, 4, got 5."),
    ],
)
def test_errors(k, message):
    with pytest.raises(ValueError, match=f"^linear_top_k: {message}$"):
        linear_top_k(np.zeros((3, 2), np.float32), np.zeros((2, 4), np.float32), k)
