"""Figures: what they show, read from the axes rather than from pixels."""

import numpy as np
import pytest
from matplotlib.image import imread

from jaxsoftmax.training.report import pictures as report
from jaxsoftmax.training.report.scores import Answers, Majority, judge, score
from jaxsoftmax.training.runs import Record

pytestmark = pytest.mark.once

CONFUSION = np.array([[8, 2, 0], [0, 10, 0], [1, 0, 4]])


def answers(confusion):
    """Rows that were confused in this way."""
    labels, predictions = (
        np.repeat(axis.ravel(), confusion.ravel()) for axis in np.indices(confusion.shape)
    )
    some = np.ones(len(labels))
    return Answers(labels, predictions, some, some, 0 * labels, None)


def test_cells_are_coloured_by_what_they_mean():
    colours = report._cell_colours(CONFUSION)[..., :3]
    red, blue = colours[..., 0], colours[..., 2]
    right, wrong = np.diag(CONFUSION) > 0, [(0, 1), (2, 0)]
    assert np.all((np.diag(blue) > np.diag(red))[right])
    assert all(red[cell] > blue[cell] for cell in wrong)
    assert blue[0, 1] < blue[2, 0]  # two mistakes are darker than one
    assert np.ptp(colours[CONFUSION == 0], axis=0) == pytest.approx(0)
    assert red[1, 1] < red[0, 0]  # full recall is darkest


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("setosa", "versicolor", "virginica")])
def test_confusion_is_drawn(tmp_path, classes):
    report.draw_confusion(tmp_path / "c.png", answers(CONFUSION), classes)
    assert np.ptp(imread(tmp_path / "c.png")) > 0.5


def test_many_classes_are_drawn_without_numbers(tmp_path):
    count = report.READABLE_CLASSES + 1
    names = [str(i) for i in range(count)]
    report.draw_confusion(tmp_path / "c.png", answers(np.eye(count, dtype=np.int64)), names)
    assert np.ptp(imread(tmp_path / "c.png")) > 0.5


def scores(classes=3):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(classes), 50)
    names = tuple(map(str, range(classes)))
    majority = Majority(names, np.full(classes, 1 / classes))
    labels = random.integers(0, classes, 50)
    return score(judge(labels, [probabilities]), names, majority)


@pytest.mark.parametrize("epochs", [1, 40])
@pytest.mark.parametrize("stages", [0, 5])
def test_curves_are_drawn(tmp_path, epochs, stages):
    path = [Record(i, 3, 10.0**-i, 1.0, 0.1, 0.5, 0.5, 0.6, 0.4) for i in range(stages)]
    last = [
        Record(stages, i, 0.01, 1 / i, 0.1, 1 / i, 0.5, 2 / i, 0.4) for i in range(1, epochs + 1)
    ]
    report.draw_curves(tmp_path / "c.png", path + last, scores())
    assert np.ptp(imread(tmp_path / "c.png")) > 0.5


def test_names_in_any_script_are_drawn_without_boxes(tmp_path):
    names = ("猫", "$x^$", "", "Ωμέγα", "a" * 99)
    assert report.readable(names) == ["class 0", "$x^$", "class 2", "Ωμέγα", "a" * 23 + "…"]
    report.draw_confusion(
        tmp_path / "c.png", answers(np.eye(5, dtype=np.int64)), names
    )  # no warning
    many = [*names, *map(str, range(30))]
    wrong = np.arange(35 * 35).reshape(35, 35) % 7
    report.draw_confusion(tmp_path / "p.png", answers(wrong), many)


def test_ink_can_be_read_on_every_shade():
    for shade in np.linspace(0, 1, 50):
        colour = np.array([shade, shade, shade, 1])
        dark = report.ink_on(colour) != "white"
        luminance = ((shade + 0.055) / 1.055) ** 2.4 if shade > 0.04045 else shade / 12.92
        contrast = (luminance + 0.05) / 0.071 if dark else 1.05 / (luminance + 0.05)
        assert contrast > 3.8
