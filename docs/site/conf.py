"""The documentation as a site: ``make docs`` gathers its pages, and Sphinx makes it."""

from __future__ import annotations

import cirbench

project = "cirbench"
author = "The cirbench maintainers"
release = version = cirbench.__version__
html_title = "cirbench"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "__init__, __new__"}
napoleon_google_docstring = True

html_theme = "furo"
html_theme_options = {
    "source_repository": "https://github.com/cirbench/cirbench/",
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#0a5a8c", "color-brand-content": "#0a5a8c"},
    "dark_css_variables": {"color-brand-primary": "#86c5f0", "color-brand-content": "#86c5f0"},
}
html_copy_source = False
