"""What SAB is compared with, behind the same interface: `output, state[, recall] = layer(input, state)`.

Three of the four are the same layer with other settings, so that nothing but the method differs.

Shapes: B batch, T time, P past steps, I input, H hidden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.layer import entering
from reminding.nn.layer.layout import enter
from reminding.nn.layer.sab import SAB
from reminding.nn.parts import settings
from reminding.nn.state.stream import Recall


def full_bptt(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> SAB:
    """A plain recurrent network trained by full backpropagation through time: exactly `nn.LSTM` by default.

    Args:
        options: `SAB`'s own, such as cell, bias, batch_first, dropout; horizon is 0 unless given, since nobody
            can keep all of a stream.
    """
    options.setdefault("horizon", 0)
    return SAB(input_size, hidden_size, num_layers, k_top=0, k_trunc=None, **options)


def truncated_bptt(
    input_size: int, hidden_size: int, num_layers: int = 1, *, k_trunc: int | None = 10, **options: Any
) -> SAB:
    """The same network with its gradient cut every k_trunc steps.   [Williams and Peng 1990]"""
    return SAB(input_size, hidden_size, num_layers, k_top=0, k_trunc=k_trunc, **options)


def full_attention(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> SAB:
    """An LSTM with softmax attention over all its past states and full BPTT, the paper's "LSTM + full attention".

    Time and memory grow with T². The attention is the layer's own (additive by default), dense instead of
    sparse: every state is stored, every stored state is read, nothing is cut.
    """
    options.setdefault("horizon", 0)
    return SAB(input_size, hidden_size, num_layers, k_top=None, k_att=1, k_trunc=None, **options)


@dataclass(frozen=True)
class TransformerState:
    """What a `Transformer` has seen: its past inputs (P, B, I), and which stream each belongs to, (P, B) int64.

    `packed`: they came as a PackedSequence, with padding that nothing here tells from input; it cannot go on.
    """

    past: Tensor
    stream: Tensor
    packed: bool = False

    def detach(self) -> TransformerState:
        """The same numbers, cut from the graph that made them."""
        return replace(self, past=self.past.detach())


class Transformer(nn.Module):
    """A causal Transformer encoder with sinusoidal positions.   [Vaswani et al. 2017]

    Its state is all it has seen: a later call attends to every step of the earlier ones, so that chunks give
    what the whole sequence gives, at a cost that grows with the square of all steps.

    Args:
        input_size, hidden_size, num_layers, dropout, batch_first: as in `SAB`; hidden_size is the width.
        heads: attention heads; must divide hidden_size.
        encoder: a module applied to the input first.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        heads: int = 4,
        dropout: float = 0.0,
        batch_first: bool = False,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.input_size = settings.at_least("input_size", input_size, 1)
        self.hidden_size = settings.at_least("hidden_size", hidden_size, 1)
        if settings.at_least("heads", heads, 1) and hidden_size % heads:
            raise ValueError(f"heads must divide hidden_size={hidden_size}, got {heads}")
        self.batch_first = batch_first
        self.encoder = encoder
        self.embed = nn.Linear(input_size, hidden_size)
        block = nn.TransformerEncoderLayer(
            hidden_size, heads, 4 * hidden_size, settings.probability("dropout", dropout), norm_first=True
        )
        self.heads = heads
        self.blocks = nn.TransformerEncoder(
            block,
            settings.at_least("num_layers", num_layers, 1),
            nn.LayerNorm(hidden_size),
            enable_nested_tensor=False,
        )

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: TransformerState | None = None,
        *,
        reset: Tensor | None = None,
        return_recall: bool = False,
    ) -> Any:
        """Run over a sequence or its next chunk; arguments and results as `SAB.forward`'s.

        The recall is empty: its summary is 0 and K is 0. A packed sequence must be whole: no state may come
        with it, and the one it returns cannot go on.
        """
        x, layout = enter(input, self.encoder, self.batch_first)
        entering.check_input(x, self.input_size, self.embed.weight, self.encoder is not None)
        if not isinstance(cast("object", state), TransformerState | None):
            raise ValueError(f"state must be a TransformerState, got {type(state).__name__}")
        if state is not None and (state.packed or layout.packed is not None):
            raise ValueError("state cannot be carried into or out of a PackedSequence by the Transformer baseline")
        seen = self._seen(x, layout.reset_mask(reset, len(x), x.shape[1]), state)
        seen = replace(seen, packed=layout.packed is not None)
        y = (
            self._attend(seen)[len(seen.past) - len(x) :]
            if x.numel()
            else x.new_zeros(*x.shape[:2], self.hidden_size)
        )
        output = layout.output(y)
        if not return_recall:
            return output, seen
        nothing = y.new_zeros(*y.shape[:2], 0)
        empty = Recall(torch.zeros_like(y), nothing.long(), nothing)
        return output, seen, empty.map(layout.aside)

    def _seen(self, x: Tensor, reset: Tensor | None, state: TransformerState | None) -> TransformerState:
        """All steps so far, each marked with the number of its stream."""
        began = torch.zeros(x.shape[:2], dtype=torch.int64) if reset is None else reset.long()
        stream = began.cumsum(0).to(x.device)  # (T, B)
        if state is None:
            return TransformerState(x, stream)
        if state.past.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"state must be of {x.shape[1]} rows and {x.shape[2]} features, got {tuple(state.past.shape[1:])}"
            )
        last = state.stream[-1] if len(state.stream) else torch.zeros_like(stream[:1].sum(0))
        return TransformerState(torch.cat([state.past.detach(), x]), torch.cat([state.stream, stream + last]))

    def _attend(self, seen: TransformerState) -> Tensor:
        """Outputs of all steps so far, (P + T, B, H); each attends to its own stream's past and itself."""
        steps = len(seen.stream)
        position = self._positions(seen.stream)  # (P + T, B, H)
        y = self.embed(seen.past) + position
        same = seen.stream.T.unsqueeze(2) == seen.stream.T.unsqueeze(1)  # (B, query, key)
        future = torch.ones(steps, steps, dtype=torch.bool, device=y.device).triu(1)
        blocked = (future | ~same).repeat_interleave(self.heads, dim=0)  # (B * heads, query, key)
        return self.blocks(y, mask=blocked)

    def _positions(self, stream: Tensor) -> Tensor:
        """Sinusoids of each step's position in its own stream, (P + T, B, H)."""
        steps = torch.arange(len(stream), device=stream.device).unsqueeze(1)
        began = torch.cat([torch.ones_like(stream[:1]), stream.diff(dim=0)]) > 0
        first = torch.where(began, steps, 0).cummax(0).values
        width = (self.hidden_size + 1) // 2
        rate = torch.exp(torch.arange(width, device=stream.device) * (-math.log(10000.0) / width))
        angle = (steps - first).unsqueeze(2) * rate
        position = torch.cat([angle.sin(), angle.cos()], dim=2)[..., : self.hidden_size]
        return position.to(self.embed.weight.dtype)
