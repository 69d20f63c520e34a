r"""Derivatives that are known when the value is: the forward pass saves the gradient.

Two ideas, which every loss of this package is made of.

1.  A loss that has formed its gradient g beside its value needs no other rule:

        JVP  L̇ = Σ g∘ẋ        VJP  x̄ = g L̄

    `custom_rules.defgradients` makes both out of a forward pass that gives (L, g).

2.  The accurate value of a quantity is often not written as the formula it stands for: terms are
    left out of sums, maxima taken off, logits stored. Its derivative is that of the formula, in
    which the constants that cancel are gone. `differentiates_as` says so, to any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from .linear_map import linear, tangent
from .select import select

P = ParamSpec("P")
R = TypeVar("R")

# ------------------------------------------------------------------------------------------------
# g b, with 0 where b is 0
# ------------------------------------------------------------------------------------------------


def scaled(g: Array, b: Array) -> Array:
    """g b, and 0 where b is 0, whatever g is there: infinite, or not a number.

    Where a cotangent is 0 nothing is asked for, and where a weight is 0 nothing is there. The
    derivative is that of the product all the same, g at b = 0, in every order: ġ b + g ḃ, each of
    these again 0 where its second factor is. A factor may have length 1 where the other has more,
    or be a scalar.
    """
    out: Array = _scaled(g, b)
    return out


@jax.custom_jvp
def _scaled(g: Array, b: Array) -> Array:
    return select(b == 0, 0, g) * b


def times(a: Array, b: Array) -> Array:
    """a b of finite factors; where one is 0 nothing is asked of the other.

    Its derivative is that of the product, but 0 where the factor beside it is, even if what is
    asked for there is infinite.
    """
    out: Array = _times(a, b)
    return out


@jax.custom_jvp
def _times(a: Array, b: Array) -> Array:
    return a * b


def _jvp(product: Any, of_second: Any, factors: Any, dots: Any) -> tuple[Array, Any]:
    """Of a product, where `of_second` is what the first factor makes of a tangent of the second."""
    moves = tuple(moving(dot) for dot in dots)

    def fun(factors: Any, dots: Any) -> list[Array]:
        (a, b), given = factors, iter(dots)
        terms = [_scaled(next(given), b)] if moves[0] else []
        terms += [of_second(a, next(given))] if moves[1] else []
        return [functools.reduce(jnp.add, terms)]

    def transpose(factors: Any, bars: Any) -> list[Array]:
        (a, b), (bar,) = factors, bars
        first = [_sum_to(a.shape, _scaled(bar, b))] if moves[0] else []
        return first + ([_sum_to(b.shape, of_second(a, bar))] if moves[1] else [])

    given = [dot for dot, moves_too in zip(dots, moves, strict=True) if moves_too]
    out = product(*factors)
    return out, linear(fun, transpose, list(factors), given)[0] if given else jnp.zeros_like(out)


_scaled.defjvp(functools.partial(_jvp, _scaled, _scaled), symbolic_zeros=True)
_times.defjvp(functools.partial(_jvp, _times, lambda a, dot: _scaled(dot, a)), symbolic_zeros=True)


def _sum_to(shape: tuple[Any, ...], x: Array) -> Array:
    """The sum over what `shape` has with length 1 and `x` has not, or over all for a scalar."""
    if not shape:
        return jnp.sum(x)
    axes = tuple(i for i, (one, n) in enumerate(zip(shape, x.shape, strict=True)) if one != n)
    return jnp.sum(x, axes, keepdims=True) if axes else x


def moving(tangent: Any) -> bool:
    """Whether a tangent is more than a symbol for 0."""
    return not isinstance(tangent, SymbolicZero) and jnp.result_type(tangent) != jax.dtypes.float0


# ------------------------------------------------------------------------------------------------
# The forward pass saves the gradient
# ------------------------------------------------------------------------------------------------


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["arrays"], meta_fields=["times", "classes"]
)
class Recomputed(NamedTuple):
    """A gradient g that is not saved: what `times` makes g b of, and that in the dtype of x."""

    arrays: tuple[Any, ...]  # x first
    times: Callable[..., Any]  # (*arrays, b, classes=...) -> g b, 0 where b is 0
    classes: Any  # static

    def scaled(self, b: Array) -> Array:
        """g b in the dtype of x."""
        out: Array = self.times(*self.arrays, b, classes=self.classes)
        return out

    def array(self, shape: tuple[Any, ...]) -> Array:
        """g in float32 or wider; `shape` is that of the loss."""
        wide = [a.astype(jnp.float32) if a.dtype.itemsize < 4 else a for a in self.arrays]
        return self._replace(arrays=tuple(wide)).scaled(jnp.ones(shape, jnp.float32))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["gradients"], meta_fields=["of"])
class _Saved(NamedTuple):
    gradients: tuple[Any, ...]  # of the loss, in each argument; None where none is asked for
    of: _Types


class _Types(NamedTuple):
    loss: tuple[Any, ...]  # its shape
    loss_dtype: str
    dtypes: tuple[str | None, ...]  # of the arrays that have a gradient
    aux: Any  # the structure of what comes with the loss


def gradient_rules(
    fwd: Callable[..., tuple[Any, tuple[Any, ...]]], has_aux: bool
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """`fwd`, `jvp` and `vjp` of a function whose forward pass forms its gradients."""

    def forward(*args: Any, **options: Any) -> tuple[Any, _Saved]:
        out, gradients = fwd(*args, **options)
        loss, aux = out if has_aux else (out, None)
        dtypes = jax.tree.map(
            lambda a, g: None if g is None else a.dtype.name, args, gradients, is_leaf=_is_none
        )
        kinds = tuple(jax.tree.leaves(dtypes))
        types = _Types(loss.shape, loss.dtype.name, kinds, jax.tree.structure(aux))
        return out, _Saved(gradients, types)

    def jvp(saved: _Saved, *dots: Any, **_: Any) -> Any:
        def term(g: Any, dot: Any) -> Any:
            if g is None or dot is None:
                return None
            g = g.array(saved.of.loss) if isinstance(g, Recomputed) else g
            wide = _wide(g.dtype, saved.of.loss_dtype)
            terms = _sum_to(saved.of.loss, scaled(g.astype(wide), dot.astype(wide)))
            return terms.astype(saved.of.loss_dtype)

        terms = jax.tree.leaves(jax.tree.map(term, saved.gradients, dots, is_leaf=_is_leaf))
        loss_dot = functools.reduce(jnp.add, terms)
        kind = saved.of.aux
        return (loss_dot, kind.unflatten([None] * kind.num_leaves)) if has_aux else loss_dot

    def vjp(saved: _Saved, bar: Any, **_: Any) -> tuple[Any, ...]:
        loss_bar, dtypes = bar[0] if has_aux else bar, iter(saved.of.dtypes)

        def bar_of(g: Any) -> Any:
            if isinstance(g, Recomputed):
                return g.scaled(loss_bar).astype(next(dtypes))
            wide = _wide(g.dtype, saved.of.loss_dtype)
            return scaled(g.astype(wide), loss_bar.astype(wide)).astype(next(dtypes))

        bars: tuple[Any, ...] = jax.tree.map(
            bar_of, saved.gradients, is_leaf=lambda g: isinstance(g, Recomputed)
        )
        return bars

    return forward, jvp, vjp


def _wide(a: Any, b: Any) -> Any:
    """The dtype in which numbers of these are multiplied."""
    return jnp.float64 if jnp.float64 in (a, jnp.dtype(b)) else jnp.float32


def _is_none(x: Any) -> bool:
    return x is None


def _is_leaf(x: Any) -> bool:
    return x is None or isinstance(x, Recomputed)


# ------------------------------------------------------------------------------------------------
# The derivative of the textbook
# ------------------------------------------------------------------------------------------------


def differentiates_as(
    textbook: Callable[..., Any], *, given_value: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the value of the function below it, the derivative of `textbook`.

    Args:
      textbook: a formula with the arguments of the function, mathematically equal to it. It is
        differentiated by JAX, in the arguments that are, and never evaluated otherwise.
      given_value: hand the value to `textbook` as well, before the arguments, as a constant: what
        was found on the way to it need not be found again.

    Returns:
      The decorator. Positional arguments are pytrees of arrays, keyword arguments are static.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax.autodiff import differentiates_as
      >>> @differentiates_as(lambda x: jnp.log(1 + x))
      ... def log1p(x):
      ...     return jnp.log1p(x)
      >>> f"{log1p(1e-10):.3g}", float(jax.grad(log1p)(1.0))
      ('1e-10', 0.5)
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
        def of(options: Any, *args: Any) -> Any:
            return function(*args, **dict(options))

        def rule(options: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
            value = of(options, *primals)
            leaves, tree = flat(tuple(primals))
            dots = tree.flatten_up_to(tuple(tangents))
            there = [i for i, dot in enumerate(dots) if moving(dot)]

            def formula(*leaves: Any) -> Any:
                known = (value,) if given_value else ()
                return textbook(*known, *tree.unflatten(leaves), **dict(options))

            if not there:
                return value, jax.tree.map(SymbolicZero.from_primal_value, value)
            return value, tangent(formula, leaves, dots, there)

        of.defjvp(rule, symbolic_zeros=True)

        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            out: R = of(tuple(options.items()), *args)
            return out

        return call

    return decorate


def flat(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a pytree, and what it is without them."""
    return jax.tree.flatten(tree)
