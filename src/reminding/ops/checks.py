"""What the operators of every backend may be called with: rules, sizes, and tensors of a type, shape and device.

Shapes: B batch, T time, I input, H hidden, D score width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
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
    number_of,
)
from reminding.ops.scores import SCORES

Shapes = Mapping[str, tuple[int, ...] | None]
"""What each tensor must be like, by name; None where it must be None."""


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
        one_of(f"rule: {name}", getattr(rule, name), table.values())
    one_of("rule: evict", rule.evict, EVICT.values())
    one_of("rule: search", rule.search, SEARCH.values())
    for name in ("backtrack", "summary_gate"):
        one_of(f"rule: {name}", getattr(rule, name), (0, 1))
    one_of("rule: null_score", rule.null_score, (0, 1) if rule.normalizer == NORMALIZERS["softmax1"] else (0,))
    one_of("rule: stored", rule.stored, STORED.values())
    for name, least in (("k_top", 0), ("k_att", 1), ("k_trunc", 0), ("capacity", 0)):
        if getattr(rule, name) < least:
            raise ValueError(f"rule: {name} must be at least {least}, got {getattr(rule, name)}")
    if rule.k_top > LARGEST_K_TOP:
        raise ValueError(f"rule: k_top must be at most {LARGEST_K_TOP}, got {rule.k_top}")
    for name in ("recall_scale", "forget_scale"):
        if not 0 < number_of(getattr(rule, name)) <= 1:
            raise ValueError(f"rule: {name} must be above 0 and at most 1, got {number_of(getattr(rule, name))}")
    return rule


def one_of(name: str, value: int, known: Collection[int]) -> None:
    """Refuse a number that is none of those known.

    Raises:
        ValueError: names it, and shows those known.
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {sorted(known)}, got {value}")


class Sizes(NamedTuple):
    """The sizes that all others follow from."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int
    D: int
    given: int  # memory slots

    @staticmethod
    def of(arguments: Mapping[str, Any], rule: OpRule) -> Sizes:
        """Those of an operator's arguments.

        Raises:
            ValueError: an argument that has them is missing, or has another number of dimensions.
        """
        for name, dimensions in (("x", 3), ("h0", 2), ("memory0", 3), *((("w1", 2),) if rule.has_keys else ())):
            tensor = arguments[name]
            if tensor is None or tensor.dim() != dimensions:
                got = None if tensor is None else tuple(tensor.shape)
                raise ValueError(f"{name} must be a tensor of {dimensions} dimensions, got {got}")
        T, B, features = arguments["x"].shape
        D = arguments["w1"].shape[0] if rule.has_keys else 0
        return Sizes(T, B, features, arguments["h0"].shape[1], D, arguments["memory0"].shape[1])


def shapes_of_weights(sizes: Sizes, rule: OpRule) -> Shapes:
    """Of a cell's weights, and of a scorer's w1, w2 and w3."""
    H, D = sizes.H, sizes.D
    R = {CELLS["lstm"]: 4, CELLS["gru"]: 3, CELLS["rnn"]: 1}[rule.cell] * H
    keys = (D, H) if rule.has_keys else None
    width = rule.extra_weights(H)
    if rule.k_top > 0 and "w3" in rule.scoring.roles:
        width += 2 * H if keys is None else D
    return {
        "weight_ih": (R, sizes.I), "weight_hh": (R, H), "w1": keys, "w2": keys, "w3": (width,) if width else None,
    }  # fmt: skip


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int, ...] | None, dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse a tensor that is not as it must be.

    Args:
        shape: None where the rule has no use of it.

    Raises:
        ValueError: names the tensor, and shows what was expected and what came.
    """
    if tensor.shape != shape or tensor.dtype is not dtype or tensor.device != device:
        wanted = "None with this rule" if shape is None else f"{dtype} of shape {shape} on {told(device)}"
        raise ValueError(f"{name} must be {wanted}, got {described(tensor)}")
    if tensor.data_ptr() == 0 and tensor.numel() > 0:  # as sharded training leaves parameters between their uses
        raise ValueError(f"{name} must have memory, but its storage was emptied")


def check_tensors(
    arguments: Mapping[str, Any],
    shapes: Shapes,
    optional: Collection[str],
    device: torch.device,
    dtype_of: Callable[[str, Tensor], torch.dtype],
) -> None:
    """Refuse the first tensor among an operator's arguments that is missing or not as it must be.

    Args:
        optional: the names that may be None.
        dtype_of: the type that a tensor must have, by its name, where it depends on the tensor's own.

    Raises:
        ValueError: names the tensor, and shows what was expected and what came.
    """
    for name, shape in shapes.items():
        tensor: Tensor | None = arguments[name]
        if tensor is not None:
            check_tensor(name, tensor, shape, dtype_of(name, tensor), device)
        elif shape is not None and name not in optional:
            raise ValueError(f"{name} must be a tensor of shape {shape}, got None")


def told(device: torch.device) -> str:
    """A device in words."""
    return "the CPU" if device.type == "cpu" else str(device)


def described(tensor: Tensor) -> str:
    """A tensor's type, shape and device in words."""
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
