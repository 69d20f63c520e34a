"""Sphinx: pages whose code cells run at every build, and the reference from docstrings.

Formulas become MathML, which browsers draw without a script: pages need no network.
"""

import importlib.metadata
import re

from docutils.nodes import SkipNode
from latex2mathml import converter

project = "jaxsoftmax"
author = copyright = "The jaxsoftmax authors"  # noqa: A001 - Sphinx's own name for it
release = importlib.metadata.version(project)

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"  # `name` in a docstring is code
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]

myst_enable_extensions = ["amsmath", "dollarmath"]
nb_execution_mode = "force"
nb_execution_show_tb = True  # an exception on a page is a warning, and ends the build
nb_execution_timeout = 120

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def setup(app):
    """Tells Sphinx how formulas are drawn."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


# A function's name stands off its argument, unless a bracket does.
_NAME = re.compile(r"(<mi>(?:exp|log|max|min|tanh)</mi>)(?!<mo[^>]*>[(]|</)")


def _mathml(formula, **how):
    return _NAME.sub(r'\1<mspace width="0.17em"/>', converter.convert(formula, **how))


def _inline(writer, node):
    writer.body.append(_mathml(node.astext()))
    raise SkipNode


def _block(writer, node):
    formula = node.astext()
    if "\\\\" in formula and "\\begin" not in formula:
        formula = f"\\begin{{aligned}}{formula}\\end{{aligned}}"
    writer.body.append(f'<div class="math">{_mathml(formula, display="block")}</div>')
    raise SkipNode
