"""The records of the cross-entropy losses."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp

import jaxsoftmax
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.distribution_loss import distribution_loss
from jaxsoftmax.ops.label_loss import label_loss
from jaxsoftmax.ops.row.exponentials import wide
from jaxsoftmax.ops.row.label import Target

from . import textbook
from .record import Exact, Operation, Size


def terms(size: Size, gradient: Any, mass: Any) -> tuple[Any, ...]:
    """Of an operation with one number a row, whose Hessian is ``mass`` times that of logsumexp."""
    g = abs(gradient)
    return g.max(), (g * size.v).sum(), (mass * size.p * size.centred(size.v)).max()


def _of_label(row: Exact) -> tuple[Any, Any, Any, Any]:
    gradient = row.p.copy()
    gradient[row.y] -= 1
    return row.s - row.x[row.y], gradient, row.pv - row.v[row.y], row.p_dot


def _of_targets(row: Exact) -> tuple[Any, Any, Any, Any]:
    mass = row.t.sum()
    gradient = mass * row.p - row.t
    value = (row.t * (row.s - row.x)).sum()
    return value, gradient, (gradient * row.v).sum(), mass * row.p_dot


def _torch(torch: Any) -> Any:
    return functools.partial(torch.nn.functional.cross_entropy, reduction="none")


def _reverse_label(x: Any, y: Any) -> Any:
    here = Here(x.ndim - 1)
    rows = label_loss.custom_vjp(wide(x), Target(y[..., None]), classes=here, z_loss=0.0)
    return jnp.squeeze(rows, -1)


def _reverse_targets(x: Any, t: Any) -> Any:
    here = Here(x.ndim - 1)
    rows = distribution_loss.custom_vjp(wide(x), wide(t), None, classes=here, z_loss=0.0)
    return jnp.squeeze(rows, -1)


LABELS = Operation(
    "softmax_cross_entropy_with_integer_labels",
    "cross-entropy, labels",
    jaxsoftmax.softmax_cross_entropy_with_integer_labels,
    ("logits", "labels"),
    textbook.label_loss,
    _reverse_label,
    {"optax": ("optax.losses", lambda losses: losses.softmax_cross_entropy_with_integer_labels)},
    _torch,
    _of_label,
    lambda size, value, gradient: terms(size, gradient, 1),
    loss=True,
    gradient=True,
)
DISTRIBUTIONS = Operation(
    "softmax_cross_entropy",
    "cross-entropy, distributions",
    jaxsoftmax.softmax_cross_entropy,
    ("logits", "targets"),
    textbook.distribution_loss,
    _reverse_targets,
    {"optax": ("optax.losses", lambda losses: losses.softmax_cross_entropy)},
    _torch,
    _of_targets,
    lambda size, value, gradient: terms(size, gradient, size.t.sum()),
    loss=True,
)
