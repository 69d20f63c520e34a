"""Tools for those who write derivative rules: does a rule hold, and what does it cost?"""

from .cost import Comparison as Comparison
from .cost import Measurement as Measurement
from .cost import compare as compare
from .cost import compare_op as compare_op
from .rules import Check as Check
from .rules import RulesError as RulesError
from .rules import RulesReport as RulesReport
from .rules import check_from_name as check_from_name
from .rules import check_rules as check_rules
