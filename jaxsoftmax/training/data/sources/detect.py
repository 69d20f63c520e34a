"""Which reader reads what: by what is asked for, by content, by the end of the name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jaxsoftmax.training.config.keys import DataConfig
from jaxsoftmax.training.data.table import Source, Table
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.files import expand

from . import arrays, arrow, builtin, csv, idx, jsonl, svmlight
from .guard import sentences, steady
from .packed import SUFFIXES, head, packing

READERS = {
    "csv": csv.read,
    "jsonl": jsonl.read,
    "parquet": arrow.read_parquet,
    "arrow": arrow.read_ipc,
    "hf": arrow.read_saved_dataset,
    "npy": arrays.read_npy,
    "npz": arrays.read_npz,
    "safetensors": arrays.read_safetensors,
    "svmlight": svmlight.read,
    "idx": idx.read,
}
ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
    ".libsvm": "svmlight",
}

HEAD = 64  # bytes that tell a format
_OBJECT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:\[\s*)?\{\s*(?:\"|$)"
)  # of JSON, or the first of many

# Formats that are told by their first bytes, and the name of those that are not read.
MAGIC = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),
    (b"\x93NUMPY", "npy"),
)
STRANGERS = (
    (b"\x80\x03", "a Python pickle, which can run code when it is opened and is never read here"),
    (b"\x80\x04", "a Python pickle, which can run code when it is opened and is never read here"),
    (b"\x80\x05", "a Python pickle, which can run code when it is opened and is never read here"),
    (b"\xfd7zXZ", "packed with xz; unpack it, or pack it with gzip or zstd"),
    (b"7z\xbc\xaf", "packed with 7-Zip; unpack it"),
    (b"@relation", "an ARFF file; save it as CSV"),
    (b"@RELATION", "an ARFF file; save it as CSV"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"SQLite format 3", "an SQLite database; save the table as CSV"),
    (b"\x89HDF", "an HDF5 file; save its arrays as NPZ"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file; save it as CSV"),
    (b"ORC", "an ORC file"),
    (b"FEA1", "a Feather file of version 1; write it again with a newer pyarrow"),
    (b"\x7fELF", "a program"),
    (b"<!DOCTYPE", "a web page; the download has failed"),
    (b"<html", "a web page; the download has failed"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file with git lfs pull"),
)


def open_source(data: DataConfig, paths: Sequence[str] | None = None) -> Source:
    """The source that a config names; ``paths`` in the place of its own.

    Raises:
      InputError: there is no such file, or it is of a kind that is not read.
    """
    if paths is None and data.synthetic is not None:
        return builtin.synthetic(data.synthetic)
    if paths is None and data.name is not None:
        return builtin.read(data.name)
    files = expand(paths or data.paths)
    sources = [_open(path, data) for path in files]
    return sources[0] if len(sources) == 1 else _joined(sources)


def format_of(path: Path) -> str:
    """The format of a file: what its first bytes say, else what its name says."""
    if path.is_dir():
        if (path / "state.json").exists() or (path / "dataset_info.json").exists():
            return "hf"
        raise InputError(
            f"{path}: is a folder, and none that Hugging Face datasets saved; name the files in it"
        )
    _check_file(path)
    with sentences(path):
        start, packed = head(path, HEAD), packing(path)
    if not start:
        raise InputError(f"{path}: is empty")
    stranger = next((name for magic, name in STRANGERS if start.startswith(magic)), None)
    if stranger is not None:
        raise InputError(f"{path}: is {stranger}")
    zipped = start.startswith(b"PK\x03\x04")
    known = next((name for magic, name in MAGIC if start.startswith(magic)), None)
    if packed and (zipped or known):
        raise InputError(f"{path}: is a packed {known or 'ZIP'} file; unpack it ({packed})")
    return _zip_format(path) if zipped else known or _format_named(path, start)


def _check_file(path: Path) -> None:
    """Refuses pipes and devices: a source is read several times, and a pipe can be read once."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is a pipe or a device, and can be read only once; save it first")


def _format_named(path: Path, start: bytes) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    ending = next((suffix for suffix in reversed(suffixes) if suffix not in SUFFIXES), "")
    found = ENDINGS.get(ending) or ("idx" if idx.recognised(path) else "csv")
    return "jsonl" if found == "csv" and _OBJECT.match(start) else found


def _zip_format(path: Path) -> str:
    if path.suffix.lower() == ".xlsx":
        raise InputError(f"{path}: is an Excel file; save it as CSV")
    if path.suffix.lower() == ".npz" or arrays.is_npz(path):
        return "npz"
    raise InputError(f"{path}: is a ZIP archive of other files; unpack it and name one of them")


def _open(path: Path, data: DataConfig) -> Source:
    found = format_of(path)
    wanted = found if data.source == "auto" else data.source
    if wanted == "builtin":
        raise InputError(f'{path}: source "builtin" has no path')
    if found in ("parquet", "arrow", "npy", "npz", "hf") and wanted != found:
        raise InputError(
            f'{path}: is a file of format {found}, not {wanted}; write source = "auto"'
        )
    labels = [Path(data.labels_path)] if data.labels_path is not None else []
    for other in labels:
        _check_file(other)
    return steady(READERS[wanted](path, data), [path, *labels])


def _joined(sources: Sequence[Source]) -> Source:
    """Several files as one; all must have the columns of the first."""
    first = sources[0]

    def tables() -> Iterator[Table]:
        count, names = 0, None
        for source in sources:
            for table in source.tables():
                names = names or set(table.rows.column_names)
                different = names.symmetric_difference(table.rows.column_names)
                if different:
                    raise InputError(
                        f"{source.origin}: its columns are not those of {first.origin}; "
                        f"'{min(different)}' is in one of them only"
                    )
                place = _placed(source.origin, table.place, count - table.first)
                yield table._replace(first=count, place=place)
                count += table.rows.num_rows

    guesses = tuple(dict.fromkeys(guess for source in sources for guess in source.guesses))
    origin, sparse = f"{first.origin} and {len(sources) - 1} more", all(s.sparse for s in sources)
    return Source(origin, tables, first.label, guesses, sparse=sparse)


def _placed(origin: str, place: Callable[[int], str], offset: int) -> Callable[[int], str]:
    return lambda row: f"{origin}: {place(row - offset)}"
