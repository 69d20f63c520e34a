"""Figures: what they show, read from the axes rather than from pixels."""

import numpy as np
import pytest
from matplotlib.image import imread

from jaxsoftmax.training.report import pictures as report
from jaxsoftmax.training.runs import Record

CONFUSION = np.array([[8, 2, 0], [0, 10, 0], [1, 0, 4]])


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
    report.draw_confusion(tmp_path / "c.png", CONFUSION, classes)
    assert np.ptp(imread(tmp_path / "c.png")) > 0.5


def test_many_classes_are_drawn_without_numbers(tmp_path):
    count = report.READABLE_CLASSES + 1
    names = [str(i) for i in range(count)]
    report.draw_confusion(tmp_path / "c.png", np.eye(count, dtype=np.int64), names)
    assert np.ptp(imread(tmp_path / "c.png")) > 0.5


@pytest.mark.parametrize("epochs", [1, 40])
def test_curves_are_drawn(tmp_path, epochs):
    records = [Record(0, i, 0.0, 1 / i, 0.1, 1 / i, 0.5, 2 / i, 0.4) for i in range(1, epochs + 1)]
    report.draw_curves(tmp_path / "c.png", records, 0.3, 0.6)
    assert np.ptp(imread(tmp_path / "c.png")) > 0.5
