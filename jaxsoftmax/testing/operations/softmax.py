"""The record of `softmax`."""

from __future__ import annotations

from typing import Any

import jaxsoftmax
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.softmax import softmax_of

from . import textbook
from .record import Exact, Operation, Size


def _exact(row: Exact) -> tuple[Any, Any, Any, Any]:
    p, c, p_dot = row.p, row.c, row.p_dot
    pc = (p * c).sum()
    return p, p * (c - pc), p_dot, p_dot * (c - pc) - p * (p_dot * c).sum()


def _terms(size: Size, value: Any, gradient: Any) -> tuple[Any, ...]:
    del value, gradient
    p, p_dot = size.p, size.p * size.centred(size.v)
    hvp = p_dot * size.centred(size.c) + p * (p_dot * size.c).sum()
    return (p * size.centred(size.c)).max(), p_dot.max(), hvp.max()


SOFTMAX = Operation(
    "softmax",
    "softmax",
    jaxsoftmax.softmax,
    ("logits",),
    textbook.softmax,
    lambda x: softmax_of.custom_vjp(x, classes=Here(x.ndim - 1)),
    {"jax.nn": ("jax.nn", lambda nn: nn.softmax)},
    lambda torch: lambda x: torch.softmax(x, -1),
    _exact,
    _terms,
    value=4.0,
)
