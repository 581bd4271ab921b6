"""What the CPU operators may be called with: types, shapes and settings, compared before anything is computed.

The C++ loops compare every tensor and every index again that reaches them (csrc/arguments.h, csrc/indices.h). Here is
what they do not see: tensors that Python would broadcast, cut short or divide by first.

Shapes: B batch, T time, H hidden, C as H in an LSTM and 0 elsewhere, R rows of the recurrent weights, D score width,
S memory slots given and room for new ones, K k_top.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reminding.ops.contract import (
    CELLS,
    EVICT,
    LARGEST_K_TOP,
    NORMALIZERS,
    SEARCH,
    SEMANTICS,
    STORED,
    OpRule,
    gate_width,
    new_slots,
    number_of,
)
from reminding.ops.cpu_op.packing import KEEP_GATES, KEEP_NOTHING, KEEP_REPLAY, cuts_in
from reminding.ops.scores import SCORES

Shapes = Mapping[str, tuple[int, ...] | None]
"""What each tensor must be like, by name; None where it must be None."""

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
    _check_tensors(arguments, _given(arguments, rule))


def check_backward(arguments: Mapping[str, Any]) -> None:
    """Refuse a call of `sab_backward` with arguments, by name, that do not fit together.

    Raises:
        ValueError: as `check_forward`.
    """
    rule, keep = check_rule(tuple(arguments["rule"])), arguments["keep"]
    _one_of("keep", keep, (KEEP_GATES, KEEP_REPLAY))
    given = {name: shape for name, shape in _given(arguments, rule).items() if name != "received0"}
    _check_tensors(arguments, {**given, **_recorded(_sizes(arguments, rule), rule, keep)})


def check_devices(arguments: Iterable[Any]) -> None:
    """Refuse tensors that hold no numbers, for which PyTorch would take the operator's shapes for its results.

    Raises:
        ValueError: a tensor is not on the CPU, nor stands for one that is, as while a graph is compiled.
    """
    for argument in arguments:
        if isinstance(argument, Tensor) and argument.device.type != "cpu":
            raise ValueError(f"all tensors of the CPU op must be on the CPU, got one on {argument.device}")


@functools.lru_cache(maxsize=256)
def check_rule(numbers: tuple[int, ...]) -> OpRule:
    """The rule that the numbers stand for.

    Raises:
        ValueError: one of them stands for nothing.
    """
    if len(numbers) != len(OpRule._fields):
        raise ValueError(f"rule must hold {len(OpRule._fields)} numbers, got {len(numbers)}")
    rule = OpRule(*numbers)
    scores = {name: score.code for name, score in SCORES.items()}
    tables = {"cell": CELLS, "score": scores, "normalizer": NORMALIZERS, "semantics": SEMANTICS}
    for name, table in tables.items():
        _one_of(f"rule: {name}", getattr(rule, name), table.values())
    _one_of("rule: evict", rule.evict, EVICT.values())
    _one_of("rule: search", rule.search, SEARCH.values())
    for name in ("backtrack", "summary_gate"):
        _one_of(f"rule: {name}", getattr(rule, name), (0, 1))
    _one_of("rule: null_score", rule.null_score, (0, 1) if rule.normalizer == NORMALIZERS["softmax1"] else (0,))
    _one_of("rule: stored", rule.stored, STORED.values())
    for name, least in (("k_top", 0), ("k_att", 1), ("k_trunc", 0), ("capacity", 0)):
        if getattr(rule, name) < least:
            raise ValueError(f"rule: {name} must be at least {least}, got {getattr(rule, name)}")
    if rule.k_top > LARGEST_K_TOP:
        raise ValueError(f"rule: k_top must be at most {LARGEST_K_TOP}, got {rule.k_top}")
    for name in ("recall_scale", "forget_scale"):
        if not 0 < number_of(getattr(rule, name)) <= 1:
            raise ValueError(f"rule: {name} must be above 0 and at most 1, got {number_of(getattr(rule, name))}")
    return rule


def _one_of(name: str, value: int, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {sorted(known)}, got {value}")


def _given(arguments: Mapping[str, Any], rule: OpRule) -> Shapes:
    """Of the tensors that both passes are given."""
    for name, dimensions in (("x", 3), ("h0", 2), ("memory0", 3), *((("w1", 2),) if rule.has_keys else ())):
        tensor = arguments[name]
        if tensor is None or tensor.dim() != dimensions:
            got = None if tensor is None else tuple(tensor.shape)
            raise ValueError(f"{name} must be a tensor of {dimensions} dimensions, got {got}")
    return _shapes(_sizes(arguments, rule), rule)


class _Sizes(NamedTuple):
    """The sizes that all others follow from."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int
    D: int
    given: int  # memory slots


def _sizes(arguments: Mapping[str, Any], rule: OpRule) -> _Sizes:
    T, B, features = arguments["x"].shape
    D = arguments["w1"].shape[0] if rule.has_keys else 0
    return _Sizes(T, B, features, arguments["h0"].shape[1], D, arguments["memory0"].shape[1])


@functools.lru_cache(maxsize=256)
def _shapes(sizes: _Sizes, rule: OpRule) -> Shapes:
    T, B, features, H, D, slots = sizes
    R = {CELLS["lstm"]: 4, CELLS["gru"]: 3, CELLS["rnn"]: 1}[rule.cell] * H
    keys = (D, H) if rule.has_keys else None
    width = rule.extra_weights(H)
    if rule.k_top > 0 and "w3" in rule.scoring.roles:
        width += 2 * H if keys is None else D
    return {
        "x": (T, B, features), "h0": (B, H), "c0": (B, H if rule.has_c else 0),
        "memory0": (B, slots, H), "count0": (B,), "step0": (B,),
        "weight_ih": (R, features), "weight_hh": (R, H), "bias_ih": (R,), "bias_hh": (R,),
        "w1": keys, "w2": keys, "w3": (width,) if width else None,
        **({"received0": (B, slots)} if rule.bounded else {}),  # otherwise the received weights are never read
    }  # fmt: skip


def _recorded(sizes: _Sizes, rule: OpRule, keep: int) -> Shapes:
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
    floating = arguments["x"].dtype
    if floating is not torch.float32 and floating is not torch.float64:
        raise ValueError(f"x must be float32 or float64, got {floating}")
    for name, shape in shapes.items():
        tensor: Tensor | None = arguments[name]
        if tensor is None:
            if shape is not None and name not in _OPTIONAL:
                raise ValueError(f"{name} must be a tensor of shape {shape}, got None")
            continue
        dtype = _TYPES.get(name, floating)
        if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_cpu:
            wanted = "None with this rule" if shape is None else f"{dtype} of shape {shape} on the CPU"
            raise ValueError(f"{name} must be {wanted}, got {_described(tensor)}")
        if tensor.data_ptr() == 0 and tensor.numel() > 0:  # as sharded training leaves parameters between their uses
            raise ValueError(f"{name} must have memory, but its storage was emptied")


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
