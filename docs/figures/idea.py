"""The idea in pictures: recall, the way of the gradient, and the border of two chunks."""

from __future__ import annotations

from pathlib import Path

from docs.figures.svg import CREDIT, FAINT, INK, RECALL, Picture, write_if_changed

STEPS, SEGMENT = 12, 4
PITCH, LEFT, SIZE = 37.0, 36.0, 22.0


README_PICTURE = Path(__file__).parent / "overview.svg"
"""The one picture that is kept in the repository, since a page of the repository cannot make it."""


def write(folder: Path) -> None:
    """Write every picture as an SVG file that a page takes in, and the README's as a file of its own."""
    for picture in (overview(), forward(), gradients(), borders()):
        write_if_changed(folder / f"{picture.name}.svg", picture.svg())
    write_if_changed(README_PICTURE, overview().standalone())


def _x(step: float) -> float:
    return LEFT + (step - 1) * PITCH


def _chain(picture: Picture, y: float, steps: int = STEPS, *, numbered: bool = False) -> None:
    """Steps from left to right, each the successor of the one before."""
    for step in range(1, steps + 1):
        if step > 1:
            picture.line(_x(step - 1) + SIZE / 2, y, _x(step) - SIZE / 2 - 1, y, FAINT)
        picture.box(_x(step), y, SIZE, str(step) if numbered else "")


def _cuts(picture: Picture, top: float, bottom: float) -> None:
    for step in range(SEGMENT, STEPS, SEGMENT):
        picture.line(_x(step + 0.5), top, _x(step + 0.5), bottom, INK, wide=1, dash="2 4")


def _back(picture: Picture, y: float, first: int, last: int) -> None:
    """The gradient from one step to an earlier one, a step at a time."""
    for step in range(first, last, -1):
        picture.line(_x(step) - 3, y + 17, _x(step - 1) + 3, y + 17, CREDIT, wide=2.2, arrow=True)


def overview() -> Picture:
    """A recall, and the steps that receive the gradient of its loss."""
    about = (
        "A chain of twelve steps. Step 11 recalls the states stored at steps 4 and 8 along two arcs; "
        "the gradient of its loss goes back along the same arcs and no more than one segment further."
    )
    picture = Picture("overview", 480, 205, about)
    y = 130
    picture.arc(_x(4), y - 13, _x(11) - 4, y - 14, 62, RECALL, wide=4)
    picture.arc(_x(8), y - 13, _x(11) - 8, y - 14, 28, RECALL, wide=1.8)
    picture.text(_x(6.7), 84, "recalled", RECALL, bold=True)
    _cuts(picture, y - 24, y + 30)
    _chain(picture, y)
    picture.box(_x(2), y, SIZE, "!", INK, full=True)
    picture.box(_x(4), y, SIZE, "", RECALL, full=True)
    picture.box(_x(8), y, SIZE, "", RECALL, full=True)
    picture.box(_x(11), y, SIZE, "?", INK, full=True)
    picture.arc(_x(11) + 3, y - 14, _x(4) + 5, y - 14, 74, CREDIT, wide=2, dash="6 4")
    picture.text(_x(7.4), 26, "credit goes back the same way", CREDIT, bold=True)
    _back(picture, y, 4, 2)
    picture.text(_x(2), y + 45, "what mattered")
    picture.text(_x(11), y + 45, "is needed")
    picture.text(_x(6.5), y + 66, "dotted: the gradient is cut", size=13)
    return picture


