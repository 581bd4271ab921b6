"""What the Triton operators may be called with, compared before a kernel reads or writes anything.

On a GPU a comparison of numbers would wait for the device. There counts and slots are clamped to their ranges, so
that no kernel leaves its tensors; elsewhere those out of range are refused.

Shapes: T time, B batch, H hidden, G gate width, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reminding.ops.checks import Shapes, Sizes, check_rule, check_tensors, shapes_of_weights
from reminding.ops.contract import OpRule, gate_width, new_slots
from reminding.ops.cuda_op.packing import Record

LOWERED = ("x", "weight_ih", "weight_hh", "w1", "w2")
"""What may be of half precision beside a state of float32."""
HALVES = (torch.float16, torch.bfloat16)
Given = Sequence[Tensor | None]
GIVEN = (
    *("x", "h0", "c0", "memory0", "weight_ih", "weight_hh", "bias", "w1", "w2", "w3"),
    *("count0", "step0"),
)
ARRIVING = ("d_output", "d_summary", "d_c_last", "d_memory")
KEPT = ("gates", "queries")
_TYPES = {"count0": torch.int64, "step0": torch.int64, "slots": torch.int32, "edges": torch.int32}


def check_forward(given: Given, received0: Tensor | None, rule: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Refuse a call of `sab_forward` with arguments that do not fit together.

    Args:
        given: the arguments named `GIVEN`, in this order.

    Returns:
        the counters, count0 and step0, in their ranges.

    Raises:
        ValueError: names the argument, and shows what was expected and what came.
    """
    settled, arguments = _rule(rule), {**dict(zip(GIVEN, given, strict=True)), "received0": received0}
    sizes = Sizes.of(arguments, settled)
    received = {"received0": (sizes.B, sizes.given)} if settled.bounded else {}
    _check_tensors(arguments, {**_given(sizes, settled), **received})
    return _counters(arguments, sizes)


def check_backward(
    given: Given, d: Given, record: Sequence[Tensor], kept: Sequence[Tensor], rule: Sequence[int], replay: bool
) -> tuple[tuple[Tensor, Tensor], Record]:
    """Refuse a call of `sab_backward` with arguments that do not fit together.

    Args:
        given: the arguments named `GIVEN`, and d those named `ARRIVING`, in this order.

    Returns:
        the counters, count0 and step0, and the record, its slots and edges, in their ranges.

    Raises:
        ValueError: as `check_forward`.
    """
    settled = _rule(rule)
    arguments: dict[str, Tensor | None] = dict(zip((*GIVEN, *ARRIVING), (*given, *d), strict=True))
    for name, fields, tensors in (("record", Record._fields, record), ("kept", KEPT, kept)):
        if len(tensors) != len(fields):
            raise ValueError(f"{name} must hold {len(fields)} tensors, got {len(tensors)}")
        arguments |= dict(zip(fields, tensors, strict=True))
    sizes = Sizes.of(arguments, settled)
    shapes = {**_given(sizes, settled), **_recorded(sizes, settled)}
    made_again = KEPT if replay else ()
    _check_tensors(arguments, {name: shape for name, shape in shapes.items() if name not in made_again})
    made, last = Record(*record), sizes.given + new_slots(sizes.T, settled) - 1
    slots = _within("slots", made.slots, -2 - last, last)  # below -1 stand those without a weight
    made = made._replace(slots=slots, edges=_within("edges", made.edges, -1, last))
    return _counters(arguments, sizes), made


def _rule(numbers: Sequence[int]) -> OpRule:
    """The rule, of which the kernels run a part.

    Raises:
        ValueError: one of its numbers stands for nothing, or for what they do not run.
    """
    rule = check_rule(tuple(numbers))
    if rule.extra_weights(1):
        raise ValueError("rule: null_score and summary_gate must be 0, the Triton kernels do not run them")
    return rule


@functools.lru_cache(maxsize=256)
def _given(sizes: Sizes, rule: OpRule) -> Shapes:
    """Of the tensors that both passes are given."""
    T, B, features, H, _, slots = sizes
    return {
        "x": (T, B, features), "h0": (B, H), "c0": (B, H), "memory0": (B, slots, H), "count0": (B,), "step0": (B,),
        **shapes_of_weights(sizes, rule), "bias": (gate_width(H, rule),),
    }  # fmt: skip


@functools.lru_cache(maxsize=256)
def _recorded(sizes: Sizes, rule: OpRule) -> Shapes:
    """Of what the forward pass has left, and of the gradients that arrive."""
    T, B, _, H, D, slots = sizes
    M, K = slots + new_slots(T, rule), rule.k_top
    return {
        "d_output": (T, B, H), "d_summary": (T, B, H), "d_c_last": (B, H), "d_memory": (B, M, H),
        "output": (T, B, H), "summary": (T, B, H), "cells": (T, B, H if rule.has_c else 0),
        "memory": (B, M, H), "keys": (B, M, D), "slots": (T, B, K), "weights": (T, B, K), "edges": (T, B, 2),
        "inverses": (T, B), "gates": (T, B, gate_width(H, rule)), "queries": (T, B, D),
    }  # fmt: skip


def _check_tensors(arguments: Mapping[str, Any], shapes: Shapes) -> None:
    state: torch.dtype = arguments["h0"].dtype
    device: torch.device = arguments["h0"].device
    if state not in (torch.float32, torch.float64):
        raise ValueError(f"h0 must be float32 or float64, got {state}")

    def dtype_of(name: str, tensor: Tensor) -> torch.dtype:
        lowered = name in LOWERED and state == torch.float32 and tensor.dtype in HALVES
        return tensor.dtype if lowered else _TYPES.get(name, state)

    check_tensors(arguments, shapes, ARRIVING, device, dtype_of)


def _counters(arguments: Mapping[str, Any], sizes: Sizes) -> tuple[Tensor, Tensor]:
    count0 = _within("count0", arguments["count0"], 0, sizes.given)
    return count0, _within("step0", arguments["step0"], 0, None)


def _within(name: str, tensor: Tensor, least: int, most: int | None) -> Tensor:
    """A tensor of whole numbers that lie in a range."""
    if tensor.is_cuda:
        return tensor.clamp(least, most)
    if tensor.numel() and (int(tensor.min()) < least or (most is not None and int(tensor.max()) > most)):
        upper = "" if most is None else f" to {most}"
        raise ValueError(f"{name} must be from {least}{upper}, got {int(tensor.min())} to {int(tensor.max())}")
    return tensor
