"""What is known of the compiler, and nothing of it anywhere else.

XLA may compute a value once for every kernel that uses it. Of logits x = c y it then rounds c y in
one kernel and not in another (a fused multiply-add), and the largest x is not the m that was taken
of them: x - m comes out above 0, or far below where it should be 0, and a row of large logits is
NaN. Two cures, each a primitive, because which one is right is known when a program is lowered for
its platform, not when it is traced:

    stored(x)      x, written out once where that is known to hold: on CPU, since JAX 0.12
    at_most(x, m)  min(x, m) wherever it does not

On CPU the first costs nothing where logits are in memory anyway, and the second a sixth of a loss;
elsewhere it is the other way round. What else XLA:CPU is slow at stands in `cpu`, chosen by
`by_platform`. Figures: docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from jax import Array, lax
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike


def barrier_holds() -> bool:
    """Whether XLA:CPU leaves alone what an optimization barrier stores; tests/test_jit.py tells."""
    return bool(jax.__version_info__ >= (0, 12))


def sums_products_slowly() -> bool:
    """Whether XLA:CPU takes seven times as long for one sum of products as for a sum in blocks."""
    return not barrier_holds()


def log1p_loses_digits() -> bool:
    """Whether log1p of float64 is off by 236 units in the last place between -1/2 and -1/4."""
    return not barrier_holds()


def stored(x: Array) -> Array:
    """`x`, on CPU computed once and written out; elsewhere as XLA likes."""
    (x,) = _stored_p.bind(x)
    return x


def unfolded(x: ArrayLike) -> Array:
    """`x`, with which XLA does not compute while compiling where it is a constant.

    For a large one it takes seconds. So are its tangent and its cotangent.
    """
    y: Array = _unfolded_p.bind(x)[0]
    return y


def at_most(x: Array, largest: Array) -> Array:
    """`x`, which is `stored` and at most m, where XLA may compute it again.

    Its derivative is that of x: mathematically it is x.
    """
    y: Array = _at_most_p.bind(x, largest)
    return y


def capped(x: Array, largest: Array) -> Array:
    """min(x, m), and NaN where x is: XLA:CPU may give the second where either of the two is."""
    return jnp.minimum(largest, x)


def at_least(x: Array, least: Array) -> Array:
    """max(x, l), and NaN where x is."""
    return jnp.maximum(least, x)


def by_platform(
    cpu: Callable[..., Any], other: Callable[..., Any], *args: Array, results: Any = None
) -> list[Array]:
    """`cpu(*args)` where the program is lowered for a CPU, `other(*args)` where it is not.

    One primitive, of which only the form that is needed is ever traced; op by op it is `other`.
    `results` are the types of what both give, if they are known: a list of arrays.
    """
    if results is None:
        results = jax.make_jaxpr(other)(*map(jax.typeof, args)).out_avals
    chosen: list[Array] = _chosen_p.bind(*args, cpu=cpu, other=other, results=tuple(results))
    return chosen


def another(x: Array) -> Array:
    """`x` as a view with one more axis in front.

    To XLA:CPU it is another array. What two kernels share, it writes out; a view is not shared.
    """
    return x[None]


# ------------------------------------------------------------------------------------------------
# The primitives
# ------------------------------------------------------------------------------------------------


def _linear(name: str, transposed: Callable[[Array], Array]) -> jax.extend.core.Primitive:
    """The primitive that is the identity, to be lowered in a way of its own."""
    primitive = jax.extend.core.Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(lambda x: [x])
    primitive.def_abstract_eval(lambda x: [x])
    ad.deflinear2(primitive, lambda bars, x: [transposed(ad.instantiate_zeros(bars[0]))])
    batching.primitive_batchers[primitive] = lambda xs, dims: (primitive.bind(*xs), dims)
    mlir.register_lowering(primitive, lambda context, x: [x])
    return primitive


def _unfolded_lowering(context: Any, x: Any) -> Any:
    """What XLA cannot look through, behind what is made of constants alone."""
    # One number everywhere stays known: that a cotangent is 1 saves a product.
    return _barrier(context, x) if _is_constant(x) and not _is_one_number(x) else [x]


def _is_constant(x: Any) -> bool:
    """Whether all that a value is made of stands in its function, as far as a glance tells."""
    left = [x]
    for _ in range(64):
        if not left:
            return True
        made_by = left.pop().owner
        if not hasattr(made_by, "operands") or len(made_by.regions):  # an argument, or a loop
            return False
        left.extend(made_by.operands)
    return False


def _is_one_number(x: Any) -> bool:
    made_by = x.owner
    return made_by.name == "stablehlo.broadcast_in_dim" and not made_by.operands[0].type.rank


_barrier = mlir.lower_fun(lambda x: [lax.optimization_barrier(x)])
_stored_p = _linear("stored", lambda bar: bar)
mlir.register_lowering(_stored_p, _barrier, platform="cpu")
_unfolded_p = _linear("unfolded", unfolded)
mlir.register_lowering(_unfolded_p, _unfolded_lowering, cacheable=False)


def _at_most_batch(operands: Any, dims: Any) -> Any:
    x, largest = operands
    size = x.shape[dims[0]] if dims[0] is not None else largest.shape[dims[1]]
    x = batching.bdim_at_front(x, dims[0], size)
    largest = largest[None] if dims[1] is None else jnp.moveaxis(largest, dims[1], 0)
    return at_most(x, largest), 0


def _at_most_jvp(primals: Any, tangents: Any) -> Any:
    return at_most(*primals), tangents[0]


_at_most_p = jax.extend.core.Primitive("at_most")
_at_most_p.def_impl(capped)
_at_most_p.def_abstract_eval(lambda x, largest: x)
ad.primitive_jvps[_at_most_p] = _at_most_jvp
batching.primitive_batchers[_at_most_p] = _at_most_batch
mlir.register_lowering(_at_most_p, mlir.lower_fun(capped, multiple_results=False))
if barrier_holds():
    mlir.register_lowering(_at_most_p, lambda context, x, largest: [x], platform="cpu")


def _other(*args: Any, cpu: Any, other: Any, results: Any) -> Any:
    del cpu, results
    return jax.tree.leaves(other(*args))


def _cpu(*args: Any, cpu: Any, other: Any, results: Any) -> Any:
    del other, results
    return jax.tree.leaves(cpu(*args))


def _chosen_batch(
    axis: Any, operands: Any, dims: Any, *, cpu: Any, other: Any, results: Any
) -> Any:
    if all(dim is None for dim in dims):
        return by_platform(cpu, other, *operands, results=results), [None] * len(results)
    name = axis.name if isinstance(axis.name, str) else None
    options = {"axis_size": axis.size, "axis_name": name, "spmd_axis_name": axis.spmd_name}
    forms = (jax.vmap(form, tuple(dims), **options) for form in (cpu, other))
    return by_platform(*forms, *operands), [0] * len(results)


_chosen_p = jax.extend.core.Primitive("by_platform")
_chosen_p.multiple_results = True
_chosen_p.def_impl(_other)
_chosen_p.def_abstract_eval(lambda *args, cpu, other, results: list(results))
batching.fancy_primitive_batchers[_chosen_p] = _chosen_batch
mlir.register_lowering(_chosen_p, mlir.lower_fun(_other, multiple_results=True))
mlir.register_lowering(_chosen_p, mlir.lower_fun(_cpu, multiple_results=True), platform="cpu")
