"""Output to the terminal: a live display of training with sparklines, and tables. The one file that imports rich."""

from __future__ import annotations

import errno
import importlib
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from reminding.lab.show.escaping import for_terminal
from reminding.lab.show.tables import metric_text

METRIC = "metric"
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
"""From light to dark, for terminals without block characters."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full disk, of a quota, and of a file that may not grow."""
USUAL_WIDTH = 80
"""Columns of a terminal that does not tell its own."""
PADDING = 3
"""Columns of the terminal between two columns of a table."""


def _rich(part: str) -> Any:
    try:
        return importlib.import_module(f"rich.{part}")
    except ImportError as error:
        raise ImportError('the command line needs rich: pip install "reminding[experiments]"') from error


class _Output:
    """Where the program writes."""

    unread = False


def output_unread() -> bool:
    """Whether the reader of the output has gone, as `head` does after its lines."""
    return _Output.unread


def drop_output() -> None:
    """Write to nowhere from now on, as the output has no reader or no room: what the program does is worth its end.

    Standard error goes the same way if it is the same pipe or file.
    """
    _Output.unread = True
    nowhere = os.open(os.devnull, os.O_WRONLY)
    out, errors = sys.stdout.fileno(), sys.stderr.fileno()
    if os.path.sameopenfile(out, errors):
        os.dup2(nowhere, errors)
    os.dup2(nowhere, out)
    os.close(nowhere)


