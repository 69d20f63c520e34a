"""The linear loss on 1, 2, 4 and 8 devices, in every layout and with all options, is that of one.

The arrays say where they lie; `test_linear_class_sharded` is about `axis_name`.
"""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops import linear_options as linear
from tests.ops.devices import assert_close, mesh_of, placed

# What the axes of the mesh spread, and the mesh (data, model) of eight devices and of fewer.
LAYOUTS = {
    "rows": ({"rows": "data"}, (8, 1), (2, 1)),
    "classes": ({"classes": "model"}, (1, 8), (1, 4)),
    "rows and classes": ({"rows": "data", "classes": "model"}, (2, 4), (2, 2)),
    "rows and kernel by rows": ({"rows": "data", "inner_of_kernel": "data"}, (8, 1), (4, 1)),
}
# Where JAX cannot choose another layout than the types say.
EXPLICIT = LAYOUTS | {
    "rows, classes, kernel by both": (
        {"rows": "data", "classes": "model", "inner_of_kernel": "data"},
        (4, 2),
        (2, 2),
    ),
    "rows and classes on one axis": ({"rows": "data", "classes": "data"}, (8, 1), (2, 1)),
    "classes over two axes": ({"classes": ("data", "model")}, (2, 4), (2, 2)),
    "the summed axis": ({"inner": "model", "inner_of_kernel": "model"}, (1, 8), (1, 2)),
}
EVERY = [
    *((AxisType.Auto, layout) for layout in LAYOUTS),
    *((AxisType.Explicit, layout) for layout in EXPLICIT),
]


SECOND = linear.second_order, ("all, labels",)
# Each option alone in two layouts; elsewhere those that are another program with nothing else on.
ALONE = [(AxisType.Auto, "rows and classes"), (AxisType.Explicit, "rows, classes, kernel by both")]
FEW = ("no option", "where of classes", "distributions", "return_stats", *linear.ALL)


def assert_that_of_one_device(kind, shape, layout, derivatives, options):
    """What the derivatives of the options are on a mesh, after the comparison."""
    mesh = mesh_of(kind, data=shape[0], model=shape[1])
    with jax.set_mesh(mesh):
        arrays = placed(mesh, linear.specs(**layout), linear.ARRAYS)
        ours = quick_jit(functools.partial(derivatives, options))(arrays)
    assert_close(ours, linear.on_one_device(derivatives, options))
    return ours


@pytest.mark.parametrize(("kind", "layout"), EVERY)
def test_options_in_every_layout_of_eight_devices(kind, layout):
    options = tuple(linear.OPTIONS) if (kind, layout) in ALONE else FEW
    layout, shape, _ = EXPLICIT[layout]
    ours = assert_that_of_one_device(kind, shape, layout, linear.first_order, options)
    # The types say where results lie; on automatic axes XLA chooses.
    if kind is AxisType.Explicit:
        specs = linear.specs(**layout)
        for option, ((_, result), bars) in ours.items():
            for name, bar in bars.items():
                assert bar.sharding.spec == specs[name], (option, name)
            for by_row in (value for value in jax.tree.leaves(result) if value.ndim):
                assert by_row.sharding.spec == specs["labels"], option


@pytest.mark.parametrize(
    ("kind", "layout", "shape"),
    [
        *((kind, layout, EXPLICIT[layout][2]) for kind, layout in EVERY),
        (AxisType.Explicit, "rows and classes", (1, 1)),
    ],
)
def test_second_order_on_one_to_four_devices(kind, layout, shape):
    """And the value and the gradients on the way there; now in several blocks of rows."""
    assert_that_of_one_device(kind, shape, EXPLICIT[layout][0], *SECOND)


# ------------------------------------------------------------------------------------------------
# Sizes that do not divide the mesh: three rows, five classes
# ------------------------------------------------------------------------------------------------

SMALL = {
    "features": linear.ARRAYS["features"][:3],
    "kernel": linear.ARRAYS["kernel"][:, :5],
    "bias": linear.ARRAYS["bias"][:5],
    "labels": np.array([4, 0, 2]),
}
# What is filled in would show: NaN in a row of weight 0, and likely classes that do not exist.
FILLED = {
    "features": np.pad(SMALL["features"], ((0, 1), (0, 0)), constant_values=np.nan),
    "kernel": np.pad(SMALL["kernel"], ((0, 0), (0, 1)), constant_values=9),
    "bias": np.pad(SMALL["bias"], (0, 1), constant_values=9),
    "labels": np.pad(SMALL["labels"], (0, 1)),
    "weights": np.float32([1, 1, 1, 0]),
    "where": np.arange(6) < 5,
}


def with_gradients(loss, arrays):
    def of(moving):
        return loss(**arrays | moving)

    names = ("features", "kernel", "bias")
    return jax.value_and_grad(of)({name: arrays[name] for name in names})


def of_explicit_mesh(arrays, specs):
    mesh = mesh_of(AxisType.Explicit, data=2, model=2)
    options = {"label_smoothing": 0.1, "block_size": 1}
    loss = functools.partial(linear_softmax_cross_entropy, **options)
    return quick_jit(functools.partial(with_gradients, loss))(placed(mesh, specs, arrays))


def of_shard_map(arrays, specs):
    mesh = mesh_of(AxisType.Auto, model=2)
    options = {"label_smoothing": 0.1, "block_size": 1, "axis_name": "model"}
    specs = {name: P(*("model" if e == "model" else None for e in specs[name])) for name in specs}

    def local(arrays):
        return linear_softmax_cross_entropy(**arrays, **options)

    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs,), out_specs=P())
    return quick_jit(functools.partial(with_gradients, lambda **a: mapped(a)))(
        placed(mesh, specs, arrays)
    )


@pytest.mark.parametrize("of", [of_explicit_mesh, of_shard_map])
def test_sizes_that_do_not_divide_the_mesh(of):
    """JAX says so, and docs/guide.md what to do: fill up with what contributes exactly nothing."""
    specs = linear.specs(rows="data", classes="model")
    specs = {name: specs[name] for name in SMALL} | {"weights": P("data"), "where": P("model")}
    with pytest.raises(ValueError, match="evenly divide"):
        of(SMALL, {name: specs[name] for name in SMALL})
    value, bars = jax.device_get(of(FILLED, specs))
    added = bars["features"][3:], bars["kernel"][:, 5:], bars["bias"][5:]
    assert all(np.all(bar == 0) for bar in added)
    kept = {
        "features": bars["features"][:3],
        "kernel": bars["kernel"][:, :5],
        "bias": bars["bias"][:5],
    }
    plain = functools.partial(linear_softmax_cross_entropy, label_smoothing=0.1)
    expected = quick_jit(functools.partial(with_gradients, plain))(SMALL)
    assert_close((value, kept), expected, rtol=2e-6, atol=1e-7)
