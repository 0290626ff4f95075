"""Sphinx's configuration: `sphinx-build -W docs site`."""

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
html_theme = "alabaster"
html_theme_options = {
    "description": "The level set loss for semantic segmentation",
    "fixed_sidebar": True,
}
autodoc_member_order = "bysource"
# The text says what a class is made with: Keras' own arguments would drown it.
autodoc_default_options = {"members": True, "exclude-members": "call, get_config"}
napoleon_use_rtype = False
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Call arguments and errors", "notes_style"),
]
