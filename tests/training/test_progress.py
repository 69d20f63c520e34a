"""The live bar on a terminal, and the plain lines elsewhere."""

from io import StringIO

import pytest
from rich.console import Console

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.report.progress import progress
from jaxsoftmax.training.runs import Record

pytestmark = pytest.mark.once


def shown(epochs, *, terminal):
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=80, soft_wrap=True)
    solver = {"name": "sgd", "epochs": epochs, "learning_rate": 0.1}
    config = RunConfig.model_validate(
        {"data": {"name": "iris"}, "model": {"l2": 0.0}, "solver": solver}
    )
    with progress(config, console) as on_epoch:
        for epoch in range(1, epochs + 1):
            on_epoch(Record(0, epoch, 0.0, 0.5, 0.1, 0.5, 0.25, 0.75, 0.125))
    return text.getvalue()


@pytest.mark.parametrize(
    ("epochs", "lines"), [(3, [1, 2, 3]), (25, [1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 25])]
)
def test_plain_lines_are_few(epochs, lines):
    width = len(str(epochs))
    assert shown(epochs, terminal=False).splitlines() == [
        f"epoch {line:{width}}/{epochs}  train loss 0.5000 accuracy 0.2500  "
        f"validation loss 0.7500 accuracy 0.1250"
        for line in lines
    ]


def test_a_terminal_gets_one_bar():
    text = shown(3, terminal=True)
    assert "3/3" in text
    assert "train 0.5000  validation 0.7500" in text
    assert "━" in text
