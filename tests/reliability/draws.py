"""Drawn calls of a layer, seeded: settings, sizes, chunks, and inputs with what real ones have at their worst.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from reminding import SAB
from tests.nn.samples import spread

HUGE = (10**6, 2**31 - 1, 2**31, 2**40, 2**61)
KINDS = ("plain", "plain", "plain", "nan", "inf", "-inf", "1e30", "1e-30", "1e-300", "zero")
"""What an input holds besides ordinary numbers."""
FORMS = ("plain", "plain", "strided", "expanded", "transposed", "batch_first", "unbatched", "packed")
STARTS = (None, None, None, 2**31 - 3, 2**40 - 2, 2**61 - 200)
"""How many steps a stream has done before; None: it begins."""


@dataclass(frozen=True)
class Draw:
    """A stream of calls of one layer.

    Attributes:
        options: of the layer; encoder: whether it has one; seed: of its weights.
        x: the input of each call in the layer's layout, dense; lengths: of a packed sequence's rows, per call.
        reset: per call, in the inner layout (T, B), or None.
        begun: steps done before the first call; None: none.
        loss: "all" outputs, "last" ones, those of one "row", or of the "state".
        scale: of the weights.
    """

    number: int
    options: dict[str, Any]
    encoder: bool
    x: list[Tensor]
    form: str
    kind: str
    lengths: list[list[int]]
    reset: list[Tensor | None]
    begun: int | None
    loss: str
    scale: float

    def layer(self, ways: dict[str, Any]) -> SAB:
        """A layer with its settings, and weights that are the same every time."""
        encoder = nn.Linear(self.options["input_size"], self.options["input_size"]) if self.encoder else None
        dtype = self.options["dtype"]
        torch.manual_seed(self.number)
        layer = SAB(**self.options, **ways, encoder=None if encoder is None else encoder.to(dtype))
        spread(layer, self.number, self.scale)
        return layer

    def given(self, call: int, x: Tensor) -> Any:
        """The input of a call as it is passed, from a tensor that may require gradient."""
        if self.form == "packed":
            return pack_padded_sequence(x, torch.tensor(self.lengths[call]), enforce_sorted=False)
        if self.form == "strided":
            return torch.stack([x, x], dim=-1)[..., 0]
        if self.form == "expanded":
            return x.expand(*x.shape)
        return x.transpose(0, 1).contiguous().transpose(0, 1) if self.form == "transposed" else x

    def reset_of(self, call: int) -> Tensor | None:
        """The reset mask of a call in the layer's layout."""
        mask = self.reset[call]
        return mask.t() if mask is not None and self.form == "batch_first" else mask

    def in_float64(self) -> Draw:
        """The same stream with the same numbers in double precision."""
        options = {**self.options, "dtype": torch.float64}
        return replace(self, options=options, x=[x.double() for x in self.x])

    def underflow(self, name: str) -> float:
        """How far a weight's gradient may be off: inputs multiply gates' gradients too small for the type."""
        largest = max((float(x.double().abs().nan_to_num(0, 0, 0).max()) for x in self.x if x.numel()), default=0.0)
        return (
            100 * torch.finfo(self.options["dtype"]).tiny * largest if name.startswith("gradient of weight") else 0.0
        )

    def __str__(self) -> str:
        shapes = [tuple(part.shape) for part in self.x]
        drawn = {name: value for name, value in vars(self).items() if name not in ("x", "lengths", "reset")}
        resets: list[Any] = [None if mask is None else mask.nonzero().tolist() for mask in self.reset]
        return f"{drawn} x={shapes} lengths={self.lengths} resets={resets}"


