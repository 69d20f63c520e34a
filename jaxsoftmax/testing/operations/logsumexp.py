"""The record of `logsumexp`."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp

import jaxsoftmax
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.logsumexp import logsumexp_of

from . import textbook
from .losses import terms
from .record import Exact, Operation


def _exact(row: Exact) -> tuple[Any, Any, Any, Any]:
    return row.s, row.p, row.pv, row.p_dot


def _reverse(x: Any) -> Any:
    return jnp.squeeze(logsumexp_of.custom_vjp(x, classes=Here(x.ndim - 1))[0], -1)


LOGSUMEXP = Operation(
    "logsumexp",
    "logsumexp",
    functools.partial(jaxsoftmax.logsumexp, axis=-1),
    ("logits",),
    textbook.logsumexp,
    _reverse,
    {"jax.nn": ("jax.nn", lambda nn: functools.partial(nn.logsumexp, axis=-1))},
    lambda torch: lambda x: torch.logsumexp(x, -1),
    _exact,
    lambda size, value, gradient: terms(size, gradient, 1),
)
