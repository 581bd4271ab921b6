"""How a call runs: forward, backward, and credit into past calls, on plain PyTorch and on an op.

Every file that a picture names is below src/reminding/; a test looks for it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from docs.figures.svg import CREDIT, INK, RECALL, Picture, write_if_changed

WIDE = 660.0
LEFT, RIGHT = 10.0, 340.0
HALF = 310.0
GAP = 20.0


@dataclass(frozen=True)
class Stage:
    """A box of a chain: its title, usually the file that does the work, and what happens there."""

    title: str
    lines: tuple[str, ...]


def write(folder: Path) -> None:
    """Write every picture as an SVG file that a page takes in."""
    for picture in (call_forward(), call_backward(), past_credit()):
        write_if_changed(folder / f"{picture.name}.svg", picture.svg())


def _chain(picture: Picture, x: float, y: float, width: float, stages: tuple[Stage, ...], colour: str) -> float:
    """Boxes one below the other, joined by arrows; returns where the last one ends."""
    for number, stage in enumerate(stages):
        if number:
            picture.line(x + width / 2, y - GAP, x + width / 2, y - 1, colour, arrow=True)
        y += picture.panel(x, y, width, stage.title, stage.lines, colour) + GAP
    return y - GAP


def _fork(picture: Picture, y: float, titles: tuple[str, str]) -> float:
    """Two arrows from a wide box that ends at y to two columns with titles; returns where the columns begin."""
    for x, title, colour in zip((LEFT, RIGHT), titles, (RECALL, CREDIT), strict=True):
        picture.line(x + HALF / 2, y, x + HALF / 2, y + 20, colour, arrow=True)
        picture.text(x + HALF / 2, y + 37, title, colour, bold=True)
    return y + 46


def _join(picture: Picture, left: float, right: float) -> float:
    """Arrows from the ends of both columns to a wide box below them; returns where that box begins."""
    y = max(left, right) + GAP
    for x, end, colour in ((LEFT, left, RECALL), (RIGHT, right, CREDIT)):
        picture.line(x + HALF / 2, end, x + HALF / 2, y - 1, colour, arrow=True)
    return y


def _columns(picture: Picture, y: float, plain: tuple[Stage, ...], op: tuple[Stage, ...]) -> float:
    """The two ways side by side; returns where the box below both begins."""
    y = _fork(picture, y, ("plain PyTorch", "an op"))
    return _join(picture, _chain(picture, LEFT, y, HALF, plain, RECALL), _chain(picture, RIGHT, y, HALF, op, CREDIT))


def call_forward() -> Picture:
    """A call forward."""
    about = (
        "SAB.forward checks the input and brings it into one layout. Streams that begin at resets run side by "
        "side where an op takes them, else one stretch of time after the other: plain PyTorch in a loop over the "
        "steps, an op with all steps of a layer in one call. Both return the output, the new state and the records "
        "that later credit needs."
    )
    picture = Picture("call-forward", WIDE, 442, about)
    head = (
        Stage("nn/layer/sab.py", ("SAB.forward: checks the input, brings it into one layout (T, B, I)",)),
        Stage("nn/layer/pieces.py", ("streams that begin at resets: side by side, or one stretch after the other",)),
        Stage("nn/layer/runner.py", ("runs all layers over these, on the backend that was chosen",)),
    )
    y = _chain(picture, LEFT, 8, WIDE - 20, head, INK)
    plain = (
        Stage("nn/forward/reference.py", ("a loop over time, one step:", "cell, read, add the summary, store")),
        Stage("nn/forward/reader.py", ("scores the memories, weighs the best,", "notes slots and weights")),
    )
    op = (
        Stage("nn/forward/compiled.py", ("settings and tensors as the op takes them",)),
        Stage("ops/cpu_op", ("or ops/cuda_op: all T steps in one call;", "returns slots and weights of each step")),
    )
    y = _columns(picture, y, plain, op)
    y += picture.panel(
        LEFT,
        y,
        WIDE - 20,
        "nn/state/stream.py, nn/state/past/history.py",
        ("the state after the call: h, c, memories, and a record of each segment for later credit",),
    )
    picture.text(
        LEFT, y + 22, "k_top=0 takes neither way: nn/forward/torch_kernels.py uses PyTorch's kernels.", anchor="start"
    )
    return picture


def call_backward() -> Picture:
    """A call backward."""
    about = (
        "The gradient of the output goes back through one call. Plain PyTorch either differentiates the graph it "
        "kept or replays the segments from the newest to the oldest; an op runs its own reverse loop. Both give the "
        "gradient of the input, the parameters and the state that entered the call."
    )
    picture = Picture("call-backward", WIDE, 386, about)
    y = 8 + picture.panel(LEFT, 8, WIDE - 20, "loss.backward()", ("the gradient of output, recall and final state",))
    plain = (
        Stage(
            "nn/credit/autograd.py",
            ('engine="autograd": PyTorch\'s graph, as it is', 'engine="replay": a node with no graph'),
        ),
        Stage(
            "nn/credit/sweep.py",
            ("replay: segments from newest to oldest;", "those that no gradient reached are skipped"),
        ),
        Stage(
            "nn/credit/bank.py",
            ("collects the credit of each memory until the", "sweep comes to the segment that stored it"),
        ),
    )
    op = (
        Stage(
            "ops/cpu_op/backward.py",
            ("gates were kept, or are computed again", "with one large product (replay)"),
        ),
        Stage(
            "the op's own loop, in C++ or Triton",
            ("per step and row: summary, scores, cell;", "skips a step that no gradient reaches"),
        ),
        Stage("ops/cpu_op/backward.py", ("weights and inputs: one large product each,", "after the loop")),
    )
    y = _columns(picture, y, plain, op)
    picture.panel(
        LEFT,
        y,
        WIDE - 20,
        "gradients",
        (
            "of the input, the parameters, and the state that entered the call:",
            "that last one is where credit into past calls begins (next picture)",
        ),
    )
    return picture


def past_credit() -> Picture:
    """Credit into past calls."""
    about = (
        "A gradient that arrives at the state before a call continues into earlier calls. Plain PyTorch sweeps "
        "the recorded segments from the newest to the oldest. An op first finds by integers which steps credit "
        "reaches, runs those segments again side by side, and differentiates them in one reverse pass."
    )
    picture = Picture("past-credit", WIDE, 384, about)
    y = 8 + picture.panel(
        LEFT,
        8,
        WIDE - 20,
        "nn/credit/past.py",
        (
            "The state that enters a call is the output of an autograd node without a graph. Its backward pass",
            "receives the gradient of h, c and every memory: it waits in the state, or is sent on now.",
        ),
    )
    plain = (
        Stage(
            "nn/credit/sweep.py",
            ("takes the newest segment that was credited", "and replays it with the current weights"),
        ),
        Stage(
            "nn/forward/reference.py",
            ("the same loop as forward; recorded reads", "say which memories each step recalls"),
        ),
        Stage(
            "nn/credit/bank.py",
            ("credit to older memories waits here;", "then the next segment, down to the horizon"),
        ),
    )
    op = (
        Stage(
            "nn/credit/op_reach.py",
            ("finds by integers which steps of which rows", "credit reaches; computes nothing else"),
        ),
        Stage(
            "nn/credit/op_replay.py",
            ("replays the reached segments side by side,", "laid out as one pass; the lowest layer first"),
        ),
        Stage(
            "ops/cpu_op/backward.py", ("one reverse loop through all of them;", "weight gradients as large products")
        ),
    )
    y = _columns(picture, y, plain, op)
    picture.panel(
        LEFT,
        y,
        WIDE - 20,
        "gradients",
        ("of the parameters, and of the encoder's; the inputs of past calls get none",),
    )
    return picture
