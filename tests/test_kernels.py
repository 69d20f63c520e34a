"""The row kernels by themselves: values, reach, and what threads may change."""

import ctypes
import functools
import itertools
import mmap
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import native
from jaxsoftmax.native.library import NAMES
from jaxsoftmax.ops.row.exponentials import ROOM, shift

Arrays = dict[str, np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        native.library().instructions is None, reason=f"row kernels: {native.library().why_not}"
    ),
]

ARGUMENTS = {
    "softmax": "x",
    "softmax_product": "p v",
    "probabilities_product": "x m scale v",
    "log_softmax": "x",
    "log_softmax_transposed": "x m scale v main rest",
    "mean": "x m scale v",
    "logsumexp": "x",
    "scaled_probabilities": "x m scale b",
    "label_loss": "x y",
    "label_gradient": "x y m label_scale below b",
    "distribution_loss": "x t",
    "distribution_gradient": "x t m scale mass main at_main b",
}
# What comes first is an array of the classes, or one number a row in the dtype of x or in float32;
# then more numbers of the row.
RESULTS = {
    "log_softmax": "class m main any any excess",
    "mean": "float32",
    "logsumexp": "number m any",
    "label_loss": "float32 m label_scale below",
    "distribution_loss": "float32 m scale mass main at_main excess rest",
}


# ------------------------------------------------------------------------------------------------
# Rows in float64
# ------------------------------------------------------------------------------------------------


