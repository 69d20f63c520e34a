"""The likeliest classes of a linear classifier, without ever holding the logits."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import differentiates_as
from jaxsoftmax.ops.call import arguments, one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Classes, Names, Spread
from jaxsoftmax.ops.row import xla
from jaxsoftmax.ops.row.exponentials import zero_where_dropped

from . import arguments as linear
from .log_softmax import linear_log_softmax
from .loss import linear_loss
from .problem import OfLogits, Rows, Settings, Shared, Sizes, kept

NAME = "linear_top_k"


@one_program
def linear_top_k(
    features: ArrayLike,
    kernel: ArrayLike,
    k: int,
    bias: ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> tuple[Array, Array]:
    r"""The k likeliest classes of a linear classifier and their log-probabilities.

    What a teacher saves for distillation, and what decoding starts from. The log-probabilities are
    those of all classes, not of the k among themselves, and are differentiated; which classes
    these are is not.

    Args:
      features: f `(..., D)`, floating point.
      kernel: W `(D, C)`, floating point.
      k: how many classes, at most C.
      bias: b `(C,)`, or None.
      where: boolean, broadcastable to `(..., C)`: the classes that exist. Where fewer than k do,
        others follow with the log-probability -inf; a row with none has the classes -1.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      temperature: T > 0, divides the logits, after the soft-cap. A Python number is static; a
        scalar array is differentiated as well.
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes: each device gives k of its own. See `linear_softmax_cross_entropy`.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      Log-probabilities `(..., k)`, the largest first, in float32, or in float64 if an argument is;
      and the classes `(..., k)`, int32. Of equally likely classes the lower number comes first.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import linear_top_k
      >>> features, kernel = jnp.ones((1, 1)), jnp.array([[0.0, 2.0, 1.0]])
      >>> log_probs, classes = linear_top_k(features, kernel, 2)
      >>> log_probs.round(3).tolist(), classes.tolist()
      ([[-0.408..., -1.408...]], [[1, 2]])

    See Also:
      `linear_log_softmax`; `linear_softmax_cross_entropy` with `label_weights`, for the student.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    linear.check_axis(NAME, axis_name)
    number = int(
        arguments.number(
            NAME, "k", k, lambda v: v >= 1 and v == int(v), "a whole number, at least 1"
        )
    )
    of_all = w.shape[1] * (1 if axis_name is None else lax.axis_size(axis_name))
    if number > of_all:
        raise ValueError(f"{NAME}: k must be at most the number of classes, {of_all}, got {k}.")
    shared_mask, entries = linear.masks(NAME, where, like)
    static, moving = linear.temperature(NAME, temperature)
    options = Options.checked(NAME, 0.0, 0.0, logit_softcap)
    shared = Shared((w,), (b,), classes=shared_mask, temperature=moving)
    _, (log_prob, classes) = linear_loss(
        *lax.stop_gradient((shared, Rows((f,), entries=entries))),
        Settings(TopK(options, static, number), like.dtype, "none", axis_name),
        Sizes.checked(NAME, block_size, memory_budget),
    )
    how: dict[str, Any] = {
        "logit_softcap": logit_softcap,
        "static": static,
        "axis_name": axis_name,
        "block_size": block_size,
        "memory_budget": memory_budget,
    }
    t = None if moving is None else moving[0, 0]
    return _of_classes(log_prob, f, w, classes, b, where, t, **how), classes


def _log_softmax(_: Array, *arrays: Any, static: float, **how: Any) -> Array:
    f, w, classes, b, where, t = arrays
    temperature = static if t is None else t
    log_prob: Array = linear_log_softmax(
        f, w, classes, b, where=where, temperature=temperature, **how
    )
    return log_prob


@differentiates_as(_log_softmax)
def _of_classes(log_prob: Array, *arrays: Any, **how: Any) -> Array:
    """What has been found, with the derivative of the log-probabilities of these classes."""
    del arrays, how
    return log_prob


@dataclasses.dataclass(frozen=True)
class TopK(OfLogits):
    """The likeliest classes of a block of logits."""

    k: int

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[tuple[()], tuple[Array, Array]]:
        """Their log-probabilities and numbers (N, k), or the shares of this device."""
        keep = kept(rows)
        x = xla.stored(zero_where_dropped(self.of_block(logits[0], shared, rows), keep))
        row = classes.statistics(x, classes.max(x))
        z, found = _likeliest(x, self.k, classes)
        log_prob = (z - row.max) - row.excess
        return (), (zero_where_dropped(classes.first(log_prob), keep), classes.first(found))


def _likeliest(x: Array, k: int, classes: Classes) -> tuple[Array, Array]:
    """The k largest logits, and their classes."""
    z, found = lax.top_k(x, min(k, x.shape[1]))
    found = found.astype(jnp.int32)
    if not isinstance(classes, Spread):
        return z, found
    found = found + (lax.axis_index(classes.names) * x.shape[1]).astype(found.dtype)
    # Devices are in the order of their classes, so that of equal logits the first is first.
    z, found = (lax.all_gather(v, classes.names, axis=1, tiled=True) for v in (z, found))
    z, place = lax.top_k(z, k)
    return z, jnp.take_along_axis(found, place, 1)
