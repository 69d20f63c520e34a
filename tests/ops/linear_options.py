"""Every option of the linear loss, alone and with all others, for one program on any devices."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec as P

from jaxsoftmax import linear_softmax_cross_entropy
from jaxsoftmax.testing.rules.compile import jit as quick_jit

N, D, C = 16, 8, 16
_KEYS = jax.random.split(jax.random.key(7), 8)
_LABELS = jax.random.randint(_KEYS[0], (N,), 0, C - 2).at[2].set(3)

# Of NumPy: to place them on devices compiles nothing.
ARRAYS: dict[str, np.ndarray] = jax.device_get(
    {
        "features": jax.random.normal(_KEYS[1], (N, D)),
        "kernel": jax.random.normal(_KEYS[2], (D, C)),
        "bias": jax.random.normal(_KEYS[3], (C,)),
        "labels": _LABELS,
        "targets": jax.random.uniform(_KEYS[4], (N, C)),
        "weights": jax.random.uniform(_KEYS[5], (N,)).at[5].set(0),
        "class_weights": jax.random.uniform(_KEYS[6], (C,)) + 0.5,
        "classes": jnp.arange(C) < C - 2,  # of eight devices the last has none
        "entries": jax.random.bernoulli(_KEYS[7], 0.6, (N, C)).at[jnp.arange(N), _LABELS].set(True),
        # How much each row counts where the losses are by row.
        "bar": jnp.cos(jnp.arange(float(N))),
    }
)
# "inner" is the axis that a product sums over; a layout may spread that of the kernel alone.
_AXES = {
    "features": ("rows", "inner"),
    "kernel": ("inner of kernel", "classes"),
    "bias": ("classes",),
    "labels": ("rows",),
    "targets": ("rows", "classes"),
    "weights": ("rows",),
    "class_weights": ("classes",),
    "classes": ("classes",),
    "entries": ("rows", "classes"),
    "bar": ("rows",),
}
_FIXED = ("labels", "classes", "entries", "bar")
_NUMBERS = {"label_smoothing": 0.1, "z_loss": 0.1, "logit_softcap": 2.0}

# The arrays besides features and kernel; what is not an array.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "no option": ("labels", {}),
    "bias": ("labels bias", {}),
    "weights": ("labels weights", {}),
    "where of classes": ("labels classes", {}),
    "where of entries": ("labels entries", {}),
    **{name: ("labels", {name: value}) for name, value in _NUMBERS.items()},
    "class_weights": ("labels class_weights", {}),
    "ignore_index": ("labels", {"ignore_index": 3}),
    "distributions": ("targets", {}),
    "sum": ("labels", {"reduction": "sum"}),
    "none": ("labels bar", {"reduction": "none"}),
    "return_stats": ("labels", {"return_stats": True}),
    "all, labels": (
        "labels bias weights entries class_weights",
        {"ignore_index": 3, "return_stats": True, **_NUMBERS},
    ),
    "all, distributions": (
        "targets bias weights classes class_weights bar",
        {"reduction": "none", "return_stats": True, **_NUMBERS},
    ),
}
ALL = ("all, labels", "all, distributions")

Loss = Callable[[str, dict[str, Array], dict[str, Array]], Any]


def specs(**layout: Any) -> dict[str, P]:
    """Where the arrays lie, from the mesh axes that spread rows, classes and so on."""

    def spec(axes: tuple[str, ...]) -> P:
        entries = [layout.get(axis.replace(" ", "_")) for axis in axes]
        # A mesh axis spreads one axis of an array: the rows, if the classes share it with them.
        return P(*(e if e not in entries[:i] else None for i, e in enumerate(entries)))

    return {name: spec(axes) for name, axes in _AXES.items()}


def given(option: str, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the arrays (or of their specs) those of the option: differentiated, and not."""
    names = ("features", "kernel", *OPTIONS[option][0].split())
    moving = {name: arrays[name] for name in names if name not in _FIXED}
    return moving, {name: arrays[name] for name in names if name in _FIXED}


def total(option: str, moving: dict[str, Array], fixed: dict[str, Array], **more: Any) -> Any:
    """The scalar that is differentiated; and the loss with its statistics as they come."""
    arrays, static = moving | fixed, OPTIONS[option][1]
    where = arrays.pop("classes", arrays.pop("entries", None))
    labels, bar = arrays.pop("labels", arrays.pop("targets", None)), arrays.pop("bar", None)
    result = linear_softmax_cross_entropy(
        labels=labels, where=where, block_size=2, **arrays, **static, **more
    )
    loss = result[0] if "return_stats" in static else result
    return loss if bar is None else jnp.sum(bar * loss), result


def first_order(
    options: Iterable[str], arrays: dict[str, Array], total: Loss = total
) -> dict[str, Any]:
    """Of each option the scalar, the loss as it comes, and the gradients."""

    def of(option: str) -> Any:
        moving, fixed = given(option, arrays)
        return jax.value_and_grad(lambda x: total(option, x, fixed), has_aux=True)(moving)

    return {option: of(option) for option in options}


def second_order(
    options: Iterable[str], arrays: dict[str, Array], total: Loss = total
) -> dict[str, Any]:
    """Of each option the scalar and the gradients, and their derivatives along a direction."""

    def of(option: str) -> Any:
        moving, fixed = given(option, arrays)
        f = jax.value_and_grad(lambda x: total(option, x, fixed)[0])
        return jax.jvp(f, (moving,), (jax.tree.map(jnp.cos, moving),))

    return {option: of(option) for option in options}


@functools.cache
def on_one_device(derivatives: Callable[..., Any], options: tuple[str, ...]) -> Any:
    """What the derivatives of all arrays are without a mesh; of several modules' tests."""
    return jax.device_get(quick_jit(functools.partial(derivatives, options))(ARRAYS))
