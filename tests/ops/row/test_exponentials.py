"""The shift of the exponentials, and the main class, as numbers."""

import jax
import numpy as np
import pytest

from jaxsoftmax.ops.row.exponentials import ROOM, majority, most_room
from jaxsoftmax.ops.row.exponentials import shift as shift_of

RNG = np.random.default_rng(5)
FLOAT32 = np.finfo(np.float32)


def shift(largest: np.ndarray, room: float) -> np.ndarray:
    return np.asarray(jax.jit(shift_of, static_argnums=1)(largest, room))


@pytest.mark.parametrize("room", [60.0, 80.0])
@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1e4, 1e6])
def test_x_minus_shift_is_exact_up_to_the_room(scale: float, room: float) -> None:
    size = RNG.exponential(scale, 2000)
    largest = np.concatenate([-size, np.minimum(size, room)]).astype(np.float32)[:, None]
    x = (largest - RNG.exponential(30, (4000, 50))).astype(np.float32)
    m = shift(largest, room)
    exact = x.astype(np.float64) - m
    np.testing.assert_array_equal(x - m, exact)
    assert np.all(np.abs(largest - m) <= room)


@pytest.mark.parametrize("classes", [2, 1000, 10**6])
def test_no_row_overflows_however_large_its_logits(classes: int) -> None:
    largest = np.geomspace(1, 3e38, 100_000).astype(np.float32)
    room = most_room(np.float32, classes)
    assert room > 60
    for value in (ROOM, room):
        total = classes * np.exp(np.float64(largest) - shift(largest, value))
        assert np.all(total <= 1 / FLOAT32.tiny)


@pytest.mark.parametrize("largest", [np.inf, -np.inf, np.nan])
def test_shift_of_an_infinite_maximum_is_infinite(largest: float) -> None:
    np.testing.assert_equal(shift(np.float32([largest]), ROOM), np.float32([largest]))


def test_majority_is_more_than_half() -> None:
    above, below = (np.nextafter(np.float32(0.5), np.float32(limit)) for limit in (1, 0))
    p = np.float32([0, 1e-30, below, 0.5, above, 0.75, 1])
    expected = np.float32([0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(jax.jit(majority)(p), expected)
