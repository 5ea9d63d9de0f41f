"""How `make docs` builds the pages: Sphinx with MyST, offline; a warning fails the build."""

import os
import re
import sysconfig
from pathlib import Path

from crosshead import __version__

# The commands of tutorials are those of this environment, and none of them colours its output.
os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
os.environ |= {"NO_COLOR": "1", "TTY_COMPATIBLE": "0", "COLUMNS": "84"}
# Kernels read it as they start.
os.environ["PYTHONSTARTUP"] = str(Path(__file__).with_name("strict_shell.py"))
# Of a progress bar for notebooks that nobody needs here.
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"

project = "Crosshead"
author = "the Crosshead authors"
project_copyright = "the Crosshead authors, Apache-2.0"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = []

html_theme = "furo"
html_title = "Crosshead"
html_show_sourcelink = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Tutorials run while the pages are built; a cell that fails is a warning, which tells what it said.
nb_execution_mode = "force"
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True
# The lexer of notebooks knows no command over several lines.
suppress_warnings = ["misc.highlighting_failure"]
nb_execution_in_temp = True

# Docstrings name code in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style"), ("Legend", "notes_style")]


def _literal_blocks(app, what, name, obj, options, lines):
    """Equations and layouts stand indented in docstrings, between empty lines: they are shown as they are."""
    text = "\n".join(lines)
    lines[:] = re.sub(
        r"(?m)^(\S[^\n]*)\n\n((?:    +\S[^\n]*\n?)+)", lambda found: _literal(found), text
    ).splitlines()


def _literal(found):
    before, block = found.groups()
    section = re.match(r"(:|\.\.|\*|-)", before) or before.endswith("::")
    return found.group() if section else f"{before}\n\n::\n\n{block}\n"


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _literal_blocks, priority=600)
