"""Where a program has row kernels, where it has JAX's forms, and that nobody can tell."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxsoftmax
from jaxsoftmax import kernels, native
from jaxsoftmax.native import build
from jaxsoftmax.native.library import NAMES
from jaxsoftmax.ops.row import kernel
from tests.ops.devices import mesh_of

needs_kernels = pytest.mark.skipif(
    native.library().instructions is None, reason=f"row kernels: {native.library().why_not}"
)

N, C = 8, 33
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, C)).astype(np.float32) * 3
V = RANDOM.normal(size=(N, C)).astype(np.float32)
Y = RANDOM.integers(C, size=N).astype(np.int32)
T = RANDOM.dirichlet(np.ones(C), size=N).astype(np.float32)

# Functions of logits, and of as many rows of labels and targets.
OPS: dict[str, Callable[..., Any]] = {
    "softmax": lambda x, y, t: jaxsoftmax.softmax(x),
    "log_softmax": lambda x, y, t: jaxsoftmax.log_softmax(x),
    "logsumexp": lambda x, y, t: jaxsoftmax.logsumexp(x, -1),
    "labels": lambda x, y, t: jaxsoftmax.softmax_cross_entropy_with_integer_labels(x, y),
    "distributions": lambda x, y, t: jaxsoftmax.softmax_cross_entropy(x, t),
}


@pytest.fixture(autouse=True)
def allowed() -> Iterator[None]:
    """Whatever the rest of the suite runs with."""
    with kernels("auto"):
        yield


def everything(op: str) -> Callable[..., Any]:
    """Value, product with a cotangent, product with a tangent, and Hessian product."""

    def run(x: Any, y: Any, t: Any, v: Any) -> Any:
        def f(x: Any) -> Any:
            return OPS[op](x, y, t)

        def pulled(x: Any) -> Any:
            out, pull = jax.vjp(f, x)
            return pull(jnp.cos(out) if out.ndim == x.ndim else jnp.ones_like(out) * 0.7)[0]

        return *jax.jvp(f, (x,), (v,)), *jax.jvp(pulled, (x,), (v,))

    return run


def calls(f: Callable[..., Any], *args: Any, **options: Any) -> int:
    """How many kernels the program of `f` has."""
    return jax.jit(f).trace(*args).lower(**options).as_text().count("@jaxsoftmax_")


def close(got: Any, want: Any, rtol: float = 3e-6) -> None:
    def check(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.nanmax(np.abs(b)))

    jax.tree.map(check, *jax.device_get((got, want)))


@needs_kernels
@pytest.mark.once
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_kernel_gives_what_its_form_gives(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fused, compared = kernel.fused, set()

    def compare(name: str, form: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
        out = fused(name, form, *arrays, **options)
        wanted = jax.eval_shape(functools.partial(form, **options), *arrays)
        assert isinstance(wanted, tuple) == isinstance(out, tuple)
        types = [[(a.shape, a.dtype) for a in jax.tree.leaves(tree)] for tree in (out, wanted)]
        assert types[0] == types[1], name
        compared.add(name)
        return out

    monkeypatch.setattr(kernel, "fused", compare)
    jax.clear_caches()
    for op in OPS:
        jax.eval_shape(everything(op), X.astype(dtype), Y, T, V.astype(dtype))
    assert compared == set(NAMES)


# ------------------------------------------------------------------------------------------------
# The same numbers
# ------------------------------------------------------------------------------------------------


def with_hard_rows(classes: int) -> Any:
    """Ordinary rows, and among them such as have NaN, infinities, and numbers near the end."""
    random = np.random.default_rng(classes)
    x = random.normal(size=(40, classes)).astype(np.float32) * 4
    for row, hard in enumerate([np.nan, np.inf, -np.inf, 3e38, -3e38, -1e-40], 3):
        x[row, random.integers(classes)] = hard
        x[row + 16, random.random(classes) < 0.4] = hard
    x[12], x[30] = -np.inf, np.nan
    x[13, :2], x[31] = [np.inf, np.nan], 1e30  # ties
    y = random.integers(classes, size=len(x)).astype(np.int32)
    t = random.dirichlet(np.ones(classes), size=len(x)).astype(np.float32)
    t[18:] *= random.random((len(t) - 18, 1)) < 0.5  # or nothing at all
    return x, y, t


@needs_kernels
@pytest.mark.once
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("classes", [5, 20, 40, 300, 600])
def test_hard_rows_are_as_in_the_forms_and_spoil_no_others(op: str, classes: int) -> None:
    x, y, t = with_hard_rows(classes)

    def both(x: Any, y: Any, t: Any) -> Any:
        out, pull = jax.vjp(lambda x: OPS[op](x, y, t), x)
        return out, pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    got = jax.jit(both)(x, y, t)
    with kernels("off"):
        want = jax.jit(both)(x, y, t)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=3e-5)
        odd = ~np.isfinite(np.asarray(b).reshape(len(x), -1)).all(1)
        assert set(np.flatnonzero(odd)) <= {*range(3, 9), *range(19, 25), 12, 13, 30}


@needs_kernels
@pytest.mark.parametrize("op", OPS)
def test_derivatives_are_those_of_the_forms(op: str) -> None:
    run = jax.jit(everything(op))
    args = X, Y, T, V
    got = run(*args)
    with kernels("off"):
        want = run(*args)
        assert calls(everything(op), *args) == 0
    assert calls(everything(op), *args) >= 3
    close(got, want)


@needs_kernels
@pytest.mark.parametrize("op", OPS)
def test_third_derivatives_are_those_of_the_forms(op: str) -> None:
    def third(x: Any) -> Any:
        f = lambda x: jnp.sum(jnp.sin(OPS[op](x[None], Y[:1] % 4, T[:1, :4] * 3)))  # noqa: E731
        return jax.jit(jax.jacrev(jax.jacfwd(jax.grad(f))))(x)

    x = jnp.asarray([0.3, -1.0, 2.0, 0.1])
    got = third(x)
    with kernels("off"):
        want = third(x)
    close(got, want, 1e-5)


@needs_kernels
@pytest.mark.parametrize("op", OPS)
def test_vmap_is_one_call_of_more_rows(op: str) -> None:
    def f(x: Any, y: Any, t: Any) -> Any:
        return OPS[op](x, y, t)

    args = X.reshape(2, 4, C), Y.reshape(2, 4), T.reshape(2, 4, C)
    nested = jax.vmap(jax.vmap(f))
    assert calls(nested, *args) == calls(f, X, Y, T) == 1
    close(
        jax.jit(nested)(*args),
        jax.jit(f)(X, Y, T).reshape(2, 4, *jax.eval_shape(f, X, Y, T).shape[1:]),
    )
    # Rows along another axis, labels and targets that all share.
    across = jax.vmap(f, in_axes=(1, None, None))
    close(
        jax.jit(across)(jnp.swapaxes(args[0], 0, 1), args[1][0], args[2][0]),
        jnp.stack([f(x, args[1][0], args[2][0]) for x in args[0]]),
    )


@needs_kernels
def test_a_loop_has_them() -> None:
    def f(x: Any) -> Any:
        return jax.lax.scan(lambda c, row: (c + 1, jaxsoftmax.softmax(row)), 0, x)[1]

    assert calls(f, X) == 1
    close(jax.jit(f)(X), jaxsoftmax.softmax(X))


@needs_kernels
def test_eight_callers_at_once_get_what_one_gets() -> None:
    x = jnp.asarray(RANDOM.normal(size=(512, 257)), jnp.float32)
    run = jax.jit(lambda x: (jaxsoftmax.softmax(x), jaxsoftmax.logsumexp(x, -1)))

    def call(_: int) -> Any:
        with kernels("auto"):  # what is set with `with` is of the thread that sets it
            return jax.device_get(run(x))

    want = call(0)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(call, range(64)):
            jax.tree.map(np.testing.assert_array_equal, got, want)


@needs_kernels
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32])
def test_labels_of_any_type(dtype: Any) -> None:
    y = np.array([0, 5, 99, 127, 100, 50, 1, 2], dtype)
    x = jnp.asarray(RANDOM.normal(size=(8, 100)), jnp.float32)
    loss = jaxsoftmax.softmax_cross_entropy_with_integer_labels
    assert calls(loss, x, y) == 1
    got = loss(x, y)
    close(got, loss(x, np.where(y < 100, y.astype(np.int32), -1)))
    np.testing.assert_array_equal(jnp.isnan(got), y >= 100)


# ------------------------------------------------------------------------------------------------
# Where there is none
# ------------------------------------------------------------------------------------------------

MASK = np.ones((N, C), bool)
FORMS: dict[str, Callable[[Any], Any]] = {
    "another axis": lambda x: jaxsoftmax.softmax(x, axis=0),
    "float16": lambda x: jaxsoftmax.softmax(x.astype(jnp.float16)),
    "one class": lambda x: jaxsoftmax.softmax(x[:, :1]),
    "no rows": lambda x: jaxsoftmax.softmax(x[:0]),
    "z-loss": lambda x: jaxsoftmax.softmax_cross_entropy(x, T, z_loss=0.1),
    "masked labels": lambda x: jaxsoftmax.softmax_cross_entropy_with_integer_labels(
        x, Y, where=MASK
    ),
    "smoothing": lambda x: jaxsoftmax.softmax_cross_entropy_with_integer_labels(
        x, Y, label_smoothing=0.1
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_has_no_kernel_has_the_form(form: str) -> None:
    assert calls(FORMS[form], X) == 0
    jax.block_until_ready(FORMS[form](X))


@pytest.mark.parametrize("op", OPS)
def test_an_exported_program_has_none(op: str) -> None:
    args = X, Y, T, V
    exported = export.export(jax.jit(everything(op)))(*args)
    assert "@jaxsoftmax_" not in exported.mlir_module()
    close(
        export.deserialize(exported.serialize()).call(*args), jax.jit(everything(op))(*args), 1e-5
    )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_program_for_another_platform_has_none(platform: str) -> None:
    assert calls(everything("labels"), X, Y, T, V, lowering_platforms=(platform,)) == 0


# ------------------------------------------------------------------------------------------------
# Several devices
# ------------------------------------------------------------------------------------------------


@needs_kernels
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("op", OPS)
def test_each_device_of_a_shard_map_has_them(op: str, check_vma: bool) -> None:
    mesh = mesh_of(AxisType.Auto, rows=4)

    local = jax.shard_map(
        everything(op),
        mesh=mesh,
        in_specs=P("rows"),
        out_specs=P("rows"),
        check_vma=check_vma,
    )
    args = X, Y, T, V
    assert calls(local, *args) >= 3
    close(jax.jit(local)(*args), jax.jit(everything(op))(*args))


@pytest.mark.parametrize("op", ["softmax", "labels"])
@pytest.mark.parametrize("inside", [False, True], ids=["arguments", "constrained inside"])
def test_rows_on_automatic_axes_are_not_gathered(op: str, inside: bool) -> None:
    mesh = mesh_of(AxisType.Auto, rows=4)
    place = NamedSharding(mesh, P("rows"))
    args: Any = (X, Y, T, V)
    if not inside:
        args = jax.device_put(args, place)

    def run(x: Any, y: Any, t: Any, v: Any) -> Any:
        if inside:
            x, y, t, v = (jax.lax.with_sharding_constraint(a, place) for a in (x, y, t, v))
        return everything(op)(x, y, t, v)

    compiled = jax.jit(run, out_shardings=place).lower(*args).compile()
    text = compiled.as_text()
    assert "jaxsoftmax_" not in text
    assert "all-gather" not in text
    close(compiled(*args), jax.jit(everything(op))(X, Y, T, V), 1e-5)


@pytest.mark.parametrize("op", ["softmax", "labels"])
def test_types_on_explicit_axes_are_kept(op: str) -> None:
    mesh = mesh_of(AxisType.Explicit, rows=4)
    with jax.set_mesh(mesh):
        args = jax.device_put((X, Y, T, V), NamedSharding(mesh, P("rows")))
        got = jax.jit(everything(op))(*args)
    assert all(a.sharding.spec[0] == "rows" for a in got)
    close(got, jax.jit(everything(op))(X, Y, T, V), 1e-5)


# ------------------------------------------------------------------------------------------------
# The switch, and a library that will not do
# ------------------------------------------------------------------------------------------------


def test_another_mode_is_refused() -> None:
    with pytest.raises(ValueError, match='kernels: mode must be "auto" or "off", got \'on\''):
        kernels("on").__enter__()  # type: ignore[arg-type]


def environment(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
        cwd=Path(__file__).parents[1],
    )


def test_the_environment_turns_them_off() -> None:
    code = "from jaxsoftmax import native; print(native.enabled())"
    assert environment(code, JAXSOFTMAX_KERNELS="off").stdout == "False\n"
    wrong = environment(code, JAXSOFTMAX_KERNELS="yes").stderr
    assert wrong.endswith("ValueError: JAXSOFTMAX_KERNELS must be auto or off, got 'yes'.\n")


@pytest.fixture
def looked_for_again() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.mark.usefixtures("looked_for_again")
def test_a_broken_library_leaves_the_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = build.interface(Path(jax.ffi.include_dir()))
    for source in build.SOURCES:
        (tmp_path / source).write_bytes((build.HERE / source).read_bytes())
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "supported", lambda: True)
    assert native.library().why_not == f"not built for XLA's interface {version[0]}.{version[1]}"
    assert calls(OPS["softmax"], X, Y, T) == 0

    native.library.cache_clear()
    (tmp_path / build.name(version)).write_bytes(b"no library")
    assert native.library().why_not.startswith("could not be loaded: ")
    close(jaxsoftmax.softmax(X + 1), np.exp(X) / np.exp(X).sum(1, keepdims=True))


@pytest.mark.usefixtures("looked_for_again")
def test_a_library_for_a_newer_interface_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor = build.interface(Path(jax.ffi.include_dir()))
    for source in build.SOURCES:
        (tmp_path / source).write_bytes((build.HERE / source).read_bytes())
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "supported", lambda: True)
    (tmp_path / build.name((major, minor + 1))).write_bytes(b"not to be loaded")
    assert native.library().path is None


@needs_kernels
@pytest.mark.parametrize("op", OPS)
def test_a_gradient_outside_of_jit_is_compiled_once(op, caplog):
    def loss(x: Any) -> Any:
        return jnp.sum(jnp.square(OPS[op](x, Y, T)))

    for _ in range(2):
        jax.jvp(jax.grad(loss), (X,), (V,))
    with jax.log_compiles():
        jax.jvp(jax.grad(loss), (X,), (V,))
    assert not [message for message in caplog.messages if message.startswith("Compiling")]
