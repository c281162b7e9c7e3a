"""Sphinx settings of the report; copied beside the generated pages. Nothing is executed, nothing is fetched."""

project = "zephyr_lab"
author = "The zephyr_lab authors"
extensions = ["myst_nb"]
exclude_patterns = ["_static"]
suppress_warnings = ["myst.header"]  # a notebook may open a level without its parent

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [
    ("html", "text/html", 0),
    ("html", "image/svg+xml", 1),
    ("html", "image/png", 2),
    ("html", "text/latex", 3),
    ("html", "text/plain", 4),
]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
mathjax_path = "mathjax.js"
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}

html_theme = "furo"
html_title = "zephyr_lab"
html_static_path = ["_static"]
html_css_files = ["zephyr_lab.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0a5a94", "color-brand-content": "#0a5a94"},
    "dark_css_variables": {"color-brand-primary": "#7cc0f0", "color-brand-content": "#7cc0f0"},
}
