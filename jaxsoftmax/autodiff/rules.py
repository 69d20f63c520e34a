r"""One function, a hand-written JVP *and* a hand-written VJP.

JAX lets a function carry a forward rule (`jax.custom_jvp`, whose transpose JAX derives) or a
reverse rule (`jax.custom_vjp`, which then refuses `jvp`, `jacfwd` and `hessian`), not both.
`custom_rules` carries both, and stays differentiable to any order, in any mix of modes.

How. For y = f(x) with Jacobian J and residuals r = r(x), the two rules are one linear map and its
transpose,

    jvp(r, ·) = J        vjp(r, ·) = Jᵀ        ⟨ȳ, J ẋ⟩ = ⟨Jᵀ ȳ, ẋ⟩,

so `f` is a `jax.custom_jvp` whose rule runs the forward pass and binds one primitive, a linear map
that carries its transpose (`linear_map`). Partial evaluation cannot look inside it, so exactly the
residuals you name are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad

from .gradients import gradient_rules, moving
from .linear_map import linear

P = ParamSpec("P")
R = TypeVar("R")


class custom_rules(Generic[P, R]):  # noqa: N801 - lower case like jax.custom_jvp, whose place it takes
    """A function with a hand-written JVP and a hand-written VJP.

    Use it as you would `jax.custom_jvp`, and give it three rules instead of one::

        fwd(*args, **options)                ->  (out, residuals)
        jvp(residuals, *tangents, **options) ->  tangent of out
        vjp(residuals, out_bar, **options)   ->  a tuple, one cotangent per argument

    `jax.jvp`, `jax.jacfwd` and `jax.linearize` use `jvp`; `jax.grad`, `jax.vjp` and `jax.jacrev`
    use `vjp`. Higher orders differentiate the rules themselves: where `fwd` calls the function
    itself or others that have rules, these rules are used again. `residuals` is any pytree of
    arrays, and is all that is kept between a forward and a backward pass. `vmap`, `jit`, `scan`,
    `checkpoint` and `shard_map` work inside and out.

    Positional arguments are pytrees of arrays; None is an empty pytree. Keyword arguments are
    options: static, hashable, and handed to all rules. Integer and boolean leaves have no
    derivative: their tangent is None, and what `vjp` returns for them is dropped.

    Args:
      primal: the function to differentiate. It runs when nothing is differentiated.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import custom_rules
      >>> @custom_rules
      ... def log_cosh(x):
      ...     return jnp.log(jnp.cosh(x))
      >>> log_cosh.defrules(
      ...     fwd=lambda x: (log_cosh(x), jnp.tanh(x)),
      ...     jvp=lambda t, x_dot: t * x_dot,
      ...     vjp=lambda t, y_bar: (t * y_bar,),
      ... )
      >>> float(jax.grad(log_cosh)(0.0)), float(jax.hessian(log_cosh)(0.0))
      (0.0, 1.0)

    See Also:
      `jaxsoftmax.testing.check_rules` tells whether the rules hold, in every mode.
    """

    __name__: str

    def __init__(self, primal: Callable[P, R]) -> None:
        """Wrap `primal`; `defrules` then gives it its rules."""
        functools.update_wrapper(self, primal)
        self.__name__ = getattr(primal, "__name__", type(primal).__name__)
        self._primal = primal
        self._rules: _Rules | None = None
        self._both = functools.lru_cache(maxsize=256)(_with_both_rules)
        self._reverse = functools.lru_cache(maxsize=256)(_with_reverse_rule)

    def defrules(
        self,
        fwd: Callable[..., tuple[Any, Any]],
        jvp: Callable[..., Any],
        vjp: Callable[..., tuple[Any, ...]],
        *,
        symbolic_zeros: bool = False,
    ) -> None:
        """Define the forward pass and the two rules.

        Args:
          fwd: `fwd(*args, **options) -> (out, residuals)`.
          jvp: `jvp(residuals, *tangents, **options) -> tangent of out`, linear in the tangents.
          vjp: `vjp(residuals, out_bar, **options) -> cotangents`, the transpose of `jvp`.
          symbolic_zeros: if True, the rules are told what is differentiated. All three are given
            the static keyword `perturbed`, a tuple like the positional arguments with a bool in
            the place of each array; the tangent of an array that is not differentiated is None,
            and its cotangent may be. `fwd` can then form just the gradients that are asked for.
        """
        self._rules = _Rules(self.__name__, self._primal, fwd, jvp, vjp, symbolic_zeros)

    def defgradients(
        self, fwd: Callable[..., tuple[Any, tuple[Any, ...]]], *, has_aux: bool = False
    ) -> None:
        """Define both rules of a loss by a forward pass that forms its gradients.

        JVP Σ g∘ẋ, VJP g L̄: a gradient has the shape of its argument, and the loss that shape with
        length 1 where it has been summed over, or none. Where a tangent or a cotangent is 0 the
        product is 0, even if the gradient is not a number.

        Args:
          fwd: `fwd(*args, perturbed=..., **options) -> (loss, gradients)`, a tuple with a gradient
            for each positional argument, or None where it has none or `perturbed` says that it is
            not differentiated. They may be of a wider dtype than their arguments.
          has_aux: the function and `fwd` give a pair (loss, aux) in the place of the loss; `aux`
            carries no derivative.
        """
        self.defrules(*gradient_rules(fwd, has_aux), symbolic_zeros=True)

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        """Evaluate; differentiation in any mode goes through the rules."""
        leaves, call = self._call(args, options)
        out: R = self._both(call)(*leaves)
        return out

    @property
    def custom_vjp(self) -> Callable[P, R]:
        """The same `fwd` and `vjp` as a plain `jax.custom_vjp`: reverse mode only."""

        @functools.wraps(self._primal)
        def reverse_only(*args: P.args, **options: P.kwargs) -> R:
            leaves, call = self._call(args, options)
            out: R = self._reverse(call)(*leaves)
            return out

        return reverse_only

    def _call(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[Any], _Call]:
        if self._rules is None:
            raise TypeError(
                f"{self.__name__} has no rules yet. "
                f"Call {self.__name__}.defrules(fwd, jvp, vjp) once, after its definition."
            )
        leaves, tree = jax.tree.flatten(args)
        call = _Call(self._rules, tree, tuple(sorted(options.items())))
        for name, value in options.items():
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{self.__name__}: keyword arguments are static options and must be hashable, "
                    f"got {name} of type {type(value).__name__}. "
                    "Pass arrays as positional arguments."
                ) from None
        return leaves, call


class _Rules(NamedTuple):
    name: str
    primal: Callable[..., Any]
    fwd: Callable[..., tuple[Any, Any]]
    jvp: Callable[..., Any]
    vjp: Callable[..., tuple[Any, ...]]
    symbolic_zeros: bool


# ------------------------------------------------------------------------------------------------
# The rules of one call: structure and options fixed, flat leaves in and out
# ------------------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """A function's rules for one structure of arguments and one set of options.

    `moving` says of each leaf whether it is differentiated; only those have a tangent here.
    """

    rules: _Rules
    tree: Any
    options: tuple[tuple[str, Any], ...]

    def primal(self, *leaves: Any) -> Any:
        return self.rules.primal(*self.arguments(leaves), **dict(self.options))

    def fwd(self, leaves: Sequence[Any], moving: Sequence[bool]) -> tuple[Any, Any]:
        return self.rules.fwd(*self.arguments(leaves), **self.keywords(moving))

    def jvp(self, residuals: Any, tangents: Sequence[Any], avals: Any, moving: Any) -> Any:
        given = iter(tangents)

        def zero(aval: Any) -> Any:
            return None if self.rules.symbolic_zeros or not _is_inexact(aval) else _zeros(aval)

        leaves = [
            next(given) if moves else zero(aval) for moves, aval in zip(moving, avals, strict=True)
        ]
        return self.rules.jvp(residuals, *self.arguments(leaves), **self.keywords(moving))

    def vjp(self, residuals: Any, out_bar: Any, avals: Any, moving: Any) -> list[Any]:
        bars: Any = self.rules.vjp(residuals, out_bar, **self.keywords(moving))
        kinds = self.tree.children()
        if not isinstance(bars, tuple) or len(bars) != len(kinds):
            raise TypeError(
                f"{self.rules.name}: vjp must return a tuple with a cotangent for each of the "
                f"{len(kinds)} positional arguments, got {_describe(bars)}. "
                "Write None where an argument has no derivative."
            )
        leaves: list[Any] = []
        for kind, bar in zip(kinds, bars, strict=True):
            leaves += [None] * kind.num_leaves if bar is None else kind.flatten_up_to(bar)
        return [
            self.checked(bar, aval, "vjp returned a cotangent")
            for bar, aval, moves in zip(leaves, avals, moving, strict=True)
            if moves
        ]

    def checked(self, value: Any, aval: Any, what: str) -> Any:
        """`value`, where a derivative like `aval` belongs; None means zero."""
        if value is None:
            return _zeros(aval)
        if jnp.shape(value) != aval.shape or jnp.result_type(value) != aval.dtype:
            raise TypeError(
                f"{self.rules.name}: {what} of {jnp.result_type(value)}{list(jnp.shape(value))} "
                f"where {aval.dtype}{list(aval.shape)} belongs. "
                "A derivative has the shape and dtype of what it is the derivative of."
            )
        return value

    def arguments(self, leaves: Sequence[Any]) -> tuple[Any, ...]:
        arguments: tuple[Any, ...] = jax.tree.unflatten(self.tree, leaves)
        return arguments

    def keywords(self, moving: Sequence[bool]) -> dict[str, Any]:
        extra = {"perturbed": self.arguments(moving)} if self.rules.symbolic_zeros else {}
        return dict(self.options) | extra


def _is_inexact(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def _zeros(aval: Any) -> Any:
    return ad.instantiate_zeros(ad.Zero(aval))


def _describe(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return type(value).__name__


# ------------------------------------------------------------------------------------------------
# Registration: both rules through `linear`, or the reverse rule alone through jax.custom_vjp
# ------------------------------------------------------------------------------------------------


def _with_both_rules(call: _Call) -> Callable[..., Any]:
    function = jax.custom_jvp(_compiled(call.primal))

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        avals = tuple(_tangent_aval(jax.typeof(x)) for x in primals)
        moves = tuple(moving(t) for t in tangents)
        out, residuals = _forward(list(primals), call=call, moving=moves)
        out_leaves, out_tree = jax.tree.flatten(out)
        out_avals = tuple(_tangent_aval(jax.typeof(y)) for y in out_leaves)
        kept, residual_tree = jax.tree.flatten(residuals)

        site = _Site(call, avals, moves, residual_tree, out_tree, out_avals)
        jvp = functools.partial(_jvp, site=site)
        vjp = functools.partial(_vjp, site=site)
        dots = [t for t, used in zip(tangents, moves, strict=True) if used]
        results = iter(linear(jvp, vjp, kept, dots) if dots else [])
        out_dot = [
            next(results) if dots and _is_inexact(aval) else SymbolicZero(aval)
            for aval in out_avals
        ]
        return out, jax.tree.unflatten(out_tree, out_dot)

    function.defjvp(rule, symbolic_zeros=True)
    return function


class _Site(NamedTuple):
    """What one differentiated call knows while tracing; a cache key for its compiled rules."""

    call: _Call
    avals: tuple[Any, ...]
    moving: tuple[bool, ...]
    residual_tree: Any
    out_tree: Any
    out_avals: tuple[Any, ...]


# Compiled where they are met outside of jit; inside, `inline` leaves no trace of it.
_compiled = functools.partial(jax.jit, inline=True)


@functools.partial(_compiled, static_argnames=("call", "moving"))
def _forward(leaves: list[Any], *, call: _Call, moving: tuple[bool, ...]) -> tuple[Any, Any]:
    return call.fwd(leaves, moving)


@functools.partial(_compiled, static_argnames=("site",))
def _jvp(kept: list[Any], dots: list[Any], *, site: _Site) -> list[Any]:
    residuals = jax.tree.unflatten(site.residual_tree, kept)
    out_dot = site.call.jvp(residuals, dots, site.avals, site.moving)
    leaves = site.out_tree.flatten_up_to(out_dot)
    return [
        site.call.checked(y_dot, aval, "jvp returned a tangent")
        for y_dot, aval in zip(leaves, site.out_avals, strict=True)
        if _is_inexact(aval)
    ]


@functools.partial(_compiled, static_argnames=("site",))
def _vjp(kept: list[Any], bars: list[Any], *, site: _Site) -> list[Any]:
    given = iter(bars)
    out_bar = [next(given) if _is_inexact(aval) else None for aval in site.out_avals]
    residuals = jax.tree.unflatten(site.residual_tree, kept)
    out_bar = jax.tree.unflatten(site.out_tree, out_bar)
    return site.call.vjp(residuals, out_bar, site.avals, site.moving)


def _with_reverse_rule(call: _Call) -> Callable[..., Any]:
    function = jax.custom_vjp(_compiled(call.primal))

    def fwd(*leaves: Any) -> tuple[Any, _Saved]:
        values = [leaf.value for leaf in leaves]
        avals = tuple(_tangent_aval(jax.typeof(x)) for x in values)
        moving = tuple(
            leaf.perturbed and _is_inexact(aval) for leaf, aval in zip(leaves, avals, strict=True)
        )
        out, residuals = _forward(values, call=call, moving=moving)
        return out, _Saved(residuals, avals, moving)

    def bwd(saved: _Saved, out_bar: Any) -> tuple[Any, ...]:
        out_bar = jax.tree.map(_instantiated, out_bar, is_leaf=_is_symbolic_zero)
        bars = iter(call.vjp(saved.residuals, out_bar, saved.avals, saved.moving))
        return tuple(next(bars) if moves else None for moves in saved.moving)

    function.defvjp(fwd, bwd, symbolic_zeros=True)
    return function


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["residuals"], meta_fields=["avals", "moving"]
)
class _Saved(NamedTuple):
    residuals: Any
    avals: Any
    moving: Any


def _tangent_aval(aval: Any) -> Any:
    return aval.to_tangent_aval() if hasattr(aval, "to_tangent_aval") else aval


def _is_symbolic_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)


def _instantiated(leaf: Any) -> Any:
    """A cotangent as `vjp` rules expect it: an array, or None where the output is an integer."""
    if _is_symbolic_zero(leaf):
        return _zeros(leaf.aval) if _is_inexact(leaf) else None
    return None if jnp.result_type(leaf) == jax.dtypes.float0 else leaf
