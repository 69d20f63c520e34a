"""The records of `sparsemax` and its loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsoftmax
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.sparsemax import sparsemax_loss_of, sparsemax_of

from .record import Exact, Operation, Size


def _textbook(x: Any, xp: Any = jnp) -> Any:
    largest = xp.sort(x, -1)[..., ::-1]
    total = largest.cumsum(-1)
    number = xp.ones_like(largest).cumsum(-1)
    size = (number * largest + 1 > total).sum(-1, keepdims=True)
    tau = (xp.take_along_axis(total, size - 1, -1) - 1) / size.astype(x.dtype)
    # maximum(x - tau, 0) has half a derivative where x is tau, as is common in half types.
    return xp.where(x > tau, x - tau, 0)


def _textbook_loss(x: Any, y: Any, xp: Any = jnp) -> Any:
    p = _textbook(x, xp)
    x_y = xp.take_along_axis(x, y[..., None], -1)[..., 0]
    return (p * x).sum(-1) - (p * p).sum(-1) / 2 + 0.5 - x_y


def _project(row: Exact) -> tuple[Any, Any]:
    """p, and J v for any v."""
    p = _textbook(row.x, np)
    support = (p > 0).astype(int)
    return p, lambda v: support * (v - (support * v).sum() / support.sum())


def _exact(row: Exact) -> tuple[Any, Any, Any, Any]:
    p, product = _project(row)
    return p, product(row.c), product(row.v), 0 * p


def _exact_loss(row: Exact) -> tuple[Any, Any, Any, Any]:
    p, product = _project(row)
    label = np.arange(len(p)) == row.y
    gradient = p - label
    tau = (row.x - p)[p > 0][0]
    value = (gradient * gradient).sum() / 2 + max(tau - row.x[row.y], 0)
    return value, gradient, (gradient * row.v).sum(), product(row.v)


def _centred(support: Any, v: Any) -> Any:
    return (support * (v + (support * v).sum() / support.sum())).max()


def _terms(size: Size, value: Any, gradient: Any) -> tuple[Any, ...]:
    del gradient
    return _centred(value > 0, size.c), _centred(value > 0, size.v), 0.0, value.max()


def _terms_of_loss(size: Size, value: Any, gradient: Any) -> tuple[Any, ...]:
    g = abs(gradient)
    inside = (g > 0) & (gradient > -1)
    hvp = _centred(inside, size.v) if inside.any() else 0.0
    return g.max(), (g * size.v).sum(), hvp, value + g.sum()


def _reverse_loss(x: Any, y: Any) -> Any:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    losses = sparsemax_loss_of.custom_vjp(x, y[..., None], None, classes=Here(x.ndim - 1))
    return jnp.squeeze(losses, -1)


def _rows(function: Any) -> Any:
    """A function of rows and their labels, for a single row too."""

    def of_any(x: Any, *labels: Any) -> Any:
        out = function(x.reshape(-1, x.shape[-1]), *(y.reshape(-1) for y in labels))
        return out.reshape(x.shape[:-1] if labels else x.shape)

    return of_any


SPARSEMAX = Operation(
    "sparsemax",
    "sparsemax",
    jaxsoftmax.sparsemax,
    ("logits",),
    _textbook,
    lambda x: sparsemax_of.custom_vjp(x, classes=Here(x.ndim - 1)),
    {
        "optax": (
            "optax.projections",
            lambda projections: _rows(jax.vmap(projections.projection_simplex)),
        )
    },
    exact=_exact,
    terms=_terms,
)
SPARSEMAX_LOSS = Operation(
    "sparsemax_loss",
    "sparsemax loss",
    jaxsoftmax.sparsemax_loss,
    ("logits", "labels"),
    _textbook_loss,
    _reverse_loss,
    {"optax": ("optax.losses", lambda losses: _rows(losses.multiclass_sparsemax_loss))},
    exact=_exact_loss,
    terms=_terms_of_loss,
    loss=True,
    scratch=2.25,  # x - m, which the iteration reads again and again, and p
)
