"""What a linear classifier tells of rows and their labels, without ever holding the logits."""

from __future__ import annotations

from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.ops.call import one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Names

from . import arguments as linear
from .loss import linear_loss
from .problem import Rows, Settings, Shared, Sizes
from .stats import LossStats, Statistics, joined

NAME = "linear_softmax_stats"


@one_program
def linear_softmax_stats(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    ignore_index: int | None = None,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> LossStats:
    r"""Statistics of the softmax of a linear classifier, from one pass over blocks of rows.

    .. math:: s = \log \sum_j \exp x_j, \quad \log p_y = x_y - s, \quad
       H = -\sum_j p_j \log p_j, \quad x = f W + b

    They are what `linear_softmax_cross_entropy` returns with `return_stats`, without the loss. The
    logsumexp, the log-probability of the label and the entropy are differentiated, in every mode
    and order, one backward pass for all of them; `rank < k` tells whether the label is among the
    first k, for every k.

    Args:
      features: f `(..., D)`, floating point.
      kernel: W `(D, C)`, floating point.
      labels: integers in [0, C) of shape `(...)`, or target distributions `(..., C)`.
      bias: b `(C,)`, or None.
      weights: of the rows, broadcastable to `(...)`, or None. Rows of weight 0 are left out, and
        nothing else is made of them.
      where: boolean, broadcastable to `(..., C)`: the classes that exist. A row with none is left
        out.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      temperature: T > 0, divides the logits, after the soft-cap. A Python number is static; a
        scalar array is differentiated as well.
      ignore_index: rows with this label are left out. For integer labels.
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes. See `linear_softmax_cross_entropy`.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`; a block
        then has some of the classes only, where they are very many.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      The `LossStats` of the rows, each `(...)`, in float32, or in float64 if an argument is.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import linear_softmax_stats
      >>> features, kernel = jnp.ones((1, 1)), jnp.array([[0.0, 1.0, 2.0]])
      >>> stats = linear_softmax_stats(features, kernel, jnp.array([1]))
      >>> f"{stats.entropy[0]:.4f}", stats.prediction.tolist(), stats.rank.tolist()
      ('0.8324', [2], [1])

    See Also:
      `linear_log_softmax`, log-probabilities of several classes of a row.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    y = linear.labels(NAME, labels, like)
    ignored = linear.ignore_index(NAME, ignore_index, y)
    u = linear.row_weights(NAME, weights, like.shape[:-1], like.dtype)
    shared_mask, entries = linear.masks(NAME, where, like)
    static, moving = linear.temperature(NAME, temperature)
    linear.check_axis(NAME, axis_name)
    options = Options.checked(NAME, 0.0, 0.0, logit_softcap)
    settings = Settings(Statistics(options, static), like.dtype, "none", axis_name, (), ignored)
    smooth, discrete = linear_loss(
        Shared((w,), (b,), classes=shared_mask, temperature=moving),
        Rows((f,), y, weights=u, entries=entries),
        settings,
        Sizes.checked(NAME, block_size, memory_budget),
    )
    return joined(smooth, discrete)
