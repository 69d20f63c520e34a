"""Training a softmax classifier from a config, and using it; needs the ``train`` extra.

`load` gives the model of a finished run, whose ``predict`` takes a `Table`. Floors, downwards only:

    trainer, prediction > report > runs > model > data > config > solvers > schema, files, errors
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Classifier


def load(run: Path | str) -> Classifier:
    """The model of a finished run; neither its data nor its config is needed.

    Args:
      run: The folder that ``jaxsoftmax train`` left.

    Returns:
      A `Classifier`: ``.predict(table)``, ``.columns``, ``.params``, ``.classes``.

    Raises:
      InputError: a file is missing or damaged.
    """
    from .model import load as load_model

    return load_model(Path(run))
