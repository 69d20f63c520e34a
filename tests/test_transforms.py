"""The transformations of JAX that docs/design.md lists: those that hold, and those that do not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import checkify, jet, sparse

from jaxsoftmax import softmax_cross_entropy_with_integer_labels
from jaxsoftmax.testing.operations.textbook import label_loss

Function = Callable[[Any], Any]
X, V = np.random.default_rng(0).normal(size=(2, 3, 20)).astype(np.float32)
Y = jnp.asarray([4, 0, 19])


def ours(x: Any) -> Any:
    return jnp.sum(softmax_cross_entropy_with_integer_labels(x, Y[: len(x)]) ** 2)


def textbook(x: Any) -> Any:
    return jnp.sum(label_loss(x, Y[: len(x)]) ** 2)


def _checkified(f: Function) -> Any:
    error, value = checkify.checkify(f, errors=checkify.all_checks)(jnp.asarray(X))
    error.throw()
    return value


def _sharded(f: Function) -> Any:
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((3,), ("m",), axis_types=kinds, devices=jax.devices()[:3])
    rows = jax.P("m")

    def each(x: Any) -> Any:
        return jnp.sum(jax.grad(lambda x: f(x)[None][0])(x), keepdims=True)

    return jax.shard_map(each, mesh=mesh, in_specs=rows, out_specs=rows)(jnp.asarray(X))


def _exported(f: Function) -> Any:
    exported = jax.export.export(jax.jit(jax.grad(f)))(X)
    return jax.export.deserialize(exported.serialize()).call(X)


def _looped(f: Function) -> Any:
    """Three steps of descent."""
    step = lambda _, x: x - jax.grad(f)(x)  # noqa: E731
    return lax.fori_loop(0, 3, step, jnp.asarray(X))


def _scanned(f: Function) -> Any:
    def total(x: Any) -> Any:
        return lax.scan(lambda sums, row: (sums + f(row[None]), None), 0.0, x)[0]

    return jax.grad(total)(jnp.asarray(X))


HOLD: dict[str, Callable[[Function], Any]] = {
    "jit": lambda f: jax.jit(f)(X),
    "eval_shape": lambda f: jnp.zeros(jax.eval_shape(f, X).shape),
    "grad": lambda f: jax.grad(f)(X),
    "vjp": lambda f: jax.vjp(f, X)[1](jnp.float32(2)),
    "jvp": lambda f: jax.jvp(f, (X,), (V,)),
    "linearize": lambda f: jax.linearize(jax.grad(f), X)[1](V),
    "linear_transpose": lambda f: jax.linear_transpose(jax.linearize(f, X)[1], X)(jnp.float32(2)),
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "jacrev": lambda f: jax.jacrev(f)(X),
    "hessian": lambda f: jax.hessian(f)(X),
    "vmap": lambda f: jax.vmap(jax.grad(f))(X[:, None]),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f))(X),
    "scan": _scanned,
    "fori_loop": _looped,
    "cond": lambda f: jax.grad(lambda x: lax.cond(x[0, 0] < 9, f, jnp.sum, x))(jnp.asarray(X)),
    "shard_map": _sharded,
    "export": _exported,
    "checkify": _checkified,
}
FAIL: dict[str, Callable[[Function], Any]] = {
    "jet": lambda f: jet.jet(f, (X,), ((X,),)),
    "sparsify": lambda f: sparse.sparsify(f)(sparse.BCOO.fromdense(jnp.asarray(X))),
}


@pytest.mark.parametrize("name", HOLD)
def test_it_holds(name: str) -> None:
    found, expected = (jax.tree.leaves(HOLD[name](f)) for f in (ours, textbook))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.default_modes
@pytest.mark.parametrize("name", FAIL)
def test_it_fails_with_an_error(name: str) -> None:
    with pytest.raises(Exception, match=r"tracer|process_primitive|unfolded|sparse rule"):
        FAIL[name](ours)


def test_the_list_is_complete() -> None:
    page = Path(__file__).parents[1].joinpath("docs/design.md").read_text()
    rows = re.search(r"## Transformations\n(.*?)\n## ", page, re.DOTALL)
    assert rows
    hold, fail = (
        set(re.findall(r"`(\w+)`", line)) for line in re.findall(r"^- .*", rows[1], re.MULTILINE)
    )
    assert (hold, fail) == (set(HOLD), set(FAIL))
