"""A loss that is any function of what a row tells, summed in the pass that forms its gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.autodiff.select import select
from jaxsoftmax.ops.call import arguments, one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Classes, Names
from jaxsoftmax.ops.log_probabilities import Ask, RowValues
from jaxsoftmax.ops.row.exponentials import zero_where_dropped

from . import arguments as linear
from . import value_tiles
from .loss import linear_loss
from .problem import OfLogits, Reduction, Rows, Settings, Shared, Sizes, kept
from .stats import ASK, Smooth, smooth_of, statistics

NAME = "linear_softmax_row_loss"
Loss = Callable[[Smooth, Any], Array]


@one_program
def linear_softmax_row_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    loss: Loss,
    arrays: Any = (),
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    where: ArrayLike | None = None,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    ignore_index: int | None = None,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array:
    r"""A loss of your own of each row's log-probability, entropy and logsumexp, in three products.

    .. math:: \frac{\sum_i u_i \, \ell(s_i, \log p_{i y_i}, H_i, a_i)}{\sum_i u_i}

    The same function of `linear_softmax_stats` costs four products a step: what the loss makes of a
    row is known only when all of them are, and each block of logits is computed again for the way
    back. Here the derivative of `loss` is taken in the block. It is for what each row adds by
    itself, such as the policy losses of tokens; what couples rows needs `linear_softmax_stats`.

    Args:
      features: f `(..., D)`, floating point.
      kernel: W `(D, C)`, floating point.
      labels: integers in [0, C) of shape `(...)`, or target distributions `(..., C)`.
      bias: b `(C,)`, or None.
      loss: `loss(stats, arrays)`, of `stats.logsumexp`, `stats.log_prob` and `stats.entropy`, each
        `(n,)` of some n rows, and of these rows of `arrays`; it gives `(n,)`, each number of its
        own row alone. It is static: define it once, and give it what changes by `arrays`.
      arrays: a pytree of arrays `(..., )` or `(..., ·)`, one entry a row, differentiated as well. A
        row that is left out has 1 in them and 0 in its statistics.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 adds 0.
      reduction: "mean" divides by the summed weight of the rows that count, and is 0 if none does;
        "sum"; or "none", which costs four products.
      where: boolean, broadcastable to `(..., C)`: the classes that exist. A row with none left does
        not count.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      temperature: T > 0, divides the logits, after the soft-cap. A Python number is static; a
        scalar array is differentiated as well.
      ignore_index: rows with this label do not count. For integer labels.
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes. See `linear_softmax_cross_entropy`.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`; a block
        then has some of the classes only, where they are very many.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      A scalar, or the weighted loss of each row `(...)` with reduction "none"; in float32, or in
      float64 if an argument is.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, an option is out of range, or `loss`
        encloses what is being traced.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import linear_softmax_row_loss
      >>> def policy_loss(stats, given):
      ...     ratio = jnp.exp(stats.log_prob - given["old"])
      ...     return -ratio * given["advantage"] - 0.01 * stats.entropy
      >>> features, kernel, tokens = jnp.eye(2), jnp.zeros((2, 4)), jnp.array([3, 0])
      >>> given = {"old": jnp.log(jnp.array([0.25, 0.5])), "advantage": jnp.array([1.0, -1.0])}
      >>> step = jax.grad(linear_softmax_row_loss, argnums=1)
      >>> step(features, kernel, tokens, loss=policy_loss, arrays=given)[0].tolist()
      [0.125, 0.125, 0.125, -0.375]

    See Also:
      `linear_softmax_stats`, for losses that couple rows.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    y = linear.labels(NAME, labels, like)
    ignored = linear.ignore_index(NAME, ignore_index, y)
    u = linear.row_weights(NAME, weights, like.shape[:-1], like.dtype)
    given = jax.tree.map(lambda a: arguments.as_array(NAME, "arrays", a), arrays)
    _check(loss, given, like)
    leaves, tree = jax.tree.flatten(given)
    shared_mask, entries = linear.masks(NAME, where, like)
    static, moving = linear.temperature(NAME, temperature)
    linear.check_reduction(NAME, reduction)
    linear.check_axis(NAME, axis_name)
    options = Options.checked(NAME, 0.0, 0.0, logit_softcap)
    losses = RowLoss(options, static, loss, tree)
    total: Array = linear_loss(
        Shared((w,), (b,), classes=shared_mask, temperature=moving),
        Rows((f,), y, weights=u, arrays=tuple(leaves), entries=entries),
        Settings(losses, like.dtype, reduction, axis_name, ignore_index=ignored),
        Sizes.checked(NAME, block_size, memory_budget),
    )[0]
    return total


def _check(loss: Loss, arrays: Any, like: Any) -> None:
    """`loss` is a function of rows of the arrays, and of nothing else that moves."""
    if not callable(loss):
        raise TypeError(
            f"{NAME}: loss must be a function of statistics and arrays, got {type(loss).__name__}."
        )
    batch = like.shape[:-1]
    for array in jax.tree.leaves(arrays):
        if array.shape[: len(batch)] != batch:
            raise ValueError(
                f"{NAME}: arrays must have the shape {batch} in front, one entry a row, got "
                f"{array.dtype}{list(array.shape)}. For the same of all rows write "
                f"jnp.broadcast_to(x, {batch})."
            )
    rows = 2
    stats = Smooth._make(jax.ShapeDtypeStruct((rows,), like.dtype) for _ in Smooth._fields)
    parts = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((rows, *a.shape[len(batch) :]), a.dtype), arrays
    )
    program, out = jax.make_jaxpr(loss, return_shape=True)(stats, parts)
    if any(isinstance(constant, jax.core.Tracer) for constant in program.consts):
        raise ValueError(
            f"{NAME}: loss encloses an array that is being traced, which would have no derivative. "
            "Give it by arrays."
        )
    kind = jax.tree.map(lambda o: (o.shape, jnp.issubdtype(o.dtype, jnp.floating)), out)
    if kind != ((rows,), True):
        raise ValueError(
            f"{NAME}: loss must give one number a row, ({rows},) of {rows}, got {out}."
        )


@dataclasses.dataclass(frozen=True)
class RowLoss(OfLogits):
    """The losses of a block of rows, from their statistics."""

    loss: Loss
    tree: Any  # of its arrays
    ask: ClassVar[tuple[Ask, ...]] = ASK
    discrete: ClassVar[bool] = False

    def of_tiles(self, rows: Rows) -> Any:
        """Of classes; of a distribution all are needed."""
        return value_tiles if arguments.are_classes(rows.labels) else None

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Array, None]:
        """The losses (N,): of several devices the first has them."""
        x, keep = self.of_block(logits[0], shared, rows), kept(rows)
        shares, _ = statistics(x, rows.labels, None, keep, classes)
        return self._of_stats(shares, rows, classes), None

    def made_of(self, values: RowValues, shared: Shared, rows: Rows, classes: Classes) -> Array:
        """The losses (N,), of what is known of the rows."""
        del shared
        smooth = smooth_of(values, None)
        kept_ones = (zero_where_dropped(value, kept(rows))[:, 0] for value in smooth)
        return self._of_stats(Smooth(*kept_ones), rows, classes)

    def _of_stats(self, shares: Smooth, rows: Rows, classes: Classes) -> Array:
        whole = classes.whole(*(share[:, None] for share in shares))
        stats = Smooth(*(value[:, 0] for value in whole))
        given = self.tree.unflatten([_one_where_dropped(a, rows.keep) for a in rows.arrays])
        losses = self.loss(stats, given).astype(stats.logsumexp.dtype)
        return classes.first(zero_where_dropped(losses[:, None], kept(rows)))[:, 0]


def _one_where_dropped(a: Array, keep: Array | None) -> Array:
    if keep is None:
        return a
    return select(jnp.expand_dims(keep, tuple(range(1, a.ndim))), a, 1)
