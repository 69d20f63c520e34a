"""The page and the card of a run: well-formed, self-contained, and with every number on them."""

import base64
import csv
import html.parser
import json
import math
import re
import sys
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from tensorboardX.proto import event_pb2

from jaxsoftmax.training import data, evaluation, learning, load
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model.units import affine, in_units
from jaxsoftmax.training.report import charts, document, mistakes, paired
from jaxsoftmax.training.report.scores import judge
from tests.commands import command

pytestmark = [pytest.mark.default_modes, pytest.mark.once]

VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page, refuses tags that do not match, and keeps what it refers to and says."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.values, self.images, self.links = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        assert len(known) == len(attributes)
        self.links += [known[name] for name in ("src", "href") if name in known]
        self.values += [known["data-value"]] if "data-value" in known else []
        if tag == "img":
            self.images.append(known)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


NAMES = ["<b>", "a & b", 'say "x"', "class|four"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on a table with awkward names, one with a path of penalties."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    standard = random.normal(size=(240, 3))
    features = standard * [1, 100, 0.01] + [0, 5000, 0]
    labels = (standard @ random.normal(size=(3, 4)) + random.gumbel(size=(240, 4))).argmax(axis=1)
    colours = random.choice(["red", "<i>green</i>"], 240)
    head = 'length,"weight <kg>",tiny,colour,kind\n'
    rows = (
        ",".join([*map(repr, map(float, row)), colour, '"' + NAMES[k].replace('"', '""') + '"'])
        for row, colour, k in zip(features, colours, labels, strict=True)
    )
    (folder / "table.csv").write_text(head + "\n".join(rows) + "\n")
    (folder / "table.toml").write_text('[data]\npath = "table.csv"\nlabel = "kind"\n')
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for name, more in (("first", ()), ("second", ("--set", "model.l2=1.0"))):
            assert command("train", folder / "table.toml", "--out", folder / name, *more) == 0
    return folder / "first", folder / "second"


def test_a_page_is_whole_and_needs_nothing_else(runs):
    for run in runs:
        text = (run / "report.html").read_text()
        page = Page(text)
        assert page.links
        assert all(link.startswith("data:image/") for link in page.links)
        assert not re.search(r"https?://|@import|url\(", text)
        for image in page.images:
            head, _, data = image["src"].partition(",")
            content = base64.b64decode(data, validate=True)
            assert image["alt"]
            if head == "data:image/png;base64":
                assert content.startswith(b"\x89PNG")
            else:
                assert ET.fromstring(content).tag.endswith("svg")  # noqa: S314


def test_names_are_text_wherever_they_stand(runs):
    words = "".join(Page((runs[0] / "report.html").read_text()).words)
    for name in (*NAMES, "weight <kg>", "colour=<i>green</i>"):
        assert name in words
    card = (runs[0] / "MODEL_CARD.md").read_text()
    assert "| class\\|four |" in card


def test_a_page_holds_every_number_of_the_run(runs):
    run = runs[0]
    page = Page((run / "report.html").read_text())
    scores = json.loads((run / "scores.json").read_text())
    words = "".join(page.words)
    for name in ("accuracy", "log_loss", "calibration_error", "balanced_accuracy", "macro_f1"):
        assert document.number(scores[name]) in words
        for bound in scores["intervals"].get(name, ()):
            assert document.number(bound) in words
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    path = [record for record in records if record["stage"] < records[-1]["stage"]]
    assert path
    exact = [
        *(entry[k] for entry in scores["classes"] for k in ("name", "rows", "recall", "f1")),
        *(record[k] for record in path for k in ("l2", "validation_loss", "train_accuracy")),
    ]
    assert {str(value) for value in exact if value is not None} <= set(page.values)
    units = in_units(load(run))
    largest = np.unravel_index(np.abs(load(run).params.kernel).argmax(), units.kernel.shape)
    for value in (*units.bias, units.kernel[largest]):
        assert str(float(value)) in page.values
    summary = json.loads((run / "summary.json").read_text())
    assert {summary["data_sha256"], *summary["versions"].values()} <= set(page.values)


def test_the_card_has_scores_and_baseline(runs):
    card = (runs[0] / "MODEL_CARD.md").read_text()
    scores = json.loads((runs[0] / "scores.json").read_text())
    for value in (scores["accuracy"], scores["log_loss"], scores["baseline"]["accuracy"]):
        assert f"{value:.4f}" in card


def test_mistakes_are_the_surest_wrong_rows(runs):
    model = load(runs[1])
    features = np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32)
    features[:, 3:] = np.eye(2)[np.arange(60) % 2]
    probabilities = model.probabilities(features)
    labels = np.arange(60) % 4
    tested = judge(labels, [probabilities])
    found = mistakes.most_confident(model, features, tested, most=1000)
    assert [m.place for m in found] == sorted(
        np.flatnonzero(probabilities.argmax(axis=1) != labels),
        key=lambda i: (-probabilities[i].max(), i),
    )
    kernel, bias = (np.asarray(part, np.float64) for part in model.params)
    for m in found:
        true, said = model.classes.index(m.true), model.classes.index(m.predicted)
        gap = features[m.place].astype(np.float64) @ (kernel[:, said] - kernel[:, true])
        gap += bias[said] - bias[true]
        assert math.log(m.probability / m.probability_of_true) == pytest.approx(gap, abs=1e-4)
        spoke = features[m.place] * (kernel[:, said] - kernel[:, true])
        largest = np.sort(spoke[spoke > 0])[::-1][: mistakes.REASONS]
        assert [reason.logits for reason in m.reasons] == pytest.approx(largest, rel=1e-6)
        for reason in m.reasons:
            column = model.columns.columns[0]
            if reason.feature == column.name:
                raw = features[m.place, 0].astype(np.float64) * column.scale + column.mean
                assert reason.value == pytest.approx(raw, rel=1e-12)


