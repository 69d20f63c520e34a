"""The keys of a config: one model a section."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, model_validator

from jaxsoftmax.training.schema import Count, NonNegative, Positive, Section, Share
from jaxsoftmax.training.solvers.optimizers import NewtonCg, Optimizer

Key = tuple[str, ...]  # ("solver", "schedule", "name") is solver.schedule.name

# The sections that are one of several models, and the key that says which.
TAGS: dict[Key, str] = {
    ("solver",): "name",
    ("solver", "schedule"): "name",
}


Format = Literal[
    "auto",
    "builtin",
    "csv",
    "jsonl",
    "parquet",
    "arrow",
    "hf",
    "npy",
    "npz",
    "safetensors",
    "svmlight",
    "idx",
]
Name = str | int  # of a column: what the header calls it, or its number from 0


class SyntheticConfig(Section):
    """``[data.synthetic]``: rows that are made up, to try a shape: a centre a class, and noise."""

    rows: Annotated[int, Field(ge=16)] = 1024
    features: Count = 256
    classes: Annotated[int, Field(ge=2)] = Field(
        default=1000,
        description="Of which one in eight rows has one of its own, as far as they go.",
    )


class DataConfig(Section):
    """``[data]``: where rows come from, and which column is the class."""

    source: Format = Field(
        default="auto",
        description="The format; by content and file name when left out. "
        "`hf` is a folder that Hugging Face datasets wrote with save_to_disk.",
    )
    path: str | tuple[str, ...] | None = Field(
        default=None,
        description="One file, a pattern such as `part-*.csv`, or several of either; "
        "relative to the config.",
    )
    name: Literal["digits", "iris", "wine", "breast_cancer", "mnist5k", "kjv"] | None = Field(
        default=None, description="Of builtin data, which arrive with an installed package."
    )
    synthetic: SyntheticConfig | None = Field(
        default=None, description="Rows that are made up, in the place of a path or name."
    )
    label: Name | None = Field(
        default=None,
        description="The column of the class, by name or number (-1 is the last). "
        "In an archive of arrays the array, `labels` or `y` when left out.",
    )
    labels_path: str | None = Field(
        default=None, description="A file with one label a row, for npy and idx."
    )
    array: str | None = Field(
        default=None,
        description="In an archive, the array of features; `features`, `x` or `X` when left out.",
    )
    weights: Name | None = Field(
        default=None, description="A column of weights: how much each row counts, not negative."
    )
    header: bool | Literal["auto"] = Field(
        default="auto", description="Whether the first line of a CSV file names the columns."
    )
    delimiter: str | None = Field(default=None, description="Between fields; guessed and said.")
    decimal: Literal[".", ","] | None = Field(
        default=None, description="Of numbers in text; guessed and said."
    )
    encoding: str | None = Field(default=None, description="Of text; guessed and said.")
    missing_labels: Literal["error", "drop_row"] = Field(
        default="error", description="What happens to rows without a label."
    )
    many_classes: bool = Field(
        default=False,
        description="Takes a label of very many numbers, which looks like a quantity.",
    )
    memory: Positive = Field(
        default=2.0,
        description="GB that features may take; above it, and of several processes, they lie in a "
        "file, mapped; of SVMlight they stay sparse.",
    )
    cache: str | None = Field(
        default=None, description="The folder of that file; the user's cache folder when left out."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.name is not None and self.path is not None:
            raise ValueError("name (builtin data) and path (files) exclude each other")
        if self.synthetic is not None:
            if self.name is not None or self.path is not None or self.source != "auto":
                raise ValueError("synthetic has no source, path or name")
            return self
        if self.source == "builtin" and self.name is None:
            raise ValueError('source "builtin" needs a name, such as name = "iris"')
        if self.name is None and self.path is None:
            raise ValueError(
                'needs a path, as in path = "flowers.csv", or the name of builtin data'
            )
        if self.name is not None and self.source not in ("auto", "builtin"):
            raise ValueError(f'source "{self.source}" needs a path, not a name')
        return self

    def elsewhere(self, path: str, label: Name | None = None) -> DataConfig:
        """How another file with such rows is read: what was said of the first holds for it too."""
        said = ("array", "header", "delimiter", "decimal", "encoding")
        return DataConfig.model_validate(
            {"path": path, "label": label} | {key: getattr(self, key) for key in said}
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths as they are written."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()


class ColumnsConfig(Section):
    """``[columns]``: which columns are features, and how they become numbers."""

    features: tuple[Name, ...] | None = Field(
        default=None,
        description="Columns to use, by name, number or pattern such as `pixel_*`; "
        "all others when left out.",
    )
    drop: tuple[Name, ...] = Field(default=(), description="Columns to leave out, in the same way.")
    categorical: tuple[Name, ...] = Field(
        default=(), description="Columns to one-hot encode though they look like numbers or names."
    )
    missing: Literal["mean", "error", "drop_row"] = Field(
        default="mean",
        description="A missing number becomes the mean, with a feature that says so; "
        "is an error; or removes its row.",
    )
    missing_values: tuple[str, ...] = Field(
        default=("", "NA", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "?"),
        description="Texts that mean: missing.",
    )
    max_categories: Count = Field(
        default=100, description="A text column with more values is left out, as a name or a key."
    )
    standardize: Literal["feature", "global", "none"] = Field(
        default="feature",
        description="Mean 0 and deviation 1: for each feature, for all together, or not at all.",
    )
    unit_length: bool = Field(
        default=False, description="Scales each row of features to length 1, as for embeddings."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="What features are held in while training; parameters and sums are float32.",
    )


class Split(Section):
    """``[split]``: which rows train, which choose, and which test."""

    train: Share = 0.7
    validation: Share = 0.1
    test: Share = 0.2
    column: Name | None = Field(
        default=None, description="A column that says train, validation or test for each row."
    )
    group: Name | None = Field(
        default=None, description="Rows with the same value here stay in one part."
    )
    time: Name | None = Field(
        default=None, description="Earlier rows train, later ones validate, the last ones test."
    )
    hash: Name | None = Field(
        default=None,
        description="The part is a function of this key: a row keeps its part when data grow.",
    )
    shots: Count | None = Field(
        default=None,
        description="So many rows of each class train, drawn by the seed; the others of the "
        "training part are left out.",
    )
    validation_path: str | None = Field(default=None, description="A file of validation rows.")
    test_path: str | None = Field(default=None, description="A file of test rows.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        ways = [
            way for way in ("column", "group", "time", "hash") if getattr(self, way) is not None
        ]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} exclude each other")
        if ways and (self.validation_path or self.test_path):
            raise ValueError(f"{ways[0]} and separate files exclude each other")
        return self


class ModelConfig(Section):
    """``[model]``: softmax regression, ``features @ kernel + bias``."""

    bias: bool = True
    l2: NonNegative | Literal["auto"] = Field(
        default="auto",
        description="Adds l2/2 times the squared norm of the kernel to the mean loss. `auto` takes "
        "the best of a path of values, by the validation rows or, where these are few, by five "
        "folds of all that do not test; then trains on both.",
    )
    l1: NonNegative = Field(
        default=0.0,
        description="Adds l1 times the sum of the absolute values of the kernel, which makes many "
        "of them 0; with l2 an elastic net. For solver fista.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="The share of a label that is spread over all classes."
    )
    class_weights: Literal["balanced"] | None = Field(
        default=None, description="`balanced` gives all classes the same weight in the loss."
    )


class CheckpointConfig(Section):
    """``[checkpoint]``: how often a run is saved, to go on from with ``--resume``."""

    every_steps: Count | None = Field(
        default=None, description="Steps of the solver from one checkpoint to the next."
    )
    every_minutes: Positive = Field(
        default=10.0, description="Minutes from one checkpoint to the next; whichever comes first."
    )
    keep: Count = Field(default=2, description="So many stay, in case the newest is damaged.")


class MeshConfig(Section):
    """``[mesh]``: the devices a run is spread over; they change its result by rounding only."""

    data: Annotated[int, Field(ge=-1)] = Field(
        default=-1,
        description="Groups of devices that share the rows. -1 takes all devices there are; of "
        "a single process on a CPU, whose devices share its cores, one.",
    )
    classes: Count = Field(
        default=1, description="Devices of a group, which share the classes; divides their number."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.data == 0:
            raise ValueError("data must be -1 (all devices) or at least 1")
        return self


class DistributedConfig(Section):
    """``[distributed]``: whether the run is one of several processes."""

    mode: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="`auto` joins the others where Slurm, Open MPI or JAX_NUM_PROCESSES says that "
        "there are; `on` always, as JAX finds them (Kubernetes, TPUs); `off` never.",
    )


class RunConfig(Section):
    """Everything that decides the result of a run, and how it is kept."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig
    columns: ColumnsConfig = ColumnsConfig()
    split: Split = Split()
    model: ModelConfig = ModelConfig()
    solver: Optimizer = NewtonCg(name="newton_cg")
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    distributed: DistributedConfig = DistributedConfig()

    @model_validator(mode="after")
    def _l1_needs_its_solver(self) -> Self:
        if self.model.l1 > 0 and self.solver.name != "fista":
            raise ValueError(
                f'[model] l1 needs [solver] name = "fista": {self.solver.name} follows gradients, '
                f"which an absolute value has not at 0"
            )
        return self

    @model_validator(mode="after")
    def _shots_need_a_penalty(self) -> Self:
        if self.split.shots is not None and self.model.l2 == "auto":
            raise ValueError(
                '[split] shots needs a number for [model] l2: "auto" trains on the validation rows '
                "too in the end; choose one by `jaxsoftmax sweep --grid l2=1e-4,1e-3`"
            )
        return self

    @model_validator(mode="after")
    def _path_needs_convergence(self) -> Self:
        if self.model.l2 == "auto" and not self.solver.needs_full_batch:
            raise ValueError(
                f'[model] l2 = "auto" needs a solver that converges (newton_cg, lbfgs, fista); '
                f"write a number for {self.solver.name}, such as l2 = 1e-4"
            )
        return self


class SweepConfig(Section):
    """``[sweep]``: runs for every combination of these, by `jaxsoftmax sweep`.

    What is left out has the one value that its own section says; for an l2 of `auto`, all that
    would be tried.
    """

    l2: tuple[NonNegative, ...] = Field(default=(), description="Values of model.l2.")
    learning_rate: tuple[Positive, ...] = Field(
        default=(), description="Values of solver.learning_rate."
    )
    seed: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(
        default=(),
        description="Seeds: each orders batches anew, and divides the rows that do not test anew.",
    )
    class_weights: tuple[Literal["none", "balanced"], ...] = Field(
        default=(), description="Values of model.class_weights."
    )
    path: tuple[str, ...] = Field(
        default=(),
        description="Files of features of the same rows, as the layers of a network; "
        "relative to the config.",
    )
    by: Literal["validation_loss", "validation_accuracy"] = Field(
        default="validation_loss", description="What the best run is best in; means over seeds."
    )


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


def holds_table(annotation: Any) -> bool:
    """Whether a key is a section."""
    return bool(_models(annotation))
