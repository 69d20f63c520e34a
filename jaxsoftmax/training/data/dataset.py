"""A `Dataset`: the rows of a config as arrays, split, encoded, and recognisable again."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaxsoftmax.training.config import RunConfig
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.sparse import Matrix, of_blocks, rows_at_a_time

from . import cache, columns, labels, splits, survey
from .columns import Columns, Features
from .labels import Labels
from .sources import open_source
from .sources.arrays import vectors_column
from .table import Source, Table

Weights = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LESS = 2  # times: sparse features take less memory than dense ones
HELD = 1 << 28  # bytes of tables that are kept between two looks at a source


class Part(NamedTuple):
    """Some rows of a `Dataset`, as views of its arrays."""

    features: Matrix
    labels: Labels
    weights: Weights


class Spans(NamedTuple):
    """Where the three parts lie in the arrays of a `Dataset`."""

    train: slice
    validation: slice
    test: slice


class Dataset(NamedTuple):
    """All rows that a run uses: first those of the training part, then validation, then test.

    Attributes:
      features: ``(N, D)`` standardised float32, in memory, memory-mapped or sparse.
      labels: ``(N,)`` int32, indices into ``classes``.
      weights: ``(N,)`` float32, not negative.
      rows: ``(N,)`` the number of each row in its source.
      classes: the names of the C classes, in order.
      columns: how the features were made.
      parts: where train, validation and test lie.
      fingerprint: a SHA-256 of features, labels, weights and parts.
      origin: what messages call the source.
      label: the column of the class.
      dropped: columns that are not used, each with the reason.
      notes: what has to be said before training: guesses, rare classes, rows left out.
    """

    features: Matrix
    labels: Labels
    weights: Weights
    rows: npt.NDArray[np.intp]
    classes: tuple[str, ...]
    columns: Columns
    parts: Spans
    fingerprint: str
    origin: str = ""
    label: str = ""
    dropped: dict[str, str] = {}  # noqa: RUF012 - never written to
    notes: tuple[str, ...] = ()

    def part(self, name: str) -> Part:
        """Train, validation or test."""
        span = getattr(self.parts, name)
        return Part(self.features[span], self.labels[span], self.weights[span])


class Roles(NamedTuple):
    """The columns that are no features."""

    label: str
    weights: str | None
    split: str | None

    def names(self) -> list[str]:
        """Those that there are."""
        return [name for name in self if name is not None]


class Answers(NamedTuple):
    """The columns of `Roles`, of all rows."""

    text: pa.ChunkedArray
    weights: Weights
    split: pa.ChunkedArray | None


def prepare(config: RunConfig, fold: tuple[int, int] | None = None) -> Dataset:
    """Reads, splits and encodes the data that a config names.

    Args:
      config: Of the run.
      fold: (i, k): the test part is the i-th of k folds.

    Raises:
      InputError: a file cannot be read, or cannot be what the config says.
    """
    source, files = _whole_source(config)
    tables = _kept(source)
    roles = roles_of(config, source, tables)
    columned = survey.survey(tables(), config.columns, roles.names(), source.origin)
    answers = _answers(tables(), roles, config, source.origin)
    numbered = labels.number(
        answers.text,
        config.columns.missing_values,
        source.origin,
        roles.label,
        many=config.data.many_classes,
        known=source.classes,
    )
    typed = _typed(tables, columned, config)
    used = _used(typed(), numbered.labels, config, source.origin)
    numbers = np.where(used, numbered.labels, -1).astype(np.int32)
    parts, notes = _assign(config, numbers, numbered.classes, answers, roles, source.origin, files)
    if fold is not None:
        parts = splits.by_fold(parts, numbers, answers.split, config, fold)
    if config.split.shots is not None:
        parts = splits.few_shots(parts, numbers, config.split.shots, config.seed)
        notes.append(f"{config.split.shots} rows of each class train, or all where there are fewer")
    notes += splits.check(parts, numbers, numbered.classes, source.origin)
    splits.check_weights(parts, answers.weights, source.origin)
    out = int(np.sum(numbers < 0))
    notes += [f"{out} rows left out"] * (out > 0)

    def with_train() -> Iterator[tuple[Table, Mask]]:
        for table in typed():
            span = slice(table.first, table.first + table.rows.num_rows)
            yield table, parts[span] == 0

    try:
        encoder = columns.fit(with_train(), columned, config.columns)
    except InputError as error:
        raise InputError(f"{source.origin}: {error}") from None
    rows = np.concatenate([np.flatnonzero(parts == index) for index in range(len(splits.PARTS))])
    blocks = _encoded(typed(), encoder, rows, columned.rows)
    features = _features(blocks, (len(rows), len(encoder.features)), config, source, encoder)
    sizes = np.cumsum([0] + [int(np.sum(parts == index)) for index in range(len(splits.PARTS))])
    spans = Spans(*(slice(int(a), int(b)) for a, b in itertools.pairwise(sizes)))
    dataset = Dataset(
        features,
        numbers[rows],
        answers.weights[rows],
        rows,
        numbered.classes,
        encoder,
        spans,
        "",
        source.origin,
        roles.label,
        columned.dropped,
        (*source.guesses, *columned.notes, *labels.lookalikes(numbered.classes), *notes),
    )
    dataset = dataset._replace(fingerprint=fingerprint(dataset))
    cache.release(features)
    return dataset


def roles_of(config: RunConfig, source: Source, tables: Callable[[], Iterator[Table]]) -> Roles:
    """The columns that a config names for something else than features."""
    first = next(tables(), None)
    if first is None:
        raise InputError(f"{source.origin}: has no rows")
    names = first.rows.column_names

    def named(name: str | int | None, key: str) -> str | None:
        return None if name is None else survey.column_named(names, name, source.origin, key)

    data, split = config.data, config.split
    label = source.label if source.label in names else data.label
    if label is None:
        there = ", ".join(repr(name) for name in names[:12]) + (" …" if len(names) > 12 else "")
        raise InputError(
            f"{source.origin}: which column is the class? write [data] label = …; there is {there}"
        )
    by = [way for way in (split.column, split.group, split.time, split.hash) if way is not None]
    return Roles(
        str(named(label, "label")),
        named(data.weights, "weights"),
        named(by[0], "split") if by else None,
    )


def fingerprint(dataset: Dataset) -> str:
    """A SHA-256 of everything that training and testing depend on."""
    digest = hashlib.sha256(repr((dataset.parts, dataset.classes)).encode())
    for array in (dataset.features, dataset.labels, dataset.weights):
        at_a_time = rows_at_a_time(math.prod(array.shape[1:]))
        for first in range(0, len(array), at_a_time):
            digest.update(np.ascontiguousarray(array[first : first + at_a_time]).data)
    return digest.hexdigest()


def _whole_source(config: RunConfig) -> tuple[Source, Sequence[int]]:
    """The source, with separate files of a split behind it; and the first row of each of these."""
    main = open_source(config.data)
    paths = [path for path in (config.split.validation_path, config.split.test_path) if path]
    if not paths:
        return main, ()
    counts = [sum(table.rows.num_rows for table in main.tables())]
    for path in paths:
        other = open_source(config.data, [path])
        counts.append(counts[-1] + sum(table.rows.num_rows for table in other.tables()))
    whole = open_source(config.data, [*config.data.paths, *paths])
    return whole, counts


def _kept(source: Source) -> Callable[[], Iterator[Table]]:
    """The tables of a source, held in memory when they are small."""
    held: list[Table] | None = []
    size = 0
    for table in source.tables():
        size += table.rows.nbytes
        if size > HELD:
            held = None
            break
        held.append(table)  # type: ignore[union-attr]
    if held is None:
        return source.tables
    kept = held
    return lambda: iter(kept)


def _typed(
    tables: Callable[[], Iterator[Table]], columned: survey.Columned, config: RunConfig
) -> Callable[[], Iterator[Table]]:
    """The feature columns, as what they are."""

    def typed() -> Iterator[Table]:
        for table in tables():
            if table.rows.num_rows:
                yield survey.typed(table, columned.kinds, config.columns)

    return _kept(Source("", typed))


def _answers(tables: Iterator[Table], roles: Roles, config: RunConfig, origin: str) -> Answers:
    texts, weights, keys = [], [], []
    missing, first_missing = 0, None
    for table in tables:
        text = labels.as_text(table, roles.label)
        absent = labels.missing_rows(text, config.columns.missing_values)
        if absent.any() and first_missing is None:
            first_missing = table, absent
        missing += int(absent.sum())
        texts += text.chunks
        weights.append(_weights(table, roles.weights, config))
        if roles.split is not None:
            keys += survey.plain(table.rows[roles.split]).chunks
    if first_missing is not None and config.data.missing_labels == "error":
        raise labels.required(*first_missing, roles.label, config.columns.missing_values, missing)
    if missing and sum(map(len, texts)) == missing:
        raise InputError(f"{origin}: no row has a label in '{roles.label}'")
    return Answers(
        pa.chunked_array(texts, pa.string()),
        np.concatenate(weights),
        pa.chunked_array(keys) if roles.split is not None else None,
    )


def _weights(table: Table, name: str | None, config: RunConfig) -> Weights:
    if name is None:
        return np.ones(table.rows.num_rows, np.float32)
    column = survey.plain(table.rows[name])
    numbers = survey.numbers_of(column, table, config.columns)
    bad = ~(numbers >= 0) | (numbers > np.finfo(np.float32).max)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{table.origin}: {table.where(row)}: expected a weight from 0 to 3e38, "
            f"got '{column[row].as_py()}' ({int(bad.sum())} such rows)"
        )
    return numbers.astype(np.float32)


def _used(tables: Iterator[Table], numbers: Labels, config: RunConfig, origin: str) -> Mask:
    """Rows that have a label, and all numbers where these are wanted."""
    used = numbers >= 0
    if config.columns.missing == "mean":
        return used
    lacking: dict[str, int] = {}
    for table in tables:
        span = slice(table.first, table.first + table.rows.num_rows)
        for name in table.rows.column_names:
            column = table.rows[name]
            if pa.types.is_floating(column.type):
                missing = np.isnan(column.to_numpy())
                if missing.any():
                    lacking[name] = lacking.get(name, 0) + int(missing.sum())
                    used[span] &= ~missing
    if lacking and config.columns.missing == "error":
        told = ", ".join(f"'{name}' in {count} rows" for name, count in list(lacking.items())[:8])
        raise InputError(f"{origin}: numbers are missing: {told}")
    return used


def _assign(
    config: RunConfig,
    numbers: Labels,
    classes: Sequence[str],
    answers: Answers,
    roles: Roles,
    origin: str,
    files: Sequence[int],
) -> tuple[splits.Assignment, list[str]]:
    split = config.split
    if files:
        assigned = _by_files(config, numbers, classes, files)
    elif answers.split is None:
        assigned = splits.by_ratio(numbers, classes, split, config.seed)
    elif split.column is not None:
        assigned = splits.by_column(answers.split, origin, str(roles.split))
    elif split.group is not None:
        assigned = splits.by_group(answers.split, split, config.seed)
    elif split.time is not None:
        assigned = splits.by_time(answers.split, split, origin, str(roles.split))
    else:
        assigned = splits.by_hash(answers.split, split)
    return np.where(numbers < 0, splits.OUT, assigned.parts).astype(np.int8), list(assigned.notes)


def _by_files(
    config: RunConfig, numbers: Labels, classes: Sequence[str], files: Sequence[int]
) -> splits.Assigned:
    """Rows of separate files are theirs; those of the main file fill the other parts."""
    split = config.split
    main, parts = files[0], np.empty(len(numbers), np.int8)
    given = {1: split.validation_path, 2: split.test_path}
    for start, stop, index in zip(files, files[1:], [i for i in given if given[i]], strict=True):
        parts[start:stop] = index
    left = {1: 0.0 if given[1] else split.validation, 2: 0.0 if given[2] else split.test}
    total = split.train + sum(left.values())
    inner = split.model_copy(
        update={
            "validation": left[1] / total,
            "test": left[2] / total,
            "train": split.train / total,
        }
    )
    assigned = splits.by_ratio(numbers[:main], classes, inner, config.seed)
    parts[:main] = assigned.parts
    return splits.Assigned(parts, assigned.notes)


def _features(
    blocks: Iterator[tuple[Any, Any]],
    shape: tuple[int, int],
    config: RunConfig,
    source: Source,
    encoder: Columns,
) -> Matrix:
    """All of them; above the memory for them sparse where the source is, if that is less."""
    if source.sparse and cache.too_large(shape, config.data):
        zeros = pa.table({name: vectors_column(np.zeros((1, shape[1]))) for name in encoder.names})
        sparse = of_blocks(encoder.encode(Table(zeros, source.origin)).features[0], blocks)
        if LESS * sparse.nbytes < cache.bytes_of(shape):
            return sparse
        blocks = sparse.blocks()
    features = cache.array(shape, config.data)
    for place, some in blocks:
        features[place] = np.asarray(some)
    return features


def _encoded(
    tables: Iterator[Table], encoder: Columns, rows: npt.NDArray[np.intp], count: int
) -> Iterator[tuple[npt.NDArray[np.intp], Features]]:
    """Some rows at a time, and where their part has each."""
    place = np.full(count, -1, np.intp)
    place[rows] = np.arange(len(rows))
    for table in tables:
        where = place[table.first : table.first + table.rows.num_rows]
        encoded = encoder.encode(table)
        wanted = where >= 0
        if (encoded.bad & wanted).any():
            raise InputError(encoded.complaint or f"{table.origin}: a row cannot be encoded")
        yield where[wanted], encoded.features[wanted]
