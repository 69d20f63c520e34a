"""The functions of logits on several devices equal those on one: rows spread, classes, or both."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import (
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    sparsemax,
)
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of, placed

N, C = 8, 16
KEYS = jax.random.split(jax.random.key(11), 4)
LOGITS = 3 * jax.random.normal(KEYS[0], (N, C))
TARGETS = jax.random.uniform(KEYS[1], (N, C))
LABELS = jax.random.randint(KEYS[2], (N,), 0, C)
WHERE = jax.random.bernoulli(KEYS[3], 0.8, (N, C)).at[jnp.arange(N), LABELS].set(True)
OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.1, "logit_softcap": 5.0}
LAYOUTS = {
    "rows": ("data", None),
    "classes": (None, "model"),
    "rows and classes": ("data", "model"),
}


def plain(operation):
    """A call without options, of logits, targets, labels and a mask."""

    def call(x, t, y, m):
        given = {"logits": x, "targets": t, "labels": y}
        return operation.function(*(given[name] for name in operation.inputs))

    return call


FUNCTIONS = {op.title: plain(op) for op in ALL if "features" not in op.inputs} | {
    "softmax, masked": lambda x, t, y, m: softmax(x, where=m),
    "logsumexp, masked": lambda x, t, y, m: logsumexp(x, 1, where=m),
    "sparsemax, masked": lambda x, t, y, m: sparsemax(x, where=m),
    "labels, every option": lambda x, t, y, m: softmax_cross_entropy_with_integer_labels(
        x, y, where=m, ignore_index=3, class_weights=jnp.linspace(0.5, 2, C), **OPTIONS
    ),
    "distributions, every option": lambda x, t, y, m: softmax_cross_entropy(
        x, t, where=m, class_weights=jnp.linspace(0.5, 2, C), **OPTIONS
    ),
}


NAMES = ("cross-entropy, labels", "cross-entropy, distributions", "softmax")
SECOND_ORDER = ("softmax", "labels, every option")


def value_and_derivatives(names, x, t, y, m):
    """Of each function its gradient in x and t, its value, and the product of some Hessians."""

    def of(name):
        def total(x, t):
            value = FUNCTIONS[name](x, t, y, m)
            bar = jax.lax.stop_gradient(jnp.cos(x if value.ndim == 2 else jnp.max(x, 1)))
            return jnp.sum(bar * value), value

        gradient = jax.grad(total, (0, 1), has_aux=True)
        if name not in SECOND_ORDER:
            return gradient(x, t)
        return jax.jvp(lambda x: gradient(x, t), (x,), (jnp.cos(x),))

    return {name: of(name) for name in names}


@pytest.fixture(scope="module")
def on_one_device():
    return quick_jit(value_and_derivatives, static_argnums=0)(
        tuple(FUNCTIONS), LOGITS, TARGETS, LABELS, WHERE
    )


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (AxisType.Auto, "rows and classes"),
        *((AxisType.Explicit, layout) for layout in LAYOUTS),
    ],
)
def test_every_layout_equals_one_device(kind, layout, on_one_device):
    shape = {"rows": (8, 1), "classes": (1, 8), "rows and classes": (2, 2)}[layout]
    mesh = mesh_of(kind, data=shape[0], model=shape[1])
    rows, classes = LAYOUTS[layout]
    specs = P(rows, classes), P(rows, classes), P(rows), P(rows, classes)
    with jax.set_mesh(mesh):
        arrays = placed(mesh, specs, (LOGITS, TARGETS, LABELS, WHERE))
        ours = quick_jit(value_and_derivatives, static_argnums=0)(tuple(FUNCTIONS), *arrays)
    assert_close(ours, on_one_device)
    if kind is AxisType.Explicit:
        (x_bar, _), losses = ours["cross-entropy, labels"]
        assert x_bar.sharding.spec == P(rows, classes)
        assert losses.sharding.spec == P(rows)


@pytest.mark.parametrize("check_vma", [True, False])
def test_rows_of_a_shard_map(check_vma, on_one_device):
    mesh = mesh_of(AxisType.Auto, data=4)
    names, rows = ("softmax", "logsumexp", "labels, every option"), P("data")
    mapped = jax.shard_map(
        lambda *arrays: value_and_derivatives(names, *arrays),
        mesh=mesh,
        in_specs=(rows, rows, rows, rows),
        out_specs=rows,
        check_vma=check_vma,
    )
    ours = quick_jit(mapped)(LOGITS, TARGETS, LABELS, WHERE)
    assert_close(ours, {name: on_one_device[name] for name in names})


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", NAMES)
def test_spread_classes_are_not_gathered(kind, name):
    """What crosses devices is a few numbers of each row."""
    mesh = mesh_of(kind, data=2, model=2)
    both, rows = NamedSharding(mesh, P("data", "model")), NamedSharding(mesh, P("data"))
    x = jax.device_put(LOGITS, both)
    arrays = jax.device_put(TARGETS, both), jax.device_put(LABELS, rows), None

    def run(x):
        value, back = jax.vjp(lambda x: FUNCTIONS[name](x, *arrays), x)
        return back(jnp.cos(value))

    text = jax.jit(run).lower(x).compile().as_text()
    moved = re.findall(
        r"= \(?\w+\[([\d,]*)\]\S* (all-\w+|collective-permute|reduce-scatter)\(", text
    )
    assert {how for _, how in moved} == {"all-reduce"}
    # Of the four rows of a device.
    assert {math.prod(map(int, shape.split(","))) for shape, _ in moved} == {4}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_where_rows_are_spread(kind, name):
    """Not even one number, as it would to ask all rows for something."""
    mesh = mesh_of(kind, data=4)
    rows = NamedSharding(mesh, P("data"))
    arrays = jax.device_put((LOGITS.repeat(4, 1), TARGETS.repeat(4, 1), LABELS), rows)

    def run(x, t, y):
        value, back = jax.vjp(lambda x: FUNCTIONS[name](x, t, y, None), x)
        return back(jnp.cos(value))

    text = jax.jit(run).lower(*arrays).compile().as_text()
    assert not re.search(r" (all-\w+|collective-permute|reduce-scatter)\(", text)
