"""What the CPU operators may be called with: types, shapes and settings, compared before anything is computed.

The C++ loops compare every tensor and every index again that reaches them (csrc/arguments.h, csrc/indices.h). Here is
what they do not see: tensors that Python would broadcast, cut short or divide by first.

Shapes: B batch, T time, H hidden, C as H in an LSTM and 0 elsewhere, R rows of the recurrent weights, D score width,
S memory slots given and room for new ones, K k_top.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops.checks import Shapes, Sizes, check_rule, check_tensors, one_of, shapes_of_weights
from reminding.ops.contract import OpRule, gate_width, new_slots
from reminding.ops.cpu_op.packing import KEEP_GATES, KEEP_NOTHING, KEEP_REPLAY, cuts_in

CPU = torch.device("cpu")
_TYPES = {"count0": torch.int64, "step0": torch.int64, "slots": torch.int32, "edge": torch.int32}
_OPTIONAL = {"bias_ih", "bias_hh", "factor", "d_output", "d_summary", "d_c_T", "d_memory"}


def check_forward(arguments: Mapping[str, Any]) -> None:
    """Refuse a call of `sab_forward` with arguments, by name, that do not fit together.

    Raises:
        ValueError: names the argument, and shows what was expected and what came.
    """
    rule = check_rule(tuple(arguments["rule"]))
    one_of("keep", arguments["keep"], (KEEP_NOTHING, KEEP_GATES, KEEP_REPLAY))
    milestones = arguments["milestones"]
    if milestones and not (len(milestones) == 2 and 0 <= milestones[1] < milestones[0]):
        raise ValueError(f"milestones must be [] or [stride, offset] with 0 <= offset < stride, got {milestones}")
    _check_tensors(arguments, _given(arguments, rule))


def check_backward(arguments: Mapping[str, Any]) -> None:
    """Refuse a call of `sab_backward` with arguments, by name, that do not fit together.

    Raises:
        ValueError: as `check_forward`.
    """
    rule, keep = check_rule(tuple(arguments["rule"])), arguments["keep"]
    one_of("keep", keep, (KEEP_GATES, KEEP_REPLAY))
    given = {name: shape for name, shape in _given(arguments, rule).items() if name != "received0"}
    _check_tensors(arguments, {**given, **_recorded(Sizes.of(arguments, rule), rule, keep)})


def check_devices(arguments: Iterable[Any]) -> None:
    """Refuse tensors that hold no numbers, for which PyTorch would take the operator's shapes for its results.

    Raises:
        ValueError: a tensor is not on the CPU, nor stands for one that is, as while a graph is compiled.
    """
    for argument in arguments:
        if isinstance(argument, Tensor) and argument.device.type != "cpu":
            raise ValueError(f"all tensors of the CPU op must be on the CPU, got one on {argument.device}")


def _given(arguments: Mapping[str, Any], rule: OpRule) -> Shapes:
    """Of the tensors that both passes are given."""
    return _shapes(Sizes.of(arguments, rule), rule)


@functools.lru_cache(maxsize=256)
def _shapes(sizes: Sizes, rule: OpRule) -> Shapes:
    T, B, features, H, _, slots = sizes
    weights = shapes_of_weights(sizes, rule)
    bias = cast("tuple[int, ...]", weights["weight_ih"])[:1]
    return {
        "x": (T, B, features), "h0": (B, H), "c0": (B, H if rule.has_c else 0),
        "memory0": (B, slots, H), "count0": (B,), "step0": (B,),
        **weights, "bias_ih": bias, "bias_hh": bias, "factor": (B, H),
        **({"received0": (B, slots)} if rule.bounded else {}),  # otherwise the received weights are never read
    }  # fmt: skip


def _recorded(sizes: Sizes, rule: OpRule, keep: int) -> Shapes:
    """Of what the forward pass has left, and of the gradients that arrive."""
    T, B, _, H, D, slots = sizes
    C, S, K = H if rule.has_c else 0, slots + new_slots(T, rule), rule.k_top
    P = B if keep == KEEP_GATES else 0  # rows whose steps were kept
    cuts = cuts_in(T, rule) if keep == KEEP_REPLAY and rule.has_c else 0
    return {
        "d_output": (T, B, H), "d_summary": (T, B, H), "d_c_T": (B, C), "d_memory": (B, S, H),
        "output": (T, B, H), "summary": (T, B, H), "memory": (B, S, H),
        "slots": (T, B, K), "weights": (T, B, K), "edge": (T, B), "inverse": (T, B),
        "gates": (P, T, gate_width(H, rule)), "cells": (P, T, C), "queries": (P, T, D), "keys": (P, S, D),
        "entering_c": (B, cuts, H),
    }  # fmt: skip


def _check_tensors(arguments: Mapping[str, Any], shapes: Shapes) -> None:
    floating: torch.dtype = arguments["x"].dtype
    if floating is not torch.float32 and floating is not torch.float64:
        raise ValueError(f"x must be float32 or float64, got {floating}")
    check_tensors(arguments, shapes, _OPTIONAL, CPU, lambda name, _: _TYPES.get(name, floating))
