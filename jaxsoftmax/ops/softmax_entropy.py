r"""Entropy of softmax.

Notation   x logits, m = max x, p = softmax(x), ℓ = log p; H entropy; Σ over `axis`
Primal     H = -Σ p∘ℓ = log S + Σ p∘(m - x),  S = Σ exp(x - m): two terms >= 0
JVP        Ḣ = -Σ p∘(ℓ + H)∘ẋ
VJP        x̄ = -p∘(ℓ + H) H̄
Saved      as in `log_probabilities`, whose rules these are
Edges      -inf contributes 0: one class alone has H = 0 with derivative 0. NaN or +inf: NaN in its
           row. A row of -inf: NaN. `where`: a masked class is absent; a row masked throughout has
           H = 0 and no derivative.
Source     Cover & Thomas, Elements of Information Theory, chapter 2
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from .call import arguments, one_program
from .call.axes import Axis, axes, merge, merged_axis
from .devices.classes import Here
from .log_probabilities import row_values
from .row.exponentials import wide, zero_where_dropped


@one_program
def softmax_entropy(
    logits: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None, *, keepdims: bool = False
) -> Array:
    r"""Entropy of softmax, in nats.

    .. math:: H = -\sum_j p_j \log p_j, \quad p = \operatorname{softmax}(x)

    The entropy of a confident row, which is nearly 0, keeps its full relative accuracy, where
    `logsumexp(x) - sum(p * x)` gives 0 and its derivative noise.

    Args:
      logits: any shape, floating point; integers are converted to float first.
      axis: the class axis, or a tuple of axes that share one distribution; None means all.
      where: boolean, broadcastable to `logits`. Classes where it is False are absent.
      keepdims: keep the class axes with length 1.

    Returns:
      Entropies in float32, or in float64 if the logits are, without the class axes.

    Raises:
      TypeError: `logits` is boolean, complex, an 8-bit float or a list; `where` is not boolean.
      ValueError: `axis` is out of range, there is no class, or `where` does not broadcast.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxsoftmax import softmax_entropy
      >>> f"{softmax_entropy(jnp.zeros(8)):.5f}", f"{softmax_entropy(jnp.array([0.0, -40.0])):.4g}"
      ('2.07944', '1.742e-16')

    See Also:
      `linear_softmax_stats` for that of a linear classifier, without its logits.
    """
    x = arguments.floating("softmax_entropy", "logits", logits)
    class_axes = axes("softmax_entropy", axis, x.ndim)
    mask = arguments.class_mask("softmax_entropy", where, x)
    rows, alive = arguments.masked_rows(x, mask, class_axes)
    at = merged_axis(x.ndim, class_axes)
    one_axis = merge(wide(rows), class_axes)
    values, _ = row_values(one_axis, None, classes=Here(at), ask=("entropy",))
    entropy: Array = jnp.expand_dims(jnp.squeeze(values.entropy, at), class_axes)
    entropy = zero_where_dropped(entropy, alive)
    return entropy if keepdims else jnp.squeeze(entropy, class_axes)
