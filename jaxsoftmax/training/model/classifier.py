"""Softmax regression on the columns of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pyarrow as pa

import jaxsoftmax
from jaxsoftmax.training.data import Columns, Table
from jaxsoftmax.training.data.sources.arrays import array_tables
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.solvers import Params
from jaxsoftmax.training.sparse import Matrix

NUMBERS = 1 << 21  # at a time


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

    def predict(self, table: Any) -> Predictions:
        """Classifies the rows of a table, whose columns may come in any order.

        Args:
          table: A `Table`, or what pyarrow can make a table of: a pandas data frame, a dictionary
            of columns, or a matrix ``(N, D)`` whose columns are in the order of training.

        Raises:
          InputError: A column is missing, or a row holds what no number can be made of.
        """
        table = as_table(table)
        encoded = self.columns.encode(table)
        if encoded.complaint is not None:
            raise InputError(encoded.complaint)
        return Predictions(self.classes, self.probabilities(encoded.features))

    def probabilities(self, features: Matrix) -> npt.NDArray[np.float32]:
        """Class probabilities ``(N, C)`` of encoded features ``(N, D)``."""
        blocks = list(self.blocks(features))
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes)), np.float32)

    def blocks(self, features: Matrix) -> Iterator[npt.NDArray[np.float32]]:
        """The same, some rows at a time, of which only one block need be held."""
        rows = max(1, NUMBERS // max(self.params.kernel.shape))
        for first in range(0, len(features), rows):
            yield np.asarray(_probabilities(self.params, features[first : first + rows]))


def as_table(given: Any) -> Table:
    """Whatever holds columns, as a `Table`."""
    if isinstance(given, Table):
        return given
    if isinstance(given, pa.Table):
        return Table(given, "table")
    if isinstance(given, dict):
        return Table(pa.table(given), "table")
    if isinstance(given, np.ndarray):
        (table,) = array_tables("array", {"features": given}, rows=max(1, len(given)))
        return table
    return Table(pa.Table.from_pandas(given, preserve_index=False), "table")


def logits(params: Params, features: jax.Array) -> jax.Array:
    """``features @ kernel + bias``, shape (N, C)."""
    z = features @ params.kernel
    return z if params.bias is None else z + params.bias[jnp.newaxis, :]


@jax.jit
def _probabilities(params: Params, features: jax.Array) -> jax.Array:
    return jaxsoftmax.softmax(logits(params, features), axis=-1)
