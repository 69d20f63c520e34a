"""The keys of a config: one model a section."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, model_validator

from jaxsoftmax.training.schema import NonNegative, Section, Share
from jaxsoftmax.training.solvers.optimizers import Lbfgs, Optimizer

Key = tuple[str, ...]  # ("solver", "schedule", "name") is solver.schedule.name

# The sections that are one of several models, and the key that says which.
TAGS: dict[Key, str] = {
    ("data",): "source",
    ("solver",): "name",
    ("solver", "schedule"): "name",
}


class Builtin(Section):
    """Real data that arrives with an installed package; nothing is downloaded."""

    source: Literal["builtin"]
    name: Literal["digits", "iris", "wine", "breast_cancer", "mnist5k"]


class CsvFile(Section):
    """A CSV file with a header; ``label`` names the class column, all others are features."""

    source: Literal["csv"]
    path: Path
    label: str


class NpzFile(Section):
    """An ``.npz`` file with a feature array ``(N, D)`` and a label array ``(N,)``."""

    source: Literal["npz"]
    path: Path
    features: str = "features"
    label: str = "labels"


Data = Annotated[Builtin | CsvFile | NpzFile, Field(discriminator="source")]


class ColumnsConfig(Section):
    """``[columns]``: how the columns of a table become numbers."""

    standardize: Literal["feature", "global", "none"] = "feature"


class Split(Section):
    """``[split]``: shares of the rows; each part keeps the proportions of the classes."""

    train: Share
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class ModelConfig(Section):
    """``[model]``: softmax regression, ``features @ kernel + bias``."""

    bias: bool = True
    l2: NonNegative = Field(
        default=0.0, description="Adds l2/2 times the squared norm of the kernel to the mean loss."
    )


class RunConfig(Section):
    """Everything that decides the result of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data
    columns: ColumnsConfig = ColumnsConfig()
    split: Split = Split(train=0.7, validation=0.1, test=0.2)
    model: ModelConfig = ModelConfig()
    solver: Optimizer = Lbfgs(name="lbfgs")


def known_keys(section: Key, tree: dict[str, Any]) -> set[str]:
    """The keys that a section of an unvalidated config may have, given the tags on the way."""
    model: type[BaseModel] | None = RunConfig
    table: Any = tree
    for depth, part in enumerate(section, start=1):
        field = model.model_fields.get(part) if model else None
        models = _models(field.annotation) if field else []
        table = table.get(part) if isinstance(table, dict) else None
        tag = TAGS.get(section[:depth])
        if tag is not None:
            chosen = table.get(tag) if isinstance(table, dict) else None
            models = [m for m in models if chosen in get_args(m.model_fields[tag].annotation)]
        model = models[0] if models else None
    return set(model.model_fields) if model else set()


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models among the members of a (nested, annotated) union."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for member in get_args(annotation) for model in _models(member)]
