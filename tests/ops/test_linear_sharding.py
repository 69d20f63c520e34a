"""What the linear loss moves between devices; batches of several axes; vmap and shard_map around.

Its values in every layout are the subject of `test_linear_layouts`.
"""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of, placed

N, D, C = 64, 8, 16

LAYOUTS = {  # of features, kernel, bias, and of labels and weights
    "rows": (P("data", None), P(None, None), P(None), P("data")),
    "classes": (P(None, None), P(None, "model"), P("model"), P(None)),
    "rows and classes": (P("data", None), P(None, "model"), P("model"), P("data")),
    # Where JAX cannot choose another layout than the types say.
    "rows, classes, kernel by both": (P("data"), P("data", "model"), P("model"), P("data")),
}


def problem():
    keys = jax.random.split(jax.random.key(2), 5)
    return (
        jax.random.normal(keys[0], (N, D)),
        jax.random.normal(keys[1], (D, C)),
        jax.random.normal(keys[2], (C,)),
        jax.random.randint(keys[3], (N,), 0, C),
        jax.random.uniform(keys[4], (N,)).at[5].set(0),
    )


def in_layout(mesh, layout):
    *specs, rows = LAYOUTS[layout]
    return placed(mesh, (*specs, rows, rows), problem())


def loss(features, kernel, bias, labels, weights):
    options = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": 3, "block_size": 8}
    return linear_softmax_cross_entropy(features, kernel, labels, bias, weights=weights, **options)


@pytest.mark.parametrize("layout", ["batch over both axes", "batch and classes"])
def test_every_option_with_two_axes_of_the_batch(layout):
    """Distributions, masks of entries, class weights, statistics, and the losses row by row."""
    batch, classes = {
        "batch over both axes": (("data", "model"), None),
        "batch and classes": (("data", None), "model"),
    }[layout]
    keys = jax.random.split(jax.random.key(3), 6)
    features = jax.random.normal(keys[0], (4, 6, D)), P(*batch, None)
    kernel = jax.random.normal(keys[1], (D, C)), P(None, classes)
    targets = jax.random.uniform(keys[2], (4, 6, C)), P(*batch, classes)
    class_weights = jax.random.uniform(keys[3], (C,)), P(classes)
    weights = jax.random.uniform(keys[4], (4, 6)), P(*batch)
    where = jax.random.bernoulli(keys[5], 0.7, (4, 1, C)), P(batch[0], None, classes)

    def losses(features, kernel, targets, class_weights, weights, where):
        return linear_softmax_cross_entropy(
            features,
            kernel,
            targets,
            weights=weights,
            class_weights=class_weights,
            where=where,
            reduction="none",
            label_smoothing=0.1,
            logit_softcap=2.0,
            return_stats=True,
            block_size=2,
        )

    @quick_jit
    def gradients(bar, where, *moving):
        value, back, stats = jax.vjp(lambda *a: losses(*a, where), *moving, has_aux=True)
        return value, back(bar), stats

    bar = jnp.cos(jnp.arange(24.0)).reshape(4, 6), P(*batch)
    arrays = bar, where, features, kernel, targets, class_weights, weights
    mesh = mesh_of(AxisType.Explicit, data=2, model=2)
    arrays, specs = zip(*arrays, strict=True)
    assert_close(ours := gradients(*placed(mesh, specs, arrays)), gradients(*arrays))
    assert jax.typeof(ours[0]).sharding.spec == P(*batch)
    assert jax.typeof(ours[2].prediction).sharding.spec == P(*batch)


def test_gradients_of_each_example_by_vmap_where_classes_are_spread():
    features, kernel, _, labels, _ = problem()
    mesh = mesh_of(AxisType.Explicit, data=2, model=2)
    each = quick_jit(jax.vmap(jax.grad(linear_softmax_cross_entropy, 1), (0, None, 0)))
    there = in_layout(mesh, "classes")
    ours = each(there[0], there[1], there[3])
    assert_close(ours, each(features, kernel, labels))


def collectives(mesh, layout, loss=loss):
    with jax.set_mesh(mesh):
        arrays = in_layout(mesh, layout)
        text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arrays).compile().as_text()
    found = r"= (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\("
    return [(m[2], re.findall(r"\w+\[[\d,]*\]", m[1])) for m in re.finditer(found, text)]


# Of a step: the gradients, each once; and in a block of 8 rows the maximum with the logit of the
# label, and the sums of a row. The mean adds scalars.
BLOCK = ["f32[8,2]", "f32[8,3]"]
MOVED = {
    "rows": ({"all-reduce"}, ["f32[16]", "f32[8,16]"]),
    "classes": ({"all-reduce"}, [*BLOCK, "f32[64,8]"]),
    "rows and classes": ({"all-reduce"}, [*BLOCK, "f32[8]", "f32[32,8]", "f32[8,8]"]),
    # The kernel is gathered along the features, in the part of the classes that is used.
    "rows, classes, kernel by both": (
        {"all-reduce", "all-gather"},
        [*BLOCK, "f32[8]", "f32[32,8]", "f32[8,8]", "f32[8,8]"],
    ),
}


