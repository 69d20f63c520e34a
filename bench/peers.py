"""PyTorch, which is measured too where it is installed, and a sentence on who is absent.

Peers made of JAX functions are in the records of the operations.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsoftmax.testing.cost.modes import Mode, Problem
from jaxsoftmax.testing.cost.programs import Program
from jaxsoftmax.testing.operations.record import Operation

OPTIONAL = {"optax": "optax", "torch": "torch", "tokamax": "tokamax", "jax-cce": "jax_cce"}


def installed(name: str) -> bool:
    """Whether a peer can be imported."""
    return importlib.util.find_spec(OPTIONAL[name]) is not None


def absent_sentence() -> str:
    """Which peers are not measured, in a sentence; empty when all are."""
    absent = [name for name in OPTIONAL if not installed(name)]
    if not absent:
        return ""
    return f"Not installed, and so not measured: {', '.join(absent)}."


def foreign(op: Operation, mode: Mode) -> dict[str, Callable[[Problem], Program]]:
    """Peers that are not JAX programs: PyTorch, run eagerly as its users do."""
    if mode not in ("forward", "value_and_grad") or op.torch is None or not installed("torch"):
        return {}
    return {"torch": lambda problem: Program(_torch_call(op, mode, problem), read=_to_numpy)}


def _torch_call(op: Operation, mode: Mode, problem: Problem) -> Callable[[], Any]:
    torch = importlib.import_module("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    function, moving = op.in_torch(torch), len(op.wrt)
    args = [_to_torch(torch, arg, device) for arg in problem.args[0]]

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> Any:
        with torch.no_grad():
            out = function(*args)
        finish()
        return out

    def value_and_grad() -> Any:
        out = function(*args)
        grads = torch.autograd.grad(out, args[:moving], bar)
        finish()
        return out, grads

    if mode == "forward":
        return forward
    for arg in args[:moving]:
        arg.requires_grad_()
    (bar,) = problem.args[1]
    bar = None if isinstance(bar, tuple) else _to_torch(torch, bar, device)
    return value_and_grad


def _to_torch(torch: Any, array: Any, device: str) -> Any:
    host = np.asarray(array)
    if (
        host.dtype.name == "bfloat16"
    ):  # which torch does not read from NumPy; float32 holds it exactly
        return torch.tensor(host.astype(np.float32), device=device).to(torch.bfloat16)
    tensor = torch.tensor(host, device=device)
    return tensor.long() if host.dtype.kind == "i" else tensor


def _to_numpy(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_to_numpy(part) for part in result)
    return result.detach().double().cpu().numpy()
