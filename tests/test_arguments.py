"""What wrong arguments are told: the whole sentence, naming argument, expectation and what came."""

import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsoftmax
from jaxsoftmax import (
    cross_entropy,
    linear_softmax_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_cross_entropy,
)
from jaxsoftmax import softmax_cross_entropy_with_integer_labels as integer_ce

X = np.zeros((2, 3), np.float32)
Y = np.zeros(2, np.int32)

CALLS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: softmax([1.0]),
        TypeError,
        "softmax: x must be an array, got a list. Write jnp.asarray(x).",
    ),
    (
        lambda: softmax(None),
        TypeError,
        "softmax: x must be an array, got a NoneType. Write jnp.asarray(x).",
    ),
    (
        lambda: softmax(X > 0),
        TypeError,
        (
            "softmax: x must be real numbers, got bool[2, 3]. Convert it first, for example "
            "x.astype(jnp.float32)."
        ),
    ),
    (
        lambda: softmax(X.astype(np.complex64)),
        TypeError,
        "softmax: x must be real numbers, got complex64[2, 3]. Take the real part first.",
    ),
    (
        lambda: softmax(jnp.zeros(3, jnp.float8_e5m2)),
        TypeError,
        (
            "softmax: x must be float16, bfloat16, float32 or float64, got float8_e5m2[3]: "
            "8-bit floats cannot hold the result. Write x.astype(jnp.bfloat16)."
        ),
    ),
    (
        lambda: softmax(jnp.zeros(3, jnp.float4_e2m1fn)),
        TypeError,
        (
            "softmax: x must be float16, bfloat16, float32 or float64, got float4_e2m1fn[3]: "
            "4-bit floats cannot hold the result. Write x.astype(jnp.bfloat16)."
        ),
    ),
    (
        lambda: softmax(3.0),
        ValueError,
        "softmax: axis must be None for an array of 0 dimensions, got -1.",
    ),
    (
        lambda: softmax(X, 2),
        ValueError,
        "softmax: axis must lie between -2 and 1 for an array of 2 dimensions, got 2.",
    ),
    (
        lambda: softmax(X, (0, 0)),
        ValueError,
        "softmax: axis must not name a dimension twice, got (0, 0).",
    ),
    (
        lambda: softmax(X, "1"),
        TypeError,
        "softmax: axis must be an int, a tuple of ints or None, got '1'.",
    ),
    (
        lambda: softmax(X, True),
        TypeError,
        "softmax: axis must be an int, a tuple of ints or None, got True.",
    ),
    (
        lambda: softmax(X, where=np.ones(3, np.float32)),
        TypeError,
        "softmax: where must be boolean, got float32[3]. Write where != 0.",
    ),
    (
        lambda: softmax(X, where=np.ones(4, bool)),
        ValueError,
        "softmax: where must broadcast to the shape (2, 3), got bool[4].",
    ),
    (
        lambda: log_softmax(X, 5),
        ValueError,
        "log_softmax: axis must lie between -2 and 1 for an array of 2 dimensions, got 5.",
    ),
    (
        lambda: logsumexp(X, b=np.ones(4, np.float32)),
        ValueError,
        "logsumexp: b must broadcast to the shape (2, 3), got float32[4].",
    ),
    (
        lambda: integer_ce(X.astype(np.int32), Y),
        TypeError,
        (
            "softmax_cross_entropy_with_integer_labels: logits must be floating point, got "
            "int32[2, 3]. Write logits.astype(jnp.float32); were the arguments swapped?"
        ),
    ),
    (
        lambda: integer_ce(X, Y.astype(np.float32)),
        TypeError,
        (
            "softmax_cross_entropy_with_integer_labels: labels must be integers of shape "
            "(2,), got float32[2]. For class probabilities use softmax_cross_entropy."
        ),
    ),
    (
        lambda: integer_ce(X, Y[:1]),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: labels must have the shape (2,), "
            "which is the shape (2, 3) of the logits without the class axis, got int32[1]."
        ),
    ),
    (
        lambda: integer_ce(X[:, :0], Y),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: there must be at least one class, "
            "got logits of shape (2, 0) with the class axis -1."
        ),
    ),
    (
        lambda: integer_ce(X, Y, label_smoothing=1.5),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: label_smoothing must be between 0 "
            "and 1, got 1.5."
        ),
    ),
    (
        lambda: integer_ce(X, Y, z_loss=-1.0),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: z_loss must be finite and at least "
            "0, got -1.0."
        ),
    ),
    (
        lambda: integer_ce(X, Y, z_loss=np.zeros(2)),
        TypeError,
        (
            "softmax_cross_entropy_with_integer_labels: z_loss must be a Python number, "
            "since it is a static option, got ndarray."
        ),
    ),
    (
        lambda: integer_ce(X, Y, logit_softcap=0.0),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: logit_softcap must be positive, or "
            "None, got 0.0."
        ),
    ),
    (
        lambda: integer_ce(X, Y, class_weights=np.ones(2, np.float32)),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: class_weights must have the shape "
            "(3,), one weight a class, got float32[2]."
        ),
    ),
    (
        lambda: integer_ce(X, Y, ignore_index=1.0),
        TypeError,
        (
            "softmax_cross_entropy_with_integer_labels: ignore_index must be an int or "
            "None, got float."
        ),
    ),
    (
        lambda: integer_ce(X, np.array([0, 2**32 + 1])),
        ValueError,
        (
            "softmax_cross_entropy_with_integer_labels: labels must fit int32, got "
            "4294967297 at index (1,)."
        ),
    ),
    (
        lambda: softmax_cross_entropy(X, Y),
        TypeError,
        (
            "softmax_cross_entropy: labels must be distributions over the classes, of shape "
            "(2, 3), got int32[2]. For class indices use "
            "softmax_cross_entropy_with_integer_labels."
        ),
    ),
    (
        lambda: softmax_cross_entropy(X, X[0]),
        ValueError,
        (
            "softmax_cross_entropy: labels must have the shape (2, 3) of the logits, got "
            "float32[3]. Write jnp.broadcast_to(labels, logits.shape) if that is meant."
        ),
    ),
    (
        lambda: cross_entropy(X, X[0]),
        ValueError,
        (
            "cross_entropy: labels must have the shape (2, 3) of the probs, got float32[3]. "
            "Write jnp.broadcast_to(labels, probs.shape) if that is meant."
        ),
    ),
    (
        lambda: linear_softmax_cross_entropy(X, X, Y),
        ValueError,
        (
            "linear_softmax_cross_entropy: features must have the shape (..., 2) to go with "
            "a kernel of shape (2, 3), got float32[2, 3]."
        ),
    ),
    (
        lambda: linear_softmax_cross_entropy(X, X[0], Y),
        ValueError,
        (
            "linear_softmax_cross_entropy: kernel must have the shape (D, C), one column a "
            "class, got float32[3]."
        ),
    ),
    (
        lambda: linear_softmax_cross_entropy(X, X.T, Y, reduction="average"),
        ValueError,
        'linear_softmax_cross_entropy: reduction must be "mean", "sum" or "none", got \'average\'.',
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), CALLS)
def test_a_wrong_argument_is_told(
    call: Callable[[], Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == sentence


ON_LOGITS = {"x": X, "a": X, "logits": X, "probs": X, "labels": Y}
LINEAR = {
    "features": X,
    "kernel": X.T,
    "labels": Y,
    "classes": Y,
    "k": 1,
    "loss": lambda stats, _: stats.entropy,
    "teacher_features": X,
    "teacher_kernel": X.T,
}
FUNCTIONS = sorted(
    name for name in vars(jaxsoftmax) if name.startswith(("softmax", "log", "sparse", "linear"))
)
# No argument is any of these: neither an array of numbers, nor an option.
NOTHING = ["mean?", {1}, np.array(["a"]), np.array([None])]
# What is true or false of any value; a tree of arrays may be a list.
TAKES_ANY = {"keepdims", "return_sign", "return_stats", "return_rest", "reverse"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_argument_at_all_is_told_by_its_name(name: str) -> None:
    function: Callable[..., Any] = getattr(jaxsoftmax, name)
    parameters = inspect.signature(function).parameters
    known = LINEAR if name.startswith("linear") else ON_LOGITS
    given = {p: known[p] for p in parameters if p in known}
    if name == "softmax_cross_entropy":
        given["labels"] = X
    for parameter in sorted(parameters.keys() - TAKES_ANY):
        beside = given | ({"labels": Y[:, None]} if parameter == "label_weights" else {})
        for value in NOTHING:
            with pytest.raises((TypeError, ValueError)) as caught:
                function(**beside | {parameter: value})
            assert str(caught.value).startswith(f"{name}: {parameter} must "), (parameter, value)
