"""Cells and scorers of one's own that draw random numbers, in past calls whose rows have changed since.

Shapes: T time, B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from reminding.nn.state.merging import merge_states
from tests.nn.samples import draw, make
from tests.tolerance import assert_equal

MINE = 1
"""The row whose stream every case follows."""


class Dropping(nn.Module):
    """A cell with dropout of its state."""

    state_shapes = ()

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3 + 4, 4)
        self.drop = nn.Dropout(0.4)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.drop(torch.tanh(self.mix(torch.cat([x, h], 1))))


Followed = tuple[SABState, list[int]]
"""A state, and which rows of the first call its rows are."""


def _joined(state: SABState) -> Followed:
    parts = [state.rows(torch.tensor([row])) for row in (2, MINE)]
    return merge_states(parts), [2, MINE]


CHANGES: dict[str, Callable[[SABState], Followed]] = {
    "another row begins anew": lambda state: (state.reset([True, False, True]), [0, 1, 2]),
    "the rows are turned": lambda state: (state.rows(torch.tensor([2, 1, 0])), [2, 1, 0]),
    "it is alone": lambda state: (state.rows(torch.tensor([MINE])), [MINE]),
    "twice": lambda state: (state.rows(torch.tensor([MINE, 0])).rows(torch.tensor([1, 0])), [0, MINE]),
    "joined": _joined,
}


@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.3])
@pytest.mark.parametrize("k_trunc", [3, None])
@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_a_row_keeps_the_numbers_that_were_drawn_for_it(
    name: str, in_file: bool, k_trunc: int | None, recurrent_dropout: float, tmp_path: Path
) -> None:
    """The past of one row receives what it receives where all rows stay as they were."""
    first, second = draw(7, 3, 3), draw(5, 3, 3, seed=2)

    def run(change: Callable[[SABState], Followed]) -> Tensor:
        layer = make(cell=Dropping(), k_top=2, k_att=1, k_trunc=k_trunc, recurrent_dropout=recurrent_dropout)
        torch.manual_seed(3)
        state, rows = change(layer(first)[1])
        if in_file:
            state.save(tmp_path / "state")
            state = SABState.load(tmp_path / "state")
        layer.eval()
        output, _ = layer(second[:, rows], state)
        weight = next(layer.cells.parameters())
        return torch.autograd.grad(output[:, rows.index(MINE)].pow(2).sum(), weight)[0]

    assert_equal(run(CHANGES[name]), run(lambda state: (state, [0, 1, 2])), "gradient of the cell")


class Doubting(nn.Module):
    """A scorer with dropout of the query."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def keys(self, memory: Tensor) -> Tensor:
        return memory

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return (keys * self.drop(query).unsqueeze(1)).sum(2)


def test_a_scorer_that_draws_is_not_replayed() -> None:
    """A replay scores the recalled memories alone, so it would draw others than the call did."""
    layer = make(score=Doubting(), k_top=2, k_att=1, k_trunc=3, engine="replay")
    with pytest.raises(ValueError, match="score draws random numbers"):
        layer(draw(7, 2, 3))[0].sum().backward()
    layer.eval()
    layer(draw(7, 2, 3))[0].sum().backward()
    kept = make(score=Doubting(), k_top=2, k_att=1, k_trunc=3, engine="autograd", horizon=0)
    state = None
    for _ in range(2):
        output, state = kept(draw(7, 2, 3), state)
        output.sum().backward()


def test_a_scorer_that_drew_in_a_past_call_is_not_replayed() -> None:
    layer: SAB = make(score=Doubting(), k_top=2, k_att=1, k_trunc=3)
    state = layer(draw(7, 2, 3))[1]
    layer.eval()
    output, _ = layer(draw(7, 2, 3), state)
    with pytest.raises(ValueError, match="score draws random numbers"):
        output.sum().backward()


def test_an_encoder_in_evaluation_whose_dropout_still_draws_draws_the_same_again() -> None:
    """As dropout does for uncertainty in prediction [Gal & Ghahramani 2016], or where the rest is frozen."""
    parts = [draw(7, 2, 3, seed=seed) for seed in range(2)]

    def encoder() -> nn.Module:
        torch.manual_seed(1)
        made = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double().eval()
        made[1].train()
        return made

    whole, apart = encoder(), make(k_top=2, k_att=2, k_trunc=3)
    torch.manual_seed(3)
    x = torch.cat([whole(part) for part in parts])
    apart(x)[0].pow(2).sum().backward()
    after = torch.rand(3)
    layer = make(k_top=2, k_att=2, k_trunc=3, encoder=encoder())
    layer.load_state_dict({**layer.state_dict(), **apart.state_dict()})
    layer.encoder = streamed = encoder()
    torch.manual_seed(3)
    state = None
    for part in parts:
        output, state = layer(part, state)
        output.pow(2).sum().backward()
    for name, wanted in whole.named_parameters():
        found = streamed.get_parameter(name).grad
        assert found is not None and wanted.grad is not None
        assert_equal(found, wanted.grad, name)
    assert torch.equal(torch.rand(3), after), "the generator is as without a replay"
