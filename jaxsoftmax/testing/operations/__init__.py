"""All operations that are measured and tested alike, one record each."""

from __future__ import annotations

from .heads import ENTROPY, JS, KL, LOG_PROB
from .linear_loss import LINEAR as LINEAR
from .log_softmax import LOG_SOFTMAX as LOG_SOFTMAX
from .logsumexp import LOGSUMEXP as LOGSUMEXP
from .losses import DISTRIBUTIONS as DISTRIBUTIONS
from .losses import LABELS as LABELS
from .record import Operation as Operation
from .softmax import SOFTMAX as SOFTMAX
from .sparsemax import SPARSEMAX as SPARSEMAX
from .sparsemax import SPARSEMAX_LOSS as SPARSEMAX_LOSS

ALL = (
    SOFTMAX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    LABELS,
    DISTRIBUTIONS,
    SPARSEMAX,
    SPARSEMAX_LOSS,
    LINEAR,
)
# What streams in the same way as the linear loss: its accuracy is measured, and no more.
OF_HEADS = (LOG_PROB, ENTROPY, KL, JS)
BY_NAME = {operation.name: operation for operation in (*ALL, *OF_HEADS)}


def named(name: str) -> Operation:
    """The record of this public name.

    Raises:
      ValueError: there is none.
    """
    if name not in BY_NAME:
        raise ValueError(f"There is no operation {name!r}. Choose from {', '.join(BY_NAME)}.")
    return BY_NAME[name]
