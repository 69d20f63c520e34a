"""Row kernels for CPUs, in C++: built where a compiler is, absent where none is, never needed."""

from .library import PREFIX as PREFIX
from .library import Library as Library
from .library import enabled as enabled
from .library import kernels as kernels
from .library import library as library
from .library import mode as mode
from .pages import asked_for as asked_for
from .pages import huge_pages as huge_pages
