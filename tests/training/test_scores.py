"""Metrics against scikit-learn."""

import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from jaxsoftmax.training.report import scores as metrics

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def answers():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.ones(4), 300)
    labels = generator.integers(0, 3, 300)  # class 3 is never right, and is predicted
    return labels, probabilities, probabilities.argmax(axis=1)


def test_confusion(answers):
    labels, _, predictions = answers
    expected = reference.confusion_matrix(labels, predictions)
    assert np.array_equal(metrics.confusion_matrix(labels, predictions, 4), expected)
    pairs = metrics.confused_pairs(labels, predictions)
    assert [count for *_, count in pairs] == sorted(expected[expected > 0], reverse=True)
    assert {(i, j): n for i, j, n in pairs} == {
        (i, j): n for (i, j), n in np.ndenumerate(expected) if n
    }


@pytest.mark.parametrize("block", [1, 7, 300, 1000])
def test_answers_are_those_of_all_rows_whatever_the_blocks(answers, block, monkeypatch):
    labels, probabilities, predictions = answers
    blocks = [probabilities[i : i + block] for i in range(0, 300, block)]
    found = metrics.judge(labels, blocks)
    assert np.array_equal(found.predictions, predictions)
    assert np.array_equal(found.confidence, probabilities.max(axis=1))
    assert np.array_equal(found.probabilities, probabilities)
    expected = reference.log_loss(labels, probabilities, labels=range(4))
    assert found.losses.mean() == pytest.approx(expected, rel=1e-12)
    for k in (1, 2, 3):
        expected = reference.top_k_accuracy_score(labels, probabilities, k=k, labels=range(4))
        assert found.top_accuracy(k) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(metrics, "HELD", 300 * 4 - 1)
    unheld = metrics.judge(labels, iter(blocks))
    assert unheld.probabilities is None
    names, majority = tuple("abcd"), metrics.Majority(tuple("abcd"), np.full(4, 0.25))
    a, b = (metrics.score(each, names, majority) for each in (found, unheld))
    assert b.roc_auc is None
    assert a.model_copy(update={"roc_auc": None}) == b


def test_confusion_of_very_many_classes_is_written_as_pairs(answers, monkeypatch, tmp_path):
    labels, probabilities, predictions = answers
    monkeypatch.setattr(metrics, "MOST_CLASSES", 3)
    names, majority = tuple("abcd"), metrics.Majority(tuple("abcd"), np.full(4, 0.25))
    found = metrics.judge(labels, [probabilities])
    metrics.write(
        tmp_path, metrics.Examination(metrics.score(found, names, majority), found, names)
    )
    lines = [line.split(",") for line in (tmp_path / "confusion.csv").read_text().splitlines()]
    assert lines[0] == ["true", "predicted", "rows"]
    matrix = np.zeros((4, 4), int)
    for true, said, rows in lines[1:]:
        matrix[names.index(true), names.index(said)] = int(rows)
    assert np.array_equal(matrix, reference.confusion_matrix(labels, predictions))


def test_reliability_and_calibration_error(answers):
    labels, probabilities, predictions = answers
    right, sure = labels == predictions, probabilities.max(axis=1)
    diagram = metrics.reliability(right, sure, bins=10)
    accuracy, confidence = calibration_curve(
        labels == predictions, probabilities.max(axis=1), n_bins=10
    )
    filled = diagram.rows > 0
    assert diagram.rows.sum() == 300
    assert diagram.accuracy[filled] == pytest.approx(accuracy, rel=1e-12)
    assert diagram.confidence[filled] == pytest.approx(confidence, rel=1e-12)
    expected = np.average(np.abs(accuracy - confidence), weights=diagram.rows[filled])
    error = metrics.expected_calibration_error(right, sure, bins=10)
    assert error == pytest.approx(expected, rel=1e-12)


def test_full_confidence_falls_in_the_last_bin():
    right, certain = np.array([True, False]), np.ones(2)
    assert metrics.reliability(right, certain, bins=5).rows.tolist() == [0, 0, 0, 0, 2]
    assert metrics.expected_calibration_error(right, certain) == 0.5


