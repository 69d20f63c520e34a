"""The one table: what is measured, at which shape, and where that shape comes from.

Rows are chosen so that the logits of a `quick` case hold about four million numbers (16 MB in
float32, more than the caches of most processors), and of a `full` case four times as many; the
small data sets are whole.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxsoftmax.testing.cost.modes import Mode
from jaxsoftmax.testing.operations import ALL
from jaxsoftmax.testing.operations.linear_loss import LINEAR
from jaxsoftmax.testing.operations.log_softmax import LOG_SOFTMAX
from jaxsoftmax.testing.operations.logsumexp import LOGSUMEXP
from jaxsoftmax.testing.operations.losses import DISTRIBUTIONS, LABELS
from jaxsoftmax.testing.operations.record import Operation
from jaxsoftmax.testing.operations.softmax import SOFTMAX

Size = Literal["quick", "full"]

SOURCES = {
    "iris": "Fisher's iris flowers, all 150, 3 species",
    "digits": "the digits of scikit-learn, all 1797, 10 classes",
    "MNIST": "its training set, 60 000 images, 10 classes",
    "ImageNet": "the head of an image classifier, 1000 classes",
    "ImageNet-21k": "the head of an image classifier on the whole of ImageNet, 21 841 classes",
    "BERT": "masked tokens, a vocabulary of 30 522",
    "GPT-2": "tokens, a vocabulary of 50 257",
    "Llama 3": "tokens, a vocabulary of 128 256",
    "Gemma": "tokens, a vocabulary of 256 000",
    "Amazon-670K": "extreme classification, 670 091 labels",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One op at one shape. The shape is rows, features for the linear loss, classes."""

    op: Operation
    source: str
    shape: tuple[int, ...]
    modes: tuple[Mode, ...]
    dtype: str = "float32"
    size: Size = "quick"

    @property
    def label(self) -> str:
        """As in "GPT-2 80×50257 f32"."""
        return f"{self.source} {'×'.join(map(str, self.shape))} {SHORT[self.dtype]}"


SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

REVERSE: tuple[Mode, ...] = ("value_and_grad",)
BOTH: tuple[Mode, ...] = ("value_and_grad", "jvp")
TRAINER: tuple[Mode, ...] = ("value_and_grad", "hvp")  # what its solvers ask for
EVERY: tuple[Mode, ...] = ("forward", "gradient", "value_and_grad", "jvp", "hvp", "vmapped")

CHOSEN = (
    Case(SOFTMAX, "digits", (1797, 10), BOTH),
    Case(SOFTMAX, "ImageNet", (4096, 1000), EVERY),
    Case(SOFTMAX, "ImageNet", (4096, 1000), BOTH, "bfloat16"),
    Case(SOFTMAX, "GPT-2", (80, 50257), BOTH),
    Case(LOG_SOFTMAX, "ImageNet", (4096, 1000), BOTH),
    Case(LOG_SOFTMAX, "GPT-2", (80, 50257), BOTH),
    Case(LOGSUMEXP, "ImageNet", (4096, 1000), BOTH),
    Case(LOGSUMEXP, "GPT-2", (80, 50257), BOTH),
    Case(LABELS, "iris", (150, 3), REVERSE),
    Case(LABELS, "digits", (1797, 10), REVERSE),
    Case(LABELS, "MNIST", (60_000, 10), REVERSE),
    Case(LABELS, "ImageNet", (4096, 1000), EVERY),
    Case(LABELS, "BERT", (136, 30522), REVERSE),
    Case(LABELS, "GPT-2", (80, 50257), REVERSE),
    Case(LABELS, "GPT-2", (80, 50257), REVERSE, "bfloat16"),
    Case(LABELS, "Llama 3", (32, 128_256), REVERSE),
    Case(LABELS, "Gemma", (16, 256_000), REVERSE),
    Case(LABELS, "Amazon-670K", (6, 670_091), REVERSE),
    Case(DISTRIBUTIONS, "ImageNet", (4096, 1000), BOTH),
    Case(DISTRIBUTIONS, "GPT-2", (80, 50257), REVERSE),
    Case(DISTRIBUTIONS, "GPT-2", (80, 50257), REVERSE, "bfloat16"),
    Case(LINEAR, "digits", (128, 64, 10), TRAINER),
    Case(LINEAR, "digits", (1797, 64, 10), TRAINER),
    Case(LINEAR, "MNIST", (256, 784, 10), TRAINER),
    Case(LINEAR, "MNIST", (60_000, 784, 10), REVERSE),
    Case(LINEAR, "ImageNet", (256, 2048, 1000), REVERSE),
    Case(LINEAR, "GPT-2", (32, 768, 50257), REVERSE),
    # --- full ---
    *(
        Case(op, source, shape, BOTH, dtype, "full")
        for op in (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, LABELS, DISTRIBUTIONS)
        for source, shape in (
            ("ImageNet", (16_384, 1000)),
            ("ImageNet-21k", (768, 21_841)),
            ("GPT-2", (320, 50_257)),
            ("Llama 3", (128, 128_256)),
            ("Gemma", (64, 256_000)),
            ("Amazon-670K", (25, 670_091)),
        )
        for dtype in ("float32", "bfloat16")
    ),
    Case(SOFTMAX, "GPT-2", (80, 50257), ("hvp", "vmapped"), "float32", "full"),
    Case(LOG_SOFTMAX, "ImageNet", (4096, 1000), ("forward", "hvp", "vmapped"), "float32", "full"),
    Case(LOGSUMEXP, "ImageNet", (4096, 1000), ("forward", "hvp", "vmapped"), "float32", "full"),
    Case(DISTRIBUTIONS, "ImageNet", (4096, 1000), ("forward", "hvp", "vmapped"), "float32", "full"),
    Case(LINEAR, "ImageNet", (4096, 2048, 1000), BOTH, "float32", "full"),
    Case(LINEAR, "GPT-2", (512, 768, 50_257), BOTH, "float32", "full"),
    Case(LINEAR, "Llama 3", (256, 1024, 128_256), REVERSE, "float32", "full"),
)


def _unchosen() -> tuple[Case, ...]:
    """Of an operation that has no case of its own, the head of an image classifier."""
    rest = [op for op in ALL if op not in {case.op for case in CHOSEN}]
    return tuple(Case(op, "ImageNet", (4096, 1000), REVERSE if op.loss else BOTH) for op in rest)


CASES = _unchosen() + CHOSEN


def select(size: Size) -> list[tuple[Case, Mode]]:
    """The cases and their modes; `full` holds `quick`."""
    sizes = ("quick", "full") if size == "full" else ("quick",)
    return [(case, mode) for case in CASES if case.size in sizes for mode in case.modes]
