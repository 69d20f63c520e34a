"""A model on disk: ``model.safetensors`` (arrays) and ``model.json`` (all that gives them meaning).

Neither format has a checksum, so the JSON keeps one SHA-256 of the arrays' file and of itself.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from pydantic import ValidationError

from jaxsoftmax.training import tensors
from jaxsoftmax.training.data import Columns
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.files import read_file, write_file
from jaxsoftmax.training.schema import Section
from jaxsoftmax.training.solvers import Params

from .classifier import Classifier

ARRAYS = "model.safetensors"
CARD = "model.json"


class ModelCard(Section):
    """The contents of ``model.json``."""

    format: Literal["jaxsoftmax-linear-3"] = "jaxsoftmax-linear-3"
    classes: tuple[str, ...]
    columns: Columns
    sha256: str = ""
    versions: dict[str, str]

    def digest(self, arrays: bytes) -> str:
        """The SHA-256 of the arrays' file and then of this card, were its own ``sha256`` empty."""
        bare = self.model_copy(update={"sha256": ""}).model_dump_json()
        return hashlib.sha256(arrays + bare.encode()).hexdigest()


def save(folder: Path, model: Classifier) -> None:
    """Writes the arrays, then the card that vouches for them."""
    arrays = {"kernel": np.asarray(model.params.kernel)}
    if model.params.bias is not None:
        arrays["bias"] = np.asarray(model.params.bias)
    content = tensors.pack(arrays)
    card = ModelCard(
        classes=model.classes,
        columns=model.columns,
        versions=versions(),
    )
    card = card.model_copy(update={"sha256": card.digest(content)})
    write_file(folder / ARRAYS, content)
    write_file(folder / CARD, card.model_dump_json(indent=2).encode())


def load(folder: Path) -> Classifier:
    """Reads a model back.

    Raises:
      InputError: a file is missing, damaged, or does not fit the other one.
    """
    card = _read_card(folder / CARD)
    arrays = _read_arrays(folder / ARRAYS, card)
    kernel, bias = arrays.get("kernel"), arrays.get("bias")
    shape = (len(card.columns.features), len(card.classes))
    if kernel is None or kernel.shape != shape or (bias is not None and bias.shape != shape[1:]):
        raise InputError(f"{folder}: {ARRAYS} and {CARD} do not belong together")
    params = Params(jnp.asarray(kernel), None if bias is None else jnp.asarray(bias))
    return Classifier(card.columns, params, card.classes)


def versions() -> dict[str, str]:
    """The versions that decide the last bits of a result."""
    found = {}
    for package in ("jaxsoftmax", "jax", "jaxlib", "optax", "numpy", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree on the path, not installed
            found[package] = "not installed"
    return found


def _read_card(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate_json(read_file(path))
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file; the folder holds no finished run"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part) for part in detail["loc"])
        raise InputError(f"{path}: is damaged: {place} {detail['msg']}") from None


def _read_arrays(path: Path, card: ModelCard) -> dict[str, np.ndarray]:
    try:
        content = read_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if card.digest(content) != card.sha256:
        raise InputError(
            f"{path}: is damaged, or {CARD} is: their SHA-256 is not the one that {CARD} records"
        )
    try:
        return tensors.unpack(content)
    except ValueError as error:
        raise InputError(f"{path}: is not a safetensors file: {error}") from None