class _Stream:
    """Standard output, which is lost, as a broken pipe is, where its terminal was closed or its disk is full."""

    def __init__(self) -> None:
        self._stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)  # what a live display stands in front of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._closing():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what has not been written yet."""
        with self._closing():
            self._stream.flush()

    @contextmanager
    def _closing(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in NO_ROOM:
                with suppress(OSError):  # standard error may be in the same file
                    print(f"reminding: standard output is lost from here on: {error.strerror}", file=sys.stderr)
            elif error.errno != errno.EIO or not stat.S_ISCHR(os.fstat(self._stream.fileno()).st_mode):
                raise
            raise BrokenPipeError(errno.EPIPE, "the output is lost") from error


def _console(*, soft_wrap: bool = True) -> Any:
    """A console. Without a reader it stays silent, and the program goes on."""
    console = _rich("console").Console(highlight=False, soft_wrap=soft_wrap, file=_Stream())
    console.on_broken_pipe = drop_output  # rich would end the program with status 1
    if console.width < 1:  # as COLUMNS=0 says, where rich prints nothing
        console.width = USUAL_WIDTH
    return console


def _print(console: Any, thing: Any) -> None:
    try:
        console.print(thing)
    except BrokenPipeError:  # of rich before 13.8
        drop_output()


def _plain(console: Any, text: str, style: str = "") -> Any:
    """Text that is shown as it is: neither its brackets nor its control characters have an effect."""
    return _rich("text").Text(for_terminal(text, console.encoding), style=style)


def say(text: str) -> None:
    """Print a line."""
    console = _console()
    _print(console, _plain(console, text))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; all columns but the first are aligned right.

    Where a terminal has no room for all columns, they follow in parts below each other, each with the first column.
    """
    console = _console(soft_wrap=False)
    cells = [[_plain(console, text) for text in row] for row in zip(columns, *rows, strict=True)]
    if not console.is_terminal:  # a log file has no width to wrap at
        console.width = max(160, 1 + sum(_width(column, str.splitlines) for column in cells))
    if title:  # not the table's own, which is broken at the table's width
        _print(console, _plain(console, title, style="table.title"))
    whole, least = ([_width(column, pieces) for column in cells] for pieces in (str.splitlines, str.split))
    for part in _parts(least, console.width - 1):
        table = _rich("table").Table(box=_rich("box").SIMPLE_HEAD)
        widths = _fitted([whole[number] for number in part], [least[number] for number in part], console.width - 1)
        for number, width in zip(part, widths, strict=True):
            side = "right" if number else "left"
            table.add_column(cells[number][0], justify=side, overflow="fold", width=width - PADDING)
        for row in zip(*(cells[number][1:] for number in part), strict=True):
            table.add_row(*row)
        _print(console, table)


def _width(cells: Sequence[Any], pieces: Callable[[str], list[str]]) -> int:
    """The width of a column whose cells are broken into pieces, such as words, with the space beside it."""
    length = _rich("cells").cell_len
    return PADDING + max((length(piece) for cell in cells for piece in pieces(cell.plain)), default=0)


def _fitted(whole: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """The widths of columns: the widest ones give way where there is no room, as far as no word is broken."""
    widths = list(whole)
    while sum(widths) > room and (wide := [i for i in range(len(widths)) if widths[i] > least[i]]):
        widths[max(wide, key=lambda i: widths[i])] -= 1
    return widths


def _parts(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of the parts of a table, as many as have room in each; the first column is in every part."""
    parts = [[0]]
    for number in range(1, len(widths)):
        used = sum(widths[each] for each in parts[-1])
        if len(parts[-1]) > 1 and used + widths[number] > room:
            parts.append([0])
        parts[-1].append(number)
    return parts


class Status:
    """A live line about the present action, below lines about finished ones; without a terminal only the latter."""

    def __init__(self) -> None:
        self._console = _console()
        self._status = self._console.status("")

    def __enter__(self) -> Status:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def update(self, text: str) -> None:
        """Show the present action."""
        self._status.update(_plain(self._console, text))

    def done(self, text: str) -> None:
        """Print a line about a finished action."""
        _print(self._console, _plain(self._console, text))


@contextmanager
def doing(text: str) -> Generator[None]:
    """A live line about an action that may take long; without a terminal nothing."""
    with Status() as shown:
        shown.update(text)
        yield


class DownsampledSeries:
    """A series of values of any length, reduced to a bounded number of means over equally many values.

    Adding a value takes constant time. When there are `width` means, neighbours are merged in pairs.

    Args:
        width: greatest number of means, an even number of at least 2.
    """

    def __init__(self, width: int = 24) -> None:
        if width < 2 or width % 2:
            raise ValueError(f"width must be an even number of at least 2, got {width}")
        self.width = width
        self.last = math.nan
        self._means: list[float] = []
        self._size = 1
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        """Add a value; values that are not finite are ignored."""
        if not math.isfinite(value):
            return
        self.last = value
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._size:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == self.width:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means, self._size = [(a + b) / 2 for a, b in pairs], 2 * self._size

    @property
    def means(self) -> list[float]:
        """The means, oldest first; the last may be over fewer values than the others."""
        return [*self._means, *([self._sum / self._count] if self._count else [])]


def sparkline(values: Sequence[float], levels: str = BLOCKS) -> str:
    """One character per value, scaled from the least to the greatest; values that are all equal get the middle level.

    Args:
        values: finite numbers.
        levels: characters from low to high: `BLOCKS` or `ASCII`.
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    if high == low:
        return levels[len(levels) // 2] * len(values)
    return "".join(levels[round((value - low) / (high - low) * (len(levels) - 1))] for value in values)


class LiveDisplay:
    """Live display of a run: updates, rate, time left, and sparklines of loss, metric and norm of h.

    Without a terminal it prints plain lines. Sparklines are in ASCII where block characters cannot be shown.

    Args:
        label: of the run.
        total: greatest number of updates; done: number of updates before.
        seconds: time left; None: no limit.
    """

    def __init__(self, label: str, total: int, done: int = 0, seconds: float | None = None) -> None:
        self._console = _console()
        bar = _rich("progress")
        self._bar = bar.Progress(
            bar.TextColumn("{task.description}", markup=False),
            bar.BarColumn(bar_width=20),
            bar.TextColumn("{task.completed}/{task.total}"),
            bar.TextColumn("{task.fields[numbers]}"),
            bar.TimeRemainingColumn(),
            console=self._console,
        )
        self._series = {name: DownsampledSeries() for name in ("loss", METRIC, "norm of h")}
        self._name = METRIC
        label = for_terminal(label, self._console.encoding)
        self._task = self._bar.add_task(label, total=total, completed=done, numbers="")
        self._label, self._total, self._seconds = label, total, seconds
        self._began, self._first = time.monotonic(), done
        self._metric, self._running, self._steps = "", "", 0
        self._live = _rich("live").Live(
            get_renderable=self._picture, console=self._console, transient=True, refresh_per_second=8
        )

    def __enter__(self) -> LiveDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _picture(self) -> Any:
        """The progress bar, and below it a sparkline for each number with values."""
        levels = ASCII if self._console.options.ascii_only else BLOCKS
        lines = _rich("table").Table.grid(padding=(0, 2))
        for name, series in self._series.items():
            if series.means:
                shown = self._name if name == METRIC else name
                lines.add_row(f"  {shown}", sparkline(series.means, levels), f"{series.last:.4g}")
        return _rich("console").Group(self._bar.get_renderable(), lines)

    def resumed(self, records: Iterable[Mapping[str, Any]], metric: str) -> None:
        """Restore the sparklines of a resumed run.

        Args:
            records: of the run's log.
            metric: the main metric.
        """
        for record in records:
            if record["kind"] == "train":
                self._series["loss"].add(record.get("loss", math.nan))
            elif record["kind"] == "valid":
                self._follow(metric, record[metric], record.get("state_norm"))

    def _follow(self, metric: str, value: float, norm: float | None) -> None:
        self._name = f"valid {metric}"
        self._series[METRIC].add(value)
        if norm is not None:
            self._series["norm of h"].add(norm)

    def update(self, step: int, loss: float, steps: int = 0, running: str = "") -> None:
        """Show the state after an update.

        Args:
            steps: time steps of all sequences in the batch.
            running: on a stream the metric over the latest chunks, which replaces the loss.
        """
        elapsed = max(time.monotonic() - self._began, 1e-9)
        self._steps += steps
        self._running = f"{running}  {self._steps / elapsed:,.0f} steps/s" if running else f"loss {metric_text(loss)}"
        self._series["loss"].add(loss)
        rate = (step - self._first) / elapsed
        self._bar.update(
            self._task, completed=step, numbers=f"{rate:.1f}/s" + (f"  {self._running}" if running else "")
        )

    def warn(self, step: int, text: str) -> None:
        """Print a warning above the live display."""
        line = f"{self._label}  {step}/{self._total}  warning: {text}"
        _print(self._console, _plain(self._console, line, style="yellow"))

    def evaluated(self, step: int, metric: str, value: float, norm: float | None = None) -> None:
        """Show an evaluation; without a terminal, print a line.

        Args:
            value: of the metric, on the validation split.
            norm: of h; None if the model has no h.
        """
        self._follow(metric, value, norm)
        self._metric = f"  valid {metric} {metric_text(value)}"
        if self._console.is_terminal:
            return
        elapsed = time.monotonic() - self._began
        left = elapsed / max(step - self._first, 1) * (self._total - step)
        if self._seconds is not None:
            left = min(left, max(self._seconds - elapsed, 0.0))
        rate = (step - self._first) / max(elapsed, 1e-9)
        line = f"{self._label}  {step}/{self._total}  {rate:.1f} updates/s  {self._running}{self._metric}"
        _print(self._console, _plain(self._console, f"{line}  at most {left:.0f} s left"))
