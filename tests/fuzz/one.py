"""One parser under atheris, for so many seconds: python -m tests.fuzz.one PARSER FOLDER SECONDS."""

from __future__ import annotations

import sys
from pathlib import Path

LIMITS = ("-timeout=10", "-rss_limit_mb=4096", "-malloc_limit_mb=1024", "-print_final_stats=1")


def main(name: str, folder: Path, seconds: str) -> None:
    """Does not return. What it imports is watched; atheris is there for `./run fuzz` alone."""
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["jaxsoftmax.training"]):
        from .parsers import PARSERS, outcome  # noqa: PLC0415

    corpus, place = folder / "corpus", folder / "place"
    corpus.mkdir()
    place.mkdir()
    for number, seed in enumerate(PARSERS[name].seeds):
        (corpus / f"{number}").write_bytes(seed)
    flags = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup(
        [sys.argv[0], *LIMITS, *flags], lambda content: outcome(PARSERS[name], place, content)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