class Rows:
    """Random rows, hard ones among them, and in float64 all that is to be known of them."""

    def __init__(self, classes: int, half: bool, rows: int = 19) -> None:
        random = np.random.default_rng(classes)
        dtype = jnp.bfloat16 if half else jnp.float32
        size = 10.0 ** random.uniform(-3, 1.7, (rows, 1))
        x = random.normal(size=(rows, classes)) * size
        x += random.choice([0, -50, 40, 3e4], (rows, 1))
        ties = random.random(x.shape) < 0.1
        x = np.where(ties, x.max(1, keepdims=True), x)
        x[2:, 1:][random.random(x[2:, 1:].shape) < 0.1] = -np.inf
        x[0] = 0
        x[1, 1:] = x[1, 0] - 30  # as good as certain
        t = random.dirichlet(np.ones(classes), rows) * (random.random(x.shape) < 0.8)
        floats = {"x": x, "v": random.normal(size=x.shape), "t": t}
        self.given: Arrays = {k: np.asarray(jnp.asarray(a, dtype)) for k, a in floats.items()}
        y = random.integers(-1, classes + 1, (rows, 1))
        b = random.normal(size=(rows, 1)).astype(np.float32)
        b[rows // 2] = 0

        x, v, t = (self.given[name].astype(np.float64) for name in "xvt")
        self.m, number = x.max(1, keepdims=True), np.arange(classes)
        shifted = x - self.m
        top = shifted.argmax(1)[:, None] == number
        self.r = self.sums(np.where(top, 0, np.exp(shifted)))
        self.p = np.exp(shifted) / (1 + self.r)
        self.log_p = shifted - np.log1p(self.r)
        is_label = y == number
        self.valid = np.where((y >= 0) & (y < classes), 1.0, np.nan)
        self.nll = -self.sums(np.where(is_label, self.log_p, 0)) * self.valid
        self.below = self.sums(np.where(is_label, 0, self.p)) * self.valid
        # What stands for the difference of large numbers is a sum of small ones.
        main = top & (self.p > 0.5)
        self.rest = self.sums(np.where(main, 0, self.p))
        self.mass, t_rest = self.sums(t), self.sums(np.where(main, 0, t))
        self.at_main = t_rest - self.mass * self.rest
        self.b, self.v, self.t, self.main, self.is_label = b.astype(float), v, t, main, is_label
        big = np.asarray(shift(jnp.asarray(self.m, jnp.float32), ROOM), np.float64)
        self.scale = np.exp(big - self.m) / (1 + self.r)
        self.label_scale, self.excess = self.scale * self.valid, np.log1p(self.r)
        numbers = {
            "m": self.m,
            "scale": self.scale,
            "label_scale": self.label_scale,
            "below": self.below,
            "rest": self.rest,
            "mass": self.mass,
            "at_main": self.at_main,
            "p": self.p,
        }
        self.given |= {k: a.astype(np.float32) for k, a in numbers.items()} | {"b": b}
        self.given["p"] = np.asarray(jnp.asarray(self.p, dtype))
        has = main.any(1, keepdims=True)
        self.given["main"] = np.where(has, main.argmax(1)[:, None], -1).astype(np.int32)
        self.given["y"] = y.astype(np.int32)

    @staticmethod
    def sums(a: np.ndarray) -> np.ndarray:
        return np.sum(a, 1, keepdims=True)

    # Of each kernel the first result, and the size of the terms that it is a sum of.

    def softmax(self) -> Pair:
        return self.p, self.p

    def softmax_product(self) -> Pair:
        return self.product(self.given["p"].astype(np.float64))

    def probabilities_product(self) -> Pair:
        return self.product(self.p)

    def product(self, q: np.ndarray) -> Pair:
        u = self.v - self.sums(np.where(q > 0.5, self.v, 0))
        return q * (u - self.sums(q * u)), q * (abs(u) + self.sums(q * abs(u)))

    def log_softmax(self) -> Pair:
        return self.log_p, abs(self.log_p)

    def log_softmax_transposed(self) -> Pair:
        v, others = self.v, np.where(self.main, 0, self.v)
        at_main = self.rest * v - (1 - self.rest) * self.sums(others)
        size = np.where(self.main, self.rest * abs(v) + self.sums(abs(others)), abs(v))
        g = np.where(self.main, at_main, v - self.p * self.sums(v))
        return g, size + self.p * self.sums(abs(v))

    def mean(self) -> Pair:
        return self.sums(self.p * self.v), self.sums(self.p * abs(self.v))

    def logsumexp(self) -> Pair:
        return self.m + np.log1p(self.r), abs(self.m) + np.log1p(self.r)

    def scaled_probabilities(self) -> Pair:
        return self.p * self.b, abs(self.p * self.b)

    def label_loss(self) -> Pair:
        return self.nll, self.nll

    def label_gradient(self) -> Pair:
        g = np.where(self.is_label, -self.below, self.p * self.valid) * self.b
        g = np.where(self.b == 0, 0, g)
        return g, abs(g)

    def distribution_loss(self) -> Pair:
        terms = -np.where(self.t == 0, 0, self.t * self.log_p)
        return self.sums(terms), self.sums(terms)

    def distribution_gradient(self) -> Pair:
        g = np.where(self.main, self.at_main, self.mass * self.p - self.t)
        size = np.where(self.main, abs(self.at_main), self.mass * self.p + self.t)
        return g * self.b, size * abs(self.b)


@functools.cache
def rows_of(classes: int, half: bool) -> Rows:
    return Rows(classes, half)


# ------------------------------------------------------------------------------------------------
# A kernel as it stands
# ------------------------------------------------------------------------------------------------


def library() -> Any:
    return ctypes.CDLL(str(native.library().path))


def results(name: str, like: np.ndarray) -> list[np.ndarray]:
    """Room for what comes, filled with what must not stay."""
    kinds = RESULTS.get(name, "class").split()
    shapes = {"class": like.shape}
    dtypes = {"class": like.dtype, "number": like.dtype, "main": np.dtype(np.int32)}
    found = []
    for kind in kinds:
        a = np.empty(shapes.get(kind, (len(like), 1)), dtypes.get(kind, np.dtype(np.float32)))
        a.view(np.uint8)[...] = 0x7B
        found.append(a)
    return found


def run(name: str, given: list[np.ndarray], out: list[np.ndarray], *bounds: int) -> None:
    """The kernel on rows from each bound to the next."""
    half, pair = given[0].itemsize == 2, name.startswith("distribution")
    dtypes = 0 if not half else 2 if pair and given[1].itemsize == 4 else 1
    pointers = [
        (ctypes.c_void_p * size)(*(a.ctypes.data for a in arrays))
        for size, arrays in ((8, given), (8, out))
    ]
    numbers = [ctypes.c_int64(n) for n in (given[0].shape[1], *bounds)]
    for first, last in itertools.pairwise(numbers[1:]):
        library().jaxsoftmax_rows(NAMES.index(name), dtypes, *pointers, numbers[0], first, last)


def arguments(name: str, rows: Rows) -> list[np.ndarray]:
    return [rows.given[key] for key in ARGUMENTS[name].split()]


@pytest.fixture(params=["AVX-512", "AVX2"])
def instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    library().jaxsoftmax_use_avx2(int(request.param == "AVX2"))
    yield
    library().jaxsoftmax_use_avx2(0)


def close(got: np.ndarray, want: np.ndarray, size: Any, limit: float) -> None:
    """Within so many eps of the terms, and the same where it is not a number."""
    eps = 2.0**-7 if got.itemsize == 2 else 2.0**-23
    got, finite = got.astype(np.float64), np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    unit = eps * np.broadcast_to(size, want.shape)[finite] + 2.0**-133
    assert np.max(abs(got[finite] - want[finite]) / unit, initial=0) <= limit


# ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_float64_at_every_length(name: str, half: bool) -> None:
    for classes in (*range(2, 131), 255, 256, 257, 511, 512, 513, 1000):
        rows = rows_of(classes, half)
        given = arguments(name, rows)
        out = results(name, given[0])
        run(name, given, out, 0, len(given[0]))
        with np.errstate(invalid="ignore"):
            want, size = getattr(rows, name)()
        # Half types are rounded once; what is summed in float32, or comes of rounded numbers, is
        # off by a few units.
        close(out[0], want, size, 0.52 if out[0].itemsize == 2 else 8)
        for kind, number in zip(RESULTS.get(name, "class").split()[1:], out[1:], strict=True):
            if kind == "main":
                np.testing.assert_array_equal(number, rows.given["main"])
            elif kind == "at_main":  # which is for rows that have one
                has = rows.main.any(1)
                close(number[has], rows.at_main[has], abs(rows.at_main[has]) + rows.mass[has], 8)
            elif kind != "any":
                close(number, getattr(rows, kind), abs(getattr(rows, kind)), 8)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_same_bits_wherever_the_rows_are_parted(name: str) -> None:
    """So that the number of threads changes nothing."""
    for classes in (10, 24, 25, 100, 511, 600):
        given = arguments(name, rows_of(classes, half=False))
        whole, parted = results(name, given[0]), results(name, given[0])
        run(name, given, whole, 0, 19)
        run(name, given, parted, 0, 1, 3, 16, 19)
        for a, b in zip(whole, parted, strict=True):
            np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))


