"""The contract as data: 80 kinds of hard input, what is right, and how it is checked."""

from . import behaviours as behaviours
from .special_values import ROWS as ROWS
from .tables import BEHAVIOURS as BEHAVIOURS
