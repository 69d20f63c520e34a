from .autodiff import custom_rules as custom_rules
