"""The contract as data: kinds of hard input, what is right, and how it is checked."""

from . import arrays as arrays
from . import losses as losses
from . import transformations as transformations
from .special_values import ROWS as ROWS
from .tables import BEHAVIOURS as BEHAVIOURS
