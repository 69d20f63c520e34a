"""The config of a run, as one tree of strict models."""

from __future__ import annotations

from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, model_validator

from .data import Source
from .schema import Count, NonNegative, Table
from .solvers.optimizers import Optimizer

Key = tuple[str, ...]  # ("optimizer", "schedule", "name") is optimizer.schedule.name

# The tables that are one of several models, and the key that says which.
TAGS: dict[Key, str] = {
    ("data",): "source",
    ("optimizer",): "name",
    ("optimizer", "schedule"): "name",
}


class ModelConfig(Table):
    """``[model]``: softmax regression, ``features @ kernel + bias``."""

    bias: bool = True
    l2: NonNegative = Field(
        default=0.0, description="Adds l2/2 times the squared norm of the kernel to the mean loss."
    )


class RunConfig(Table):
    """Everything that decides the result of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    epochs: Count
    data: Source
    model: ModelConfig = ModelConfig()
    optimizer: Optimizer

    @model_validator(mode="after")
    def _batch_fits_optimizer(self) -> Self:
        if self.optimizer.needs_full_batch and self.data.batch_size is not None:
            raise ValueError(
                f"optimizer '{self.optimizer.name}' works on all training rows at once; "
                f"remove [data] batch_size"
            )
        return self


def known_keys(section: Key, tree: dict[str, Any]) -> set[str]:
    """The keys that a table of an unvalidated config may have, given the tags found on the way."""
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
