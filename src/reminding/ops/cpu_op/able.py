"""What the CPU op can run: built-in cells and scores in float32 and float64, where its C++ part was built."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from reminding.ops.contract import SEARCH, Demand, OpRule, common_obstacle
from reminding.ops.cpu_op.eager import is_eager

CLAMP = {torch.float32: 43.0, torch.float64: 350.0}
"""Where the op clamps W1 m and W2 h_hat of the additive score (see scores.h)."""
SATURATED = 20.0
"""From here on tanh is 1 in float64."""
MOST_RECALLED = 1024
"""Memories that a step may recall with k_top=None: the op makes room for as many at every step."""

GROUP = 16
"""Members that a group in the trees of tree.h has at most."""
LEAST_SEARCHED, LEAST_IN_TREE, MOST_RANKED = 128, GROUP + 1, 63
"""Memories from which search="auto" tries its tree, and of which a tree can be made at all; the largest k_top with
which it is used (see search.h)."""


@functools.cache
def missing() -> str | None:
    """Why the compiled part cannot be used here, or None once it is loaded."""
    found = next(iter(sorted(Path(__file__).parent.glob("_sab_cpu*.so"))), None)
    if found is None:
        return "the C++ op was not built when reminding was installed (it takes a C++ compiler and PyTorch 2.10)"
    try:
        torch.ops.load_library(str(found))
    except OSError as error:
        return f"the C++ op {found.name} cannot be loaded: {str(error).splitlines()[0]}"
    return None


def obstacle(demand: Demand) -> str | None:
    """Why the op cannot run a layer, or None where it can."""
    if (reason := missing()) is not None:
        return reason
    if demand.device.type != "cpu" or demand.dtype not in CLAMP:
        return f"it computes float32 and float64 on the CPU, not {demand.dtype} on {demand.device.type}"
    if demand.k_top is None and demand.memories > MOST_RECALLED:
        return f"with k_top=None it recalls at most {MOST_RECALLED} memories a step, not {demand.memories}"
    return common_obstacle(demand)


def passed_over() -> str | None:
    """Why "auto" does not take the op even where it can run a layer: it does."""
    return None


def lowers() -> bool:
    """Whether autocast makes the op compute cells in the lower precision: it has none."""
    return False


def credits_past(k_top: int | None) -> bool:
    """Whether the op also sends credit into the past calls of a layer that it computes."""
    return k_top is not None and missing() is None


def drops_state() -> bool:
    """Whether the op runs recurrent dropout, in past calls too: it does."""
    return True


def searches(rule: OpRule, memories: int) -> bool:
    """Whether the op keeps a tree of bounds over so many memories of a row (see search.h)."""
    least = LEAST_SEARCHED if rule.search == SEARCH["auto"] else LEAST_IN_TREE
    return rule.search != SEARCH["scan"] and rule.has_keys and rule.k_top <= MOST_RANKED and memories >= least


def takes_lengths(tensors: Iterable[Tensor]) -> bool:
    """Whether rows may have different lengths: not where the operator itself has to be seen, which has no lengths."""
    return is_eager(tensors)


def in_range(key: Tensor, query: Tensor) -> bool:
    """Whether the additive score is exact: no large W1 m can have met a large W2 h_hat of the other sign.

    The op keeps e^(2 W1 m) and e^(2 W2 h_hat), each exponent clamped. One clamped factor still leaves tanh at +-1;
    two may not.

    Args:
        key, query: the largest |W1 m| and |W2 h_hat| so far, () each.
    """
    clamp = CLAMP[key.dtype]
    smaller, larger = sorted((float(key), float(query)))
    return not (smaller > clamp - SATURATED and larger > clamp)
