"""Does a rule hold: in every mode of differentiation, at orders 1 and 2, under `jax.vmap`?"""

from .check import check_rules as check_rules
from .from_name import check_from_name as check_from_name
from .report import Check as Check
from .report import RulesError as RulesError
from .report import RulesReport as RulesReport
