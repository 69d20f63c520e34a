"""A model in other formats says the same as the model, on rows as they come."""

import io
import json

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import safetensors
import safetensors.numpy
from jax import export as jax_export

from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.data.columns import MISSING, Category, Number, Vector
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.export import arrays, export, onnx, pipeline, stablehlo
from jaxsoftmax.training.model import Classifier, save
from jaxsoftmax.training.solvers import Params

NUMBERS = (
    Number(name="far", mean=5000003.25, scale=1.5),
    Number(name="gaps", mean=-2.0, scale=0.01, indicator=True),
    Number(name="plain", mean=0.0, scale=1.0),
)
COLOURS = Category(name="colour", values=(MISSING, "blue", "rød", "1"))
SHAPES = Category(name="shape", values=("round", "square"))
VECTOR = Vector(name="embedding", mean=(0.5, -1.0, 2.0, 0.0), scale=(1.0, 2.0, 0.5, 3.0))
KINDS = {
    "numbers": NUMBERS,
    "vector": (VECTOR,),
    "text": (COLOURS, SHAPES),
    "all": (NUMBERS[1], VECTOR, COLOURS, NUMBERS[0], SHAPES, NUMBERS[2]),
}


def classifier(kind, classes=3, *, unit_length=False, bias=True):
    columns = Columns(columns=KINDS[kind], unit_length=unit_length, missing_values=("", "NA"))
    random = np.random.default_rng(classes)
    width = len(columns.features)
    kernel = random.normal(size=(width, classes)).astype(np.float32)
    offset = random.normal(size=classes).astype(np.float32)
    names = tuple(f"class {i}" for i in range(classes))
    return Classifier(columns, Params(kernel, offset if bias else None), names)


def rows(kind, count=50):
    """Rows with gaps, values that training had not, and numbers where float32 is coarse."""
    random = np.random.default_rng(7)
    table = {}
    for column in KINDS[kind]:
        if isinstance(column, Number):
            x = column.mean + column.scale * random.normal(size=count)
            x = x.astype(np.float32).astype(np.float64)  # as StableHLO's rows have them
            x[random.random(count) < (0.3 if column.indicator else 0.1)] = np.nan
            table[column.name] = x
        elif isinstance(column, Category):
            table[column.name] = random.choice([*column.values[1:], "other", ""], count)
        else:
            table[column.name] = random.normal(size=(count, len(column.mean))).astype(np.float32)
    return table


def answers(model, table):
    given = {name: list(x) if x.ndim == 2 else x for name, x in table.items()}
    return model.predict(given).probabilities


