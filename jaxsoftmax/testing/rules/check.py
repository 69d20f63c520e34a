"""Does a hand-written derivative rule hold, in every mode?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .flat import Flat
from .orders import first_order, second_order
from .point import Point
from .report import Check, RulesReport
from .transformed import low_precision, vmaps, without_jit


def check_rules(
    f: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    jacobian: Callable[..., Any] | None = None,
    order: int = 2,
    vmap: bool = True,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    seed: int = 0,
    raise_on_failure: bool = False,
    **options: Any,
) -> RulesReport:
    r"""Check the derivative rules of `f` at `args`, in every mode that they support.

    With J the Jacobian of f, the report has a row for each of these statements::

        jvp                       J ẋ = (f(x + hẋ) − f(x − hẋ)) / 2h    as h → 0
        vjp                       ⟨Jᵀȳ, ẋ⟩ = ⟨ȳ, the same difference⟩
        adjointness               ⟨ȳ, J ẋ⟩ = ⟨Jᵀȳ, ẋ⟩
        forward over reverse, …   ∂/∂x of the first derivative, by differences, in all four orders
        without jit, vmap of …    the same numbers as under jit, and as one by one
        float32, bfloat16         the same numbers as in float64, up to rounding

    All but the last are done in float64, whatever the dtype of `args`, so that a wrong rule cannot
    hide behind rounding. A tolerance is what rounding explains: the error that the differences show
    of themselves, and eps times the size of a quantity and its sensitivity to `args`, measured. It
    does not depend on the size of an array. A mode that JAX does not have for `f`, such as forward
    mode for a `jax.custom_vjp`, is reported as not supported. At a kink differences decide nothing:
    such a row is undecided and counts as a failure; check at another point.

    Args:
      f: any function of arrays: `jax.custom_vjp`, `jax.custom_jvp`, `custom_rules`, or plain.
      *args: its arguments, pytrees of arrays. Integer and boolean arrays are held fixed.
      reference: the textbook form of `f`, without rules; its value and `jax.jvp` are compared too.
      jacobian: a dense formula of the Jacobian in the first argument, an array:
        `jacobian(*args, **options)` of shape `out.shape + args[0].shape`.
      order: 1 to leave second derivatives out.
      vmap: False to leave the rows about vmap out.
      dtypes: the floating dtypes to check beside float64.
      seed: of the random directions.
      raise_on_failure: whether to raise `RulesError`, with the report as message.
      **options: keyword arguments of `f`. Use `functools.partial` for those named as one above.

    Returns:
      A `RulesReport`: `print(report)`, or `rich.print(report)` for a table in colour; `report.ok`
      and `report.checks` to go on with. Each failing row names the worst element and its error.

    Raises:
      RulesError: if a row fails and `raise_on_failure` is True.
      TypeError: if there is no floating array to differentiate in or out, or one is complex.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax.testing import check_rules
      >>> @jax.custom_vjp
      ... def softmax(x):
      ...     return jax.nn.softmax(x)
      >>> softmax.defvjp(  # a well-known mistake: it leaves the other classes out
      ...     lambda x: (softmax(x), softmax(x)),
      ...     lambda s, bar: (s * (1 - s) * bar,),
      ... )
      >>> [check.mode for check in check_rules(softmax, jnp.arange(3.0), order=1).failures]
      ['vjp = finite differences']
    """
    with jax.enable_x64(True):
        point = Point(Flat(f, args, options), seed)
        checks = first_order(point, reference, jacobian)
        sound = _sound(checks)
        if order > 1 and sound:
            checks += second_order(point, sound)
        checks.append(without_jit(point))
        checks += vmaps(point) if vmap else []
        checks += [low_precision(point, dtype) for dtype in dtypes]
    report = RulesReport(_name(f), tuple(checks))
    if raise_on_failure:
        report.raise_on_failure()
    return report


def _sound(checks: list[Check]) -> str:
    """A mode whose first derivative is right, if any: order 2 is checked by differences of it."""
    right = {check.mode for check in checks if check.status == "ok"}
    return next((m for m in ("vjp", "jvp") if f"{m} = finite differences" in right), "")


def _name(f: Any) -> str:
    """The name of a function, also of one inside functools.partial."""
    return getattr(f, "__name__", None) or (_name(f.func) if hasattr(f, "func") else str(f))
