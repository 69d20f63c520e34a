"""What several functions that compute the same cost, measured side by side."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from . import programs
from .comparison import Comparison
from .measurement import Measurement
from .modes import MODES, Mode, Problem, problem
from .timing import in_turns, ratio

Function = Callable[..., Any]


def compare(
    functions: Mapping[str, Function],
    *args: Any,
    wrt: int | Sequence[int] = 0,
    modes: Sequence[Mode] = ("value_and_grad", "jvp"),
    reference: Function | None = None,
    tolerance: float | None = None,
    seconds: float = 2.0,
    seed: int = 0,
) -> Comparison:
    """Measures functions that compute the same: time, memory, flops and error, in every mode asked.

    Each function is compiled for exactly these arguments, their shapes, dtypes and shardings. The
    compiled programs are then timed in turns, in one process, on the same inputs, so that a ratio
    of times is one of the programs and not of the moments at which they ran. Results are compared
    with the same computation in float64; one that is off is reported as wrong, and has no ratio.

    Args:
      functions: what to compare, by name. The first is the baseline of the ratios.
      *args: what each is called with: arrays or pytrees of arrays.
      wrt: which arguments are differentiated: a position, or several.
      modes: any of "forward"; "value_and_grad", the value and the gradient, or, where the value is
        not a scalar, the product of fixed cotangents with the Jacobian; "gradient", the same
        without the value; "jvp"; "hvp", forward over reverse; "vmapped", value_and_grad of each
        row, all arguments mapped over their first axis.
      reference: computes the right result when called with float64 arguments; the baseline does,
        when left out.
      tolerance: the largest error, relative to the largest number of an array, that is not wrong;
        ε^⅔ of the coarsest dtype when left out, which is 2.4e-5 in float32 and 0.04 in bfloat16.
      seconds: how long to time the functions in one mode, together, roughly.
      seed: of tangents, cotangents, and the order of the turns.

    Returns:
      The measurements. Print them for a table, `.plot()` them, or read `.measurements`.

    Raises:
      ValueError: an argument of this function makes no sense; the message says what to write.
      TypeError: in some mode no function at all can be differentiated.

    Example:
      >>> import jax, jax.numpy as jnp, jaxsoftmax
      >>> from jaxsoftmax.testing import compare
      >>> x = jnp.linspace(-1.0, 1.0, 640).reshape(64, 10)
      >>> functions = {"jax.nn": jax.nn.softmax, "jaxsoftmax": jaxsoftmax.softmax}
      >>> result = compare(functions, x, modes=["value_and_grad"], seconds=0.01)
      >>> [(m.name, m.status) for m in result.measurements]
      [('jax.nn', 'ok'), ('jaxsoftmax', 'ok')]
    """
    args = tuple(jax.tree.map(jnp.asarray, args))
    wrt = _positions(wrt, args)
    if not functions:
        raise ValueError("Expected at least one function, got an empty mapping.")
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f"There is no mode {mode!r}. Choose from {', '.join(MODES)}.")
    exact = reference or next(iter(functions.values()))
    measured = [
        row
        for mode in modes
        for row in measure(functions, args, wrt, mode, exact, tolerance, seconds, seed)
    ]
    return Comparison(next(iter(functions)), _describe(args), tuple(measured))


def measure(
    functions: Mapping[str, Function],
    args: tuple[Any, ...],
    wrt: tuple[int, ...],
    mode: Mode,
    exact: Function,
    tolerance: float | None,
    seconds: float,
    seed: int,
    foreign: Mapping[str, Callable[[Problem], programs.Program]] | None = None,
) -> list[Measurement]:
    """One mode of `compare`; `foreign` makes programs that JAX does not compile."""
    built, refused = _build(functions, args, wrt, mode, seed)
    for name, make in (foreign or {}).items():
        built[name] = make(problem(exact, args, wrt, mode, seed))
    expected = programs.in_float64(exact, args, wrt, mode, seed)
    errors, limits = {}, {}
    for name, program in built.items():
        got = program.read(program.call())
        errors[name] = programs.error(got, expected)
        limits[name] = programs.tolerance(args, got) if tolerance is None else tolerance
        del got
    samples = in_turns(
        {name: program.call for name, program in built.items()}, seconds=seconds, seed=seed
    )
    right = [name for name in built if errors[name] <= limits[name]]
    rows = []
    for name in (*functions, *(foreign or {})):
        if name in refused:
            note = str(refused[name]).strip().partition("\n")[0]
            rows.append(Measurement(name, mode, "not supported", note=note))
            continue
        against = {
            other: ratio(samples[other], samples[name])
            for other in right
            if name in right and other != name
        }
        rows.append(
            Measurement(
                name,
                mode,
                "ok" if name in right else "wrong",
                tuple(samples[name]),
                against,
                built[name].cost,
                errors[name],
                limits[name],
            )
        )
    return rows


def _build(
    functions: Mapping[str, Function],
    args: tuple[Any, ...],
    wrt: tuple[int, ...],
    mode: Mode,
    seed: int,
) -> tuple[dict[str, programs.Program], dict[str, Exception]]:
    """The programs, and why there is none for some: a custom_vjp refuses forward mode."""
    built: dict[str, programs.Program] = {}
    refused: dict[str, Exception] = {}
    for name, function in functions.items():
        try:
            given = problem(function, args, wrt, mode, seed)
            built[name] = programs.compiled(function, given, wrt)
        except (TypeError, NotImplementedError) as reason:
            refused[name] = reason
    if not built:
        raise next(iter(refused.values()))
    return built, refused


def _positions(wrt: int | Sequence[int], args: tuple[Any, ...]) -> tuple[int, ...]:
    given = wrt if isinstance(wrt, Sequence) else (wrt,)
    positions = tuple(operator.index(one) for one in given)
    if not positions or any(not 0 <= i < len(args) for i in positions):
        raise ValueError(
            f"wrt must name arguments between 0 and {len(args) - 1}, since there are {len(args)}, "
            f"got {wrt!r}."
        )
    for i in positions:
        for leaf in jax.tree.leaves(args[i]):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                raise ValueError(
                    f"wrt names argument {i}, which holds {leaf.dtype}{list(leaf.shape)}; only "
                    "floating-point arguments have a derivative."
                )
    return positions


def _describe(args: tuple[Any, ...]) -> str:
    leaves = jax.tree.leaves(args)
    kinds = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves[:4])
    more = f" and {len(leaves) - 4} more" if len(leaves) > 4 else ""
    return f"{kinds}{more} on {jax.devices()[0].device_kind}"
