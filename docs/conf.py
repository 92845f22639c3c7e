"""Settings of Sphinx, which builds the documentation: ``sphinx-build -W --keep-going docs site/html``.

The tables of contents are explicit: a page that none of them names is an error, as is a link that leads nowhere. A
build in a folder of an earlier one renews only the pages that have changed; delete site/ to renew all.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "extensions")]

import fastmlp  # noqa: E402

project = "fastmlp"
author = "the fastmlp developers"
copyright = author
version = release = fastmlp.__version__

extensions = [
    "myst_nb",  # Markdown, and the notebooks of the gallery
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    # those in docs/extensions
    "asv_pages",
    "examples",
    "interface",
    "links",
    "mathml",
]
exclude_patterns = ["extensions", "templates", "static"]
templates_path = ["templates"]
html_static_path = ["static"]

# --- text

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # docs/extensions/examples.py has executed them
default_role = "py:obj"  # `name` in a docstring is a link if it is the name of something, else code
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# --- the reference

add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # numpydoc has them in words
autosummary_generate = True
autosummary_imported_members = True
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False  # autodoc documents them, see templates/autosummary/class.rst

# --- the pages, which ask for nothing elsewhere

html_theme = "pydata_sphinx_theme"
html_title = "fastmlp"
html_css_files = ["fastmlp.css"]
html_math_renderer = "mathml"  # MathJax would come from a content network
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # browsers refuse it to pages on a disk
html_theme_options = {
    "logo": {"text": "fastmlp"},
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_depth": 3,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "tutorial": [], "changelog": [], "contributing": [], "gallery": []}
