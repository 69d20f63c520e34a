"""The shift of the exponentials, and the main class, as numbers."""

import jax
import mpmath
import numpy as np
import pytest

from jaxsoftmax.ops.row.exponentials import ROOM, log1p, majority, most_room
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log1p_keeps_its_last_bits_below_0_too(dtype: str) -> None:
    """JAX 0.10's own is off by 236 units in float64."""
    with jax.enable_x64(dtype == "float64"):
        x = np.concatenate([np.linspace(-0.999, 3, 4001), np.geomspace(1e-30, 1e15, 99)])
        x = np.concatenate([x, -np.geomspace(1e-30, 0.9, 99)]).astype(dtype)
        values, slopes = (jax.jit(jax.vmap(f))(x) for f in (log1p, jax.grad(log1p)))
        curves = jax.jit(jax.vmap(jax.grad(jax.grad(log1p))))(x)
    exact = np.array([float(mpmath.log1p(mpmath.mpf(float(v)))) for v in x])
    eps, u = np.finfo(dtype).eps, 1 + x.astype(np.float64)
    np.testing.assert_allclose(values, exact, rtol=3 * eps)
    np.testing.assert_allclose(slopes, 1 / u, rtol=8 * eps)
    np.testing.assert_allclose(curves, -1 / u**2, rtol=16 * eps)


@pytest.mark.parametrize("x", [-1.0, np.inf, np.nan])
def test_log1p_at_the_ends_is_that_of_numpy(x: float) -> None:
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        np.testing.assert_equal(float(log1p(np.float64(x))), np.log1p(x))
