"""The linear classifier loss: what users call. The rules are in `rules`."""

from __future__ import annotations

from typing import Any, Literal, overload

import jax
from jax import Array
from jax.typing import ArrayLike

from jaxsoftmax.ops.call import arguments, one_program
from jaxsoftmax.ops.call.options import Options
from jaxsoftmax.ops.devices.classes import Names

from . import arguments as linear
from .label_losses import CrossEntropy, SparseCrossEntropy
from .loss import linear_loss
from .problem import Reduction, Rows, Settings, Shared, Sizes
from .product import product_dtype
from .stats import LossStats

NAME = "linear_softmax_cross_entropy"


@overload
def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    label_weights: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    return_stats: Literal[False] = False,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array: ...


@overload
def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    label_weights: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    return_stats: Literal[True],
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> tuple[Array, LossStats]: ...


@one_program
def linear_softmax_cross_entropy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    label_weights: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduction: Reduction = "mean",
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    temperature: float | Array = 1.0,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    return_stats: bool = False,
    axis_name: Names | None = None,
    block_size: int | None = None,
    memory_budget: int | None = None,
) -> Array | tuple[Array, LossStats]:
    r"""Cross-entropy of a linear classifier, without ever holding the logits.

    .. math:: L_i = -\log \operatorname{softmax}(f_i W + b)_{y_i}

    Rows are worked on in blocks, in every mode and order of differentiation. With a reduction the
    forward pass forms the gradients that are asked for, so that a step costs three matrix products
    (two where `features` are not differentiated), as many as with the logits in memory.

    On a mesh with explicit axes each device works on its rows and its classes, as the types say.
    Inside `jax.shard_map`, `axis_name` says that the classes are spread over devices. Two small
    collectives of a block of rows go forward, and one of the size of the features goes back.
    Where `check_vma=False`, take gradients outside of the map, or know what JAX means by them
    inside: the cotangent of what is the same on all devices is then a share, to be added up.

    On CPU, gradients in half types say which layout a product shall have; `jax.export` of them for
    a CPU wants `disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("LayoutConstraint")]`.

    Args:
      features: f `(..., D)`, floating point.
      kernel: W `(D, C)`, floating point. Products are accumulated in float32.
      labels: integers in [0, C) of shape `(...)`, or target distributions `(..., C)`, which need
        not sum to 1 and are differentiated as well. An integer that is no class makes the
        loss and the gradient of its row NaN. With `label_weights` integers `(..., K)`, several
        classes of each row.
      bias: b `(C,)`, or None.
      label_weights: t `(..., K)`, or what broadcasts to it: the weights of K labels a row, the
        loss is -Σ t_k log p at label k. That is the target distribution which has t_k there and 0
        elsewhere: of a teacher that gives its likeliest classes, of several tokens to come, or of
        sampled ones. It need not sum to 1, and is differentiated as well.
      weights: of the rows, broadcastable to `(...)`, or None for 1. A row of weight 0 adds 0 to
        everything, whatever its features; the derivative in its weight is its loss.
      reduction: "mean" divides by the summed weight of the rows that count, and is 0 if none does;
        "sum"; or "none".
      where: boolean, broadcastable to `(..., C)`: the classes that exist. A row with none left does
        not count.
      label_smoothing: ε in [0, 1]; targets become (1 - ε) t + ε / (number of admissible classes).
      z_loss: λ >= 0, adds λ logsumexp(x)², which keeps the logits from drifting.
      logit_softcap: c > 0, replaces logits x by c tanh(x / c).
      temperature: T > 0, divides the logits, after the soft-cap. A Python number is static; a
        scalar array is differentiated as well.
      class_weights: `(C,)`, multiplies the (smoothed) target of each class.
      ignore_index: rows with this label do not count. For integer labels; of several labels those
        do not count that are this one.
      return_stats: also return the `LossStats` of the rows, from the same pass. A derivative of
        theirs takes a pass of its own, where it is asked for.
      axis_name: inside `jax.shard_map`, the mesh axis (or several, as a tuple) that spreads the
        classes. `kernel`, `bias`, `class_weights`, `where` and target distributions are then those
        of the device; integer labels are numbers of all classes. The result is the same on all
        devices of the axis: that of all classes.
      block_size: rows in a block, or None to choose from the shapes and `memory_budget`; a block
        then has some of the classes only, where they are very many.
      memory_budget: bytes that the logits of a block may take, or None for 64 MiB.

    Returns:
      A scalar, or the weighted loss of each row `(...)` with reduction "none"; in float32, or in
      float64 if an argument is. With `return_stats` a pair of that and the `LossStats`.

    Raises:
      TypeError: an argument has a dtype that makes no sense here.
      ValueError: a shape does not fit, there is no class, or an option is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxsoftmax import linear_softmax_cross_entropy
      >>> features, kernel, labels = jnp.eye(2), jnp.zeros((2, 2)), jnp.array([0, 1])
      >>> jax.grad(linear_softmax_cross_entropy, argnums=1)(features, kernel, labels).tolist()
      [[-0.25, 0.25], [0.25, -0.25]]

      The classes spread over all devices, in code for one of them:

      >>> from functools import partial
      >>> from jax.sharding import AxisType, PartitionSpec as P
      >>> mesh = jax.make_mesh((jax.device_count(),), ("model",), axis_types=(AxisType.Auto,))
      >>> in_specs = P(), P(None, "model"), P()  # a part of the kernel, all rows
      >>> spread = partial(linear_softmax_cross_entropy, axis_name="model")
      >>> loss = jax.shard_map(spread, mesh=mesh, in_specs=in_specs, out_specs=P())
      >>> features, kernel, labels = jnp.eye(2), jnp.zeros((2, 8)), jnp.array([0, 7])
      >>> print(jax.jit(jax.grad(loss, argnums=1))(features, kernel, labels)[:, 0])
      [-0.4375  0.0625]

    See Also:
      `softmax_cross_entropy_with_integer_labels`, `softmax_cross_entropy` on logits.
    """
    f, w, b, like = linear.operands(NAME, features, kernel, bias)
    options = Options.checked(NAME, label_smoothing, z_loss, logit_softcap)
    t = None
    integers = arguments.are_classes(labels)
    if label_weights is not None:
        y, t = linear.sparse_labels(NAME, labels, label_weights, like)
    else:
        y = linear.labels(NAME, labels, like)
    ignored = linear.ignore_index(NAME, ignore_index, y)
    flat: Any = jax.ShapeDtypeStruct((1, like.shape[-1]), like.dtype)
    cw = arguments.class_weights(NAME, class_weights, flat, (1,))
    u = linear.row_weights(NAME, weights, like.shape[:-1], like.dtype)
    shared_mask, entries = linear.masks(NAME, where, like)
    static, moving = linear.temperature(NAME, temperature)
    linear.check_reduction(NAME, reduction)
    linear.check_axis(NAME, axis_name)

    # Of half types XLA:CPU has no product whose transpose is asked for.
    may_turn = product_dtype(f.dtype, w.dtype).itemsize > 2
    losses = CrossEntropy if t is None else SparseCrossEntropy
    settings = Settings(
        losses=losses(options, static, integers, return_stats, may_turn),
        dtype=like.dtype,
        reduction=reduction,
        axis_name=axis_name,
        ignore_index=ignored,
    )
    loss, stats = linear_loss(
        Shared((w,), (b,), cw, shared_mask, moving),
        Rows((f,), y, t, weights=u, entries=entries),
        settings,
        Sizes.checked(NAME, block_size, memory_budget),
    )
    return (loss, stats) if return_stats else loss