def forward() -> Picture:
    """How a step recalls."""
    about = (
        "Each segment of four steps stores its last state in a memory. Step 11 scores both memories, weights "
        "0.7 and 0.3, and adds their weighted sum to its own proposal."
    )
    picture = Picture("forward", 480, 250, about)
    y, shelf = 190, 60
    picture.text(8, 20, "the memory: one state stored per segment", anchor="start")
    for step, weight in ((4, 0.7), (8, 0.3)):
        picture.line(_x(step), y - 12, _x(step), shelf + 16, FAINT, arrow=True)
        picture.box(_x(step), shelf, 30, f"m{step}", RECALL, full=True)
        picture.line(_x(step) + 17, shelf + 8, _x(11) - 16, 112, RECALL, wide=6 * weight, arrow=True)
    picture.text(_x(6.3), 70, "0.7", RECALL, bold=True)
    picture.text(_x(9.3), 70, "0.3", RECALL, bold=True)
    picture.box(_x(11), 120, 28, "s", RECALL, round_=14)
    picture.line(_x(11), 134, _x(11), y - 13, RECALL, wide=2.5, arrow=True)
    picture.text(_x(11) + 20, 124, "summary", RECALL, anchor="start", size=12)
    picture.text(_x(11) + 8, 160, "added", RECALL, anchor="start", size=12)
    _cuts(picture, y - 24, y + 24)
    _chain(picture, y, numbered=True)
    picture.text(8, y + 45, "steps of the sequence; step 11 asks", anchor="start")
    return picture


def gradients() -> Picture:
    """Where the gradient goes: three ways to assign credit."""
    about = (
        "Three chains of twelve steps with an event at step 2 and a loss at step 12. Full BPTT goes back through "
        "all ten steps between. Truncated BPTT stops at step 9 and never reaches the event. Sparse Attentive "
        "Backtracking hops from step 11 to the state stored at step 4 and goes back two steps to the event."
    )
    picture = Picture("gradients", 480, 345, about)
    for row, title in enumerate(
        (
            "full BPTT: every step",
            "truncated BPTT: the event is out of reach",
            "SAB: one hop, and a few steps at either end",
        )
    ):
        y = 60 + row * 112 + 8 * (row == 2)
        picture.text(14, y - 34 - 14 * (row == 2), title, anchor="start", bold=True)
        if row:
            _cuts(picture, y - 18, y + 28)
        _chain(picture, y)
        picture.box(_x(2), y, SIZE, "!", INK, full=True)
        picture.box(_x(12), y, SIZE, "L", INK, full=True)
        _back(picture, y, 12, (2, 9, 11)[row])
        if row == 2:
            picture.box(_x(4), y, SIZE, "", RECALL, full=True)
            picture.arc(_x(11), y - 13, _x(4), y - 13, 26, CREDIT, wide=2.2)
            _back(picture, y, 4, 2)
            _back(picture, y, 11, 9)
    picture.text(14, 340, "! event   L loss   dotted: cuts", anchor="start", size=13)
    return picture


def borders() -> Picture:
    """Credit across the border of two chunks."""
    about = (
        "Two chunks of a stream. A loss in the second credits a memory stored in the first, whose graph is gone; the "
        "memory's segment is replayed from its record, and the parameters get their gradient."
    )
    picture = Picture("borders", 480, 250, about)
    y = 120
    border = _x(8.5)
    picture.text(_x(4.5), 20, "earlier chunk: no graph is left")
    picture.text(_x(10.5) + 6, 20, "this chunk")
    picture.line(border, 8, border, y + 40, INK, wide=3)
    _cuts(picture, y - 18, y + 18)
    _chain(picture, y)
    picture.box(_x(4), y, SIZE, "", RECALL, full=True)
    picture.box(_x(8), y, SIZE, "", RECALL, full=True)
    picture.box(_x(12), y, SIZE, "L", INK, full=True)
    picture.arc(_x(11), y - 13, _x(4), y - 13, 52, CREDIT, wide=2.2)
    _back(picture, y, 12, 9)
    low = y + 70
    picture.line(_x(1) - 13, y + 16, _x(1) - 13, low - 18, RECALL, wide=1, dash="3 3")
    picture.line(_x(4) + 13, y + 16, _x(4) + 13, low - 18, RECALL, wide=1, dash="3 3")
    for step in range(1, SEGMENT + 1):
        picture.box(_x(step), low, SIZE, "", RECALL, full=True)
    _back(picture, low, 4, 1)
    picture.text(_x(4) + 24, low - 3, "replayed from its record:", anchor="start", size=13)
    picture.text(_x(4) + 24, low + 15, "its inputs and its entering state", anchor="start", size=13)
    picture.text(
        _x(1) - 13, low + 48, "credit reaches the weights through both segments", CREDIT, anchor="start", size=13
    )
    return picture
