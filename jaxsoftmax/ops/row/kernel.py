"""Forms of JAX, and kernels in C++ that XLA calls in their place where that can be.

    fused("softmax", form, x, **options)

is `form(x, **options)`: its types, its derivatives, its value to a few units in the last place. It
is one primitive that carries the form as a jaxpr. Which of the two a program has is decided when it
is lowered: the kernel on a CPU, where all of a row is on one device (no mesh, or inside of
`shard_map`), and not in what `jax.export` writes, which has to run elsewhere. Derivatives are those
of the form; `vmap` is one call of more rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jaxsoftmax import native

from .exponentials import is_placed

_DTYPES = (jnp.float32, jnp.bfloat16)
_MIXED = (
    "distribution_loss",
    "distribution_gradient",
)  # targets may be float32 where logits are not


def fits(name: str, axis: int, *arrays: Array) -> bool:
    """Whether there is a kernel for arrays like these, as far as their types tell.

    Args:
      name: of the kernel.
      axis: of the classes.
      arrays: the logits, then what goes with them: of their shape, or with one number a row.
    """
    x = arrays[0]
    if not native.enabled() or x.dtype not in _DTYPES or axis != x.ndim - 1 or is_placed(x):
        return False
    if not all(isinstance(n, int) for n in x.shape) or not 1 < x.shape[-1] < 2**31 or not x.size:
        return False
    of_rows, dtypes = (*x.shape[:-1], 1), {x.dtype, *[jnp.dtype("float32")] * (name in _MIXED)}
    return all(
        not is_placed(a) and (a.shape == of_rows or (a.shape == x.shape and a.dtype in dtypes))
        for a in arrays
    )


def fused(name: str, form: Callable[..., Any], *arrays: Array, **options: Any) -> Any:
    """`form(*arrays, **options)`, on CPU by the kernel `name`; the arrays fit."""
    return _fused(*arrays, name=name, form=form, options=tuple(options.items()))


@functools.partial(jax.jit, static_argnames=("name", "form", "options"), inline=True)
def _fused(*arrays: Array, name: str, form: Callable[..., Any], options: Any) -> Any:
    body, shapes = jax.make_jaxpr(functools.partial(form, **dict(options)), return_shape=True)(
        *arrays
    )
    out = _fused_p.bind(*arrays, name=name, body=body)
    return jax.tree.unflatten(jax.tree.structure(shapes), out)


# ------------------------------------------------------------------------------------------------
# The primitive
# ------------------------------------------------------------------------------------------------

_fused_p = Primitive("fused_rows")
_fused_p.multiple_results = True
_fused_p.def_impl(lambda *arrays, name, body: jax.jit(jaxpr_as_fun(body))(*arrays))
_fused_p.def_abstract_eval(lambda *_, name, body: body.out_avals)


def _jvp(primals: Any, tangents: Any, *, name: str, body: Any) -> Any:
    out = _fused_p.bind(*primals, name=name, body=body)
    moving = [i for i, dot in enumerate(tangents) if not isinstance(dot, ad.Zero)]

    def form(*moved: Any) -> Any:
        values = dict(zip(moving, moved, strict=True))
        return jaxpr_as_fun(body)(*(values.get(i, x) for i, x in enumerate(primals)))

    _, dots = jax.jvp(form, [primals[i] for i in moving], [tangents[i] for i in moving])
    return out, dots


def _batch(arrays: Any, dims: Any, *, name: str, body: Any) -> Any:
    size = next(x.shape[d] for x, d in zip(arrays, dims, strict=True) if d is not None)
    arrays = [batching.bdim_at_front(x, d, size) for x, d in zip(arrays, dims, strict=True)]
    body = jax.make_jaxpr(jax.vmap(jaxpr_as_fun(body)))(*arrays)
    return _fused_p.bind(*arrays, name=name, body=body), [0] * len(body.out_avals)


def _lower_form(context: Any, *operands: Any, name: str, body: Any) -> Any:
    del name
    return mlir.lower_fun(jaxpr_as_fun(body), multiple_results=True)(context, *operands)


def _lower_on_cpu(context: Any, *operands: Any, name: str, body: Any) -> Any:
    if _whole_rows(context.module_context):
        return jax.ffi.ffi_lowering(native.PREFIX + name)(context, *operands)
    return _lower_form(context, *operands, name=name, body=body)


def _whole_rows(module: Any) -> bool:
    """Whether the program is for this machine, and each device has the rows that it works on."""
    devices = module.axis_context
    if module.lowering_parameters.for_export or not native.enabled():
        return False
    if isinstance(devices, mlir.SPMDAxisContext):
        return set(devices.mesh.axis_names) <= set(devices.manual_axes)
    return isinstance(devices, mlir.ShardingContext) and devices.num_devices == 1


ad.primitive_jvps[_fused_p] = _jvp
batching.primitive_batchers[_fused_p] = _batch
mlir.register_lowering(_fused_p, _lower_form)
mlir.register_lowering(_fused_p, _lower_on_cpu, platform="cpu")
