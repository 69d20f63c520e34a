"""`custom_rules` on several devices: sharded arrays, and shard_map."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import custom_rules
from tests.test_autodiff import PAIRS, point
from tests.trees import assert_same

classes, plain_classes = PAIRS["classes"]


def _rows(x: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(x, axis=-1)


rows = custom_rules(_rows)
rows.defrules(
    fwd=lambda x: (rows(x), jax.nn.softmax(x, axis=-1)),
    jvp=lambda p, x_dot: x_dot - jnp.sum(p * x_dot, axis=-1, keepdims=True),
    vjp=lambda p, y_bar: (y_bar - p * jnp.sum(y_bar, axis=-1, keepdims=True),),
)

MESH_MODES: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda total, x: jax.grad(total)(x),
    "jvp": lambda total, x: jax.jvp(total, (x,), (jnp.cos(x),)),
    "jvp of grad": lambda total, x: jax.jvp(jax.grad(total), (x,), (jnp.cos(x),)),
    "grad of jvp": lambda total, x: jax.grad(lambda x: jax.jvp(total, (x,), (jnp.cos(x),))[1])(x),
}


@pytest.mark.parametrize("mode", MESH_MODES)
@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_sharded_rows_and_classes(mode: str, kind: jax.sharding.AxisType) -> None:
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(kind, kind))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)))
    expected = MESH_MODES[mode](lambda x: jnp.sum(jnp.sin(_rows(x))), x)
    with jax.set_mesh(mesh):
        spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data", "class")))
        run = jax.jit(partial(MESH_MODES[mode], lambda x: jnp.sum(jnp.sin(rows(x)))))
        result = run(spread)
        gradient = jax.tree.leaves(result)[-1]
        if gradient.ndim:
            assert gradient.sharding.spec == jax.P("data", "class")
        assert_same(result, expected, rtol=5e-6)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("where", ["outside", "inside"])
@pytest.mark.parametrize("mode", MESH_MODES)
def test_shard_map(mode: str, where: str, check_vma: bool) -> None:
    """Rows over devices, w on all of them: the cotangent of w is a sum over devices."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, w = point(0, (8,))[0], jnp.asarray(point(0)[1])

    def total(f: Callable[..., Any], x: jax.Array, w: jax.Array) -> jax.Array:
        local = jnp.sum(jnp.sin(jax.vmap(lambda row: f((row, w)))(x)))
        return jax.lax.psum(local, "data")

    def run(f: Callable[..., Any]) -> Any:
        shard = partial(jax.shard_map, mesh=mesh, in_specs=(jax.P("data"), jax.P()))
        if where == "outside":
            sharded = shard(partial(total, f), out_specs=jax.P(), check_vma=check_vma)
            return jax.jit(lambda w: MESH_MODES[mode](lambda w: sharded(x, w), w))(w)
        inner = shard(
            lambda x, w: MESH_MODES[mode](lambda w: total(f, x, w), w),
            out_specs=jax.P(),
            check_vma=check_vma,
        )
        return jax.jit(inner)(x, w)

    assert_same(run(classes), run(plain_classes), rtol=1e-5)


def test_an_integer_output_varies_over_devices_as_the_others_do() -> None:
    best = custom_rules(lambda x: (jnp.max(x), jnp.argmax(x)))
    best.defrules(
        fwd=lambda x: (best(x), x == jnp.max(x)),
        jvp=lambda at, x_dot: (jnp.sum(jnp.where(at, x_dot, 0)), None),
        vjp=lambda at, bars: (jnp.where(at, bars[0], 0),),
    )
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.asarray(np.random.default_rng(0).normal(size=8))

    def local(x: jax.Array) -> Any:
        bar, index = jax.grad(best, has_aux=True)(x)
        return bar, index[None]

    spec = jax.P("data")
    bar, index = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec))(x)
    pairs = np.asarray(x).reshape(4, 2)
    np.testing.assert_array_equal(index, pairs.argmax(1))
    np.testing.assert_array_equal(bar.reshape(4, 2), pairs == pairs.max(1, keepdims=True))
