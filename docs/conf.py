"""How the documentation is built, without a network: pictures and pages of results are generated first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from docs import command_pages, results_pages  # noqa: E402  the root is on the path only now
from docs.figures import calls, charts, deferred, idea  # noqa: E402

project = "reminding"
author = "the authors of reminding"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**/__pycache__"]

html_theme = "furo"
html_title = "reminding"
html_static_path = ["_static"]
html_css_files = ["pictures.css"]
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_type_aliases = dict.fromkeys(("Rows", "TimeRows", "HostRows", "Whole", "HostWhole"), "torch.Tensor")
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Gradient", "notes_style")]
default_role = "code"  # a name in single backticks is code in docstrings, as it is in Markdown
pygments_style, pygments_dark_style = "tango", "monokai"

nitpicky = True
# Names of other projects (without a network, nothing can link to them), and the history, which is internal.
nitpick_ignore_regex = [
    ("py:.*", pattern)
    for pattern in (
        r"(reminding.nn.layer.calls|reminding.nn.state.(past|made_by)|reminding.lab.train.group|reminding.lab.explain.times|FolderInUseError|CannotWriteError|DamagedFileError|TypeAliasForwardRef|Rows|HostRows|TimeRows|torch|np|numpy|nn|collections|pathlib|abc|NDArray|Tensor|PackedSequence|Path|Any|Literal).*",
    )
]


def _generate(app: Any) -> None:
    idea.write(DOCS / "_generated")
    calls.write(DOCS / "_generated")
    deferred.write(DOCS / "_generated")
    charts.write(DOCS / "_generated", ROOT / "results")
    command_pages.write(DOCS / "_generated")
    results_pages.write(DOCS / "_generated", ROOT)


def setup(app: Any) -> None:
    """Generate pages and pictures before Sphinx reads any page."""
    app.connect("builder-inited", _generate)
