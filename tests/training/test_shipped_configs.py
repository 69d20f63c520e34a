"""The configs of this repository keep the promise that their heads make."""

import re
from pathlib import Path

import pytest

from jaxsoftmax.training import data, trainer
from jaxsoftmax.training.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.default_modes  # optax promotes types inside its schedules
@pytest.mark.parametrize(("name", "floor"), [("digits", 0.96), ("iris", 0.93), ("mnist5k", 0.89)])
def test_accuracy_on_the_test_rows(name, floor, tmp_path):
    path = CONFIGS / f"{name}.toml"
    promised, rows = re.search(
        r"^# Accuracy +([01]\.\d+) on the ([\d,]+)", path.read_text(), re.MULTILINE
    ).groups()
    config = load_config(path)
    summary = trainer.train(config, data.prepare(config), tmp_path)
    assert summary.test_rows == int(rows.replace(",", ""))
    assert summary.test_accuracy >= floor
    assert summary.test_accuracy == pytest.approx(float(promised), abs=2 / summary.test_rows)
