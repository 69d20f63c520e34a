"""Models on disk: what is written comes back, and damage is noticed."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.data.columns import Category, Number
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import Classifier, files
from jaxsoftmax.training.solvers import Params


def model(bias=True):
    return Classifier(
        Columns(
            columns=(
                Number(name="width", mean=1 / 3, scale=1e-300),
                Category(name="colour", values=("blue",)),
            )
        ),
        Params(jnp.array([[0.1, -2.0], [3e-8, 4.0]]), jnp.array([5.0, 0.3]) if bias else None),
        ("yes", "no"),
    )


def complaint(folder):
    with pytest.raises(InputError) as failure:
        files.load(folder)
    return str(failure.value).replace(f"{folder}", "RUN")


@pytest.mark.parametrize("bias", [True, False])
def test_round_trip_is_exact(tmp_path, bias):
    saved = model(bias)
    files.save(tmp_path, saved)
    loaded = files.load(tmp_path)
    assert np.array_equal(loaded.params.kernel, saved.params.kernel)
    assert loaded.params.kernel.dtype == jnp.float32
    if bias:
        assert np.array_equal(loaded.params.bias, saved.params.bias)
    else:
        assert loaded.params.bias is None
    assert (loaded.classes, loaded.columns) == (saved.classes, saved.columns)


def test_the_card_names_the_versions(tmp_path):
    files.save(tmp_path, model())
    card = json.loads((tmp_path / "model.json").read_text())
    assert {"jaxsoftmax", "jax", "jaxlib", "optax", "numpy"} <= set(card["versions"])


def test_every_flipped_byte_of_the_arrays_is_noticed(tmp_path):
    files.save(tmp_path, model())
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert complaint(tmp_path) == (
            "RUN/model.safetensors: is damaged, or model.json is: "
            "their SHA-256 is not the one that model.json records"
        )


def test_every_flipped_byte_of_the_card_is_noticed_or_changes_nothing(tmp_path):
    files.save(tmp_path, model())
    path = tmp_path / "model.json"
    content, whole = path.read_bytes(), files.load(tmp_path)
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found = files.load(tmp_path)
        except InputError:
            continue
        assert (found.classes, found.columns) == (whole.classes, whole.columns)


def test_missing_and_damaged_files(tmp_path):
    files.save(tmp_path, model())
    arrays, card = tmp_path / "model.safetensors", tmp_path / "model.json"
    content = json.loads(card.read_text())

    other = files.ModelCard.model_validate_json(card.read_bytes())
    other = other.model_copy(update={"classes": ("yes", "no", "maybe")})
    card.write_text(other.model_dump_json())
    assert complaint(tmp_path).endswith("their SHA-256 is not the one that model.json records")
    digest = other.digest(arrays.read_bytes())
    card.write_text(other.model_copy(update={"sha256": digest}).model_dump_json())
    assert complaint(tmp_path) == "RUN: model.safetensors and model.json do not belong together"
    card.write_text(json.dumps(content | {"format": "jaxsoftmax-linear-4"}))
    assert complaint(tmp_path) == (
        "RUN/model.json: is damaged: format Input should be 'jaxsoftmax-linear-3'"
    )
    card.write_text("{")
    assert complaint(tmp_path).startswith("RUN/model.json: is damaged:")
    card.write_text(json.dumps(content))
    arrays.unlink()
    assert complaint(tmp_path) == "RUN/model.safetensors: there is no such file"
    card.unlink()
    assert complaint(tmp_path) == (
        "RUN/model.json: there is no such file; the folder holds no finished run"
    )
