"""How Sphinx builds the site; scripts/build_site.py prepares the pages and starts it."""

import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))
_PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())

project = html_title = "Look Inside"
author = _PROJECT["project"]["authors"][0]["name"]
release = _PROJECT["project"]["version"]
language = "en"

extensions = ["myst_nb", "sphinx_design", "mathml"]
exclude_patterns = ["originals"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are committed with their outputs
nb_merge_streams = True  # several prints are one piece of text

html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["look_inside.css"]
html_copy_source = False  # each page offers the notebook itself
html_show_sphinx = False
html_theme_options = {
    "repository_url": _PROJECT["project"]["urls"]["Repository"],
    "use_repository_button": True,
    "use_download_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the search field stands in the sidebar
}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system
