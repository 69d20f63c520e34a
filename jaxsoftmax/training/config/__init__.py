"""Everything that decides the result of a run, as one tree of strict models."""

from .file import load_config
from .keys import RunConfig

__all__ = ["RunConfig", "load_config"]
