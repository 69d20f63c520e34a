"""JAX's debug modes have nothing to say about legal input: op by op, compiled, by checkify.

Value and gradient of every op, of rows that are short and of rows that are summed in two levels:
with impossible classes, masks, zeros in weights and targets, ignored rows and tiles.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import jaxsoftmax
from jaxsoftmax import (
    cross_entropy,
    linear_log_softmax,
    linear_softmax_cross_entropy,
    linear_softmax_js_divergence,
    linear_softmax_kl_divergence,
    linear_softmax_row_loss,
    linear_softmax_stats,
    linear_top_k,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    softmax_entropy,
    softmax_jacobian,
    sparsemax,
    sparsemax_loss,
)
from jaxsoftmax.testing.rules.compile import jit as quick_jit

labels_loss, targets_loss = softmax_cross_entropy_with_integer_labels, softmax_cross_entropy
linear_loss = linear_softmax_cross_entropy
Forms = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.1}
CAP: dict[str, Any] = {**OPTIONS, "logit_softcap": 4.0}
SHORT, LONG = 6, 70
N = 3


class Given:
    """Rows of `classes` classes, of which `gone` is impossible or counts for nothing."""

    def __init__(self, classes: int) -> None:
        random = np.random.default_rng(classes)

        def normal(*shape: int) -> Any:
            return random.normal(0, 3, shape).astype(np.float32)

        self.x = normal(N, classes)
        self.y = random.integers(0, classes, N).astype(np.int32)
        gone = next(j for j in range(classes) if j not in self.y)
        self.t = random.dirichlet(np.ones(classes), N).astype(np.float32)
        self.w = random.uniform(0.5, 2, classes).astype(np.float32)
        self.b = random.uniform(0.5, 2, (N, classes)).astype(np.float32)
        self.impossible, self.bias = self.x.copy(), np.zeros(classes, np.float32)
        self.impossible[:, gone] = self.bias[gone] = -np.inf
        self.t[:, gone] = self.w[gone] = self.b[:, gone] = 0
        self.mask = random.random((N, classes)) < 0.7
        self.mask[np.arange(N), self.y] = True
        self.mask[-1] = False
        self.rows = np.array([True, False, True])
        self.F, self.W, self.B = normal(N, 2), normal(2, classes), normal(classes)
        self.ignored = np.where(self.rows, self.y, -1)
        self.budget = 4 * 64 if classes > SHORT else None  # tiles


def surprise(stats: Any, _: Any) -> Any:
    return stats.entropy - stats.log_prob


def finite_forms(g: Given) -> Forms:
    """Nothing here is infinite, and nothing on the way."""
    return {
        "softmax": (softmax, (g.x,)),
        "log_softmax": (log_softmax, (g.x,)),
        "logsumexp": (lambda x: logsumexp(x, -1), (g.x,)),
        "logsumexp, b": (lambda x, b: logsumexp(x, -1, b), (g.x, g.b)),
        "logsumexp, sign": (lambda x, b: logsumexp(x, -1, b, return_sign=True)[0], (g.x, g.b)),
        "softmax_entropy": (softmax_entropy, (g.x,)),
        "softmax_jacobian": (softmax_jacobian, (g.x,)),
        "sparsemax": (sparsemax, (g.x,)),
        "sparsemax_loss": (lambda x: sparsemax_loss(x, g.y), (g.x,)),
        "labels": (lambda x: labels_loss(x, g.y), (g.x,)),
        "labels, options": (lambda x, w: labels_loss(x, g.y, class_weights=w, **CAP), (g.x, g.w)),
        "labels, ignored": (
            lambda x: labels_loss(x, g.ignored, ignore_index=-1, **OPTIONS),
            (g.x,),
        ),
        "labels, rows": (lambda x: labels_loss(x, g.ignored, where=g.rows, **OPTIONS), (g.x,)),
        "targets": (targets_loss, (g.x, g.t)),
        "targets, options": (
            lambda x, t, w: targets_loss(x, t, class_weights=w, **CAP),
            (g.x, g.t, g.w),
        ),
        "targets, rows": (lambda x, t: targets_loss(x, t, where=g.rows, **OPTIONS), (g.x, g.t)),
        "cross_entropy": (lambda x: cross_entropy(softmax(x), g.y), (g.x,)),
        "cross_entropy, rows": (
            lambda x: cross_entropy(softmax(x), g.ignored, where=g.rows),
            (g.x,),
        ),
        "linear": (lambda *a: linear_loss(*a[:2], g.y, a[2]), (g.F, g.W, g.B)),
        "linear, options": (
            lambda F, W, w, u: linear_loss(F, W, g.y, class_weights=w, weights=u, **CAP),
            (g.F, g.W, g.w, np.float32([1, 0, 2])),
        ),
        "linear, blocks": (
            lambda F, W: linear_loss(F, W, g.y, block_size=2, reduction="none", **OPTIONS),
            (g.F, g.W),
        ),
        "linear, targets": (linear_loss, (g.F, g.W, g.t)),
        "KL": (lambda F, W: linear_softmax_kl_divergence(F, W, F + 1, 2 * W), (g.F, g.W)),
        "JS": (lambda F, W: linear_softmax_js_divergence(F, W, F + 1, 2 * W), (g.F, g.W)),
        "linear_log_softmax": (lambda F, W: linear_log_softmax(F, W, g.y), (g.F, g.W)),
        "linear_softmax_stats": (lambda F, W: linear_softmax_stats(F, W, g.y).entropy, (g.F, g.W)),
        "linear_softmax_row_loss": (
            lambda F, W: linear_softmax_row_loss(F, W, g.y, loss=surprise),
            (g.F, g.W),
        ),
        "linear_top_k": (lambda F, W: linear_top_k(F, W, 2)[0], (g.F, g.W)),
    }


def legal_forms(g: Given) -> Forms:
    """Minus infinity stands for what is impossible or masked; nothing here is NaN."""
    classes = g.mask.any(0)
    return {
        "softmax": (softmax, (g.impossible,)),
        "softmax, where": (lambda x: softmax(x, where=g.mask), (g.x,)),
        "log_softmax": (log_softmax, (g.impossible,)),
        "log_softmax, where": (lambda x: log_softmax(x, where=g.mask), (g.x,)),
        "logsumexp": (lambda x: logsumexp(x, -1), (g.impossible,)),
        "logsumexp, where": (lambda x: logsumexp(x, -1, where=g.mask), (g.x,)),
        "logsumexp, b": (lambda x: logsumexp(x, -1, g.b), (g.impossible,)),
        "logsumexp, b and where": (lambda x, b: logsumexp(x, -1, b, where=g.mask), (g.x, g.b)),
        "softmax_entropy": (softmax_entropy, (g.impossible,)),
        "softmax_entropy, where": (lambda x: softmax_entropy(x, where=g.mask), (g.x,)),
        "sparsemax": (sparsemax, (g.impossible,)),
        "sparsemax, where": (lambda x: sparsemax(x, where=g.mask), (g.x,)),
        "sparsemax_loss, where": (lambda x: sparsemax_loss(x, g.y, where=g.mask), (g.x,)),
        "labels": (lambda x: labels_loss(x, g.y), (g.impossible,)),
        "labels, where": (
            lambda x, w: labels_loss(x, g.y, where=g.mask, class_weights=w, **CAP),
            (g.x, g.w),
        ),
        "labels, smoothing": (
            lambda x, w: labels_loss(x, g.y, class_weights=w, label_smoothing=1.0),
            (g.impossible, g.w),
        ),
        "targets": (targets_loss, (g.impossible, g.t)),
        "targets, cap": (lambda x: targets_loss(x, g.t, logit_softcap=4.0), (g.impossible,)),
        "targets, weights": (
            lambda x, t, w: targets_loss(x, t, class_weights=w),
            (g.impossible, g.t, g.w),
        ),
        "targets, where": (
            lambda x, t, w: targets_loss(x, t, where=g.mask, class_weights=w, **OPTIONS),
            (g.x, g.t, g.w),
        ),
        "cross_entropy": (lambda x: cross_entropy(softmax(x), g.t), (g.impossible,)),
        "cross_entropy, where": (lambda x: cross_entropy(softmax(x), g.t, where=g.mask), (g.x,)),
        "linear": (lambda F, W: linear_loss(F, W, g.y, g.bias), (g.F, g.W)),
        "linear, where": (lambda F, W: linear_loss(F, W, g.y, where=classes, **CAP), (g.F, g.W)),
        "linear, tiles": (
            lambda F, W: linear_loss(
                F, W, g.y, g.bias, class_weights=g.w, z_loss=0.1, memory_budget=g.budget
            ),
            (g.F, g.W),
        ),
        "linear, smoothed tiles": (
            lambda F, W, B: linear_loss(F, W, g.y, B, memory_budget=g.budget, **OPTIONS),
            (g.F, g.W, g.B),
        ),
        "KL, where": (
            lambda F, W: linear_softmax_kl_divergence(F, W, F + 1, 2 * W, where=classes),
            (g.F, g.W),
        ),
        "linear_log_softmax, where": (
            lambda F, W: linear_log_softmax(F, W, g.y, where=classes),
            (g.F, g.W),
        ),
    }


@functools.cache
def forms(classes: int, *, finite: bool) -> Forms:
    return (finite_forms if finite else legal_forms)(Given(classes))


NAMES = [(kind, name) for kind in (True, False) for name in forms(SHORT, finite=kind)]
PARAMETERS = pytest.mark.parametrize(("finite", "name"), NAMES)


@contextlib.contextmanager
def debugging(*, infinities: bool) -> Iterator[None]:
    with jax.debug_nans(True), jax.debug_infs(infinities):
        yield


def value_and_gradient(f: Callable[..., Any], *args: Any) -> Any:
    value, back = jax.vjp(f, *args)
    return value, back(jnp.ones_like(value))


def test_every_public_function_is_tried() -> None:
    """By its name, or by a short one."""
    short = {"labels", "targets", "linear", "KL", "JS"}
    tried = {name.partition(",")[0] for _, name in NAMES} - short
    no_ops = {"LossStats", "custom_rules", "kernels"}
    public = {name for name in vars(jaxsoftmax) if callable(getattr(jaxsoftmax, name))} - no_ops
    losses = {labels_loss, targets_loss, linear_loss}
    losses |= {linear_softmax_kl_divergence, linear_softmax_js_divergence}
    assert public - {f.__name__ for f in losses} == tried


@PARAMETERS
@pytest.mark.parametrize("classes", [SHORT, LONG])
def test_op_by_op(*, finite: bool, name: str, classes: int) -> None:
    f, args = forms(classes, finite=finite)[name]
    with jax.disable_jit(), debugging(infinities=finite):
        value_and_gradient(f, *map(jnp.asarray, args))


@PARAMETERS
def test_compiled(*, finite: bool, name: str) -> None:
    f, args = forms(LONG, finite=finite)[name]
    with debugging(infinities=finite):
        quick_jit(functools.partial(value_and_gradient, f))(*args)


@pytest.mark.parametrize(
    "name", ["logsumexp, b and where", "labels, where", "targets", "linear, tiles"]
)
def test_called_outside_of_jit(name: str) -> None:
    f, args = forms(LONG, finite=False)[name]
    with debugging(infinities=False):
        value_and_gradient(f, *args)


@pytest.mark.parametrize(
    "name",
    [
        "softmax",
        "log_softmax, where",
        "logsumexp, b and where",
        "labels, where",
        "targets, weights",
        "cross_entropy, where",
        "linear, tiles",
    ],
)
def test_checkify_finds_nothing(name: str) -> None:
    f, args = forms(LONG, finite=False)[name]

    def gradient(*args: Any) -> Any:
        return jax.grad(lambda *a: jnp.sum(jnp.maximum(f(*a), -9.0)), tuple(range(len(args))))(
            *args
        )

    error, _ = checkify.checkify(gradient, errors=checkify.all_checks)(*map(jnp.asarray, args))
    assert error.get() is None


def test_they_do_find_what_is_wrong() -> None:
    x = jnp.full((2, LONG), jnp.nan)
    with debugging(infinities=False), pytest.raises(FloatingPointError):
        labels_loss(x, jnp.zeros(2, int))
    with jaxsoftmax.kernels("off"):  # of a kernel checkify sees nothing
        error, _ = checkify.checkify(softmax, errors=checkify.all_checks)(x)
    assert error.get() is not None


def test_limits() -> None:
    """A mask makes -inf of a logit, and where infinities are looked for, it is one."""
    with jax.debug_infs(True), pytest.raises(FloatingPointError):
        log_softmax(np.ones(2, np.float32), where=np.array([True, False]))
    g = Given(LONG)
    with jax.disable_jit(), jax.debug_infs(True), pytest.raises(FloatingPointError):
        linear_loss(g.F, g.W, g.y, memory_budget=g.budget)  # before the first tile m is -inf