def _options(choose: random.Random, dtype: torch.dtype) -> dict[str, Any]:
    release = choose.random() < 0.2
    normalizer = choose.choice(("softmax", "softmax", "softmax1", "threshold"))
    options: dict[str, Any] = {
        "input_size": choose.choice((1, 2, 3, 17)),
        "hidden_size": choose.choice((1, 2, 4, 5, 33)),
        "num_layers": choose.choice((1, 1, 1, 2, 3)),
        "cell": choose.choice(("lstm", "lstm", "gru", "rnn")),
        "k_top": choose.choice((0, 1, 2, 3, 5, None, 40, 1024, 2000)),
        "k_att": choose.choice((None, 1, 2, 3, 7, *HUGE)),
        "k_trunc": choose.choice((None, 1, 2, 3, 5, 10, *HUGE)),
        "score": choose.choice(("additive", "additive", "dot", "separable")),
        "score_size": choose.choice((None, 1, 3, 16)),
        "normalizer": normalizer,
        "semantics": "release" if release else "paper",
        "recall_scale": choose.choice((1.0, 1.0, 0.5)),
        "capacity": choose.choice((None, None, None, 1, 2, 5, *HUGE[1:])),
        "evict": choose.choice(("fifo", "least_recalled")),
        "backtrack": choose.random() < 0.85,
        "horizon": choose.choice((None, None, None, 0, 1, 5, *HUGE)),
        "credit_every": choose.choice((1, 1, 1, 2, 3, 2**31, 2**61)),
        "stored": choose.choice(("h", "h", "proposal")),
        "bias": choose.random() < 0.85,
        "search": choose.choice(("auto", "auto", "scan", "tree")),
        "dtype": dtype,
    }
    if options["cell"] == "lstm" and choose.random() < 0.3:
        options["forget_scale"] = choose.choice((0.9, 1e-3))
    if normalizer == "softmax1" and choose.random() < 0.5:
        options["null_score"] = 0.5
    if choose.random() < 0.2:
        options["summary_gate"] = choose.choice((0.0, 0.3))
    return options


def _damaged(x: Tensor, kind: str, choose: random.Random) -> Tensor:
    """The input with one kind of number put in at some places, or everywhere where it is a scale."""
    if kind in ("plain", "zero"):
        return x if kind == "plain" else torch.zeros_like(x)
    x = x.clone()
    number = float(kind)
    if not x.numel():
        return x
    if choose.random() < 0.3 and 0 < number < float("inf"):
        return x * number
    for _ in range(choose.randint(1, 3)):
        x.view(-1)[choose.randrange(x.numel())] = number
    return x


def draw(seed: int, number: int, longest: int = 24) -> Draw:
    """One drawn stream; `longest`: steps of a call at most."""
    choose = random.Random(f"{seed} {number}")
    generator = torch.Generator().manual_seed(number)
    dtype = choose.choice((torch.float64, torch.float64, torch.float32, torch.float32, torch.bfloat16))
    options = _options(choose, dtype)
    form, kind = choose.choice(FORMS), choose.choice(KINDS)
    rows = 1 if form == "unbatched" else choose.choice((1, 1, 2, 3, 4, *((0,) if form != "packed" else ()), 9))
    options["batch_first"] = form == "batch_first"
    inputs: list[Tensor] = []
    lengths: list[list[int]] = []
    resets: list[Tensor | None] = []
    for call in range(choose.choice((1, 1, 2, 3, 5))):
        steps = choose.choice((0, 1, 1, 2, 3, 5, 7, longest // 2, longest))
        steps = max(steps, 1) if form == "packed" else steps
        x = torch.randn(steps, rows, options["input_size"], generator=generator, dtype=torch.float64).to(dtype)
        x = _damaged(x, kind, choose) if call == 0 or choose.random() < 0.2 else x
        if form == "expanded":
            x = x[:, :1].expand(-1, rows, -1) if rows else x
        reset = None
        if form not in ("packed", "unbatched") and choose.random() < 0.3:
            reset = torch.rand(steps, rows, generator=generator) < 0.15
        x = x[:, 0] if form == "unbatched" else x.transpose(0, 1) if form == "batch_first" else x
        inputs.append(x)
        resets.append(reset)
        lengths.append([choose.randint(1, steps) for _ in range(rows)] if form == "packed" else [])
    return Draw(
        number=number,
        options=options,
        encoder=choose.random() < 0.15,
        x=inputs,
        form=form,
        kind=kind,
        lengths=lengths,
        reset=resets,
        begun=choose.choice(STARTS),
        loss=choose.choice(("all", "all", "last", "row", "state", "summary")),
        scale=choose.choice((0.1, 0.6, 0.6, 2.0)),
    )
