"""Sphinx's configuration: `sphinx-build -W docs site`."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

from tf_levelset import __version__

project = "tf_levelset"
copyright = "the authors of tf_levelset"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Links out of docs/ are to the repository's files.
suppress_warnings = ["myst.xref_missing"]
exclude_patterns = ["performance", "results"]
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_math_renderer = "mathml"
autodoc_member_order = "bysource"
# The text says what a class is made with: Keras' own arguments would drown it.
autodoc_default_options = {"members": True, "exclude-members": "call, get_config"}
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Call arguments and errors", "notes_style"),
]


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Writes formulas as MathML, which browsers show by themselves.

    Sphinx's own renderers want a script from the network, or LaTeX.
    """
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
