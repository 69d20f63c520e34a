"""The textbook definitions, in NumPy float64 or, with `xp=jax.numpy`, for JAX to differentiate.

Nothing here is shared with the package, nothing is clever, and nothing is safe far from zero.
"""

from typing import Any

import numpy as np


def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, where: Any = None, xp: Any = np
) -> Any:
    terms = xp.exp(_wide(a, xp))
    terms = terms if b is None else terms * _wide(b, xp)
    terms = terms if where is None else xp.where(where, terms, 0.0)
    with np.errstate(divide="ignore"):  # log 0 is -inf
        return xp.log(xp.abs(xp.sum(terms, axis=axis, keepdims=keepdims)))


def softmax(x: Any, axis: Any = -1, where: Any = None, xp: Any = np) -> Any:
    e = xp.exp(_wide(x, xp))
    e = e if where is None else xp.where(where, e, 0.0)
    total = xp.sum(e, axis=axis, keepdims=True)
    return e / xp.where(total == 0, 1.0, total)


def log_softmax(x: Any, axis: Any = -1, where: Any = None, xp: Any = np) -> Any:
    log_p = _wide(x, xp) - logsumexp(x, axis, keepdims=True, where=where, xp=xp)
    return log_p if where is None else xp.where(where, log_p, -xp.inf)


def softmax_jacobian(x: Any, axis: int = -1, xp: Any = np) -> Any:
    p = xp.moveaxis(softmax(x, axis, xp=xp), axis, -1)
    return p[..., :, None] * xp.eye(p.shape[-1]) - p[..., :, None] * p[..., None, :]


def cross_entropy(q: Any, labels: Any, axis: int = -1, where: Any = None, xp: Any = np) -> Any:
    q = _wide(q, xp)
    t = _targets(labels, q, axis, xp)
    present = xp.ones(q.shape, bool) if where is None else xp.broadcast_to(where, q.shape)
    return -xp.sum(xp.where(present, t * xp.log(xp.where(present, q, 1.0)), 0.0), axis=axis)


def softmax_cross_entropy(
    x: Any,
    labels: Any,
    axis: int = -1,
    where: Any = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    logit_softcap: float | None = None,
    class_weights: Any = None,
    ignore_index: int | None = None,
    xp: Any = np,
) -> Any:
    """Cross-entropy with every option; labels are integers or distributions."""
    x = _wide(x, xp)
    if logit_softcap is not None:
        x = logit_softcap * xp.tanh(x / logit_softcap)
    present = xp.ones(x.shape, bool) if where is None else xp.broadcast_to(where, x.shape)
    t = _targets(labels, x, axis, xp)
    count = xp.sum(xp.where(present, 1.0, 0.0), axis=axis, keepdims=True)
    t = (1 - label_smoothing) * t + label_smoothing / count
    if class_weights is not None:
        shape = [1] * x.ndim
        shape[axis] = -1
        t = t * _wide(class_weights, xp).reshape(shape)
    lse = logsumexp(x, axis, keepdims=True, where=present, xp=xp)
    loss = xp.sum(xp.where(present, t * (lse - x), 0.0), axis=axis)
    loss = loss + z_loss * xp.squeeze(lse, axis) ** 2
    return loss if ignore_index is None else xp.where(labels == ignore_index, 0.0, loss)


def linear_softmax_cross_entropy(
    features: Any,
    kernel: Any,
    labels: Any,
    bias: Any = None,
    *,
    weights: Any = None,
    reduction: str = "mean",
    xp: Any = np,
    **options: Any,
) -> Any:
    """The loss of features @ kernel + bias, in three lines."""
    z = _wide(features, xp) @ _wide(kernel, xp)
    z = z if bias is None else z + xp.broadcast_to(_wide(bias, xp), z.shape)
    losses = softmax_cross_entropy(z, labels, xp=xp, **options)
    w = xp.ones(losses.shape) if weights is None else xp.broadcast_to(weights, losses.shape)
    if options.get("ignore_index") is not None:
        w = xp.where(labels == options["ignore_index"], 0.0, w)
    total = xp.sum(w * losses)
    return {"none": w * losses, "sum": total, "mean": total / xp.sum(w)}[reduction]


def _targets(labels: Any, x: Any, axis: int, xp: Any) -> Any:
    """Distributions of the shape of x, from labels of either kind."""
    if not np.issubdtype(labels.dtype, np.integer):
        return _wide(labels, xp)
    shape = [1] * x.ndim
    shape[axis] = -1
    classes = xp.arange(x.shape[axis], dtype=labels.dtype).reshape(shape)
    return xp.where(xp.expand_dims(labels, axis) == classes, 1.0, 0.0)


def _wide(x: Any, xp: Any) -> Any:
    return np.asarray(x, np.float64) if xp is np else x
