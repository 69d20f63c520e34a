r"""Matrix products that accumulate in float32, and so do their derivatives.

Notation   A, B matrices; Y = A B; a dot a tangent, a bar a cotangent.
Primal     y_pq = Σ_k a_pk b_kq, and the same with A or B, or both, transposed
JVP        Ẏ = Ȧ B + A Ḃ
VJP        Ā = Ȳ Bᵀ,  B̄ = Aᵀ Ȳ
Saved      A, B
Dtypes     float16 and bfloat16 enter the product as they are; Ȳ is rounded to them before it does.
           The result is float32, or float64 if A or B is.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.layout import Layout, with_layout_constraint

from jaxsoftmax.autodiff import custom_rules
from jaxsoftmax.ops.devices.mesh import is_automatic
from jaxsoftmax.ops.row import xla


def product_dtype(a: Any, b: Any) -> Any:
    """The dtype in which products of arrays of dtypes `a` and `b` are multiplied."""
    if a == b:
        return a
    return jnp.dtype(jnp.float64 if jnp.float64 in (a, b) else jnp.float32)


@custom_rules
def product(a: Array, b: Array, *, over: tuple[int, int], dtype: Any) -> Array:
    """Σ of a times b over one axis of each: what is left of `a` is in front.

    Args:
      a: a matrix.
      b: a matrix.
      over: the axis of `a` and the axis of `b` to sum over.
      dtype: both are rounded to it before they are multiplied.
    """
    a, b = a.astype(dtype), b.astype(dtype)
    plainly = functools.partial(_dot, over=over)
    # XLA must not spread over devices what is written out.
    if over == (0, 0) and _is_better_written_out(a, b) and not is_automatic(a, b):
        return xla.by_platform(_written_out, plainly, a, b)[0]
    return plainly(a, b)


def _dot(a: Array, b: Array, over: tuple[int, int]) -> Array:
    wide = jnp.float64 if a.dtype == jnp.float64 else jnp.float32
    numbers = (((over[0],), (over[1],)), ((), ()))
    return lax.dot_general(a, b, numbers, preferred_element_type=wide)


# Measured on CPU (docs/performance.md): a sum over the rows of both takes twice as long where they
# are half types, which XLA then widens, up to twice where A has so few columns, and a third longer
# where B is that many times as wide.
_FEW_COLUMNS = 64
_MANY_TIMES = 32


def _is_better_written_out(a: Array, b: Array) -> bool:
    width = a.shape[1]
    return a.dtype.itemsize == 2 or width <= _FEW_COLUMNS or b.shape[1] >= _MANY_TIMES * width


def _written_out(a: Array, b: Array) -> Array:
    """Aᵀ B with Aᵀ in memory."""
    if a.dtype.itemsize > 2:
        return _dot(xla.stored(a.T), b, (1, 0))
    return _by_rows(_dot(_by_rows(a.T), b, (1, 0)))


def _by_rows(a: Array) -> Array:
    """`a` with its rows in memory: XLA would make a transpose part of the product, before or after.

    It must be both: a product of half types that has its transpose folded in later has no kernel.
    """
    by_rows: Array = with_layout_constraint(a, Layout((0, 1)))
    return by_rows


def _fwd(
    a: Array, b: Array, *, over: tuple[int, int], dtype: Any, perturbed: tuple[bool, ...]
) -> tuple[Array, tuple[Array, Array]]:
    return product(a, b, over=over, dtype=dtype), (a, b)


def _jvp(
    saved: tuple[Array, Array],
    a_dot: Array | None,
    b_dot: Array | None,
    *,
    perturbed: tuple[bool, ...],
    **options: Any,
) -> Array:
    a, b = saved
    terms = []
    if a_dot is not None:
        terms.append(product(a_dot, b, **options))
    if b_dot is not None:
        terms.append(product(a, b_dot, **options))
    return functools.reduce(jnp.add, terms)


def _vjp(
    saved: tuple[Array, Array],
    y_bar: Array,
    *,
    over: tuple[int, int],
    dtype: Any,
    perturbed: tuple[bool, ...],
) -> tuple[Array | None, Array | None]:
    (a, b), (i, j) = saved, over
    a_bar = b_bar = None
    if perturbed[0]:
        pair, axes = ((y_bar, b), (1, 1 - j)) if i == 1 else ((b, y_bar), (1 - j, 1))
        a_bar = product(*pair, over=axes, dtype=dtype).astype(a.dtype)
    if perturbed[1]:
        pair, axes = ((a, y_bar), (1 - i, 0)) if j == 0 else ((y_bar, a), (0, 1 - i))
        b_bar = product(*pair, over=axes, dtype=dtype).astype(b.dtype)
    return a_bar, b_bar


product.defrules(_fwd, _jvp, _vjp, symbolic_zeros=True)
