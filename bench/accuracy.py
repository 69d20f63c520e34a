"""How accurate: errors against mpmath of this library, jax.nn, optax and, where installed, PyTorch.

    python -m bench.accuracy            all of it, about 6 minutes, into bench/results
    python -m bench.accuracy --quick    small problems, a minute, printed only

Every library computes value, VJP, JVP and Hessian-vector product of the same ten problems
(`bench/truth.py`) in four dtypes, compiled as users compile it. The worst of the ten is reported.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax

from bench import truth
from bench.accuracy_report import markdown, missed
from jaxsoftmax.testing.operations.record import Operation

DTYPES = ("float32", "bfloat16", "float16", "float64")
Results = tuple[Any, Any, Any, Any]
Function = Callable[..., Any]


# ------------------------------------------------------------------------------------------------
# Libraries
# ------------------------------------------------------------------------------------------------


def with_jax(op: Operation, function: Function, problem: truth.Problem) -> Results:
    """(value, vjp, jvp, hvp) of a function in JAX, compiled."""
    value, derivatives = _compiled(op, function)
    arrays = jax.tree.map(jnp.asarray, problem)
    out = value(arrays)
    bar = arrays.cotangent if out.ndim == 2 else jnp.ones_like(out)
    return out, *derivatives(arrays, bar)


@functools.cache
def _compiled(op: Operation, function: Function) -> tuple[Function, Function]:
    @jax.jit
    def value(p: truth.Problem) -> Any:
        return function(p.x, *p.given(op))

    @jax.jit
    def derivatives(p: truth.Problem, bar: Any) -> Any:
        def f(x: Any) -> Any:
            return function(x, *p.given(op))

        def vjp(x: Any) -> Any:
            return jax.vjp(f, x)[1](bar)[0]

        return vjp(p.x), *(jax.jvp(g, (p.x,), (p.tangent,))[1] for g in (f, vjp))

    return value, derivatives


def with_torch(op: Operation, problem: truth.Problem) -> Results:
    """(value, vjp, jvp, hvp) of an operation in PyTorch."""
    import torch  # noqa: PLC0415 - optional
    from torch import func  # noqa: PLC0415

    def tensor(array: np.ndarray) -> Any:
        if array.dtype == jnp.bfloat16:
            return torch.from_numpy(array.astype(np.float32)).bfloat16()
        return torch.from_numpy(array.astype(np.int64) if array.dtype == np.int32 else array)

    assert op.torch is not None
    function = op.torch(torch)
    tensors = truth.Problem(*(tensor(array) for array in problem))
    others = tensors.given(op)

    def f(x: Any) -> Any:
        return function(x, *others)

    out = f(tensors.x)
    bar = tensors.cotangent if out.ndim == 2 else torch.ones_like(out)

    def vjp(x: Any) -> Any:
        return func.vjp(f, x)[1](bar)[0]

    along = (func.jvp(g, (tensors.x,), (tensors.tangent,))[1] for g in (f, vjp))
    dtype = problem.x.dtype
    arrays = (r.detach().double().numpy().astype(dtype) for r in (out, vjp(tensors.x), *along))
    return next(arrays), next(arrays), next(arrays), next(arrays)


def libraries(op: Operation) -> dict[str, Callable[[truth.Problem], Results]]:
    """What is compared on an operation, by name; JAX's own libraries are one column."""
    found = {"jaxsoftmax": functools.partial(with_jax, op, op.function)}
    for function in op.found_peers().values():
        found["jax.nn, optax"] = functools.partial(with_jax, op, function)
    if op.torch is not None and importlib.util.find_spec("torch"):
        found["torch"] = functools.partial(with_torch, op)
    return found


# ------------------------------------------------------------------------------------------------
# Measuring
# ------------------------------------------------------------------------------------------------


def measure(dtypes: tuple[str, ...], sizes: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A record of errors for each dtype, distribution, op and library; progress on stderr."""
    start = time.monotonic()
    total = len(dtypes) * len(truth.DISTRIBUTIONS)
    done = 0
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            for distribution in truth.DISTRIBUTIONS:
                problem = truth.problem(distribution, jnp.dtype(dtype), **sizes)
                true = truth.truths(problem)
                for op in truth.OPERATIONS:
                    for library, run in libraries(op).items():
                        try:
                            results = run(problem)
                        except TypeError:
                            if library == "jaxsoftmax":
                                raise
                            continue  # which does not take this type
                        found = truth.errors(op, results, true[op.name], problem.x)
                        yield {
                            "library": library,
                            "op": op.name,
                            "dtype": dtype,
                            "distribution": distribution,
                            "errors": found,
                        }
                done += 1
                seconds = time.monotonic() - start
                print(f"{done}/{total} {dtype} {distribution} ({seconds:.0f} s)", file=sys.stderr)


def environment(sizes: dict[str, int]) -> dict[str, Any]:
    """Where and with what the errors were measured."""
    return {
        "processor": processor(),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "optax": optax.__version__,
        "reference": f"mpmath {mpmath.__version__}, {truth.MP.prec} bits",
        "sizes": sizes,
    }


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else []
    return str(names[0]) if names else platform.machine()


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write unless `--quick`; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(prog="bench.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small problems, nothing written")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="only these; repeatable")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(argv)

    sizes = {"rows": 4, "classes": 200, "many": 5000} if options.quick else {}
    dtypes = tuple(options.dtype or DTYPES)
    records = list(measure(dtypes, sizes))
    about = environment(sizes)
    report = markdown(records, about)
    print(report)
    if not options.quick:
        machine = re.sub(r"[^a-z0-9]+", "-", about["processor"].lower()).strip("-")
        name = f"accuracy-{machine}-jax-{about['jax']}"
        options.out.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"environment": about, "records": records}, indent=1)
        (options.out / f"{name}.json").write_text(content + "\n")
        (options.out / f"{name}.md").write_text(report)
    return 1 if missed(records) else 0


if __name__ == "__main__":
    sys.exit(main())
