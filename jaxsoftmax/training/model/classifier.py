"""Softmax regression on the columns of a table."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

import jaxsoftmax
from jaxsoftmax.training.data import Columns, Table
from jaxsoftmax.training.data.columns import Features
from jaxsoftmax.training.solvers import Params


class Predictions(NamedTuple):
    """What a model says of N rows.

    Attributes:
      classes: the names that the columns of ``probabilities`` stand for.
      probabilities: ``(N, C)`` float32.
    """

    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]

    @property
    def labels(self) -> list[str]:
        """The most probable class of each row."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]


class Classifier(NamedTuple):
    """A trained model with all it needs to read a raw table and to name its answers."""

    columns: Columns
    params: Params
    classes: tuple[str, ...]

    def predict(self, table: Table) -> Predictions:
        """Classifies the rows of a table, whose columns may come in any order."""
        return Predictions(self.classes, self.probabilities(self.columns.encode(table).features))

    def probabilities(self, features: Features) -> npt.NDArray[np.float32]:
        """Class probabilities ``(N, C)`` of encoded features ``(N, D)``."""
        return np.asarray(_probabilities(self.params, features))


def logits(params: Params, features: jax.Array) -> jax.Array:
    """``features @ kernel + bias``, shape (N, C)."""
    z = features @ params.kernel
    return z if params.bias is None else z + params.bias[jnp.newaxis, :]


@jax.jit
def _probabilities(params: Params, features: jax.Array) -> jax.Array:
    return jaxsoftmax.softmax(logits(params, features), axis=-1)
