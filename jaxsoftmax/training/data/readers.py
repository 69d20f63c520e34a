"""Strict readers for CSV, NPY and NPZ: a bad file is one sentence."""

from __future__ import annotations

import csv
import difflib
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaxsoftmax.training.errors import InputError

Matrix = npt.NDArray[np.float32]
RawLabels = npt.NDArray[np.generic]

_LARGEST = float(np.finfo(np.float32).max)

# float() alone also takes "nan", "inf" and "1_000".
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_labelled_csv(path: Path, label: str) -> tuple[Matrix, RawLabels, tuple[str, ...]]:
    """Reads features ``(N, D)``, labels ``(N,)`` and the feature names from a CSV with a header."""
    header, rows = _read_csv(path)
    if label not in header:
        close = difflib.get_close_matches(label, header, n=1) or header[:8]
        raise InputError(f"{path}: no column is named '{label}'; there is {_listed(close)}")
    at = header.index(label)
    names = tuple(name for name in header if name != label)
    if not names:
        raise InputError(f"{path}: '{label}' is the only column; there are no features")
    words = [row[at] for _, row in rows]
    for (line, _), word in zip(rows, words, strict=True):
        if not word.strip():
            raise InputError(f"{path}: line {line}, column '{label}': the label is empty")
    return _numbers(path, header, rows, names), _classes(words), names


def read_feature_csv(path: Path, names: Sequence[str]) -> Matrix:
    """Reads the named columns, in the order of ``names``, from a CSV with a header."""
    header, rows = _read_csv(path)
    missing = [name for name in names if name not in header]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{path}: the model was trained with a column '{missing[0]}'{more}, "
            f"which the header lacks"
        )
    return _numbers(path, header, rows, names)


def read_npy(path: Path, width: int) -> Matrix:
    """Reads a feature matrix ``(N, width)``."""
    with _sentences(path), path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: expected one array (.npy), got an archive of arrays")
    features = _matrix(f"{path}", array)
    if features.shape[1] != width:
        raise InputError(
            f"{path}: the model was trained with {width} features, "
            f"the rows have {features.shape[1]}"
        )
    return features


def read_npz(path: Path, features: str, labels: str) -> tuple[Matrix, RawLabels]:
    """Reads a feature matrix ``(N, D)`` and labels ``(N,)`` from the named arrays of an archive."""
    with _sentences(path), path.open("rb") as file:  # NumPy leaves a damaged one open
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: expected an archive of arrays (.npz), got one array")
        for key in (features, labels):
            if key not in archive:
                raise InputError(
                    f"{path}: no array is named '{key}'; there is {_listed(archive.files)}"
                )
        matrix, raw = archive[features], archive[labels]
    if raw.ndim != 1 or raw.dtype.kind not in "iuUb":
        raise InputError(
            f"{path}: '{labels}' must hold one integer or string per row, "
            f"got shape {raw.shape} of {raw.dtype}"
        )
    if len(raw) != len(matrix):
        raise InputError(f"{path}: {len(matrix)} rows in '{features}' but {len(raw)} in '{labels}'")
    return _matrix(f"{path}: '{features}'", matrix), raw


def _matrix(place: str, array: npt.NDArray[np.generic]) -> Matrix:
    if array.ndim != 2 or array.dtype.kind not in "iufb" or 0 in array.shape:
        raise InputError(
            f"{place}: expected rows x features of real numbers, "
            f"got shape {array.shape} of {array.dtype}"
        )
    with np.errstate(over="ignore"):
        features = array.astype(np.float32)
    _check_finite(place, features, [f"column {i}" for i in range(array.shape[1])])
    return features


def _check_finite(place: str, features: Matrix, columns: Sequence[str]) -> None:
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise InputError(
            f"{place}: row {row}, {columns[column]}: {features[row, column]} "
            f"is not a finite float32 number ({len(bad)} such in all)"
        )


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with its line number."""
    with _sentences(path), path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        rows = [(reader.line_num, row) for row in reader if row]
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise InputError(f"{path}: the header repeats '{min(repeated)}'")
    if not rows:
        raise InputError(f"{path}: expected a header and rows, found {len(header)} names, 0 rows")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path}: line {line} has {len(row)} fields, the header has {len(header)}"
            )
    return header, rows


def _numbers(
    path: Path, header: list[str], rows: list[tuple[int, list[str]]], names: Sequence[str]
) -> Matrix:
    columns = [header.index(name) for name in names]
    features = np.empty((len(rows), len(names)), np.float32)
    for i, (line, row) in enumerate(rows):
        for j, column in enumerate(columns):
            word = row[column].strip()
            value = float(word) if _NUMBER.fullmatch(word) else np.nan
            if not abs(value) <= _LARGEST:
                raise InputError(
                    f"{path}: line {line}, column '{header[column]}': "
                    f"expected a finite float32 number, got '{word[:80]}'"
                )
            features[i, j] = value
    return features


def _classes(words: list[str]) -> RawLabels:
    """Labels as integers when all of them are, so that 10 comes after 9."""
    words = [word.strip() for word in words]
    if all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", word, re.ASCII) for word in words):
        return np.array([int(word) for word in words])
    return np.array(words)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turns what the parsers of other libraries raise into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path}: its header asks for more memory than there is") from None
    except (ValueError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is damaged or of another kind: {reason}") from None
