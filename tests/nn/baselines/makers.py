"""Every baseline by name, made with seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from reminding.nn import RTU, MinGRU, Transformer, full_attention, full_bptt, truncated_bptt
from tests.nn.samples import spread

Maker = Callable[..., Any]


def rtu(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> RTU:
    """It has one layer, whatever is asked for."""
    return RTU(input_size, hidden_size, **options)


MAKERS: dict[str, Maker] = {
    "full_bptt": full_bptt,
    "truncated_bptt": truncated_bptt,
    "full_attention": full_attention,
    "Transformer": Transformer,
    "Transformer alibi": partial(Transformer, positions="alibi"),
    "Transformer t5": partial(Transformer, positions="t5"),
    "Transformer none": partial(Transformer, positions="none"),
    "MinGRU": MinGRU,
    "RTU": rtu,
}


def baseline(maker: Maker, **options: Any) -> nn.Module:
    layer: nn.Module = maker(3, 4, **options).double().eval()
    spread(layer, 1, 0.4)
    return layer
