r"""Log-probabilities of some classes of a linear classifier.

Notation   as in `rules` and `row_values`: values of a row are ℓ at its K classes, and r
Work       four matrix products with derivatives, of which the second is the logits once more:
           cotangents of the rows are known when all rows have been seen
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple, overload

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.autodiff import scaled
from jaxsoftmax.ops.call import arguments, one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Classes, Names
from jaxsoftmax.ops.log_probabilities import Ask, RowValues, row_values
from jaxsoftmax.ops.row.exponentials import zero_where_dropped

from . import arguments as linear
from . import value_tiles
from .loss import linear_loss
from .problem import OfLogits, Rows, Settings, Shared, Sizes, kept

NAME = "linear_log_softmax"


@overload
def linear_log_softmax(
    features: ArrayLike,
    kernel: ArrayLike,
    classes: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    return_rest: Literal[False] = False,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    ignore_index: int | None = None,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array: ...


@overload
def linear_log_softmax(
    features: ArrayLike,
    kernel: ArrayLike,
    classes: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    return_rest: Literal[True],
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    ignore_index: int | None = None,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> tuple[Array, Array]: ...


@one_program
def linear_log_softmax(
    features: ArrayLike,
    kernel: ArrayLike,
    classes: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    return_rest: bool = False,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    ignore_index: int | None = None,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array | tuple[Array, Array]:
    r"""Log-probabilities of given classes of a linear classifier, without ever holding the logits.

    .. math:: \ell_{ik} = \log \operatorname{softmax}(f_i W + b)_{c_{ik}}

    What policy gradients, preference losses and distillation from a few classes ask of the head of
    a language model. Rows are worked on in blocks, in every mode and order of differentiation.

    Args:
      features: f `(..., D)`, floating point.
      kernel: W `(D, C)`, floating point. Products, and its gradient, are summed in float32.
      classes: c, integers in [0, C): one class a row, `(...)`, or K of them, `(..., K)`, which may
        be the same. An integer that is no class has the log-probability NaN.
      bias: b `(C,)`, or None.
      return_rest: also return the logarithm of the probability that the classes which are not
        given have together, -inf where there is none.
      weights: of the rows, broadcastable to `(...)`, or None for 1: they multiply the result. A row
        of weight 0 adds 0 to everything, whatever its features.
      where: boolean, broadcastable to `(..., C)`: the classes that exist. Others have the
        log-probability -inf; a row with none left has 0.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      temperature: T > 0, divides the logits, after the soft-cap. A Python number is static; a
        scalar array is differentiated as well.
      ignore_index: in `classes`, stands for no class: the log-probability is 0.
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes: `kernel`, `bias` and `where` are then those of the device, `classes` are numbers of
        all. See `linear_softmax_cross_entropy`.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`; a block
        then has some of the classes only, where they are very many and no rest is asked for.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      Log-probabilities of the shape of `classes`, in float32, or in float64 if an argument is; with
      `return_rest` a pair of that and the logarithm of the rest, `(...)`.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import linear_log_softmax
      >>> features, kernel = jnp.ones((2, 1)), jnp.array([[0.0, 1.0, 2.0]])
      >>> tokens = jnp.array([2, 0])
      >>> linear_log_softmax(features, kernel, tokens).round(3).tolist()
      [-0.408..., -2.408...]
      >>> advantages = jnp.array([1.0, -1.0])
      >>> def policy_loss(kernel):
      ...     return -jnp.sum(advantages * linear_log_softmax(features, kernel, tokens))
      >>> jax.grad(policy_loss)(kernel).tolist()
      [[1.0, 0.0, -1.0]]

    See Also:
      `linear_softmax_stats` for the entropy beside it; `log_softmax` on logits.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    picks = linear.classes_of_rows(NAME, "classes", classes, like)
    ignored = arguments.ignore_index(NAME, ignore_index)
    u = linear.row_weights(NAME, weights, like.shape[:-1], like.dtype)
    shared_mask, entries = linear.masks(NAME, where, like)
    static, moving = linear.temperature(NAME, temperature)
    linear.check_axis(NAME, axis_name)
    options = Options.checked(NAME, 0.0, 0.0, logit_softcap)
    losses = LogProbabilities(options, static, return_rest)
    values, _ = linear_loss(
        Shared((w,), (b,), classes=shared_mask, temperature=moving),
        Rows((f,), picks, weights=u, entries=entries),
        Settings(losses, like.dtype, "none", axis_name, ignore_index=ignored),
        Sizes.checked(NAME, block_size, memory_budget),
    )
    log_prob = values.log_prob.reshape(jnp.shape(classes))
    return (log_prob, values.rest) if return_rest else log_prob


class Values(NamedTuple):
    """Of a block of rows."""

    log_prob: Array  # (N, K)
    rest: Any = None  # (N,)


@dataclasses.dataclass(frozen=True)
class LogProbabilities(OfLogits):
    """The log-probabilities of the labels of a block of logits, several a row."""

    rest: bool
    discrete: ClassVar[bool] = False

    @property
    def ask(self) -> tuple[Ask, ...]:
        """What they are made of."""
        return ("log_prob", "rest") if self.rest else ("log_prob",)

    def of_tiles(self, rows: Rows) -> Any:
        """Without the rest, which is known when all picked classes are."""
        del rows
        return None if self.rest else value_tiles

    def __call__(
        self, logits: tuple[Array, ...], shared: Shared, rows: Rows, classes: Classes
    ) -> tuple[Values, None]:
        """Those, or the shares of this device in them."""
        x = zero_where_dropped(self.of_block(logits[0], shared, rows), kept(rows))
        values, _ = row_values(x, rows.labels, classes=classes, ask=self.ask)
        return self.made_of(values, shared, rows, classes), None

    def made_of(self, values: RowValues, shared: Shared, rows: Rows, classes: Classes) -> Values:
        """Those of rows that count."""
        del shared, classes
        keep = kept(rows)
        log_prob = zero_where_dropped(values.log_prob, keep)
        if rows.label_weights is not None:
            log_prob = scaled(log_prob, rows.label_weights.astype(log_prob.dtype))
        rest = zero_where_dropped(values.rest, keep)[:, 0] if self.rest else None
        return Values(log_prob, rest)
