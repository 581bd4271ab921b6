"""Running a stack of layers where sequences end and streams begin at different steps, all streams side by side.

`stretches` runs the same one stretch of time after the other, on code that takes no rows of different lengths. A call
of many short streams takes about one and a half times as long here as one without resets (results/bench).

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden, P pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from reminding.nn.layer.layout import Layout
from reminding.nn.layer.runner import OutOfRangeError, Runner
from reminding.nn.layer.stretches import run_all
from reminding.nn.state.past.passes import Pieces
from reminding.nn.state.stream import Recall, SABState

SPREAD = 2
"""How many times as much room as they need new streams that run at once may take: each gets that of the longest."""


@dataclass(frozen=True)
class _Group:
    """Pieces that run at once, the longest first.

    Attributes:
        state: the one they begin in; last: whether they end as the call does.
    """

    pieces: Pieces
    state: SABState
    last: bool


def run_streams(
    x: Tensor, state: SABState, layout: Layout, reset: Tensor | None, runner: Runner, fresh: Callable[[int], SABState]
) -> tuple[Tensor, SABState, Recall | None]:
    """Run every stream of a call, side by side where the code that runs them can.

    Args:
        x: input, (T, B, I); state: before it; reset: see `Layout.reset_mask`.
        fresh: the state of so many new streams.

    Returns:
        as `run_all`.
    """
    stretches = layout.stretches(len(x), x.shape[1], reset)
    if len(stretches) > 1 and runner.takes_pieces(x, state):
        with suppress(OutOfRangeError):
            return _run_pieces(x, state, layout.pieces(len(x), x.shape[1], reset), reset, runner, fresh)
    recalled = (runner.network.rule.k_top or 0) if runner.record else None
    return run_all(x, state, stretches, runner.run, recalled)


def _run_pieces(
    x: Tensor, state: SABState, pieces: Pieces, reset: Tensor | None, runner: Runner, fresh: Callable[[int], SABState]
) -> tuple[Tensor, SABState, Recall | None]:
    """`run_streams`, side by side.

    Args:
        pieces: see `Layout.pieces`.

    Raises:
        OutOfRangeError: as of `Runner.run_pieces`.
    """
    groups = _groups(state, pieces, reset, fresh)
    after = state
    ran: list[tuple[Tensor, Recall | None]] = []
    for group in groups:
        own = runner if group.last else runner.without_credit()
        output, ended, recall = own.run_pieces(_gathered(x, group.pieces), group.state, group.pieces)
        ran.append((output, recall))
        if group.last:
            after = ended if _in_order(group.pieces.column) else ended.rows(group.pieces.column.argsort())
    alike = len(groups) == 1 and _lies_alike(groups[0].pieces, x)
    place = None if alike else _places(groups, len(x), x.shape[1])
    output = _spread([output for output, _ in ran], place, x)
    recalls = [recall for _, recall in ran if recall is not None]
    if not recalls:
        return output, after, None
    summary = _spread([recall.summary for recall in recalls], place, x)
    step, weight = (
        torch.stack([_spread(list(layer), place, x) for layer in zip(*parts, strict=True)])
        for parts in ([recall.step for recall in recalls], [recall.weight for recall in recalls])
    )
    return output, after, Recall(summary, step, weight)


def _groups(state: SABState, pieces: Pieces, reset: Tensor | None, fresh: Callable[[int], SABState]) -> list[_Group]:
    """All pieces: those that end as the call does, then those that go on from the state before, then new streams."""
    last = pieces.last
    new = torch.zeros_like(last) if reset is None else reset[pieces.begun, pieces.column]
    begun = state.reset(new[last]) if bool(new[last].any()) else state
    groups = [_grouped(pieces.rows(last), begun, last=True)]
    going_on = ~last & ~new
    if bool(going_on.any()):
        groups.append(_grouped(pieces.rows(going_on), state, last=False))
    short = _by_length(pieces.rows(~last & new))
    while len(short):
        room = short.steps[0] * torch.arange(1, len(short) + 1)  # of the first so many
        size = int((room <= SPREAD * short.steps.cumsum(0)).sum())
        groups.append(_Group(short.rows(slice(size)), fresh(size), last=False))
        short = short.rows(slice(size, None))
    return groups


def _grouped(pieces: Pieces, state: SABState, last: bool) -> _Group:
    """Pieces that begin with the rows of a state of the call."""
    ordered = _by_length(pieces)
    every = len(ordered) == state.batch_size and _in_order(ordered.column)
    return _Group(ordered, state if every else state.rows(ordered.column), last)


def _by_length(pieces: Pieces) -> Pieces:
    return pieces.rows(pieces.steps.argsort(descending=True, stable=True))


def _in_order(column: Tensor) -> bool:
    return torch.equal(column, torch.arange(len(column)))


def _lies_alike(pieces: Pieces, x: Tensor) -> bool:
    """Whether pieces lie as their input (T, B, I) does: all rows are there, in order, and begin with the call."""
    return _in_order(pieces.column) and int(pieces.steps[0]) == len(x) and not bool(pieces.begun.any())


def _gathered(x: Tensor, pieces: Pieces) -> Tensor:
    """The input of some pieces, (T, P, I); what is behind the end of one is never looked at."""
    longest = int(pieces.steps[0])
    if _lies_alike(pieces, x):
        return x
    time = pieces.begun + torch.minimum(torch.arange(longest).unsqueeze(1), pieces.steps - 1)  # (T, P)
    place = time * x.shape[1] + pieces.column
    return x.reshape(-1, x.shape[2]).index_select(0, place.view(-1).to(x.device)).view(longest, len(pieces), -1)


def _places(groups: list[_Group], steps: int, rows: int) -> Tensor:
    """Where the results of each step and row are among those of all groups, (T * B,); 0 where there are none."""
    place = torch.zeros(steps * rows, dtype=torch.int64)
    first = 1
    for group in groups:
        pieces = group.pieces
        longest = int(pieces.steps[0])
        time = torch.arange(longest).unsqueeze(1)  # (T, 1)
        own = time < pieces.steps
        number = torch.arange(first, first + longest * len(pieces)).view(longest, -1)
        place[((pieces.begun + time) * rows + pieces.column)[own]] = number[own]
        first += longest * len(pieces)
    return place


def _spread(parts: list[Tensor], place: Tensor | None, x: Tensor) -> Tensor:
    """Results of the groups, (T, P, N) each, as those of the call, (T, B, N).

    Args:
        place: see `_places`; None where the only group's are the call's.
    """
    if place is None:
        return parts[0].clone()  # the caller may change it in place, and a backward pass reads it
    width = parts[0].shape[2]
    every = torch.cat([parts[0].new_zeros(1, width), *(part.flatten(0, 1) for part in parts)])
    return every.index_select(0, place.to(x.device)).view(len(x), x.shape[1], width)
