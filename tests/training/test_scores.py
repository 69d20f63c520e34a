"""Metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from jaxsoftmax.training.report import scores as metrics


@pytest.fixture(scope="module")
def answers():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.ones(4), 300)
    labels = generator.integers(0, 3, 300)  # class 3 is never right, and is predicted
    return labels, probabilities, probabilities.argmax(axis=1)


def test_accuracy_and_confusion(answers):
    labels, _, predictions = answers
    confusion = metrics.confusion_matrix(labels, predictions, 4)
    assert np.array_equal(confusion, reference.confusion_matrix(labels, predictions))
    assert metrics.accuracy(labels, predictions) == reference.accuracy_score(labels, predictions)


def test_of_very_many_classes_those_that_occur_are_told(answers):
    """As if the four of them were all, but for their numbers."""
    labels, probabilities, _ = answers
    place = np.array([7, 10_000, 10_001, 90_000])
    wide = np.zeros((300, 100_000), np.float32)
    wide[:, place] = probabilities

    class Model:
        classes = tuple(map(str, range(100_000)))

        def probabilities(self, _):
            return wide

    few = metrics.Majority(("7", "10000", "10001", "90000"), np.array([0.2, 0.5, 0.2, 0.1]))
    shares = np.zeros(100_000)
    shares[place] = few.shares
    majority = metrics.Majority(Model.classes, shares)
    found = metrics.examine(Model(), None, place[labels], majority)
    expected = metrics.score(labels, probabilities.astype(np.float32), few.classes, few)
    assert found.scores.classes == expected.classes
    assert found.confusion.tolist() == reference.confusion_matrix(labels, answers[2]).tolist()
    for name in ("log_loss", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error"):
        assert getattr(found.scores, name) == pytest.approx(getattr(expected, name), rel=1e-9)


def test_negative_log_likelihood(answers):
    labels, probabilities, _ = answers
    expected = reference.log_loss(labels, probabilities, labels=range(4))
    assert metrics.negative_log_likelihood(labels, probabilities) == pytest.approx(
        expected, rel=1e-12
    )


def test_reliability_and_calibration_error(answers):
    labels, probabilities, predictions = answers
    diagram = metrics.reliability(labels, probabilities, bins=10)
    accuracy, confidence = calibration_curve(
        labels == predictions, probabilities.max(axis=1), n_bins=10
    )
    filled = diagram.rows > 0
    assert diagram.rows.sum() == 300
    assert diagram.accuracy[filled] == pytest.approx(accuracy, rel=1e-12)
    assert diagram.confidence[filled] == pytest.approx(confidence, rel=1e-12)
    expected = np.average(np.abs(accuracy - confidence), weights=diagram.rows[filled])
    error = metrics.expected_calibration_error(labels, probabilities, bins=10)
    assert error == pytest.approx(expected, rel=1e-12)


def test_full_confidence_falls_in_the_last_bin():
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert metrics.reliability(np.array([0, 0]), certain, bins=5).rows.tolist() == [0, 0, 0, 0, 2]
    assert metrics.expected_calibration_error(np.array([0, 0]), certain) == 0.5


def test_all_scores(answers):
    labels, probabilities, predictions = answers
    names = ("a", "b", "c", "d")
    majority = metrics.Majority(names, np.array([0.2, 0.5, 0.2, 0.1]))
    found = metrics.score(labels, probabilities, names, majority)
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


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    names, majority = ("a", "b"), metrics.Majority(("a", "b"), np.array([0.5, 0.5]))
    hits = 0
    for seed in range(60):
        labels = random.integers(0, 2, 200)
        right = random.random(200) < 0.8
        mine = np.where(right, 0.9, 0.1)
        both = np.stack([np.where(labels == 0, mine, 1 - mine)] * 2, axis=1)
        both[:, 1] = 1 - both[:, 0]
        low, high = metrics.score(labels, both, names, majority, seed).intervals["accuracy"]
        hits += low <= 0.8 <= high
    assert 50 <= hits < 60


def test_ties_and_top_five():
    labels = np.arange(8) % 2 == 0
    assert metrics.area_under_roc(labels, np.zeros(8)) == 0.5
    probabilities = np.full((7, 7), 0.1) + np.eye(7) * 0.3
    probabilities[0] = [0.0, *np.linspace(0.1, 0.2, 6)]
    majority = metrics.Majority(tuple("abcdefg"), np.full(7, 1 / 7))
    found = metrics.score(np.arange(7), probabilities, tuple("abcdefg"), majority)
    assert found.top_5_accuracy == pytest.approx(6 / 7)
