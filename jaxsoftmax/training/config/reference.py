"""The reference page of all keys, made from the models themselves."""

from __future__ import annotations

import inspect
import json
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jaxsoftmax.training.solvers.optimizers import Optimizer
from jaxsoftmax.training.solvers.schedules import Schedule

from .keys import (
    CheckpointConfig,
    ColumnsConfig,
    DataConfig,
    DistributedConfig,
    MeshConfig,
    ModelConfig,
    RunConfig,
    Split,
    SweepConfig,
    SyntheticConfig,
)

SECTIONS = (
    ("data", DataConfig),
    ("data.synthetic", SyntheticConfig),
    ("columns", ColumnsConfig),
    ("split", Split),
    ("model", ModelConfig),
)
HEAD = """# Every key of a config

Made by `jaxsoftmax config reference`. Unknown keys, wrong types and values out of range are
refused; every key but the data's path (or name) and label has a default.

"""


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD, _table("at the top", {"seed": RunConfig.model_fields["seed"]})]
    parts += [_section(f"[{name}]", model) for name, model in SECTIONS]
    parts += [
        _section(f'[solver] name = "{_tag(model)}"', model)
        for model in get_args(get_args(Optimizer)[0])
    ]
    parts += [
        _section(f'[solver.schedule] name = "{_tag(model)}"', model)
        for model in get_args(get_args(Schedule)[0])
    ]
    parts.append(_section("[sweep]", SweepConfig))
    parts.append(_section("[checkpoint]", CheckpointConfig))
    parts.append(_section("[mesh]", MeshConfig))
    parts.append(_section("[distributed]", DistributedConfig))
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    fields = {name: field for name, field in model.model_fields.items() if not _is_tag(field)}
    about = inspect.getdoc(model) if "__doc__" in vars(model) and model.__doc__ else None
    return _table(title, fields, about)


def _table(title: str, fields: dict[str, FieldInfo], about: str | None = None) -> str:
    lines = [f"## `{title}`", ""]
    if about:
        lines += [about.replace("``", "`"), ""]
    if fields:
        lines += ["| key | values | default | |", "|---|---|---|---|"]
        lines += [_row(name, field) for name, field in fields.items()]
    return "\n".join([*lines, ""])


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_literal(field.get_default())}`"
    text = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {_values(field)} | {default} | {text} |"


def _values(field: FieldInfo) -> str:
    bounds = [f"{_BOUNDS[kind]} {value:.10g}" for kind, value in _limits(field.metadata)]
    return " or ".join(_names(field.annotation)) + (", " + ", ".join(bounds) if bounds else "")


_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _limits(metadata: list[Any]) -> list[tuple[str, float]]:
    found = []
    for item in metadata:
        found += [(kind, getattr(item, kind)) for kind in _BOUNDS if hasattr(item, kind)]
    return found


def _names(annotation: Any) -> list[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return []
    if origin is Literal:
        return [f"`{_literal(value)}`" for value in arguments]
    if origin is tuple:
        return ["array"]
    if isinstance(annotation, type) and not arguments:
        if issubclass(annotation, BaseModel):
            return ["table"]
        return [
            {"int": "integer", "float": "number", "str": "text", "bool": "`true`, `false`"}.get(
                annotation.__name__, annotation.__name__
            )
        ]
    return list(dict.fromkeys(name for argument in arguments for name in _names(argument)))


def _literal(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "–"
    if isinstance(value, BaseModel):
        inner = ", ".join(f"{k} = {_literal(v)}" for k, v in value if v is not None)
        return f"{{ {inner} }}"
    return json.dumps(value, ensure_ascii=False)


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and field.is_required()


def _tag(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["name"].annotation)[0])
