"""Forms of JAX, and kernels in C++ that XLA calls in their place where that can be.

    fused("softmax", form, x, **options)

is `form(x, **options)`: its types, its derivatives, its value to a few units in the last place. It
is one primitive that carries the form, which is traced where it is needed and nowhere else. Which
of the two a program has is decided when it is lowered: the kernel on a CPU, where all of a row is
on one device (no mesh, or inside of `shard_map`), and not in what `jax.export` writes, which has to
run elsewhere. Derivatives are those of the form; `vmap` is one call of more rows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxsoftmax import native
from jaxsoftmax.autodiff.linear_map import tangent
from jaxsoftmax.autodiff.varying import varying, varying_axes

from .exponentials import is_placed

_DTYPES = (jnp.float32, jnp.bfloat16)
# Whose targets may be float32 where logits are not.
_MIXED = ("distribution_loss", "distribution_gradient")
# What others give than an array like the logits, or beside it: numbers of a row.
_RESULTS = {
    "log_softmax": "array float32 int32 float32 float32 float32",
    "logsumexp": "number float32 float32",
    "mean": "float32",
    "label_loss": "float32 float32 float32 float32",
    "distribution_loss": "float32 float32 float32 float32 int32 float32 float32 float32",
}


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


@dataclasses.dataclass(frozen=True)
class Form:
    """What a kernel computes, in JAX; equal where it does the same, so that programs are found."""

    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]
    mapped: int = 0  # how many times over one more axis in front

    def __call__(self, *arrays: Array) -> Any:
        """Of one row, or of all that are mapped over."""
        function: Callable[..., Any] = functools.partial(self.function, **dict(self.options))
        for _ in range(self.mapped):
            function = jax.vmap(function)
        return function(*arrays)


def fused(name: str, form: Callable[..., Any], *arrays: Array, **options: Any) -> Any:
    """`form(*arrays, **options)`, on CPU by the kernel `name`; the arrays fit."""
    arrays = tuple(varying(list(arrays), varying_axes(arrays)))
    out = _fused_p.bind(*arrays, name=name, form=Form(form, tuple(options.items())))
    return tuple(out) if len(out) > 1 else out[0]


# ------------------------------------------------------------------------------------------------
# The primitive
# ------------------------------------------------------------------------------------------------

_fused_p = Primitive("fused_rows")
_fused_p.multiple_results = True


def _in_jax(*arrays: Array, name: str, form: Form) -> list[Array]:
    del name
    return jax.tree.leaves(form(*arrays))


def _types(*types: Any, name: str, form: Form) -> list[Any]:
    """The types of what a kernel gives, for which the form need not be traced."""
    del form
    spread = (a.sharding for a in types if any(a.sharding.spec))  # `vmap` over what is spread
    array = types[0].update(sharding=next(spread, types[0].sharding), weak_type=False)
    number = array.update(shape=(*array.shape[:-1], 1))
    given = {"array": array, "number": number}
    kinds = _RESULTS.get(name, "array").split()
    return [given.get(kind) or number.update(dtype=jnp.dtype(kind)) for kind in kinds]


def _jvp(primals: Any, tangents: Any, *, name: str, form: Form) -> Any:
    out = _fused_p.bind(*primals, name=name, form=form)
    moving = [i for i, dot in enumerate(tangents) if not isinstance(dot, ad.Zero)]
    return out, jax.tree.leaves(tangent(form, primals, tangents, moving))


def _batch(arrays: Any, dims: Any, *, name: str, form: Form) -> Any:
    size = next(x.shape[d] for x, d in zip(arrays, dims, strict=True) if d is not None)
    arrays = [batching.bdim_at_front(x, d, size) for x, d in zip(arrays, dims, strict=True)]
    out = _fused_p.bind(*arrays, name=name, form=dataclasses.replace(form, mapped=form.mapped + 1))
    return out, [0] * len(out)


_lower_form = mlir.lower_fun(_in_jax, multiple_results=True)


def _lower_on_cpu(context: Any, *operands: Any, **how: Any) -> Any:
    if _whole_rows(context.module_context):
        return jax.ffi.ffi_lowering(native.PREFIX + how["name"])(context, *operands)
    return _lower_form(context, *operands, **how)


def _whole_rows(module: Any) -> bool:
    """Whether the program is for this machine, and each device has the rows that it works on."""
    devices = module.axis_context
    if module.lowering_parameters.for_export or not native.enabled():
        return False
    if isinstance(devices, mlir.SPMDAxisContext):
        return set(devices.mesh.axis_names) <= set(devices.manual_axes)
    return isinstance(devices, mlir.ShardingContext) and devices.num_devices == 1


_fused_p.def_impl(jax.jit(_in_jax, static_argnames=("name", "form")))
_fused_p.def_abstract_eval(_types)
ad.primitive_jvps[_fused_p] = _jvp
batching.primitive_batchers[_fused_p] = _batch
mlir.register_lowering(_fused_p, _lower_form)
mlir.register_lowering(_fused_p, _lower_on_cpu, platform="cpu")
