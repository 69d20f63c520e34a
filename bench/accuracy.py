"""How accurate: errors against mpmath of this library, jax.nn, optax and, where installed, PyTorch.

    python -m bench.accuracy            all of it, about 6 minutes, into bench/results
    python -m bench.accuracy --quick    small problems, a minute, printed only

Every library computes value, VJP, JVP and Hessian-vector product of the same ten problems
(`tests/truth.py`) in four dtypes, compiled as users compile it. The worst of the ten is reported.
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

import jaxsoftmax
from bench.accuracy_report import markdown, missed
from tests import truth

DTYPES = ("float32", "bfloat16", "float16", "float64")
Results = tuple[Any, Any, Any, Any]
Op = Callable[[Any, truth.Problem], Any]


# ------------------------------------------------------------------------------------------------
# Libraries
# ------------------------------------------------------------------------------------------------

OURS: dict[str, Op] = {
    "softmax": lambda x, p: jaxsoftmax.softmax(x),
    "log_softmax": lambda x, p: jaxsoftmax.log_softmax(x),
    "logsumexp": lambda x, p: jaxsoftmax.logsumexp(x, -1),
    truth.INTEGER: lambda x, p: jaxsoftmax.softmax_cross_entropy_with_integer_labels(x, p.labels),
    "softmax_cross_entropy": lambda x, p: jaxsoftmax.softmax_cross_entropy(x, p.targets),
}
THEIRS: dict[str, Op] = {
    "softmax": lambda x, p: jax.nn.softmax(x),
    "log_softmax": lambda x, p: jax.nn.log_softmax(x),
    "logsumexp": lambda x, p: jax.nn.logsumexp(x, -1),
    truth.INTEGER: lambda x, p: optax.losses.softmax_cross_entropy_with_integer_labels(x, p.labels),
    "softmax_cross_entropy": lambda x, p: optax.losses.softmax_cross_entropy(x, p.targets),
}


def with_jax(op: Op, problem: truth.Problem) -> Results:
    """(value, vjp, jvp, hvp) of an op in JAX, compiled."""
    value, derivatives = _compiled(op)
    arrays = jax.tree.map(jnp.asarray, problem)
    out = value(arrays)
    bar = arrays.cotangent if out.ndim == 2 else jnp.ones_like(out)
    return out, *derivatives(arrays, bar)


@functools.cache
def _compiled(op: Op) -> tuple[Callable[..., Any], Callable[..., Any]]:
    @jax.jit
    def value(p: truth.Problem) -> Any:
        return op(p.x, p)

    @jax.jit
    def derivatives(p: truth.Problem, bar: Any) -> Any:
        def f(x: Any) -> Any:
            return op(x, p)

        def vjp(x: Any) -> Any:
            return jax.vjp(f, x)[1](bar)[0]

        return vjp(p.x), *(jax.jvp(g, (p.x,), (p.tangent,))[1] for g in (f, vjp))

    return value, derivatives


def with_torch(name: str, problem: truth.Problem) -> Results:
    """(value, vjp, jvp, hvp) of an op in PyTorch."""
    import torch  # noqa: PLC0415 - optional
    from torch import func  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    def tensor(array: np.ndarray) -> Any:
        if array.dtype == jnp.bfloat16:
            return torch.from_numpy(array.astype(np.float32)).bfloat16()
        return torch.from_numpy(array.astype(np.int64) if array.dtype == np.int32 else array)

    x, labels, targets, cotangent, tangent = (tensor(array) for array in problem)
    f: Callable[[Any], Any] = {
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        truth.INTEGER: lambda x: functional.cross_entropy(x, labels, reduction="none"),
        "softmax_cross_entropy": lambda x: functional.cross_entropy(x, targets, reduction="none"),
    }[name]
    out = f(x)
    bar = cotangent if out.ndim == 2 else torch.ones_like(out)

    def vjp(x: Any) -> Any:
        return func.vjp(f, x)[1](bar)[0]

    results = (out, vjp(x), *(func.jvp(g, (x,), (tangent,))[1] for g in (f, vjp)))
    dtype = problem.x.dtype
    arrays = (r.detach().double().numpy().astype(dtype) for r in results)
    return next(arrays), next(arrays), next(arrays), next(arrays)


def libraries() -> dict[str, Callable[[str, truth.Problem], Results]]:
    """What is compared, by name."""
    found: dict[str, Callable[[str, truth.Problem], Results]] = {
        "jaxsoftmax": lambda name, problem: with_jax(OURS[name], problem),
        "jax.nn, optax": lambda name, problem: with_jax(THEIRS[name], problem),
    }
    if importlib.util.find_spec("torch"):
        found["torch"] = with_torch
    return found


# ------------------------------------------------------------------------------------------------
# Measuring
# ------------------------------------------------------------------------------------------------


def measure(dtypes: tuple[str, ...], sizes: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A record of errors for each dtype, distribution, op and library; progress on stderr."""
    known = libraries()
    start = time.monotonic()
    total = len(dtypes) * len(truth.DISTRIBUTIONS)
    done = 0
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            for distribution in truth.DISTRIBUTIONS:
                problem = truth.problem(distribution, jnp.dtype(dtype), **sizes)
                true = truth.truths(problem)
                for op in truth.OPS:
                    for library, run in known.items():
                        found = truth.errors(op, run(op, problem), true[op], problem.x)
                        yield {
                            "library": library,
                            "op": op,
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
