"""The record of `log_softmax`."""

from __future__ import annotations

from typing import Any

import jaxsoftmax
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.log_softmax import log_softmax_of

from . import textbook
from .record import Exact, Operation, Size


def _exact(row: Exact) -> tuple[Any, Any, Any, Any]:
    mass = row.c.sum()
    return row.x - row.s, row.c - row.p * mass, row.v - row.pv, -row.p_dot * mass


def _terms(size: Size, value: Any, gradient: Any) -> tuple[Any, ...]:
    del value, gradient
    vjp = size.c * size.others(size.p) + size.p * size.others(size.c)
    hvp = size.p * size.centred(size.v) * size.c.sum()
    return vjp.max(), size.centred(size.v).max(), hvp.max()


def _reverse(x: Any) -> Any:
    log_p, _ = log_softmax_of.custom_vjp(x, classes=Here(x.ndim - 1))
    return log_p


LOG_SOFTMAX = Operation(
    "log_softmax",
    "log_softmax",
    jaxsoftmax.log_softmax,
    ("logits",),
    textbook.log_softmax,
    _reverse,
    {"jax.nn": ("jax.nn", lambda nn: nn.log_softmax)},
    lambda torch: lambda x: torch.log_softmax(x, -1),
    _exact,
    _terms,
)