@pytest.mark.parametrize("layout", MOVED)
def test_what_moves_in_a_step_on_an_explicit_mesh(layout):
    kinds, shapes = MOVED[layout]
    found = collectives(mesh_of(AxisType.Explicit, data=2, model=2), layout)
    assert {kind for kind, _ in found} == kinds
    moved = [shape for _, several in found for shape in several]
    assert sorted(s for s in moved if s != "f32[]") == sorted(shapes)


@pytest.mark.parametrize("layout", ["rows", "rows and classes"])
def test_an_automatic_mesh_does_the_same_if_told_the_layout(layout):
    """With jax.sharding.explicit_axes around the loss, as docs/guide.md shows."""
    *specs, rows = LAYOUTS[layout]
    told = jax.sharding.explicit_axes(
        loss, axes=("data", "model"), in_sharding=(*specs, rows, rows)
    )
    mesh = mesh_of(AxisType.Auto, data=2, model=2)
    found = collectives(mesh, layout, told)
    moved = [shape for _, several in found for shape in several]
    assert sorted(s for s in moved if s != "f32[]") == sorted(MOVED[layout][1])
    with jax.set_mesh(mesh):
        ours = quick_jit(jax.value_and_grad(told, (0, 1, 2, 4)))(*in_layout(mesh, layout))
    assert_close(ours, quick_jit(jax.value_and_grad(loss, (0, 1, 2, 4)))(*problem()))


@pytest.mark.parametrize(("rows", "classes", "gathered"), [(64, 16, "8,16"), (16, 64, "16,8")])
def test_where_rows_and_classes_share_an_axis_the_smaller_array_moves(rows, classes, gathered):
    mesh = mesh_of(AxisType.Explicit, data=2)
    shapes = ((rows, D), jnp.float32, P("data")), ((D, classes), jnp.float32, P(None, "data"))
    features, kernel, labels = (
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for shape, dtype, spec in (*shapes, ((rows,), jnp.int32, P("data")))
    )
    text = jax.jit(linear_softmax_cross_entropy).lower(features, kernel, labels).compile().as_text()
    moved = re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", text)
    assert moved == [gathered]


def test_two_devices_with_half_of_the_classes_need_half_of_the_memory():
    def temporary(count):
        mesh = mesh_of(AxisType.Explicit, model=count)
        layout = NamedSharding(mesh, P(None, "model"))
        kernel = jax.ShapeDtypeStruct((D, 2**12), jnp.float32, sharding=layout)
        args = problem()[0], kernel, problem()[3]
        step = jax.jit(jax.value_and_grad(linear_softmax_cross_entropy, (0, 1)))
        return step.lower(*args).compile().memory_analysis().temp_size_in_bytes

    assert temporary(2) <= 0.55 * temporary(1)


@pytest.mark.parametrize("layout", ["rows", "classes", "rows and classes"])
def test_an_automatic_mesh_gathers_neither_features_nor_kernel(layout):
    assert {kind for kind, _ in collectives(mesh_of(AxisType.Auto, data=2, model=2), layout)} == {
        "all-reduce"
    }


def test_an_automatic_mesh_does_not_cut_the_classes_into_tiles():
    """A memory budget that asks for tiles of 128 of 512 classes elsewhere."""
    mesh = mesh_of(AxisType.Auto, data=2, model=2)
    loss = functools.partial(linear_softmax_cross_entropy, memory_budget=4 * N * 128)
    kernel = jax.ShapeDtypeStruct(
        (D, 512), jnp.float32, sharding=NamedSharding(mesh, P(None, "model"))
    )
    with jax.set_mesh(mesh):
        step = jax.jit(jax.grad(loss, (0, 1))).lower(problem()[0], kernel, problem()[3])
    text = step.compile().as_text()
    assert "all-reduce" in text
    assert "all-gather" not in text


@pytest.mark.parametrize("check_vma", [True, False])
def test_in_a_shard_map_of_the_caller(check_vma):
    """The local sum, and one psum: what data-parallel code writes."""
    features, kernel, bias, labels, _ = problem()
    mesh = mesh_of(AxisType.Auto, data=4)

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
    ours = quick_jit(mapped)(features, kernel, bias, labels)
    expected = jax.value_and_grad(
        lambda f, w, b: linear_softmax_cross_entropy(f, w, labels, b, reduction="sum"), (0, 1, 2)
    )(features, kernel, bias)
    assert_close(ours, expected)
