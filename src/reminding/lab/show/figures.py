"""What all static figures share: colours, titles, files. The one file that imports matplotlib."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reminding.disk.writing import make_folder, write_file
from reminding.lab.show.arguments import figure_path
from reminding.lab.show.escaping import for_figure, visible

# Okabe and Ito's palette, which colour-blind readers can distinguish; in grey the line styles differ.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
FIGURES = (".png", ".svg", ".pdf")
"""Suffixes of files that a figure can be written to."""
LABEL_GAP = 4
"""Points between two labels of an axis."""
TITLE = 80
"""Characters of a line of a title."""
LABEL = 32
"""Characters of a line of a label, such as the name of a method or column."""
LINE = 0.17
"""Inches that a line of a label is high."""


class _Lines(textwrap.TextWrapper):
    """Breaks a text at blanks, and after the underscores, slashes and hyphens of names and paths."""

    wordsep_re = re.compile(r"(\s+|[^\s_/]*?(?:[_/]+|(?<=[A-Za-z0-9])(?<![0-9]e)-(?=[A-Za-z0-9])))")


def title_of(text: str) -> str:
    """A title on as many lines as it needs."""
    return _on_lines(text, TITLE)


def label_of(text: str) -> str:
    """A label on as many lines as it needs, so that a long name leaves room for the data."""
    return _on_lines(text, LABEL)


def label_lines(text: str) -> list[str]:
    """The lines of a label, with a sign for each character that cannot be seen."""
    return _Lines(LABEL).wrap(visible(text))


def _on_lines(text: str, width: int) -> str:
    return "\n".join(for_figure(line) for line in _Lines(width).wrap(visible(text)))


def lines_of(labels: Iterable[str]) -> list[int]:
    """The number of lines of each label."""
    return [label.count("\n") + 1 for label in labels]


def whole_ticks(*axes: Any) -> None:
    """Number an axis by whole numbers alone, as steps and updates are."""
    for axis in axes:
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def check_figure(path: Path) -> None:
    """Check that a figure can be written to a file.

    Raises:
        ValueError: the suffix is of no kind that is known.
    """
    if path.suffix.lower() not in FIGURES:
        raise ValueError(f"figure must end in {', '.join(FIGURES)}, got {path}")


def finish(figure: Any, path: Path | str) -> None:
    """Save a figure of pyplot and close it."""
    try:
        save(figure, path)
    finally:
        pyplot().close(figure)


def save(figure: Any, path: Path | str) -> None:
    """Save a figure, of the kind that its suffix says. A character that the font lacks is a box in it.

    Raises:
        ValueError: path: matplotlib writes no such kind.
    """
    path, content = figure_path(path), io.BytesIO()
    if path.suffix.removeprefix(".").lower() not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"path must end in {', '.join(FIGURES)} or another kind that matplotlib writes, got {path}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(content, format=path.suffix.removeprefix("."), dpi=150)
    make_folder(path.parent)
    write_file(path, content.getvalue())


def pyplot() -> Any:
    """The module, without a screen.

    Raises:
        ImportError: matplotlib is missing; the message says what to install.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "reminding[experiments]"') from error
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


@contextmanager
def style(*, constrained: bool) -> Generator[None]:
    """Other libraries draw by pyplot within, and change its style for these figures alone.

    Args:
        constrained: whether the figures have a constrained layout. A colour bar needs to know it when it is made.
    """
    with pyplot().rc_context({"figure.constrained_layout.use": constrained}):
        yield


def new_figure(**look: Any) -> Any:
    """A figure that pyplot does not manage, so that it need not be closed and a notebook's backend stays."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "reminding[experiments]"') from error
    return Figure(**look)


def thin_labels(figure: Any) -> None:
    """Hide each label of an axis that would touch the one before it. The figure is laid out for that."""
    figure.draw_without_rendering()
    for axis, low, high in ((axis, *ends) for axes in figure.axes for axis, ends in _axes_of(axes)):
        free = -float("inf")
        for label in axis.get_ticklabels():
            if not (label.get_visible() and label.get_text()):
                continue
            box = label.get_window_extent()
            if getattr(box, low) < free:
                label.set_visible(False)
            else:
                free = getattr(box, high) + LABEL_GAP * figure.dpi / 72


def _axes_of(axes: Any) -> list[tuple[Any, tuple[str, str]]]:
    """The two axes of a plot, each with the ends of a label along it."""
    return [(axes.xaxis, ("x0", "x1")), (axes.yaxis, ("y0", "y1"))]


def fading(colour: str) -> Any:
    """A colour map from white to a colour."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(colour, ["white", colour])
