"""Sphinx: pages whose code cells run at every build, and the reference from docstrings."""

import importlib.metadata

project = "jaxsoftmax"
author = copyright = "The jaxsoftmax authors"  # noqa: A001 - Sphinx's own name for it
release = importlib.metadata.version(project)

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build"]
default_role = "code"  # `name` in a docstring is code
html_theme = "furo"
html_title = f"{project} {release}"

myst_enable_extensions = ["amsmath", "dollarmath"]
nb_execution_mode = "force"
nb_execution_show_tb = True  # an exception on a page is a warning, and ends the build
nb_execution_timeout = 120

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
