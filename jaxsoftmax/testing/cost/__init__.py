"""What does it cost: time, memory, work and error of functions that compute the same."""

from .compare import compare as compare
from .compare_op import compare_op as compare_op
from .comparison import Comparison as Comparison
from .measurement import Measurement as Measurement
