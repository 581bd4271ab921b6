"""Second derivatives of an op: its gradient is taken once more through the plain computation, which has them.

The plain computation is nn's, which may import ops but not the other way round: nn provides it here.

Shapes: B batch, T time, I input, H hidden, N memories after the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from reminding.ops.contract import LayerInput, OpRule


class PlainResults(NamedTuple):
    """What the plain computation of a call gives, in graph."""

    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    c_last: Tensor | None  # (B, H), where the cell has a c
    memory: Tensor  # (B, N, H), those not evicted, oldest first


Plain = Callable[[LayerInput, OpRule], PlainResults]
_provided: list[Plain] = []


def provide(plain: Plain) -> None:
    """Say how a call is computed in plain PyTorch."""
    _provided[:] = [plain]


def differentiate(
    given: LayerInput, rule: OpRule, alive: Tensor, d_results: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients of x, h0, c0, memory0, the cell's and the score's tensors, with a graph of their own.

    Args:
        alive: see `Recalled`, of the op's own call.
        d_results: the gradients of output (T, B, H), summary (T, B, H), c after the last step (B, H) and memory, laid
            out as `Recalled` has it.

    Returns:
        one for each tensor, of its shape; None where the tensor needs none, or no gradient reaches it.

    Raises:
        RuntimeError: `provide` has not been called.
    """
    if not _provided:
        raise RuntimeError("an op has no second derivatives by itself; import reminding.nn, which provides them")
    d_output, d_summary, d_c, d_memory = d_results
    with torch.enable_grad():
        given = _apart(given)
        results = _provided[0](given, rule)
    sources = (given.x, given.h0, given.c0, given.memory0, *given.recurrent, *given.scorer)
    if d_memory is not None:
        d_memory = _of_alive(d_memory, alive, results.memory.shape[1], rule)
    pairs = zip(results, (d_output, d_summary, d_c, d_memory), strict=True)
    reached = [(result, d) for result, d in pairs if result is not None and d is not None and result.requires_grad]
    wanted = [source for source in sources if source is not None and source.requires_grad]
    if not reached or not wanted:
        return [None for _ in sources]
    ends, arriving = zip(*reached, strict=True)
    grad = cast("Callable[..., tuple[Tensor | None, ...]]", torch.autograd.grad)
    found = iter(grad(ends, wanted, arriving, create_graph=True, allow_unused=True))
    return [next(found) if source is not None and source.requires_grad else None for source in sources]


def _apart(given: LayerInput) -> LayerInput:
    """The same tensors in a place of the graph that only this call reaches.

    h0 may have been computed with the very weights: the gradient of the weights must not count what goes through it.
    """
    return replace(
        given,
        x=alias(given.x),
        h0=alias(given.h0),
        c0=None if given.c0 is None else alias(given.c0),
        memory0=alias(given.memory0),
        recurrent=tuple(None if tensor is None else alias(tensor) for tensor in given.recurrent),
        scorer=tuple(alias(tensor) for tensor in given.scorer),
    )


def alias(tensor: Tensor) -> Tensor:
    """The same numbers as a node of their own behind the tensor's in the graph."""
    return tensor.view_as(tensor)


def _of_alive(d_memory: Tensor, alive: Tensor, slots: int, rule: OpRule) -> Tensor:
    """The gradient of the memories that were not evicted, oldest first, (B, N, H)."""
    if not rule.bounded:
        return d_memory[:, :slots]
    place = alive[:, :slots].clamp(max=d_memory.shape[1] - 1)
    return d_memory.gather(1, place.unsqueeze(2).expand(-1, -1, d_memory.shape[2]))
