"""The initial bias of the gate by which a cell keeps its state.

Shapes: H hidden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

CHRONO = "chrono:"
KEEPING_GATE = {"lstm": 1, "gru": 1}
"""The place, among a cell's gates, of the one whose opening keeps the state: an LSTM's forget gate, a GRU's z."""


@dataclass(frozen=True)
class ForgetBias:
    """How the biases of a layer's keeping gates begin.

    Attributes:
        value: the bias of every unit; None: drawn, see `longest`.
        longest: T of chrono initialisation, the longest dependency in steps: the bias of a unit is log(u), with u
            uniform between 1 and T - 1, so that the unit forgets over u steps.   [Tallec & Ollivier 2018]
    """

    value: float | None = None
    longest: float | None = None

    def __str__(self) -> str:
        return f"{self.value:g}" if self.longest is None else f"'{CHRONO}{self.longest:g}'"

    @staticmethod
    def parsed(given: Any, cell: object, bias: bool) -> ForgetBias | None:
        """What the argument `forget_bias` of a layer with this cell says; None where it is None.

        Args:
            given: a number, also as text, or "chrono:T" with T above 2.
            bias: whether the cell has biases.

        Raises:
            ValueError: it is something else, or the cell has no such bias.
        """
        if given is None:
            return None
        if not isinstance(cell, str) or cell not in KEEPING_GATE:
            shown = repr(cell) if isinstance(cell, str) else "a cell of your own"
            raise ValueError(f"forget_bias is for cell='lstm' or 'gru', whose gate keeps the state, got cell={shown}")
        if not bias:
            raise ValueError(f"forget_bias must be None where bias=False, got {given!r}")
        chrono = isinstance(given, str) and given.startswith(CHRONO)
        number = _number(given.removeprefix(CHRONO) if isinstance(given, str) else given)
        if number is None or (chrono and number <= 2):
            raise ValueError(
                f"forget_bias must be a number, or 'chrono:T' with T, in steps, above 2, or None, got {given!r}"
            )
        return ForgetBias(longest=number) if chrono else ForgetBias(value=number)

    def begin(self, bias_ih: Tensor, bias_hh: Tensor, cell: str) -> None:
        """Write the biases of the keeping gates, and under chrono those of an LSTM's input gates.

        A gate adds its two biases: `bias_ih` gets the value, `bias_hh` 0. The other gates stay as they are. An LSTM's
        input gate gets the forget gate's bias with the sign changed; a GRU's z is both gates in one.
        """
        size = len(bias_ih) // (4 if cell == "lstm" else 3)
        gate = KEEPING_GATE[cell]
        with torch.no_grad():
            keeps = bias_ih.new_full((size,), self.value or 0.0)
            if self.longest is not None:
                keeps = torch.empty_like(keeps).uniform_(1, self.longest - 1).log_()
                if cell == "lstm":
                    _write(bias_ih, bias_hh, 0, -keeps)
            _write(bias_ih, bias_hh, gate, keeps)


def _write(bias_ih: Tensor, bias_hh: Tensor, gate: int, value: Tensor) -> None:
    place = slice(gate * len(value), (gate + 1) * len(value))
    bias_ih[place] = value
    bias_hh[place] = 0


def _number(given: Any) -> float | None:
    """A finite number, also as text; None of anything else."""
    if isinstance(given, bool) or not isinstance(given, Real | str):
        return None
    try:
        number = float(given)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
