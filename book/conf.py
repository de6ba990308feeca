"""How the book looks; build.py gathers its pages and builds it."""

project = "FitNets in two stages"
html_title = project
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # formulas without a network
]
exclude_patterns = [".doctrees"]

nb_execution_mode = "off"  # notebooks are shown as they were executed
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Docstrings: Google's style; `training.fit` in single backticks is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # they stand in the signature
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_custom_sections = [("Attributes", "params_style")]  # which may describe several in one line
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # browsers let no page that is opened as a file read others
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "footer_content_items": [],
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_static_path = ["."]
html_css_files = ["book.css"]