# ------------------------------------------------------------------------------------------------
# Reach
# ------------------------------------------------------------------------------------------------


def between_guards(like: np.ndarray, *, at_end: bool) -> np.ndarray:
    """An array that begins or ends where a page ends, between pages that may not be touched."""
    page = mmap.PAGESIZE
    pages = -(-like.nbytes // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (start, start + (pages + 1) * page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page + at_end * (pages * page - like.nbytes)
    found = np.frombuffer(memory, np.uint8, like.nbytes, offset).view(like.dtype)
    _KEPT.append(memory)
    found = found.reshape(like.shape)
    found[...] = like
    return found


_KEPT: list[mmap.mmap] = []


def touch_what_may_be_touched() -> None:
    """All kernels on arrays between guard pages; the process ends at the first false step."""
    for classes in (2, 3, 16, 17, 24, 25, 31, 33, 100, 257, 513):
        for half in (False, True):
            for name in NAMES:
                for at_end in (False, True):
                    place = functools.partial(between_guards, at_end=at_end)
                    given = list(map(place, arguments(name, rows_of(classes, half))))
                    run(name, given, list(map(place, results(name, given[0]))), 0, 19)


def test_kernels_stay_within_their_rows() -> None:
    program = (
        "from tests.test_kernels import touch_what_may_be_touched as run; run(); print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
