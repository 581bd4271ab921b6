"""A causal Transformer, with absolute, relative or no positions.

Shapes: B batch, T time, P past steps, I input, H hidden, N heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from reminding import checks
from reminding.nn.baselines.carried import empty_recall, lost_steps
from reminding.nn.layer import entering
from reminding.nn.layer.layout import enter, name_of_input
from reminding.nn.parts.tensors import all_finite

Positions = Literal["sinusoidal", "alibi", "t5", "none"]
BUCKETS = 32
"""Of distances, in "t5": half of them a distance each, the others ranges that grow like its logarithm."""
FURTHEST = 128
"""The distance from which on "t5" tells none apart."""


@dataclass(frozen=True)
class TransformerState:
    """What a `Transformer` has seen: its past inputs (P, B, I), and which stream each belongs to, (P, B) int64.

    `packed`: they came as a PackedSequence, with padding that nothing here tells from input; it cannot go on.
    `begun`: the rows in which a new stream begins with the next step, (B,) bool; None: in none.
    """

    past: Tensor
    stream: Tensor
    packed: bool = False
    begun: Tensor | None = None

    def detach(self) -> TransformerState:
        """The same numbers, cut from the graph that made them."""
        return replace(self, past=self.past.detach())


class Transformer(nn.Module):
    """A causal Transformer encoder.   [Vaswani et al. 2017]

    Its state is all it has seen: a later call attends to every step of the earlier ones, so that chunks give
    what the whole sequence gives, at a cost that grows with the square of all steps.

    Args:
        input_size, hidden_size, num_layers, dropout, batch_first: as in `SAB`; hidden_size is the width.
        heads: attention heads; must divide hidden_size.
        positions: sinusoidal: absolute, added to the input [Vaswani et al. 2017]; alibi: relative, scores fall
            linearly with the distance, each head at its own rate [Press et al. 2022]; t5: relative, scores have a
            learned term per head and range of distances, the same in all layers [Raffel et al. 2020]; none: only the
            causal mask tells the order [Kazemnejad et al. 2023].
        feedforward_size: width of the feed-forward layers; None: 4 * hidden_size.
        encoder: a module applied to the input first.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        heads: int = 4,
        positions: Positions = "sinusoidal",
        feedforward_size: int | None = None,
        dropout: float = 0.0,
        batch_first: bool = False,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.input_size = checks.at_least("input_size", input_size, 1)
        self.hidden_size = checks.at_least("hidden_size", hidden_size, 1)
        hidden_size, heads = self.hidden_size, checks.at_least("heads", heads, 1)
        if hidden_size % heads:
            raise ValueError(f"heads must divide hidden_size={hidden_size}, got {heads}")
        self.batch_first = batch_first
        self.encoder = encoder
        self.positions: Positions = checks.one_of("positions", positions, get_args(Positions))
        self.bias = nn.Embedding(BUCKETS, heads) if positions == "t5" else None
        self.embed = nn.Linear(self.input_size, hidden_size)
        width = checks.at_least_or_none("feedforward_size", feedforward_size, 1) or 4 * hidden_size
        block = nn.TransformerEncoderLayer(
            hidden_size, heads, width, checks.share("dropout", dropout), norm_first=True
        )
        self.heads = heads
        self.blocks = nn.TransformerEncoder(
            block,
            checks.at_least("num_layers", num_layers, 1),
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
        with it, and the one it returns cannot go on. The gradient of the parameters leaves out the steps at which a
        row is NaN, where SAB's is NaN.

        Raises:
            ValueError: input, reset or state does not fit in shape, type or device; or a state comes with a packed
                sequence, or from one.
        """
        x, layout = enter(input, self.encoder, self.batch_first)
        entering.check_input(x, self.input_size, self.embed.weight, name_of_input(self.encoder))
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
        return output, seen, empty_recall(y, layout)

    def _seen(self, x: Tensor, reset: Tensor | None, state: TransformerState | None) -> TransformerState:
        """All steps so far, each marked with the number of its stream."""
        began = torch.zeros(x.shape[:2], dtype=torch.int64) if reset is None else reset[: len(x)].long()
        stream = began.cumsum(0).to(x.device)  # (T, B)
        if state is None:
            # Before the first step, all streams are about to begin. The input may be a buffer that is used again.
            return TransformerState(x.clone(), stream)
        if state.past.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"state must be of {x.shape[1]} rows and {x.shape[2]} features, got {tuple(state.past.shape[1:])}"
            )
        past, dtype = state.past, self.embed.weight.dtype
        fits = torch.promote_types(past.dtype, dtype) == dtype  # autocast may have made it narrower
        if past.device != x.device or not fits:
            raise ValueError(f"state must be of {dtype} on {x.device}, got {past.dtype} on {past.device}")
        begun = state.begun
        if not len(x):
            if reset is not None and len(reset):
                mask = reset[0].to(x.device)
                begun = mask if begun is None else begun | mask
            return replace(state, past=state.past.detach(), begun=begun)
        last = state.stream[-1] if len(state.stream) else torch.zeros_like(stream[0])
        last = last if begun is None else last + begun
        return TransformerState(torch.cat([state.past.detach(), x]), torch.cat([state.stream, stream + last]))

    def _attend(self, seen: TransformerState) -> Tensor:
        """Outputs of all steps so far, (P + T, B, H); each attends to its own stream's past and itself."""
        steps = len(seen.stream)
        past, lost = seen.past, None
        if not all_finite(past):  # 0 times NaN would be NaN, at earlier steps and in later streams too
            lost = lost_steps(~past.isfinite().all(2), _begins(seen.stream), torch.zeros_like(seen.stream[0]).bool())
            past = past.masked_fill(lost.unsqueeze(2), 0)
        y = self.embed(past)  # (P + T, B, H)
        if self.positions == "sinusoidal":
            y = y + self._positions(seen.stream)
        same = seen.stream.T.unsqueeze(2) == seen.stream.T.unsqueeze(1)  # (B, query, key)
        future = torch.ones(steps, steps, dtype=torch.bool, device=y.device).triu(1)
        mask = (future | ~same).repeat_interleave(self.heads, dim=0)  # (B * N, query, key)
        if (bias := self._relative(steps, y.device)) is not None:
            mask = bias.repeat(seen.stream.shape[1], 1, 1).masked_fill(mask, -math.inf)
        y = self.blocks(y, mask=mask)
        return y if lost is None else y.masked_fill(lost.unsqueeze(2), math.nan)

    def _relative(self, steps: int, device: torch.device) -> Tensor | None:
        """The term of each head's scores that depends on the distance, (N, query, key); None: there is none."""
        if self.positions not in ("alibi", "t5"):
            return None
        places = torch.arange(steps, device=device)
        distance = (places.unsqueeze(1) - places).clamp(min=0)  # within a stream, which has no gaps
        if self.bias is not None:
            return self.bias(buckets(distance)).permute(2, 0, 1)
        number = torch.arange(1, self.heads + 1, device=device)
        rate = torch.exp2(-8.0 * number / self.heads).to(self.embed.weight.dtype)
        return -rate.view(-1, 1, 1) * distance

    def _positions(self, stream: Tensor) -> Tensor:
        """Sinusoids of each step's position in its own stream, (P + T, B, H)."""
        steps = torch.arange(len(stream), device=stream.device).unsqueeze(1)
        first = torch.where(_begins(stream), steps, 0).cummax(0).values
        width = (self.hidden_size + 1) // 2
        rate = torch.exp(torch.arange(width, device=stream.device) * (-math.log(10000.0) / width))
        angle = (steps - first).unsqueeze(2) * rate
        position = torch.cat([angle.sin(), angle.cos()], dim=2)[..., : self.hidden_size]
        return position.to(self.embed.weight.dtype)


def _begins(stream: Tensor) -> Tensor:
    """The first step of each stream, (P + T, B) bool, by the number of the stream at each."""
    return torch.cat([torch.ones_like(stream[:1]), stream.diff(dim=0)]) > 0


def buckets(distance: Tensor) -> Tensor:
    """The range that each distance, at least 0, is in: BUCKETS of them.   [Raffel et al. 2020]"""
    single = BUCKETS // 2
    growth = torch.log(distance.clamp(min=1) / single) / math.log(FURTHEST / single)
    shared = (single + growth * (BUCKETS - single)).long().clamp(max=BUCKETS - 1)
    return torch.where(distance < single, distance, shared)
