"""The configs of this repository keep the promise that their heads make."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import wide
from jaxsoftmax.training import data, load, trainer
from jaxsoftmax.training.config import load_config
from jaxsoftmax.training.config.file import load_sweep
from jaxsoftmax.training.sweep import sweep

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


@pytest.fixture
def embeddings(tmp_path):
    """A folder with the probes' configs and files of features that tell classes more and less."""
    random = np.random.default_rng(0)
    labels = np.arange(240) % 4
    np.save(tmp_path / "labels.npy", labels)
    names = {"features": 0.3, "last1": 3, "last1_mean": 2, "last4": 0.3, "last4_mean": 1}
    for name, noise in names.items():
        centres = random.normal(size=(4, 12))
        features = centres[labels] + noise * random.normal(size=(240, 12))
        np.save(tmp_path / f"{name}.npy", features.astype(np.float32))
    for name in ("probe_clip.toml", "probe_dinov2.toml"):
        shutil.copy(CONFIGS / name, tmp_path)
    return tmp_path


@pytest.mark.once
def test_probe_by_clips_protocol(embeddings):
    config = load_config(embeddings / "probe_clip.toml")
    dataset = data.prepare(config)
    np.testing.assert_allclose(np.linalg.norm(dataset.features, axis=1), 1, rtol=1e-6)
    (embeddings / "run").mkdir()
    summary = trainer.train(config, dataset, embeddings / "run")
    assert summary.test_accuracy > 0.95
    assert summary.status == "converged"


@pytest.mark.default_modes
def test_probe_by_dinov2s_protocol(embeddings):
    config, grid = load_sweep(embeddings / "probe_dinov2.toml", ["solver.batch_size=64"])
    found = sweep(config, grid)
    assert len(found.outcomes) == 13 * 4
    assert Path(found.best.path).name == "last4.npy"
    assert found.best.validation_accuracy == max(o.validation_accuracy for o in found.outcomes)
    assert found.config.solver.learning_rate == found.best.learning_rate


NARROW = ["data.synthetic.rows=256", "data.synthetic.features=64", "data.synthetic.classes=4096"]


@pytest.mark.default_modes
def test_a_million_classes_in_small(tmp_path):
    """Eight devices share the classes, few of which have rows; the whole way to a model."""
    config = load_config(CONFIGS / "wide.toml", [*NARROW, "solver.epochs=3"])
    dataset = data.prepare(config)
    assert (len(dataset.classes), dataset.features.shape) == (4096, (256, 64))
    summary = trainer.train(config, dataset, tmp_path)
    assert summary.test_accuracy > 0.9
    assert load(tmp_path).params.kernel.shape == (64, 4096)
    told = (tmp_path / "confusion.csv").read_text().splitlines()
    assert len(told) < 200  # those that occur, and the header


def test_a_device_holds_its_share_of_the_classes():
    config = load_config(CONFIGS / "wide.toml", NARROW)
    parts = [
        wide.memory(config.model_copy(update={"mesh": mesh}), 64, 256, 1 << 16)
        for mesh in [config.mesh.model_copy(update={"classes": count}) for count in (1, 8)]
    ]
    for one, eight in zip(*parts, strict=True):
        assert eight < one / 7
