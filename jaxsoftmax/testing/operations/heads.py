"""The records of what heads of language models tell, on logits: those are the bias of one row.

The teacher's logits of a divergence are the `targets`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsoftmax

from . import textbook
from .losses import terms
from .record import Exact, Operation, Size


def _rows(of_bias: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the features, kernels and biases of one row, for each row of logits."""

    def one(x: Any, *others: Any) -> Any:
        nothing = jnp.zeros((1, 1), x.dtype), jnp.zeros((1, x.shape[0]), x.dtype)
        return of_bias(*nothing, x, *others)[0]

    return jax.vmap(one)


# ------------------------------------------------------------------------------------------------
# Log-probability and entropy
# ------------------------------------------------------------------------------------------------


def _exact_log_prob(row: Exact) -> tuple[Any, Any, Any, Any]:
    gradient = -row.p
    gradient[row.y] += 1
    return row.x[row.y] - row.s, gradient, row.v[row.y] - row.pv, -row.p_dot


LOG_PROB = Operation(
    "linear_log_softmax",
    "linear log-probability",
    _rows(lambda f, w, x, y: jaxsoftmax.linear_log_softmax(f, w, y[None], x)),
    ("logits", "labels"),
    lambda x, y, xp=jnp: -textbook.label_loss(x, y, xp),
    exact=_exact_log_prob,
    terms=lambda size, value, gradient: terms(size, gradient, 1),
    loss=True,
    of_heads=True,
    gradient=True,
)


def _entropy(x: Any, xp: Any = jnp) -> Any:
    log_p = textbook.log_softmax(x, xp)
    return -(xp.exp(log_p) * log_p).sum(-1)


def _exact_entropy(row: Exact) -> tuple[Any, Any, Any, Any]:
    log_p, log_p_dot = row.x - row.s, row.v - row.pv
    value = -(row.p * log_p).sum()
    away = row.x - row.x[0]  # 0 where all are equal, with no rounding left
    far = away - (row.p * away).sum()  # log p + H
    gradient = -row.p * far
    slope = (gradient * row.v).sum()
    return value, gradient, slope, -row.p_dot * far - row.p * (log_p_dot + slope)


def _entropy_terms(size: Size, value: Any, gradient: Any) -> tuple[Any, ...]:
    first, second, _ = terms(size, gradient, 1)
    p_dot, far = size.p * size.centred(size.v), _minus_log(size.p)
    hvp = p_dot * (far + value + 1) + size.p * (p_dot * far).sum()
    return first, second, hvp.max()


def _minus_log(p: Any) -> Any:
    return -np.log(np.maximum(p, np.finfo(np.float64).tiny))


ENTROPY = Operation(
    "softmax_entropy",
    "entropy",
    jaxsoftmax.softmax_entropy,
    ("logits",),
    _entropy,
    exact=_exact_entropy,
    terms=_entropy_terms,
    loss=True,
    of_heads=True,
)


# ------------------------------------------------------------------------------------------------
# Divergences from a teacher
# ------------------------------------------------------------------------------------------------


def _log(row: Exact, numbers: Any) -> Any:
    return np.vectorize(row.s.context.log, otypes=[object])(numbers)


def _teacher(row: Exact) -> Any:
    """p'."""
    e = np.vectorize(row.s.context.exp, otypes=[object])(row.t)
    return e / e.sum()


def _kl(x: Any, y: Any, xp: Any = jnp) -> Any:
    log_p, log_q = textbook.log_softmax(x, xp), textbook.log_softmax(y, xp)
    return (xp.exp(log_q) * (log_q - log_p)).sum(-1)


def _exact_kl(row: Exact) -> tuple[Any, Any, Any, Any]:
    q = _teacher(row)
    gradient = row.p - q
    value = (q * (_log(row, q) - (row.x - row.s))).sum()
    return value, gradient, (gradient * row.v).sum(), row.p_dot


KL = Operation(
    "linear_softmax_kl_divergence",
    "linear KL divergence",
    _rows(
        lambda f, w, x, y: jaxsoftmax.linear_softmax_kl_divergence(
            f, w, f, w, x, y, reduction="none"
        )
    ),
    ("logits", "targets"),
    _kl,
    exact=_exact_kl,
    terms=lambda size, value, gradient: terms(size, gradient, 1),
    loss=True,
    of_heads=True,
)


def _js(x: Any, y: Any, xp: Any = jnp) -> Any:
    log_p, log_q = textbook.log_softmax(x, xp), textbook.log_softmax(y, xp)
    log_m = xp.log((xp.exp(log_p) + xp.exp(log_q)) / 2)
    return (xp.exp(log_q) * (log_q - log_m) + xp.exp(log_p) * (log_p - log_m)).sum(-1) / 2


def _exact_js(row: Exact) -> tuple[Any, Any, Any, Any]:
    p, q = row.p, _teacher(row)
    mixture = (p + q) / 2
    a = (row.x - row.s) - _log(row, mixture)
    mean = (p * a).sum()
    of_q = (q * (_log(row, q) - _log(row, mixture))).sum()
    gradient = p * (a - mean) / 2
    a_dot = (row.v - row.pv) * q / mixture / 2
    mean_dot = (row.p_dot * a + p * a_dot).sum()
    hvp = (row.p_dot * (a - mean) + p * (a_dot - mean_dot)) / 2
    return (mean + of_q) / 2, gradient, (gradient * row.v).sum(), hvp


def _js_terms(size: Size, value: Any, gradient: Any) -> tuple[Any, ...]:
    del value, gradient
    q = np.exp(size.t) / np.exp(size.t).sum()
    a = np.abs(np.log((size.p + q) / 2) + _minus_log(size.p))
    g = size.p * size.centred(a) / 2
    p_dot = size.p * size.centred(size.v)
    hvp = p_dot * (a + (size.p * a).sum() + 2) + size.p * (p_dot * (a + 1)).sum()
    return g.max(), (g * size.v).sum(), hvp.max() / 2


JS = Operation(
    "linear_softmax_js_divergence",
    "linear JS divergence",
    _rows(
        lambda f, w, x, y: jaxsoftmax.linear_softmax_js_divergence(
            f, w, f, w, x, y, reduction="none"
        )
    ),
    ("logits", "targets"),
    _js,
    exact=_exact_js,
    terms=_js_terms,
    loss=True,
    of_heads=True,
)
