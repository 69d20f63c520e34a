"""Log-probabilities and statistics where classes, or rows, lie on several devices."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_log_softmax, linear_softmax_stats
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of, placed
from tests.ops.linear_row_values import picks_of, point, weighted_sum

N, D, C = 16, 8, 24


def problem():
    """Features, kernel, bias, temperature; picks, of which some are at the borders; labels."""
    args, labels = point(jnp.float64, rows=N, features=D, classes=C)
    picks = picks_of(N, C).at[0].set(jnp.array([2, 3, C - 1])).at[1].set(0)
    return args, (picks, labels.astype(picks.dtype))


def heads(args, classes, **options):
    (f, w, b, t), (picks, labels) = args, classes
    options |= {"temperature": t, "block_size": 4}
    return (
        linear_log_softmax(f, w, picks, b, return_rest=True, logit_softcap=2.0, **options),
        linear_softmax_stats(f, w, labels, b, **options),
    )


def orders(heads, names):
    """The values, the gradient, and Hessian products."""

    def of(args, classes):
        dots = jax.tree.map(jnp.sin, args)

        def f(args):
            return weighted_sum(heads(args, classes))

        def along(args):
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(f)(args), dots)))

        modes = {
            "forward over reverse": lambda: jax.jvp(jax.grad(f), (args,), (dots,))[1],
            "reverse over forward": lambda: jax.grad(lambda x: jax.jvp(f, (x,), (dots,))[1])(args),
            "reverse over reverse": lambda: jax.grad(along)(args),
        }
        return heads(args, classes), jax.grad(f)(args), [modes[name]() for name in names]

    return quick_jit(of)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("count", "check_vma", "names"),
    [
        (8, True, ("reverse over forward", "reverse over reverse")),
        (4, False, ("forward over reverse",)),
        (1, True, ()),
    ],
)
def test_classes_on_devices_equal_those_on_one(count, check_vma, names):
    spread = jax.shard_map(
        functools.partial(heads, axis_name="model"),
        mesh=mesh_of(AxisType.Auto, model=count),
        in_specs=((P(), P(None, "model"), P("model"), P()), P()),
        out_specs=P(),
        check_vma=check_vma,
    )
    point = problem()
    ours, expected = (orders(of, names)(*point) for of in (spread, heads))
    assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_rows_and_classes_where_their_types_or_shardings_say(kind):
    point = problem()
    specs = (
        (P("data", None), P(None, "model"), P("model"), P()),
        (P("data", None), P("data")),
    )

    def of(args, classes):
        found, back = jax.vjp(lambda args: heads(args, classes)[0][0], args)
        return found, heads(args, classes), back(jnp.sin(found))

    mesh = mesh_of(kind, data=2, model=4)
    ours = quick_jit(of)(*placed(mesh, specs, point))
    assert_close(ours, quick_jit(of)(*point), rtol=1e-12, atol=1e-12)