def test_all_scores(answers):
    labels, probabilities, predictions = answers
    names = ("a", "b", "c", "d")
    majority = metrics.Majority(names, np.array([0.2, 0.5, 0.2, 0.1]))
    found = metrics.score(metrics.judge(labels, [probabilities]), names, majority)
    areas = [reference.roc_auc_score(labels == i, probabilities[:, i]) for i in range(3)]
    assert found.roc_auc == pytest.approx(np.mean(areas), rel=1e-12)
    assert found.balanced_accuracy == pytest.approx(
        reference.recall_score(labels, predictions, average="macro", labels=[0, 1, 2]), rel=1e-12
    )
    assert found.macro_f1 == pytest.approx(
        reference.f1_score(labels, predictions, average="macro"), rel=1e-12
    )
    assert found.top_5_accuracy is None
    assert found.baseline.label == "b"
    assert found.baseline.accuracy == np.mean(labels == 1)
    assert found.baseline.log_loss == pytest.approx(-np.log(majority.shares)[labels].mean())
    precision, recall, f1, rows = reference.precision_recall_fscore_support(
        labels, predictions, labels=range(4), zero_division=np.nan
    )
    for i, entry in enumerate(found.classes[:3]):
        assert (entry.precision, entry.recall, entry.f1, entry.rows) == pytest.approx(
            (precision[i], recall[i], f1[i], rows[i])
        )
    assert (found.classes[3].recall, found.classes[3].rows) == (None, 0)


@pytest.mark.parametrize(
    ("right", "rows"), [(0, 1), (1, 1), (45, 45), (0, 45), (7, 9), (150, 200), (10**6 - 1, 10**6)]
)
def test_wilsons_interval_ends_where_the_share_is_just_believable(right, rows):
    # (seen - p)² = z² p (1 - p) / rows: p lies z of its own standard errors from what was seen.
    z = norm.ppf(0.975)
    seen = right / rows
    share = z * z / rows
    low, high = np.sort(np.roots([1 + share, -2 * seen - share, seen * seen]))
    assert metrics.wilson(seen, rows) == pytest.approx((low, high), rel=1e-9, abs=1e-12)
    assert low < high


def test_a_score_of_every_row_right_has_an_interval():
    labels = np.arange(40) % 8
    majority = metrics.Majority(tuple("abcdefgh"), np.full(8, 1 / 8))
    found = metrics.score(metrics.judge(labels, [np.eye(8)[labels]]), tuple("abcdefgh"), majority)
    for name in ("accuracy", "top_5_accuracy"):
        assert found.intervals[name] == pytest.approx((0.9124, 1.0), abs=5e-5)


@pytest.mark.parametrize(("rows", "truth"), [(20, 0.7), (45, 0.9), (200, 0.8), (1000, 0.99)])
def test_wilsons_interval_holds_the_truth_as_often_as_it_says(rows, truth):
    count = np.arange(rows + 1)
    bounds = np.array([metrics.wilson(k / rows, rows) for k in count])
    holds = (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
    assert 0.93 < np.sum(binom.pmf(count, rows, truth)[holds]) < 0.98


def test_resampled_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_DRAWS", 200 * 200)
    random = np.random.default_rng(0)
    names, majority = ("a", "b"), metrics.Majority(("a", "b"), np.array([0.5, 0.5]))
    truth = -0.8 * np.log(0.9) - 0.2 * np.log(0.1)
    hits = 0
    for seed in range(60):
        labels = random.integers(0, 2, 200)
        mine = np.where(random.random(200) < 0.8, 0.9, 0.1)
        first = np.where(labels == 0, mine, 1 - mine)
        answers = metrics.judge(labels, [np.stack([first, 1 - first], axis=1)])
        low, high = metrics.score(answers, names, majority, seed).intervals["log_loss"]
        hits += low <= truth <= high
    assert 50 <= hits < 60


def test_ties_and_top_five():
    labels = np.arange(8) % 2 == 0
    assert metrics.area_under_roc(labels, np.zeros(8)) == 0.5
    probabilities = np.full((7, 7), 0.1) + np.eye(7) * 0.3
    probabilities[0] = [0.0, *np.linspace(0.1, 0.2, 6)]
    majority = metrics.Majority(tuple("abcdefg"), np.full(7, 1 / 7))
    found = metrics.score(metrics.judge(np.arange(7), [probabilities]), tuple("abcdefg"), majority)
    assert found.top_5_accuracy == pytest.approx(6 / 7)


def test_of_very_many_classes_those_that_occur_are_told(answers):
    """As if the four of them were all, but for their numbers."""
    labels, probabilities, _ = answers
    place = np.array([7, 10_000, 10_001, 90_000])
    names = tuple(map(str, range(100_000)))
    wide, shares = np.zeros((300, 100_000), np.float32), np.zeros(100_000)
    wide[:, place], shares[place] = probabilities, 0.25
    few = metrics.Majority(tuple(map(str, place)), np.full(4, 0.25))
    expected = metrics.score(
        metrics.judge(labels, [probabilities.astype(np.float32)]), few.classes, few
    )
    found = metrics.score(
        metrics.judge(place[labels], [wide]), names, metrics.Majority(names, shares)
    )
    assert found.classes == expected.classes
    for name in ("log_loss", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)
