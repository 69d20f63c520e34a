"""The columns of a model in groups: formats have one input for numbers, not one for each column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.data.columns import MISSING, Category, Number, Vector
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import Classifier

Floats = npt.NDArray[np.float64]


class Groups(NamedTuple):
    """Columns by kind, and the kernel with its rows in that order.

    Features of the groups: numbers; indicators of those numbers that may be missing; one-hot
    values of each category; vectors.

    Attributes:
      numbers: in the order of the model.
      categories: likewise.
      vectors: likewise.
      kernel: ``(D, C)``.
      bias: ``(C,)``, zeros where the model has none.
    """

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    vectors: tuple[Vector, ...]
    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    @property
    def mean(self) -> Floats:
        """Of the numbers, ``(K,)``."""
        return np.array([column.mean for column in self.numbers])

    @property
    def scale(self) -> Floats:
        """Of the numbers, ``(K,)``."""
        return np.array([column.scale for column in self.numbers])

    @property
    def indicators(self) -> list[int]:
        """Which numbers have a feature that says that they are missing."""
        return [i for i, column in enumerate(self.numbers) if column.indicator]


def groups(model: Classifier) -> Groups:
    """The columns of a model by kind."""
    columns = model.columns.columns
    starts = np.cumsum([0] + [len(column.features) for column in columns])
    spans = dict(zip((column.name for column in columns), starts.tolist(), strict=False))
    numbers = tuple(column for column in columns if isinstance(column, Number))
    categories = tuple(column for column in columns if isinstance(column, Category))
    vectors = tuple(column for column in columns if isinstance(column, Vector))
    order = [spans[column.name] for column in numbers]
    order += [spans[column.name] + 1 for column in numbers if column.indicator]
    sizes = [(column.name, len(column.values)) for column in categories]
    sizes += [(column.name, len(column.mean)) for column in vectors]
    for name, size in sizes:
        order += range(spans[name], spans[name] + size)
    kernel = np.asarray(model.params.kernel, np.float32)
    bias = model.params.bias
    zeros = np.zeros(kernel.shape[1], np.float32)
    return Groups(
        numbers,
        categories,
        vectors,
        kernel[order],
        zeros if bias is None else np.asarray(bias, np.float32),
    )


def codes(column: Category, columns: Columns) -> dict[str, int]:
    """The number of each text of a column; what is not here has none, and is -1."""
    known = {value: i for i, value in enumerate(column.values)}
    missing = known.get(MISSING, -1)
    return {**dict.fromkeys(columns.missing_values, missing), **known}


def check_float32(columns: Iterable[Number | Vector], taker: str) -> None:
    """Refuses columns that come as float32, where this has 0 or infinity for a mean or a scale.

    Raises:
      InputError: a column is like that, and all of its rows would be NaN.
    """
    info = np.finfo(np.float32)
    for column in columns:
        size = np.maximum(np.abs(column.mean), column.scale)
        if np.max(size) > info.max or np.min(column.scale) < info.tiny:
            raise InputError(
                f"{taker} takes column '{column.name}' in float32, which does not hold its numbers "
                f"(of mean {np.ravel(column.mean)[0]:g} and deviation "
                f"{np.ravel(column.scale)[0]:g}); use --format sklearn, or scale the column"
            )
