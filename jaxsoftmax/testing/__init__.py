"""Tools for those who write derivative rules: does a rule hold, and what does it cost?"""

from ._check_rules import check_rules as check_rules
from ._compare import compare as compare
from ._comparison import Comparison as Comparison
from ._comparison import Measurement as Measurement
from ._contenders import compare_op as compare_op
from ._from_name import check_from_name as check_from_name
from ._report import Check as Check
from ._report import RulesError as RulesError
from ._report import RulesReport as RulesReport
