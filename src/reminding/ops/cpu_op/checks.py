"""What the CPU operators may be called with: types, shapes and settings, compared before anything is computed.

The C++ loops compare every tensor and every index again that reaches them (csrc/arguments.h, csrc/indices.h). Here is
what they do not see: tensors that Python would broadcast, cut short or divide by first.

Shapes: B batch, T time, I input, H hidden, C its width in c (0 unless LSTM), R rows of the recurrent weights, G gate
width, D score width, W width of W3 or w, M memory slots given, S those and room for new ones, K k_top, P rows whose
steps were kept, X cuts.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reminding.ops.cpu_op.problem import (
    CELLS,
    EVICT,
    KEEP_GATES,
    KEEP_NOTHING,
    KEEP_REPLAY,
    NORMALIZERS,
    SCORES,
    SEMANTICS,
    Rule,
    cuts_in,
    gate_width,
    number_of,
    slots_for,
)

# fmt: off
_GIVEN = {
    "x": "T B I", "h0": "B H", "c0": "B C", "memory0": "B M H", "count0": "B", "step0": "B", "weight_ih": "R I",
    "weight_hh": "R H", "bias_ih": "R", "bias_hh": "R", "w1": "D H", "w2": "D H", "w3": "W",
}
_RECORD = {
    "d_output": "T B H", "d_summary": "T B H", "d_c_T": "B C", "d_memory": "B S H",
    "output": "T B H", "summary": "T B H", "memory": "B S H", "slots": "T B K", "weights": "T B K", "edge": "T B",
    "inverse": "T B", "gates": "P T G", "cells": "P T C", "queries": "P T D", "keys": "P S D", "entering_c": "B X H",
}
# fmt: on
_TYPES = {"count0": torch.int64, "step0": torch.int64, "slots": torch.int32, "edge": torch.int32}
_OPTIONAL = {"bias_ih", "bias_hh", "d_output", "d_summary", "d_c_T", "d_memory"}


def check_forward(arguments: Mapping[str, Any]) -> None:
    """Refuse a call of `sab_forward` with arguments, by name, that do not fit together.

    Raises:
        ValueError: names the argument, and shows what was expected and what came.
    """
    rule = check_rule(tuple(arguments["rule"]))
    _one_of("keep", arguments["keep"], (KEEP_NOTHING, KEEP_GATES, KEEP_REPLAY))
    milestones = arguments["milestones"]
    if milestones and not (len(milestones) == 2 and 0 <= milestones[1] < milestones[0]):
        raise ValueError(f"milestones must be [] or [stride, offset] with 0 <= offset < stride, got {milestones}")
    # Without a capacity nobody reads what memories have received.
    received = {"received0": "B M"} if rule.bounded else {}
    _check_tensors(arguments, {**_GIVEN, **received}, _sizes(arguments, rule))


def check_backward(arguments: Mapping[str, Any]) -> None:
    """Refuse a call of `sab_backward` with arguments, by name, that do not fit together.

    Raises:
        ValueError: as `check_forward`.
    """
    rule, keep = check_rule(tuple(arguments["rule"])), arguments["keep"]
    _one_of("keep", keep, (KEEP_GATES, KEEP_REPLAY))
    sizes = _sizes(arguments, rule)
    T = sizes["T"]
    sizes |= {
        "S": slots_for(arguments["memory0"], T, rule),
        "G": gate_width(sizes["H"], rule),
        "P": sizes["B"] if keep == KEEP_GATES else 0,
        "X": cuts_in(T, rule) if keep == KEEP_REPLAY and rule.has_c else 0,
    }
    _check_tensors(arguments, {**_GIVEN, **_RECORD}, sizes)


@functools.lru_cache(maxsize=256)
def check_rule(numbers: tuple[int, ...]) -> Rule:
    """The rule that the numbers stand for.

    Raises:
        ValueError: one of them stands for nothing.
    """
    if len(numbers) != len(Rule._fields):
        raise ValueError(f"rule must hold {len(Rule._fields)} numbers, got {len(numbers)}")
    rule = Rule(*numbers)
    for name, table in (("cell", CELLS), ("score", SCORES), ("normalizer", NORMALIZERS), ("semantics", SEMANTICS)):
        _one_of(f"rule: {name}", getattr(rule, name), table.values())
    _one_of("rule: evict", rule.evict, EVICT.values())
    _one_of("rule: backtrack", rule.backtrack, (0, 1))
    for name, least in (("k_top", 0), ("k_att", 1), ("k_trunc", 0), ("capacity", 0)):
        if getattr(rule, name) < least:
            raise ValueError(f"rule: {name} must be at least {least}, got {getattr(rule, name)}")
    for name in ("recall_scale", "forget_scale"):
        if not 0 < number_of(getattr(rule, name)) <= 1:
            raise ValueError(f"rule: {name} must be above 0 and at most 1, got {number_of(getattr(rule, name))}")
    return rule


def _one_of(name: str, value: int, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {sorted(known)}, got {value}")


def _sizes(arguments: Mapping[str, Any], rule: Rule) -> dict[str, int]:
    """What the letters of the shapes stand for; without W where the score has no tensor of that width."""
    for name, dimensions in (("x", 3), ("h0", 2), ("memory0", 3), *((("w1", 2),) if rule.has_keys else ())):
        tensor = arguments[name]
        if tensor is None or tensor.dim() != dimensions:
            got = None if tensor is None else tuple(tensor.shape)
            raise ValueError(f"{name} must be a tensor of {dimensions} dimensions, got {got}")
    T, B, features = arguments["x"].shape
    H = arguments["h0"].shape[1]
    D = arguments["w1"].shape[0] if rule.has_keys else 0
    sizes = {"T": T, "B": B, "I": features, "H": H, "M": arguments["memory0"].shape[1], "K": rule.k_top, "D": D}
    sizes["C"] = H if rule.has_c else 0
    sizes["R"] = {CELLS["lstm"]: 4, CELLS["gru"]: 3, CELLS["rnn"]: 1}[rule.cell] * H
    if rule.k_top > 0 and rule.score != SCORES["dot"]:
        sizes["W"] = D if rule.score == SCORES["additive"] else 2 * H
    return sizes


def _check_tensors(arguments: Mapping[str, Any], shapes: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    like = arguments["x"]
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x must be float32 or float64, got {like.dtype}")
    absent = (*(() if "W" in sizes else ("w3",)), *(() if sizes["D"] else ("w1", "w2")))
    for name, letters in shapes.items():
        tensor: Tensor | None = arguments[name]
        if name in absent:
            if tensor is not None:
                raise ValueError(f"{name} must be None with this rule, got a tensor of shape {tuple(tensor.shape)}")
            continue
        if tensor is None and name in _OPTIONAL:
            continue
        shape, dtype = tuple(sizes[letter] for letter in letters.split()), _TYPES.get(name, like.dtype)
        if tensor is None or tensor.shape != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
            wanted = f"({', '.join(letters.split())}) = {shape} of {dtype} on the CPU"
            raise ValueError(f"{name} must be {wanted}, got {_described(tensor)}")
        if tensor.data_ptr() == 0 and tensor.numel() > 0:  # as sharded training leaves parameters between their uses
            raise ValueError(f"{name} must have memory, but its storage was emptied")


def _described(tensor: Tensor | None) -> str:
    return "None" if tensor is None else f"{tuple(tensor.shape)} of {tensor.dtype} on {tensor.device}"
