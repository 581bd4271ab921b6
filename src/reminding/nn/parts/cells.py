"""Recurrent cells: the built-in ones, and the door through which any other comes in.

Shapes: B batch, I input, H hidden.

Inside the library a cell is `step(x, h, extra) -> (h_hat, extra)`, where `cell_state` holds whatever state the
cell has besides h: one tensor for an LSTM (c), none for a GRU or an Elman network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from reminding.ops import reference

CellState = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, CellState], tuple[Tensor, CellState]]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class BuiltInCell:
    """A cell whose weights are `nn.LSTM`'s, `nn.GRU`'s or `nn.RNN`'s by name and layout.

    Attributes:
        bind: makes it of its weights and what the forget gate is multiplied by, which only an LSTM has.
    """

    gates: int
    state_shapes: Callable[[int], tuple[Shape, ...]]
    bind: Callable[[tuple[Tensor | None, ...], float], Step]

    def weight_shapes(self, input_size: int, hidden_size: int) -> dict[str, Shape]:
        """Parameter shapes by PyTorch's name, without the layer's suffix, in PyTorch's order."""
        rows = self.gates * hidden_size
        return {
            "weight_ih": (rows, input_size),
            "weight_hh": (rows, hidden_size),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }


def _bind_lstm(weights: tuple[Tensor | None, ...], forget_scale: float) -> Step:
    def step(x: Tensor, h: Tensor, cell_state: CellState) -> tuple[Tensor, CellState]:
        h_hat, c = reference.lstm_cell(x, h, cell_state[0], weights, forget_scale)
        return h_hat, (c,)

    return step


def _bind_gru(weights: tuple[Tensor | None, ...], _: float) -> Step:
    return lambda x, h, cell_state: (reference.gru_cell(x, h, weights), cell_state)


def _bind_rnn(weights: tuple[Tensor | None, ...], _: float) -> Step:
    return lambda x, h, cell_state: (reference.rnn_cell(x, h, weights), cell_state)


CELLS: dict[str, BuiltInCell] = {
    "lstm": BuiltInCell(4, lambda hidden_size: ((hidden_size,),), _bind_lstm),
    "gru": BuiltInCell(3, lambda hidden_size: (), _bind_gru),
    "rnn": BuiltInCell(1, lambda hidden_size: (), _bind_rnn),
}


class UserCell:
    """Somebody's own cell: any module with an `(x, state) -> (h, state)` call.

    `state` is h itself, (B, H), for a cell with no other state, else the tuple `(h, *extra)`, as the
    `(h, c)` of `nn.LSTMCell`. The call returns h_hat alone, or a pair of h_hat and the new state, where
    the state may be given whole or without its h: the layer replaces h by h_hat + summary in any case.

    The module's attribute `state_shapes` describes `cell_state`: the shape of each extra
    tensor without its batch axis: `()` for none, `((hidden_size,),)` for one like an LSTM's c. A module
    without that attribute is tried on two rows of zeros, first with `(h, c)`, then with h alone. Extra
    state starts at zero.
    """

    def __init__(self, module: nn.Module, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        told = getattr(module, "state_shapes", None)
        self.state_shapes: tuple[Shape, ...] = (
            self._find_shapes(module, input_size) if told is None else tuple(tuple(shape) for shape in told)
        )

    def step_of(self, module: nn.Module) -> Step:
        """The step that a module takes: the one this was made for, or what has taken its place since."""
        return partial(self._step, module)

    def _step(self, module: nn.Module, x: Tensor, h: Tensor, cell_state: CellState) -> tuple[Tensor, CellState]:
        """One call of the module, its answer brought into the form (h_hat, extra) and checked."""
        answer: Any = module(x, (h, *cell_state) if cell_state else h)
        pair = isinstance(answer, tuple) and len(cast("tuple[Any, ...]", answer)) == 2
        h_hat, state = cast("tuple[Any, Any]", answer) if pair else (cast("Any", answer), ())
        given = cast("tuple[Any, ...]", state if isinstance(state, tuple) else (state,))
        if len(cell_state) == 0:
            given = ()
        elif len(given) == len(cell_state) + 1:
            given = given[1:]
        wanted = [h.shape, *(tensor.shape for tensor in cell_state)]
        got = [tensor.shape if isinstance(tensor, Tensor) else type(tensor).__name__ for tensor in (h_hat, *given)]
        if got != wanted:
            shown = [tuple(shape) for shape in wanted]
            found = [shape if isinstance(shape, str) else tuple(shape) for shape in got]
            raise ValueError(
                f"cell must return (h, state) with tensors of shapes {shown}, as its state came in; got {found}"
            )
        return h_hat, given

    def _find_shapes(self, module: nn.Module, input_size: int) -> tuple[Shape, ...]:
        """Which form of state the module takes, found by trying it on rows of zeros: a single one could be a step."""
        like = next(module.parameters(), torch.zeros(()))
        x, h = like.new_zeros(2, input_size), like.new_zeros(2, self.hidden_size)
        failures: list[str] = []
        for shapes in (((self.hidden_size,),), ()):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    self._step(module, x, h, tuple(like.new_zeros(2, *shape) for shape in shapes))
            except Exception as error:  # a user's module may raise anything; the message includes it
                failures.append(f"state={'(h, c)' if shapes else 'h'}: {type(error).__name__}: {error}")
            else:
                return shapes
        raise ValueError(
            "cell must be callable as cell(x, state) -> (h, state) with x "
            f"{tuple(x.shape)} and h {tuple(h.shape)}; a zero step failed both ways ({'; '.join(failures)}). "
            "If its state has another form, give the module an attribute `state_shapes`"
        )


def masked_on_entry(name: str | None, cell: Step, weights: tuple[Tensor | None, ...], factor: Tensor | None) -> Step:
    """A cell that sees h masked; a built-in GRU carries h on as it was.   [Gal & Ghahramani 2016]

    Args:
        name, weights: of a built-in cell; factor: what h is multiplied by, (B, H); None: nothing.
    """
    if factor is None:
        return cell
    if name == "gru":
        return lambda x, h, cell_state: (reference.gru_cell(x, h, weights, h * factor), cell_state)
    return lambda x, h, cell_state: cell(x, h * factor, cell_state)


def uniform_bound(fan: int) -> float:
    """PyTorch's bound for the uniform initialisation of recurrent weights, 1 / sqrt(fan)."""
    return 1.0 / math.sqrt(fan) if fan > 0 else 0.0
