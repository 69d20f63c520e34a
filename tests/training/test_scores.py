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
