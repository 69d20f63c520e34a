"""NPY, NPZ and safetensors: no pickle ever, and no memory before a header is found true."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError

from .guard import sentences

Array = npt.NDArray[Any]

NUMBERS = 1 << 20  # at a time
FEATURES = ("features", "x", "X", "embeddings", "data")
LABELS = ("labels", "label", "y", "Y", "target", "targets")
MOST_PACKED = 200  # times smaller in the file than in memory, for members above the next
FREELY_PACKED = 1 << 28  # bytes


def read_npy(path: Path, data: DataConfig) -> Source:
    """A matrix of features, memory-mapped; labels come from a second file."""

    def tables() -> Iterator[Table]:
        arrays = {"features": map_npy(path)}
        if data.labels_path is not None:
            other = Path(data.labels_path)
            arrays = paired(path, arrays["features"], other, _labels(other))
        yield from array_tables(path, arrays)

    return Source(f"{path}", tables, "labels" if data.labels_path else None)


def read_npz(path: Path, data: DataConfig) -> Source:
    """An archive with an array of features and one of labels."""

    def tables() -> Iterator[Table]:
        with sentences(path), zipfile.ZipFile(path) as archive:
            members = _checked_members(path, archive)
            names = _chosen(path, data, list(members))
            arrays = {name: _member(path, archive, members[name]) for name in names if name}
        yield from array_tables(path, _named(path, arrays, names))

    return Source(f"{path}", tables, "labels")


def read_safetensors(path: Path, data: DataConfig) -> Source:
    """A safetensors file with an array of features and one of labels."""

    def tables() -> Iterator[Table]:
        import safetensors

        with sentences(path):
            try:
                with safetensors.safe_open(path, "numpy") as file:
                    names = _chosen(path, data, list(file.keys()))
                    arrays = {name: _wide(file.get_tensor(name)) for name in names if name}
            except safetensors.SafetensorError as error:
                raise InputError(f"{path}: is not a safetensors file: {error}") from None
        yield from array_tables(path, _named(path, arrays, names))

    return Source(f"{path}", tables, "labels")


def map_npy(path: Path) -> Array:
    """The array of a ``.npy`` file, as a memory map."""
    with sentences(path), path.open("rb") as file:
        shape, fortran, dtype = _npy_header(path.name, file)
        start, size = file.tell(), math.prod(shape) * dtype.itemsize
        file.seek(0, 2)
        if file.tell() - start != size:
            raise InputError(
                f"{path}: has {file.tell() - start:,} bytes where its header says {size:,}"
            )
        if size == 0:
            return np.empty(shape, dtype)
        if fortran:
            return np.memmap(path, dtype, "r", start, shape, "F")
        return np.memmap(path, dtype, "r", start, shape, "C")


def array_tables(
    path: Path | str, arrays: Mapping[str, Array], rows: int | None = None
) -> Iterator[Table]:
    """Arrays of equally many rows as tables; what has more dimensions is flattened by row."""
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        told = " but ".join(f"{count} rows in '{name}'" for name, count in counts.items())
        raise InputError(f"{path}: {told}")
    features = arrays["features"]
    if features.ndim < 2 or features.dtype.kind not in "iufb" or 0 in features.shape:
        raise InputError(
            f"{path}: expected rows x features of real numbers, "
            f"got shape {features.shape} of {features.dtype}"
        )
    at_a_time = rows or max(1, NUMBERS // math.prod(features.shape[1:]))
    for first in range(0, len(features), at_a_time):
        part = slice(first, first + at_a_time)
        columns = {"features": vectors_column(features[part])}
        for name in arrays.keys() - {"features"}:
            columns[name] = _label_column(path, name, arrays[name][part])
        yield Table(pa.table(columns), f"{path}", first)


def vectors_column(array: Array) -> pa.Array:
    """Rows of numbers as a column of vectors."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "b" or not flat.dtype.isnative:
        flat = flat.astype(np.uint8 if flat.dtype.kind == "b" else flat.dtype.newbyteorder("="))
    if flat.dtype.kind == "f" and flat.dtype.itemsize not in (4, 8):
        flat = flat.astype(np.float64 if flat.dtype.itemsize > 8 else np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), math.prod(array.shape[1:]))


def paired(path: Path, features: Array, other: Path, labels: Array) -> dict[str, Array]:
    """Features and labels of two files."""
    if labels.ndim != 1 or len(labels) != len(features):
        raise InputError(
            f"{other}: expected {len(features)} labels, one for each row of {path}, "
            f"got shape {labels.shape}"
        )
    return {"features": features, "labels": labels}


def is_npz(path: Path) -> bool:
    """Whether all members of an archive are arrays."""
    with sentences(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _wide(array: Array) -> Array:
    """What Arrow has no type for as float32, which holds all its values."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _labels(path: Path) -> Array:
    if path.suffix == ".npy":
        return np.asarray(map_npy(path))
    with sentences(path):
        return np.array(path.read_text(encoding="utf-8").split())


def _label_column(path: Path | str, name: str, array: Array) -> pa.Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iufbUS":
        raise InputError(
            f"{path}: '{name}' must hold one number or text for each row, "
            f"got shape {array.shape} of {array.dtype}"
        )
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return pa.array(array)


def _chosen(path: Path, data: DataConfig, names: Sequence[str]) -> tuple[str, str | None]:
    features = data.array or next((name for name in FEATURES if name in names), None)
    labels = data.label if data.label is not None else next((n for n in LABELS if n in names), None)
    if features is None and len(names) == 1:
        features = names[0]
    for wanted, key in ((features, "array"), (labels, "label")):
        if (wanted is None and key == "array") or (wanted is not None and wanted not in names):
            told = f"no array is named '{wanted}'" if wanted else f"write [data] {key}"
            raise InputError(f"{path}: {told}; there is {', '.join(map(repr, names[:8]))}")
    return str(features), None if labels is None else str(labels)


def _named(path: Path, arrays: dict[str, Array], names: tuple[str, str | None]) -> dict[str, Array]:
    named = {"features": arrays[names[0]]}
    if names[1] is not None:
        named["labels"] = arrays[names[1]]
    return named


def _checked_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise InputError(f"{path}: has two members named '{info.filename}'")
        packed = max(info.compress_size, 1)
        if info.file_size > FREELY_PACKED and info.file_size > MOST_PACKED * packed:
            raise InputError(
                f"{path}: '{info.filename}' would unpack to {info.file_size:,} bytes, "
                f"{info.file_size // packed} times its size in the file"
            )
        members[name] = info
    return members


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as file:
        shape, fortran, dtype = _npy_header(info.filename, file)
        size = math.prod(shape) * dtype.itemsize
        content = file.read(size + 1) if size <= info.file_size else b""
        if len(content) != size:
            raise InputError(f"{path}: '{info.filename}' is not as large as its header says")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _npy_header(name: str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the NPY format is not known")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(f"'{name}' holds Python objects, which are never loaded")
    return shape, fortran, dtype
