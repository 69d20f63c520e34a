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

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, ParamSpec, SupportsIndex, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad

from .gradients import flat, gradient_rules, moving
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

    Arguments are pytrees of arrays, in position or by name; None is an empty pytree. What the
    primal takes after ``*`` is an option: static, hashable, and handed to all rules by its name.
    Defaults of the primal hold for the rules too. Integer and boolean leaves have no derivative:
    their tangent is None, and what `vjp` returns for them is dropped. The primal and the rules may
    close over what `jit`, `vmap` and `scan` trace, not over what is being differentiated: that is
    an argument.

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
    __qualname__: str

    def __init__(self, primal: Callable[P, R]) -> None:
        """Wrap `primal`; `defrules` then gives it its rules."""
        functools.update_wrapper(self, primal)
        self.__name__ = getattr(primal, "__name__", type(primal).__name__)
        self.__qualname__ = getattr(primal, "__qualname__", self.__name__)
        self._primal = primal
        self._signature = _signature(primal)
        self._rules: _Rules | None = None

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
        fwd, jvp, vjp = (_with_defaults(rule, self._signature) for rule in (fwd, jvp, vjp))
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
        out: R = _with_both_rules(call)(*leaves)
        return out

    @property
    def custom_vjp(self) -> Callable[P, R]:
        """The same `fwd` and `vjp` as a plain `jax.custom_vjp`: reverse mode only."""

        @functools.wraps(self._primal)
        def reverse_only(*args: P.args, **options: P.kwargs) -> R:
            leaves, call = self._call(args, options)
            out: R = _with_reverse_rule(call)(*leaves)
            return out

        return reverse_only

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """By its name where it has one, as a function; else by what it is made of."""
        name: str = self.__qualname__
        named: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            named = getattr(named, part, None)
        # What a script defines goes by value where cloudpickle sends it to another process.
        is_script = self.__module__ == "__main__" and "cloudpickle" in sys.modules
        if named is self and not is_script:
            return name
        return super().__reduce_ex__(protocol)

    def _call(self, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[list[Any], _Call]:
        if self._rules is None:
            raise TypeError(
                f"{self.__name__} has no rules yet. "
                f"Call {self.__name__}.defrules(fwd, jvp, vjp) once, after its definition."
            )
        if self._signature is not None:
            try:
                given = self._signature.bind(*args, **options)
            except TypeError as error:
                raise TypeError(f"{self.__name__}: {error}.") from None
            given.apply_defaults()
            args = given.args
            options = {name: value for name, value in options.items() if name in given.kwargs}
        leaves, tree = flat(args)
        for leaf in leaves:
            if isinstance(leaf, (str, bytes, np.dtype)) or callable(leaf):
                raise TypeError(
                    f"{self.__name__}: arguments must be arrays, got {leaf!r}. Options stand after "
                    f"a star: def {self.__name__}(x, *, option)."
                )
        for name, value in options.items():
            if not _is_static(value):
                raise TypeError(
                    f"{self.__name__}: keyword arguments are static options and must be hashable, "
                    f"got {name} of type {type(value).__name__}. "
                    "Pass arrays as positional arguments."
                )
        return leaves, _Call(self._rules, tree, options)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of a function, or None where Python knows none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _with_defaults(
    rule: Callable[..., Any], primal: inspect.Signature | None
) -> Callable[..., Any]:
    """`rule` with the primal's defaults of those options that it takes."""
    own = _signature(rule)
    if primal is None or own is None:
        return rule
    takes_all = any(p.kind is p.VAR_KEYWORD for p in own.parameters.values())
    defaults = {
        name: parameter.default
        for name, parameter in primal.parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and parameter.default is not parameter.empty
        and (takes_all or name in own.parameters)
    }
    return functools.partial(rule, **defaults) if defaults else rule


def _is_static(value: Any) -> bool:
    """Whether a value may be an option. A tracer is hashable, but is no constant."""
    try:
        hash(value)
    except TypeError:
        return False
    return not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))


_TANGENT, _COTANGENT = "jvp returned a tangent", "vjp returned a cotangent"


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


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """A function's rules for one call of it: its structure of arguments and its options.

    `moving` says of each leaf whether it is differentiated; only those have a tangent here. Each
    call is its own: options that are equal but not the same (1 and True, 0.0 and -0.0) are told
    apart, and nothing outlives the function.
    """

    rules: _Rules
    tree: Any
    options: dict[str, Any]

    def primal(self, *leaves: Any) -> Any:
        return self.rules.primal(*self.arguments(leaves), **self.options)

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
            self.checked(bar, aval, _COTANGENT)
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
        return self.options | extra


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
    function = jax.custom_jvp(call.primal)

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        moves = tuple(moving(t) for t in tangents)
        out, residuals = call.fwd(primals, moves)
        kept, residual_tree = flat(residuals)
        out_leaves, out_tree = flat(out)
        out_avals = [_tangent_aval(jax.typeof(y)) for y in out_leaves]
        there = [_is_inexact(aval) for aval in out_avals]
        avals = [_tangent_aval(jax.typeof(x)) for x in primals]

        def jvp(kept: Sequence[Any], dots: Sequence[Any]) -> list[Any]:
            out_dot = call.jvp(residual_tree.unflatten(kept), dots, avals, moves)
            leaves = zip(out_tree.flatten_up_to(out_dot), out_avals, there, strict=True)
            return [call.checked(dot, aval, _TANGENT) for dot, aval, used in leaves if used]

        def vjp(kept: Sequence[Any], bars: Sequence[Any]) -> list[Any]:
            given = iter(bars)
            out_bar = out_tree.unflatten([next(given) if used else None for used in there])
            return call.vjp(residual_tree.unflatten(kept), out_bar, avals, moves)

        dots = [t for t, used in zip(tangents, moves, strict=True) if used]
        results = iter(linear(jvp, vjp, kept, dots) if dots else [])
        out_dot = [
            next(results) if dots and used else SymbolicZero(aval)
            for aval, used in zip(out_avals, there, strict=True)
        ]
        return out, out_tree.unflatten(out_dot)

    function.defjvp(rule, symbolic_zeros=True)
    return function


def _with_reverse_rule(call: _Call) -> Callable[..., Any]:
    function = jax.custom_vjp(call.primal)

    def fwd(*leaves: Any) -> tuple[Any, _Saved]:
        values = [leaf.value for leaf in leaves]
        avals = tuple(_tangent_aval(jax.typeof(x)) for x in values)
        moving = tuple(
            leaf.perturbed and _is_inexact(aval) for leaf, aval in zip(leaves, avals, strict=True)
        )
        out, residuals = call.fwd(values, moving)
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
