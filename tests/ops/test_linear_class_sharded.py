"""`axis_name`: classes spread over the devices of a shard_map equal those on one."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops import linear_options as linear
from tests.ops.devices import assert_close, mesh_of

SPECS = linear.specs(classes="model")


def spread(count, check_vma):
    """`linear.total` of whole arrays, with the classes spread over so many devices."""

    def total(option, moving, fixed):
        mapped = jax.shard_map(
            functools.partial(linear.total, option, axis_name="model"),
            mesh=mesh_of(AxisType.Auto, model=count),
            in_specs=linear.given(option, SPECS),
            out_specs=P(),
            check_vma=check_vma,
        )
        return mapped(moving, fixed)

    return total


def modes_of_second_order(options, arrays, total=linear.total):
    """The Hessian product in all orders of modes."""

    def of(option):
        x, fixed = linear.given(option, arrays)
        v = jax.tree.map(jnp.cos, x)

        def f(x):
            return total(option, x, fixed)[0]

        def slope(x):
            return jax.jvp(f, (x,), (v,))[1]

        def along(x):
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(f)(x), v)))

        return jax.jvp(jax.grad(f), (x,), (v,))[1], jax.grad(slope)(x), jax.grad(along)(x)

    return {option: of(option) for option in options}


@pytest.mark.parametrize(
    ("derivatives", "options", "count", "check_vma"),
    [
        (linear.first_order, tuple(linear.OPTIONS), 8, True),
        (linear.first_order, ("no option", "return_stats", *linear.ALL), 4, False),
        (linear.second_order, ("all, labels",), 2, True),
        (linear.second_order, ("all, distributions",), 2, False),
        (modes_of_second_order, ("no option",), 8, True),
        (modes_of_second_order, ("no option",), 1, False),
    ],
)
def test_every_option_mode_and_order_equals_one_device(derivatives, options, count, check_vma):
    total = spread(count, check_vma)
    ours = quick_jit(functools.partial(derivatives, options, total=total))(linear.ARRAYS)
    assert_close(ours, linear.on_one_device(derivatives, options))


# ------------------------------------------------------------------------------------------------
# Inside a shard_map: what a user's own code sees
# ------------------------------------------------------------------------------------------------


def inside(f, count, out_specs, check_vma=True):
    """`f` of the features, and of the kernel and the bias of the device."""
    return quick_jit(
        jax.shard_map(
            f,
            mesh=mesh_of(AxisType.Auto, model=count),
            in_specs=(P(), P(None, "model"), P("model")),
            out_specs=out_specs,
            check_vma=check_vma,
        )
    )


N, D, C = 12, 3, 8
POINT = (
    jnp.asarray(linear.ARRAYS["features"][:N, :D]),
    jnp.asarray(linear.ARRAYS["kernel"][:D, :C]),
    jnp.asarray(linear.ARRAYS["bias"][:C]),
)
LABELS = jnp.asarray(linear.ARRAYS["labels"][:N] % C)
TARGETS = jnp.asarray(linear.ARRAYS["targets"][:N, :C])
OUT_SPECS = P(), P(None, "model"), P("model")


def test_gradients_taken_inside_are_whole():
    """Of the features on every device, although each device has a share of it."""

    def total(features, kernel, bias, **options):
        return linear_softmax_cross_entropy(features, kernel, LABELS, bias, **options)

    local = functools.partial(total, axis_name="model", block_size=5)
    ours = inside(jax.grad(local, (0, 1, 2)), 4, OUT_SPECS)(*POINT)
    assert_close(ours, jax.grad(total, (0, 1, 2))(*POINT))


def test_gradients_of_each_example_by_vmap():
    def one(feature, kernel, label, **options):
        return linear_softmax_cross_entropy(feature, kernel, label, **options)

    def each(features, kernel, bias, **options):
        gradient = jax.grad(functools.partial(one, **options), 1)
        return jax.vmap(gradient, (0, None, 0))(features, kernel, LABELS)

    local = functools.partial(each, axis_name="model")
    assert_close(inside(local, 4, P(None, None, "model"))(*POINT), each(*POINT))


@pytest.mark.parametrize("distributions", [False, True])
def test_statistics_are_those_of_all_classes(distributions):
    """Two classes on two devices tie for the first place: the first of them is the prediction."""
    features, kernel, bias = POINT
    kernel, bias = (a.at[..., 7].set(a[..., 2]) for a in (kernel, bias))
    bias = bias.at[jnp.array([2, 7])].add(2)

    def of(features, kernel, bias, labels, **options):
        weights = jnp.ones(N).at[3].set(0)
        return linear_softmax_cross_entropy(
            features, kernel, labels, bias, weights=weights, return_stats=True, **options
        )

    def local(features, kernel, bias):
        labels = LABELS
        if distributions:
            own = jax.lax.axis_index("model") * 2
            labels = jax.lax.dynamic_slice_in_dim(TARGETS, own, 2, axis=1)
        return of(features, kernel, bias, labels, axis_name="model", block_size=5)

    labels = TARGETS if distributions else LABELS
    ours, expected = (
        inside(local, 4, P())(features, kernel, bias),
        of(*POINT[:1], kernel, bias, labels),
    )
    assert_close(ours, expected)
    assert 2 in expected[1].prediction
    assert ours[1].prediction.dtype == jnp.int32


def test_confident_rows_keep_their_last_bits():
    """Loss, gradient and Hessian of the order of exp(-60), on the device with the label or not."""
    kernel, direction = jnp.array([[60.0, 0.0, -1.0, 0.5]]), jnp.array([[1.0, 0.5, -2.0, 3.0]])

    def local(features, kernel, direction):
        def loss(features, kernel):
            labels = jnp.zeros(1, jnp.int32)
            return linear_softmax_cross_entropy(features, kernel, labels, axis_name="model")

        slope = functools.partial(jax.grad(loss, 1), features)
        gradients = jax.value_and_grad(loss, (0, 1))(features, kernel)
        return gradients, jax.jvp(slope, (kernel,), (direction,))[1]

    spec = P(None, "model")
    mapped = jax.shard_map(
        local,
        mesh=mesh_of(AxisType.Auto, model=2),
        in_specs=(P(), spec, spec),
        out_specs=((P(), (P(), spec)), spec),
    )
    (value, (f_bar, w_bar)), w_bar_dot = jax.jit(mapped)(jnp.ones((1, 1)), kernel, direction)
    others = np.exp(np.float64([0, -1, 0.5]) - 60)
    np.testing.assert_allclose(value, np.log1p(others.sum()), rtol=1e-6)
    np.testing.assert_allclose(w_bar, [[-others.sum(), *others]], rtol=1e-6)
    np.testing.assert_allclose(f_bar, [[np.dot(w_bar[0], kernel[0])]], rtol=1e-6)
    # p (v - v_0), as p_0 is 1; and of the label minus the sum of that.
    others *= np.float64([-0.5, -3, 2])
    np.testing.assert_allclose(w_bar_dot, [[-others.sum(), *others]], rtol=1e-6)


@pytest.mark.parametrize("second", [1, 2])
def test_two_sure_classes_share_the_probability_on_any_devices(second):
    """Half each, on one device or on two: neither is likelier than all others together."""
    features, kernel = jnp.ones((1, 1)), jnp.zeros((1, 4)).at[0, jnp.array([0, second])].set(60)
    targets = jnp.array([[0.1, 0.2, 0.3, 0.4]])

    def local(features, kernel):
        own = jax.lax.dynamic_slice_in_dim(targets, jax.lax.axis_index("model") * 2, 2, axis=1)
        return jax.grad(
            lambda w: linear_softmax_cross_entropy(features, w, own, axis_name="model")
        )(kernel)

    spec = P(None, "model")
    mesh = mesh_of(AxisType.Auto, model=2)
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(P(), spec), out_specs=spec)
    p = jnp.zeros((1, 4)).at[0, jnp.array([0, second])].set(0.5)
    np.testing.assert_allclose(jax.jit(mapped)(features, kernel), p - targets, rtol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
def test_edges_are_those_of_one_device(check_vma):
    """Labels that are no class, NaN, and a device whose classes are all impossible."""
    features, kernel, bias = POINT
    labels = LABELS.at[:3].set(jnp.array([-1, C, 2**31 - 1]))
    features = features.at[4].set(jnp.nan)
    bias = bias.at[4:].set(-jnp.inf)

    def losses_and_gradient(features, kernel, bias, **options):
        def losses(features):
            return linear_softmax_cross_entropy(
                features, kernel, labels, bias, reduction="none", **options
            )

        value, back = jax.vjp(losses, features)
        return value, back(jnp.ones_like(value))[0]

    def local(features, kernel, bias):
        value, f_bar = losses_and_gradient(features, kernel, bias, axis_name="model", block_size=5)
        # Without the check a cotangent inside is a share, and 1 on each of two devices is 2.
        return value, f_bar if check_vma else jax.lax.psum(f_bar, "model") / 2

    ours = inside(local, 2, P(), check_vma)(features, kernel, bias)
    expected = losses_and_gradient(features, kernel, bias)
    assert_close(ours, expected)
    np.testing.assert_array_equal(np.isnan(expected[0]), np.isin(np.arange(N), [0, 1, 2, 4]))


# ------------------------------------------------------------------------------------------------
# What crosses devices
# ------------------------------------------------------------------------------------------------


def test_two_small_collectives_a_block_and_one_for_the_features():
    """A row's maximum and the logit of its label, its sum of exponentials; then F̄."""
    local = functools.partial(
        linear_softmax_cross_entropy, labels=LABELS, axis_name="model", block_size=5
    )
    spec = P(None, "model")
    mesh = mesh_of(AxisType.Auto, model=2)
    f = jax.shard_map(local, mesh=mesh, in_specs=(P(), spec), out_specs=P())
    text = jax.jit(jax.grad(f, (0, 1))).lower(*POINT[:2]).compile().as_text()
    found = [m[1] for m in re.finditer(r"= (\S+) all-reduce\(", text)]
    shapes = sorted(re.sub(r"{.*", "", shape) for shape in found)
    # Twelve rows: two blocks of five, in one loop, and a rest of two.
    assert shapes == sorted(["f32[5,2]", "f32[5,1]", "f32[2,2]", "f32[2,1]", "f32[12,3]"])
    assert not re.search("all-gather|all-to-all|collective-permute|reduce-scatter", text)


def test_an_axis_that_is_none_is_a_sentence():
    with pytest.raises(ValueError, match="axis_name") as caught:
        linear_softmax_cross_entropy(*POINT[:2], LABELS, axis_name="model")
    assert str(caught.value) == (
        "linear_softmax_cross_entropy: axis_name must be a mesh axis of a surrounding "
        "jax.shard_map, got 'model'. Outside of shard_map leave it out: the arrays say where they "
        "are."
    )
