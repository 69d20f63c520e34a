"""From any file to arrays: `Table` (as read), `Columns` (the encoder), `Dataset` (for a run)."""

from .columns import Columns
from .dataset import Dataset, Part, prepare
from .table import Table

__all__ = ["Columns", "Dataset", "Part", "Table", "prepare"]
