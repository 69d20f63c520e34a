"""The record of `linear_softmax_cross_entropy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxsoftmax

from . import textbook
from .record import Operation


def _on_logits(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda features, kernel, y: loss(features @ kernel, y)


def _of_tokamax(tokamax: Any) -> Callable[..., Any]:
    loss = tokamax.linear_softmax_cross_entropy_loss
    return lambda features, kernel, y: loss(features, y, kernel, reduction="mean")


def _of_jax_cce(jax_cce: Any) -> Callable[..., Any]:
    return lambda features, kernel, y: jax_cce.linear_cross_entropy(features, kernel.T, y)


LINEAR = Operation(
    "linear_softmax_cross_entropy",
    "linear cross-entropy",
    jaxsoftmax.linear_softmax_cross_entropy,
    ("features", "kernel", "labels"),
    textbook.linear_loss,
    peers={
        "unfused": (
            "jaxsoftmax",
            lambda package: _on_logits(package.softmax_cross_entropy_with_integer_labels),
        ),
        "optax": (
            "optax.losses",
            lambda losses: _on_logits(losses.softmax_cross_entropy_with_integer_labels),
        ),
        "tokamax": ("tokamax", _of_tokamax),
        "jax-cce": ("jax_cce", _of_jax_cce),
    },
    torch=lambda torch: _on_logits(torch.nn.functional.cross_entropy),
    loss=True,
)
