"""Rows that weigh nothing cost nothing: blocks without a live row are not worked on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_log_softmax, linear_softmax_cross_entropy
from jaxsoftmax.ops.linear.stream import stream
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of
from tests.ops.linear_problem import problem
from tests.ops.linear_row_values import weighted_sum

N, C = 22, 1024  # of which a row is looked at before it is worked on, also on four devices
ALIVE = {"none": [], "one": [13], "some": [1, 2, 8, 13, 19, 21], "all": list(range(N))}


def point(alive):
    f, w, b, _, labels = problem(jnp.float64, rows=N, classes=C)
    u = (
        jnp.zeros(N)
        .at[jnp.asarray(ALIVE[alive], int)]
        .set(jnp.linspace(1.0, 2.0, len(ALIVE[alive])))
    )
    return (f, w, b, u), labels


def ours(labels, f, w, b, u, **options):
    options |= {"block_size": 4}
    ignored = jnp.where(u > 0, labels, -1)
    return (
        linear_softmax_cross_entropy(f, w, labels, b, weights=u, **options),
        linear_log_softmax(f, w, labels, b, weights=u, **options),
        jnp.where(u > 1.5, linear_log_softmax(f, w, labels, b, **options), 0.0),
        linear_log_softmax(f, w, ignored, b, ignore_index=-1, **options),
    )


def dense(labels, f, w, b, u):
    log_p = jnp.take_along_axis(jax.nn.log_softmax(f @ w + b[None, :]), labels[:, None], 1)[:, 0]
    total = jnp.sum(u)
    loss = -jnp.sum(u * log_p) / jnp.where(total == 0, 1.0, total)
    return loss, u * log_p, jnp.where(u > 1.5, log_p, 0.0), jnp.where(u > 0, log_p, 0.0)


def orders(f, labels):
    def total(args):
        return weighted_sum(f(labels, *args))

    def of(args):
        dots = jax.tree.map(jnp.sin, args)
        return (
            f(labels, *args),
            jax.grad(total)(args),
            jax.jvp(jax.grad(total), (args,), (dots,))[1],
            jax.grad(lambda x: jax.jvp(total, (x,), (dots,))[1])(args),
        )

    return quick_jit(of)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("alive", ["one", "some", "all"])
def test_equal_to_all_rows(alive):
    """Five blocks and a rest; weights are differentiated, where dead rows have derivatives too."""
    args, labels = point(alive)
    found, expected = (orders(f, labels)(args) for f in (ours, dense))
    assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("alive", ALIVE)
def test_gradients_where_weights_are_constant(alive):
    (f, w, b, u), labels = point(alive)

    def gradients(of):
        return jax.jit(
            jax.value_and_grad(lambda f, w, b: weighted_sum(of(labels, f, w, b, u)), (0, 1, 2))
        )(f, w, b)

    assert_close(gradients(ours), gradients(dense), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_classes_on_devices():
    (f, w, b, u), labels = point("some")

    def gradients(of):
        return quick_jit(
            jax.value_and_grad(lambda f, w, b: weighted_sum(of(labels, f, w, b, u)), (0, 1, 2))
        )(f, w, b)

    spread = jax.shard_map(
        functools.partial(ours, axis_name="model"),
        mesh=mesh_of(AxisType.Auto, model=4),
        in_specs=(P(), P(), P(None, "model"), P("model"), P()),
        out_specs=P(),
    )
    assert_close(gradients(spread), gradients(dense), rtol=1e-12, atol=1e-12)


@dataclasses.dataclass(frozen=True, eq=False)
class Counting:
    """Twice each row, and their sum; says how many rows it is given."""

    given: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, shared, rows):
        jax.debug.callback(lambda x: self.given.append(len(x)), rows)
        return jnp.sum(rows), 2 * rows


@pytest.mark.parametrize(
    ("live", "blocks"),
    [
        ([], []),
        ([3], [4]),
        ([0, 4, 8, 9], [4]),
        (range(5), [4, 4]),
        (range(10), [4, 4, 2]),
        (None, [4, 4, 2]),
    ],
)
def test_only_blocks_with_a_live_row_are_worked_on(live, blocks):
    body, rows, mask = Counting(), jnp.arange(10.0), None
    if live is not None:
        mask = jnp.zeros(10, bool).at[jnp.asarray(list(live), int)].set(True)
        rows = jnp.where(mask, rows, 0.0)
    total, doubled = stream(jnp.zeros(()), rows, mask, body=body, size=4)
    jax.effects_barrier()
    assert sorted(body.given, reverse=True) == blocks
    assert total == jnp.sum(rows)
    np.testing.assert_array_equal(doubled, 2 * rows)
