"""When credit into earlier chunks is sent: at every chunk, or added up and sent every few chunks."""

from __future__ import annotations

from pathlib import Path

from docs.figures.svg import CREDIT, FAINT, INK, RECALL, Picture, write_if_changed

WIDE = 660.0
CHUNKS = 6
FIRST, APART, SIDE = 190.0, 78.0, 30.0


def write(folder: Path) -> None:
    """Write the picture as an SVG file that a page takes in."""
    picture = deferred_credit()
    write_if_changed(folder / f"{picture.name}.svg", picture.svg())


def _x(chunk: int) -> float:
    return FIRST + APART * chunk


def _stream(picture: Picture, y: float, title: str, lines: tuple[str, ...], sweeps: set[int]) -> None:
    """A row of chunks; those at which credit is sent are full."""
    picture.text(10, y - 4, title, anchor="start", bold=True)
    for number, line in enumerate(lines):
        picture.text(10, y + 14 + 15 * number, line, anchor="start", size=12)
    for chunk in range(CHUNKS):
        if chunk:
            picture.line(_x(chunk - 1) + SIDE / 2, y, _x(chunk) - SIDE / 2 - 1, y, FAINT, arrow=True)
        full = chunk in sweeps
        picture.box(_x(chunk), y, SIDE, str(chunk + 1), CREDIT if full else INK, full=full)


def _at_once(picture: Picture, y: float) -> None:
    """Each chunk's credit goes back on its own: the first chunk is run again five times."""
    for chunk in range(1, CHUNKS):
        for earlier in range(chunk):
            start, end = _x(chunk), _x(earlier)
            picture.arc(start - 3, y - SIDE / 2, end + 3, y - SIDE / 2 - 1, 9 + 7 * (chunk - earlier), CREDIT, wide=1)


def _together(picture: Picture, y: float, every: int) -> None:
    """Credit waits below the chunks, and goes back once for all."""
    for last in range(every - 1, CHUNKS, every):
        waits = y + 44
        for chunk in range(max(last - every + 1, 1), last):
            picture.line(_x(chunk), y + SIDE / 2, _x(chunk), waits - 2, RECALL, dash="4 3", arrow=True)
        picture.line(_x(last - every + 1) - 12, waits, _x(last), waits, RECALL, wide=3)
        picture.line(_x(last), waits, _x(last), y + SIDE / 2 + 2, RECALL, arrow=True)
        for earlier in range(last):
            height = 9 + 7 * (last - earlier)
            picture.arc(_x(last) - 3, y - SIDE / 2, _x(earlier) + 3, y - SIDE / 2 - 1, height, CREDIT, wide=1)


def deferred_credit() -> Picture:
    """Six chunks of a stream, with credit sent at once and every three chunks."""
    about = (
        "Six chunks of a stream, twice. Above, with credit_every=1, each chunk's backward pass sends its credit into "
        "all earlier chunks, so the first chunk is run again five times. Below, with credit_every=3, the credit of "
        "chunks 2, 4 and 5 waits in the state, and the backward passes of chunks 3 and 6 send on all that waits: the "
        "first chunk is run again twice."
    )
    picture = Picture("deferred-credit", WIDE, 300, about)
    _stream(picture, 80, "credit_every=1", ("every backward pass", "runs the past again"), set(range(1, CHUNKS)))
    _at_once(picture, 80)
    _stream(picture, 215, "credit_every=3", ("credit waits in the state,", "and goes back together"), {2, 5})
    _together(picture, 215, 3)
    picture.text(_x(2) + 6, 215 + 70, "added up in the state", RECALL, size=12)
    return picture
