"""The minimal GRU, whose gates do not depend on the state, so that all steps are computed by a parallel scan.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reminding import checks
from reminding.nn.baselines.carried import CarriedLayer, constant
from reminding.nn.baselines.scan import linear_scan


class MinGRU(CarriedLayer):
    """A minimal GRU: h_t = (1 - z_t) h_{t-1} + z_t g(candidate_t).   [Feng et al. 2024]

    The gate z_t = sigmoid(U x_t) and the candidate W x_t depend on the input alone. g keeps states positive, as in
    the authors' log-space form: g(v) = v + 0.5 where v >= 0, else sigmoid(v). Layers are stacked as in `nn.GRU`;
    with a single one, no gate depends on the past.

    The state is the last h of each layer. Credit ends at the border of two calls.

    Args:
        input_size, hidden_size, num_layers, dropout, batch_first: as in `SAB`.
        encoder: a module applied to the input first.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        dropout: float = 0.0,
        batch_first: bool = False,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first, encoder)
        self.num_layers = checks.at_least("num_layers", num_layers, 1)
        self.dropout = nn.Dropout(checks.share("dropout", dropout))
        widths = [self.input_size, *[self.hidden_size] * (self.num_layers - 1)]
        self.maps = nn.ModuleList(nn.Linear(width, 2 * self.hidden_size) for width in widths)

    def fresh(self, rows: int) -> dict[str, Tensor]:
        """Zeros: one h per layer, (B, H)."""
        like: Any = self.maps[0].weight
        return {f"h{number}": like.new_zeros(rows, self.hidden_size) for number in range(self.num_layers)}

    def run(
        self, x: Tensor, begins: Tensor | None, carried: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run all layers, each over all steps at once.

        Args:
            x: (T, B, I).
            begins: the steps before which a row begins a new stream, (T, B) bool; None: nowhere.
            carried: the h of each layer, (B, H).

        Returns:
            output (T, B, H), and the last h of each layer.
        """
        after: dict[str, Tensor] = {}
        for number, projection in enumerate(self.maps):
            gate, candidate = projection(x if number == 0 else self.dropout(x)).chunk(2, dim=-1)  # (T, B, H) each
            keep = torch.sigmoid(-gate)
            if begins is not None:
                keep = keep.masked_fill(begins.unsqueeze(2), 0)
            name = f"h{number}"
            start = constant(carried[name]).to(keep.dtype)
            x = linear_scan(keep, torch.sigmoid(gate) * positive(candidate), start)
            after[name] = x[-1].to(carried[name].dtype, copy=True)  # the output may be changed in place
        return x, after


def positive(v: Tensor) -> Tensor:
    """A continuous, increasing map to numbers above 0: v + 0.5 where v >= 0, else sigmoid(v).   [Feng et al. 2024]"""
    return torch.where(v >= 0, v + 0.5, torch.sigmoid(v))
