"""The contract: every row of `tests/contract`, in every mode that applies to it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxsoftmax
from tests.contract import BEHAVIOURS, ROWS, page
from tests.contract.tables import LOSS, PER_CLASS, Row

MODES = [
    "eager", "jit", "vmap", "jvp", "grad", "Hessian", "x64", "x64, float64", "debug_nans",
    "shard_map", "many classes", "many classes: jvp", "many classes: grad", "many classes: Hessian",
]  # fmt: skip
GROUPS = list(dict.fromkeys(row.group for row in ROWS))


def rows_of(group: Any) -> list[Row]:
    return [row for row in ROWS if row.group == group]


def function(group: Any) -> Callable[..., Any]:
    """The op on a batch of logits, targets and masks."""
    name, masked, options = group

    def f(x: Any, target: Any, where: Any) -> Any:
        where = {"where": where} if masked else {}
        if name in LOSS:
            return LOSS[name](x, target, **where, **dict(options))
        if name in PER_CLASS:
            return PER_CLASS[name](x, **where)
        return jaxsoftmax.logsumexp(x, -1, **where)

    return f


def operands(rows: list[Row], dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    """Logits, targets and masks of these rows, stacked; absent ones are empty."""
    if rows[0].op == "CE":
        target: Any = jnp.array([row.target for row in rows], jnp.int32)
    else:
        target = jnp.array([row.target or () for row in rows], dtype)
    where = jnp.array([row.where or () for row in rows], bool)
    return jnp.array([row.x for row in rows], dtype), target, where


@functools.cache
def transformed(group: Any) -> dict[str, Any]:
    """Value, Jacobian by both modes and Hessian by both orders, of all rows in one compilation."""
    return derivatives(function(group), group)


@functools.cache
def transformed_with_more(group: Any) -> dict[str, Any]:
    """The same, among so many impossible classes that a row takes more than one block."""
    return derivatives(with_more_classes(function(group)), group)


def with_more_classes(f: Callable[..., Any], more: int = 40) -> Callable[..., Any]:
    """The op with classes of logit -inf, target 0 and mask False before those of the row."""

    def g(x: Any, target: Any, where: Any) -> Any:
        x = jnp.concatenate([jnp.full(more, -jnp.inf, x.dtype), x])
        if where.size:
            where = jnp.concatenate([jnp.zeros(more, bool), where])
        if target.ndim and target.size:
            target = jnp.concatenate([jnp.zeros(more, target.dtype), target])
        elif target.size:
            target = jnp.where(target < 0, target, target + jnp.asarray(more, target.dtype))
        out = f(x, target, where)
        return out[more:] if out.ndim else out

    return g


def derivatives(f: Callable[..., Any], group: Any) -> dict[str, Any]:
    """Value, Jacobians and Hessians of the rows of a group."""

    @jax.jit
    @jax.vmap
    def run(*args: Any) -> Any:
        first = {"vmap": f(*args), "jvp": jax.jacfwd(f)(*args), "grad": jax.jacrev(f)(*args)}
        if group[0] in PER_CLASS:
            return first, ()
        return first, (jax.jacfwd(jax.jacrev(f))(*args), jax.jacrev(jax.jacfwd(f))(*args))

    first, second = run(*operands(rows_of(group)))
    return first | {"Hessian": second}


def agree(rows: list[Row], got: Any, want: Callable[[Row], Any], *, rtol: float = 2e-6) -> None:
    """Every row right, NaN and infinities included; or all wrong rows in one message."""
    wrong = []
    for row, result in zip(rows, np.asarray(got), strict=False):
        expected = np.asarray(want(row), np.float64)
        if not expected.size:
            continue
        scale = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
        # 6e38 is ∞ in float32, as the rows say: float64 knows better, and is not asked.
        if not np.allclose(result, expected, rtol=rtol, atol=rtol * scale * 0.1, equal_nan=True):
            wrong.append(f"row {row.number}: {row.call} gives {result}, not {expected}")
    assert not wrong, "\n".join(wrong)


def applies(group: Any, mode: str) -> bool:
    """Smoothing asks for every class that is not masked, and more classes have probability 0."""
    _, masked, options = group
    return masked or "label_smoothing" not in dict(options) or not mode.startswith("many")


@pytest.mark.parametrize(
    ("group", "mode"), [(g, m) for g in GROUPS for m in MODES if applies(g, m)], ids=str
)
def test_rows(group: Any, mode: str) -> None:
    f, rows = function(group), rows_of(group)
    found: Callable[[Any], dict[str, Any]] = transformed
    if mode.startswith("many classes"):
        found, mode = transformed_with_more, mode.partition(": ")[2] or "vmap"
    if mode in ("jvp", "grad"):
        agree(rows, found(group)[mode], lambda row: row.jacobian)
    elif mode == "Hessian":
        for hessian in found(group)["Hessian"]:
            agree(rows, hessian, lambda row: row.second)
    elif mode == "debug_nans":
        legal = [row for row in rows if row.legal]
        if legal:
            with jax.debug_nans(True):
                out, vjp = jax.vjp(lambda x: f(x, *operands(legal)[1:]), operands(legal)[0])
                vjp(jnp.ones_like(out))
            agree(legal, out, lambda row: row.value)
    elif mode == "vmap":
        agree(rows, found(group)["vmap"], lambda row: row.value)
    else:
        agree(rows, values(f, rows, mode), lambda row: row.value)


def values(f: Callable[..., Any], rows: list[Row], mode: str) -> Any:
    """The values of all rows, by way of a mode."""
    args = operands(rows)
    match mode:
        case "eager":
            return f(*args)
        case "jit":
            return jax.jit(f)(*args)
        case "shard_map":
            # Rows over eight devices; the last is repeated until they divide.
            pad = -len(rows) % jax.device_count()
            args = operands(rows + [rows[-1]] * pad)
            auto = (jax.sharding.AxisType.Auto,)
            mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=auto)
            spec = PartitionSpec("rows")
            return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec))(*args)
        case "x64":
            with jax.enable_x64(True):
                out = jax.jit(f)(*operands(rows))
                assert out.dtype == jnp.float32
                return out
        case _:
            with jax.enable_x64(True):
                out = jax.jit(f)(*operands(rows, np.float64))
                assert out.dtype == jnp.float64
                # Rounded to float32, where a row says that something overflows.
                with np.errstate(over="ignore"):
                    return np.asarray(out).astype(np.float32)


def test_modes_are_strict() -> None:
    assert jax.config.jax_numpy_dtype_promotion == "strict"
    assert jax.config.jax_numpy_rank_promotion == "raise"


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda b: f"{b.number}-{b.check.__name__}")
def test_behaviours(behaviour: Any) -> None:
    behaviour.check()


def test_every_number_of_the_contract_is_checked() -> None:
    numbers = {row.number for row in ROWS} | {b.number for b in BEHAVIOURS}
    assert numbers == set(range(1, len(numbers) + 1))


def test_the_page_is_up_to_date() -> None:
    assert page.PAGE.read_text() == page.page(), "run python -m tests.contract.page"