def test_a_zero_of_the_data_is_told_as_zero(runs):
    """Not as what is left of it after it was standardised in float32."""
    model = load(runs[0])
    mean, scale = affine(model.columns)
    standard = ((0 - mean) / scale).astype(np.float32).astype(np.float64)
    assert (mistakes.in_data(model, standard) == 0).all()
    assert (mistakes.in_data(model, standard + 1e-3) != 0).all()


def test_coefficients_in_units_give_the_same_logits(runs):
    model = load(runs[0])
    units = in_units(model)
    random = np.random.default_rng(2)
    raw = random.normal(size=(7, 3)) * [1, 100, 0.01] + [0, 5000, 0]
    colours = random.choice(["red", "<i>green</i>"], 7)
    table = dict(zip(("length", "weight <kg>", "tiny"), raw.T, strict=True)) | {"colour": colours}
    wide = np.column_stack([raw, colours == "<i>green</i>", colours == "red"])
    logits = wide @ units.kernel + units.bias
    theirs = np.log(model.predict(table).probabilities)
    np.testing.assert_allclose(logits - logits[:, :1], theirs - theirs[:, :1], rtol=2e-4, atol=2e-4)


def test_runs_are_compared_on_one_page(runs, tmp_path, capsys):
    assert command("report", *runs, "--out", tmp_path / "both.html") == 0
    page = Page((tmp_path / "both.html").read_text())
    for run in runs:
        scores = json.loads((run / "scores.json").read_text())
        assert str(scores["accuracy"]) in page.values
        assert str(scores["log_loss"]) in page.values
    assert {"model.l2", '"auto"', "1.0"} <= set(page.values)
    assert command("report", tmp_path) == 2
    assert "holds no finished run" in capsys.readouterr().err


def logged(folder):
    """What TensorBoard finds in a log: {tag: {step: value}}, from the records of its files."""
    (path,) = folder.glob("events.out.tfevents.*")
    content, found = path.read_bytes(), {}
    while content:  # length, its checksum, an event, its checksum
        size = int.from_bytes(content[:8], "little")
        event = event_pb2.Event.FromString(content[12 : 12 + size])
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
        content = content[16 + size :]
    return found


def test_runs_are_logged_for_tensorboard(runs, tmp_path, capsys):
    out = ("--out", tmp_path / "page.html", "--tensorboard", tmp_path / "logs")
    assert command("report", *runs, *out) == 0
    assert f"wrote {tmp_path / 'logs'}" in capsys.readouterr().out
    for run in runs:
        found = logged(tmp_path / "logs" / run.name)
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for tag, name in (("loss/validation", "validation_loss"), ("gradient", "gradient_norm")):
            assert list(found[tag]) == list(range(1, len(records) + 1))
            assert list(found[tag].values()) == pytest.approx([r[name] for r in records])
        test = json.loads((run / "scores.json").read_text())["accuracy"]
        assert found["accuracy/test"] == pytest.approx({len(records): test})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_learning_curve_is_that_of_fits_on_fewer_rows(runs, tmp_path):
    run = runs[1]
    points = learning.learning_curve(run)
    dataset = data.prepare(evaluation.config_of(run))
    train, test = dataset.part("train"), dataset.part("test")
    order = np.random.default_rng(0).permutation(len(train.labels))
    assert [point.rows for point in points] == [21, 42, 84, 168]
    for point in points:
        rows = order[: point.rows]
        peer = LogisticRegression(C=1 / len(order), tol=1e-8, max_iter=1000)  # l2 is 1
        peer.fit(train.features[rows].astype(np.float64), train.labels[rows])
        for part, index, loss, accuracy in (
            (train, rows, point.train_loss, point.train_accuracy),
            (test, slice(None), point.test_loss, point.test_accuracy),
        ):
            features, labels = part.features[index].astype(np.float64), part.labels[index]
            assert loss == pytest.approx(log_loss(labels, peer.predict_proba(features)), rel=1e-4)
            assert accuracy == pytest.approx(peer.score(features, labels))
    summary = json.loads((run / "summary.json").read_text())
    assert points[-1].test_loss == pytest.approx(summary["test_loss"], rel=1e-5)

    page = tmp_path / "page.html"
    assert command("report", *runs, "--learning-curve", "--out", page) == 0
    found = Page(page.read_text())
    assert len(found.images) == 3
    assert {str(value) for point in points for value in point} <= set(found.values)


