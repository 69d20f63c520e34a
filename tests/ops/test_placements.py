"""On meshes with explicit axes each argument may lie as it likes: what it goes with is moved.

The logits stay where they are; labels, targets, masks and weights come to them, and the gradient in
each argument lies where the argument does.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxsoftmax import (
    cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_jacobian,
)
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of, placed

N, C, D = 4, 24, 4
RNG = np.random.default_rng(5)
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.1, "logit_softcap": 5.0}
labels_loss = softmax_cross_entropy_with_integer_labels

X = RNG.normal(size=(N, C)).astype(np.float32)
T = RNG.dirichlet(np.ones(C), N).astype(np.float32)
Y = RNG.integers(0, C, N).astype(np.int32)
ROWS = np.array([True, False, True, True])
M = RNG.random((N, C)) < 0.7
M[np.arange(N), Y] = True
W = RNG.uniform(0.5, 2, C).astype(np.float32)
B = RNG.uniform(0.5, 2, (N, C)).astype(np.float32)
X3, M3 = X.reshape(N, -1, D), M.reshape(N, -1, D)
T3 = T.reshape(N, -1, D)

CASES: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "softmax": (softmax, (X,)),
    "softmax, where": (lambda x, m: softmax(x, where=m), (X, M)),
    "softmax, tuple": (lambda x: softmax(x, axis=(1, 2)), (X3,)),
    "softmax_jacobian": (softmax_jacobian, (X,)),
    "softmax_jacobian, tuple": (lambda x: softmax_jacobian(x, axis=(2, 1)), (X3,)),
    "log_softmax": (log_softmax, (X,)),
    "log_softmax, where": (lambda x, m: jnp.maximum(log_softmax(x, where=m), -30.0), (X, M)),
    "logsumexp": (lambda x: logsumexp(x, -1), (X,)),
    "logsumexp, all": (logsumexp, (X,)),
    "logsumexp, where": (lambda x, m: logsumexp(x, -1, where=m, keepdims=True), (X, M)),
    "logsumexp, b": (lambda x, b: logsumexp(x, -1, b=b), (X, B)),
    "logsumexp, one b for all": (lambda x, b: logsumexp(x, -1, b=b), (X, W[None])),
    "labels": (labels_loss, (X, Y)),
    "labels, options": (lambda x, y: labels_loss(x, y, ignore_index=3, **OPTIONS), (X, Y)),
    "labels, where": (lambda x, y, m: labels_loss(x, y, where=m), (X, Y, M)),
    "labels, rows": (lambda x, y, m: labels_loss(x, y, where=m), (X, Y, ROWS)),
    "labels, weights": (lambda x, y, w: labels_loss(x, y, class_weights=w), (X, Y, W)),
    "labels, tuple": (lambda x, y: labels_loss(x, y, axis=(1, 2)), (X3, Y)),
    "labels, middle axis": (
        lambda x, y: labels_loss(x, y, axis=1),
        (X3, RNG.integers(0, C // D, (N, D)).astype(np.int32)),
    ),
    "distributions": (softmax_cross_entropy, (X, T)),
    "distributions, where": (lambda x, t, m: softmax_cross_entropy(x, t, where=m), (X, T, M)),
    "distributions, rows": (lambda x, t, m: softmax_cross_entropy(x, t, where=m), (X, T, ROWS)),
    "distributions, options": (
        lambda x, t, w: softmax_cross_entropy(x, t, class_weights=w, **OPTIONS),
        (X, T, W),
    ),
    "distributions, tuple": (
        lambda x, t, w, m: softmax_cross_entropy(x, t, (1, 2), class_weights=w, where=m),
        (X3, T3, W, M3),
    ),
    "probabilities": (cross_entropy, (T + 0.1, T)),
    "probabilities, where": (lambda q, t, m: cross_entropy(q, t, where=m), (T + 0.1, T, M)),
    "probabilities of labels": (cross_entropy, (T + 0.1, Y)),
}


def placements(array: np.ndarray) -> list[P]:
    """Every way to spread an array over the mesh."""
    ways = itertools.product((None, "a", "b", ("a", "b")), repeat=array.ndim)

    def is_legal(way: tuple[Any, ...]) -> bool:
        names = [name for entry in way if entry is not None for name in entry]
        sizes = [2 * len(entry) if entry else 1 for entry in way]
        fits = all(n % size == 0 for n, size in zip(array.shape, sizes, strict=True))
        return fits and len(set(names)) == len(names)

    return [P(*way) for way in ways if is_legal(way)]


@pytest.mark.parametrize("case", CASES)
def test_any_placement_of_each_argument(case: str, fuzz: int) -> None:
    """Half of `--fuzz` at random; all are typed, and the last is run."""
    f, arrays = CASES[case]
    floats = tuple(i for i, a in enumerate(arrays) if a.dtype == np.float32)

    def value_and_gradients(*given: Any) -> Any:
        value, back = jax.vjp(
            lambda *moving: f(*_with(given, floats, moving)), *(given[i] for i in floats)
        )
        return value, back(value)

    mesh = mesh_of(AxisType.Explicit, a=2, b=2)
    random = np.random.default_rng(len(case))
    with jax.set_mesh(mesh):
        for _ in range(max(1, fuzz // 2)):
            ways = [placements(array) for array in arrays]
            specs = tuple(way[random.integers(len(way))] for way in ways)
            given = placed(mesh, specs, arrays)
            _, bars = jax.eval_shape(value_and_gradients, *given)
            for bar, i in zip(bars, floats, strict=True):
                assert tuple(bar.sharding.spec) == tuple(specs[i])
        ours = quick_jit(value_and_gradients)(*given)
    assert_close(ours, quick_jit(value_and_gradients)(*arrays))


def _with(given: tuple[Any, ...], places: tuple[int, ...], values: tuple[Any, ...]) -> list[Any]:
    moved = dict(zip(places, values, strict=True))
    return [moved.get(i, value) for i, value in enumerate(given)]
