"""The linear loss on several devices equals that on one, and moves no more than it must."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy

N, D, C = 64, 8, 16

LAYOUTS = {  # of features, kernel, bias, and of labels and weights
    "rows": (P("data", None), P(None, None), P(None), P("data")),
    "classes": (P(None, None), P(None, "model"), P("model"), P(None)),
    "rows and classes": (P("data", None), P(None, "model"), P("model"), P("data")),
    "rows and kernel by rows": (P("data", None), P("data", None), P(None), P("data")),
}


def mesh_of(kind, shape=(2, 2)):
    count = shape[0] * shape[1]
    return jax.make_mesh(
        shape, ("data", "model"), axis_types=(kind, kind), devices=jax.devices()[:count]
    )


def problem():
    keys = jax.random.split(jax.random.key(2), 5)
    return (
        jax.random.normal(keys[0], (N, D)),
        jax.random.normal(keys[1], (D, C)),
        jax.random.normal(keys[2], (C,)),
        jax.random.randint(keys[3], (N,), 0, C),
        jax.random.uniform(keys[4], (N,)).at[5].set(0),
    )


def placed(mesh, layout, arrays):
    specs = (*LAYOUTS[layout], LAYOUTS[layout][-1])
    return [
        jax.device_put(a, NamedSharding(mesh, spec)) for a, spec in zip(arrays, specs, strict=True)
    ]


def loss(features, kernel, bias, labels, weights):
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": 3, "block_size": 8}
    return linear_softmax_cross_entropy(features, kernel, labels, bias, weights=weights, **options)


gradient = jax.value_and_grad(loss, (0, 1, 2, 4))


def hessian_product(features, kernel, bias, labels, weights):
    def slope(kernel, bias):
        return jax.grad(loss, (1, 2))(features, kernel, bias, labels, weights)

    return jax.jvp(slope, (kernel, bias), (kernel, bias))[1]


def assert_close(ours, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7),
        jax.device_get(ours),
        jax.device_get(expected),
    )


@pytest.fixture(scope="module")
def on_one_device():
    return jax.jit(lambda *a: (gradient(*a), hessian_product(*a)))(*problem())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_every_layout_equals_one_device(kind, layout, on_one_device):
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        arrays = placed(mesh, layout, problem())
        ours = jax.jit(lambda *a: (gradient(*a), hessian_product(*a)))(*arrays)
    assert_close(ours, on_one_device)
    if kind is AxisType.Explicit:  # the types say so; where XLA decides, it is free to
        bars = ours[0][1]
        assert [bar.sharding.spec for bar in bars[:3]] == [a.sharding.spec for a in arrays[:3]]


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (8, 1)])
def test_any_number_of_devices(shape, on_one_device):
    mesh = mesh_of(AxisType.Explicit, shape)
    with jax.set_mesh(mesh):
        ours = jax.jit(gradient)(*placed(mesh, "rows", problem()))
    assert_close(ours, on_one_device[0])


def collectives(mesh, layout):
    with jax.set_mesh(mesh):
        arrays = placed(mesh, layout, problem())
        text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arrays).compile().as_text()
    found = r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\("
    return [(m[2], re.findall(r"\w+\[[\d,]*\]", m[1])) for m in re.finditer(found, text)]


def test_rows_on_an_explicit_mesh_meet_once_in_a_step():
    """The summed weight before the stream, the gradients after it: nothing in its loop."""
    found = collectives(mesh_of(AxisType.Explicit), "rows")
    assert {kind for kind, _ in found} == {"all-reduce"}
    shapes = [shape for _, several in found for shape in several]
    assert sorted(s for s in shapes if s != "f32[]") == ["f32[16]", "f32[8,16]"]


@pytest.mark.parametrize("layout", ["rows", "classes", "rows and classes"])
def test_an_automatic_mesh_gathers_neither_features_nor_kernel(layout):
    assert {kind for kind, _ in collectives(mesh_of(AxisType.Auto), layout)} == {"all-reduce"}


@pytest.mark.parametrize("check_vma", [True, False])
def test_in_a_shard_map_of_the_caller(check_vma):
    """The local sum, and one psum: what data-parallel code writes."""
    features, kernel, bias, labels, _ = problem()
    mesh = mesh_of(AxisType.Auto, (4, 1))

    def local(features, kernel, bias, labels):
        def total(features, kernel, bias):
            return linear_softmax_cross_entropy(
                features, kernel, labels, bias, reduction="sum", block_size=4
            )

        if check_vma:  # so that the gradient is that of this device's rows, as without types
            kernel, bias = (jax.lax.pcast(a, "data", to="varying") for a in (kernel, bias))
        value, bars = jax.value_and_grad(total, (0, 1, 2))(features, kernel, bias)
        return jax.lax.psum(value, "data"), (bars[0], *jax.lax.psum(bars[1:], "data"))

    rows = P("data")
    mapped = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(rows, P(), P(), rows),
        out_specs=(P(), (rows, P(), P())),
        check_vma=check_vma,
    )
    ours = jax.jit(mapped)(features, kernel, bias, labels)
    expected = jax.value_and_grad(
        lambda f, w, b: linear_softmax_cross_entropy(f, w, labels, b, reduction="sum"), (0, 1, 2)
    )(features, kernel, bias)
    assert_close(ours, expected)
