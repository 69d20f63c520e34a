"""Sources: any file, as tables that can be read again and again."""

from .detect import open_source

__all__ = ["open_source"]
