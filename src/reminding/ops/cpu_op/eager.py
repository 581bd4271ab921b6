"""Whether a call may compute at once, without PyTorch's dispatcher: it takes longer than a short call's steps do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter


def is_eager(arguments: Iterable[object]) -> bool:
    """Whether only autograd takes part in a call: no mode, transform or tracer, and no subclass of Tensor.

    Modes that see operators (fake tensors, `make_fx`, counters of operations) need the operators themselves.
    """
    c = torch._C  # pyright: ignore[reportPrivateUsage]
    if torch.compiler.is_compiling() or c._len_torch_dispatch_stack() or c._are_functorch_transforms_active():  # pyright: ignore
        return False
    if cast("int", forward_ad._current_level) >= 0 or torch.jit.is_tracing():  # pyright: ignore
        return False
    for each in arguments:
        kind = type(each)
        if kind is not Tensor and kind is not Parameter and isinstance(each, Tensor):
            return False
    return True