CASES = [
    ("numbers", {}),
    ("vector", {}),
    ("text", {"classes": 2}),
    ("all", {"classes": 7}),
    ("all", {"classes": 2, "bias": False}),
    ("all", {"unit_length": True}),
]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_onnx_says_the_same(kind, options):
    model, table = classifier(kind, **options), rows(kind)
    made = onnx.write(model)
    session = onnxruntime.InferenceSession(made.content, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    columns = json.loads(about["columns"])
    assert json.loads(about["classes"]) == list(model.classes)
    given = {}
    if columns["numbers"]:
        given["numbers"] = np.stack([table[name] for name in columns["numbers"]], axis=1)
    if columns["text"]:
        given["text"] = np.stack([table[name] for name in columns["text"]], axis=1).astype(object)
    for number, name in enumerate(columns["vectors"]):
        given[f"vector_{number}"] = table[name]
    label, probabilities = session.run(["label", "probabilities"], given)
    want = answers(model, table)
    np.testing.assert_allclose(probabilities, want, rtol=0, atol=1e-6)
    assert list(label) == [model.classes[i] for i in want.argmax(axis=1)]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_stablehlo_says_the_same_for_any_number_of_rows(kind, options):
    model, table = classifier(kind, **options), rows(kind)
    exported = jax_export.deserialize(bytearray(stablehlo.write(model).content))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    parts = [table[c.name][:, None] for c in KINDS[kind] if isinstance(c, Number)]
    for column in KINDS[kind]:
        if isinstance(column, Category):
            known = {value: i for i, value in enumerate(column.values)} | {"": 0}
            if MISSING not in column.values:
                known[""] = -1
            codes = [known.get(text, -1) for text in table[column.name]]
            parts.append(np.array(codes)[:, None])
    parts += [table[c.name] for c in KINDS[kind] if isinstance(c, Vector)]
    wide = np.concatenate(parts, axis=1).astype(np.float32)
    want = answers(model, table)
    for count in (1, 13, len(wide)):
        found = np.asarray(exported.call(wide[:count]))
        np.testing.assert_allclose(found, want[:count], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_a_pipeline_says_the_same(kind, options):
    model, table = classifier(kind, **options), rows(kind)
    made = joblib.load(io.BytesIO(pipeline.write(model).content))
    if kind == "vector":
        frame = table["embedding"]
    else:
        columns = {
            name: list(x)
            if x.ndim == 2
            else [text or None for text in x]
            if x.dtype.kind == "U"
            else x
            for name, x in reversed(table.items())
        }
        frame = pd.DataFrame(columns)
    want = answers(model, table)
    np.testing.assert_allclose(made.predict_proba(frame), want, rtol=0, atol=2e-6)
    assert list(made.predict(frame)) == [model.classes[i] for i in want.argmax(axis=1)]


def test_safetensors_have_what_a_feature_means(tmp_path):
    model = classifier("all", unit_length=False)
    content = arrays.write(model).content
    (tmp_path / "m.safetensors").write_bytes(content)
    with safetensors.safe_open(tmp_path / "m.safetensors", "np") as file:
        about = file.metadata()
    names = json.loads(about["features"])
    assert names == list(model.columns.features)
    assert json.loads(about["classes"]) == list(model.classes)
    tensors, table = safetensors.numpy.load(content), rows("all")
    raw = np.zeros((50, len(names)))
    for place, name in enumerate(names):
        if name in table:
            raw[:, place] = table[name]
        elif "=" in name:
            column, _, value = name.partition("=")
            raw[:, place] = np.where(table[column] == "", MISSING, table[column]) == value
        elif name.startswith("embedding["):
            raw[:, place] = table["embedding"][:, int(name[10:-1])]
    features = (raw - tensors["mean"]) / tensors["scale"]
    missing = np.isnan(features)
    features = np.where(missing, 0, features)
    features[:, names.index("gaps is missing")] = missing[:, names.index("gaps")]
    logits = features @ tensors["kernel"] + tensors["bias"]
    want = np.log(answers(model, table))
    np.testing.assert_allclose(logits - logits[:, :1], want - want[:, :1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["stablehlo", "onnx", "sklearn", "safetensors"])
def test_a_run_is_exported_to_a_file(form, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    save(tmp_path / "run", classifier("all"))
    monkeypatch.chdir(tmp_path)
    path, made = export(tmp_path / "run", form)
    assert path.read_bytes() == made.content
    assert path.stem == "run"
    assert made.notes
    path, _ = export(tmp_path / "run", form, tmp_path / "elsewhere")
    assert path == tmp_path / "elsewhere"


def test_what_float32_rows_lose_is_said():
    assert any("'far'" in note for note in stablehlo.write(classifier("numbers")).notes)
    assert not any("'far'" in note for note in stablehlo.write(classifier("text")).notes)


def test_a_program_is_the_same_each_time():
    first, second = (stablehlo.write(classifier("all")).content for _ in range(2))
    assert first == second


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize(
    ("write", "column"),
    [
        (stablehlo.write, lambda scale: Number(name="c", mean=0.0, scale=scale)),
        (stablehlo.write, lambda scale: Vector(name="c", mean=(0.0,), scale=(scale,))),
        (onnx.write, lambda scale: Vector(name="c", mean=(0.0,), scale=(scale,))),
    ],
    ids=["stablehlo number", "stablehlo vector", "onnx vector"],
)
def test_what_float32_cannot_hold_is_refused(write, column, scale):
    params = Params(np.ones((1, 2), np.float32), np.zeros(2, np.float32))
    model = Classifier(Columns(columns=(column(scale),)), params, ("a", "b"))
    with pytest.raises(InputError, match=r"takes column 'c' in float32, which does not hold its "):
        write(model)