def test_a_learning_curve_is_for_solvers_that_end(runs, monkeypatch):
    config = evaluation.config_of(runs[1])
    adam = {"name": "adam", "epochs": 1, "learning_rate": 0.1}
    tree = json.loads(config.model_dump_json()) | {"solver": adam}
    other = type(config).model_validate_json(json.dumps(tree))
    monkeypatch.setattr(learning, "config_of", lambda folder: other)
    with pytest.raises(InputError, match="run to an optimum, as newton_cg; this run has adam"):
        learning.learning_curve(runs[1])


def test_coefficients_are_told_with_their_standard_errors(runs, tmp_path, capsys):
    errors, page = tmp_path / "errors.csv", tmp_path / "page.html"
    assert command("report", runs[0], "--standard-errors", errors, "--out", page) == 0
    rows = list(csv.DictReader(errors.read_text().splitlines()))
    units = in_units(load(runs[0]))
    values = np.concatenate([units.kernel, units.bias[np.newaxis]]).T.ravel()
    assert [float(row["coefficient"]) for row in rows] == values.tolist()
    assert all(float(row["standard_error"]) > 0 for row in rows)
    assert command("report", *runs, "--standard-errors", errors, "--out", page) == 2
    assert "for a single run" in capsys.readouterr().err


def test_without_tensorboardx_the_extra_is_named(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert command("report", runs[0], "--tensorboard", tmp_path / "logs") == 2
    assert "pip install 'jaxsoftmax[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_two_runs_are_compared_in_pairs(runs, tmp_path, capsys):
    first, second = (evaluation.evaluate(run) for run in runs)
    found = evaluation.compare(*runs)
    right = [r.answers.predictions == r.answers.labels for r in (first, second)]
    assert found.rows == len(first.answers.labels)
    assert found.first == np.sum(right[0] & ~right[1])
    assert found.second == np.sum(right[1] & ~right[0])
    assert found.loss == pytest.approx(first.scores.log_loss - second.scores.log_loss)
    assert found.interval[0] <= found.loss <= found.interval[1]
    assert command("compare", *runs) == 0
    assert f"p = {found.p_value:.3g}" in capsys.readouterr().out
    table = runs[0].parent / "table.csv"
    assert command("compare", *runs, "--data", table) == 0
    assert "rows     240" in capsys.readouterr().out
    config = runs[0].parent / "table.toml"
    other = ("--set", "data.label=colour", "--set", "model.l2=1.0")
    assert command("train", config, "--out", tmp_path / "other", *other) == 0
    capsys.readouterr()
    assert command("compare", runs[0], tmp_path / "other") == 2
    assert "have different labels" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (3, 9), (20, 20), (400, 520)])
def test_the_sign_test_is_the_binomial_one(first, second):
    want = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert paired.sign_test(first, second) == pytest.approx(want, rel=1e-9)


def test_images_are_known_by_their_neighbours():
    random = np.random.default_rng(0)
    digits = load_digits().data
    assert charts.image_shape(digits) == (8, 8)
    assert charts.image_shape(digits[:, random.permutation(64)]) is None
    factors = random.normal(size=(500, 8)) @ random.normal(size=(8, 64))
    for other in (
        random.normal(size=(500, 64)),
        factors,
        random.normal(size=(500, 1)) + random.normal(size=(500, 64)),
        np.cumsum(random.normal(size=(500, 64)), axis=1),
        np.zeros((500, 64)),
        digits[:, :63],
        digits[:10],
    ):
        assert charts.image_shape(other) is None


def test_a_table_sorts_by_exact_values():
    cells = [("a", 1 / 3, None), ("b", 2.0, 7)]
    page = Page(str(document.table(("name", "x", "n"), cells)))
    assert page.values == ["a", str(1 / 3), "", "b", "2.0", "7"]
    assert [word for word in page.words if word.strip()] == [
        "name", "x", "n", "a", "0.3333", "–", "b", "2", "7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1e-9, "1e-09"), (12345.6, "12,346"), (-0.25, "-0.25")]
)
def test_numbers_are_short(value, shown):
    assert document.number(value) == shown


def test_pictures_are_the_same_each_time():
    right, confidence = np.arange(40) % 2 == 0, np.linspace(0.5, 1, 40)
    drawn = (charts.calibration(right, confidence) for _ in range(2))
    first, second = map(document.svg, drawn)
    assert first == second
