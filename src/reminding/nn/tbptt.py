"""Truncated backpropagation through time for any recurrent module: the state is carried, its graph is not.

Shapes: B batch (rows: one stream each), T time, k steps of a chunk.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from reminding import checks

Pieces = tuple[Tensor, ...]


def tbptt(
    module: Callable[..., tuple[Any, Any]],
    stream: Iterable[Tensor | Sequence[Tensor]],
    k: int,
    *,
    state: Any = None,
    reset: bool = False,
    detach: bool = True,
    batch_first: bool | None = None,
    state_axis: int | None = None,
) -> TruncatedBPTT:
    """Run a recurrent module over a stream, the gradient cut every k steps.   [Williams & Peng 1990]

    As in::

        lstm = nn.LSTM(input_size, hidden_size)
        for output, target in tbptt(lstm, stream, k=100):
            loss(output, target).backward()
            optimizer.step()
            optimizer.zero_grad()

    Each chunk is run when it is asked for, with the weights of that moment, from the state the chunk before
    ended in. The stream is read one item at a time and never further than the chunk under way needs, so it
    may be a generator, a DataLoader, an IterableDataset or a file that is still being written.

    Args:
        module: called as `module(input, state) -> (output, state)`, with the state None at first: `nn.LSTM`,
            `nn.GRU`, `nn.RNN`, `SAB`, or your own. Its state may be a tensor, an object with a `detach()`
            method, or tuples, lists, dicts and dataclasses of these.
        stream: its items are the input, (T, B, ...), or a tuple of the input and further tensors of as many
            steps, such as targets. T may differ from item to item: items are joined and cut into chunks of k
            steps, the last of which may be shorter.
        k: steps of a chunk, at least 1: how far the gradient reaches back.
        state: what the stream goes on from, such as `.state` of an earlier one; None: its beginning.
        reset: whether the last tensor of each item says where new streams begin, bool: (B,), before the item's
            first step, or (T, B), before each step marked. These rows of the state become 0, and no gradient
            crosses. A state with a method `reset(mask)` does it itself; a module whose `forward` has an
            argument `reset`, such as `SAB`, is given the mask instead. This tensor is not given back.
        detach: whether credit ends at the border of a chunk. False: the state keeps its past, as `SAB`'s can. Credit
            crosses the borders as far as the layer's `horizon` says, and is sent on every `credit_every` chunks. What
            waits when the stream is exhausted is settled, which adds it to the parameters' `grad`: take one more step
            of the optimizer behind the loop.
        batch_first: whether the tensors are (B, T, ...). None: the module's own attribute, else False.
        state_axis: which axis of the state's tensors counts the rows, needed where rows are reset. None: 1 for
            PyTorch's own layers; else the one of the first two axes that has B elements, if only one has.

    Returns:
        an iterator over the stream with the input replaced by the module's output: outputs, or tuples of the
        output and the chunk's further tensors. Its `state` is what the last chunk ended in, without a graph.

    Raises:
        ValueError: module is not callable, k is below 1, stream is a tensor or not iterable, or an option is of
            another type; or (when it is met) an item, mask or state does not fit, or keeps no past with detach=False.
            The message says how.
    """
    k = checks.at_least("k", k, 1)
    _check_stream(stream)
    if not callable(cast("object", module)):
        raise ValueError(f"module must be callable as module(input, state), got {module!r}")
    if batch_first is None:
        batch_first = bool(getattr(module, "batch_first", False))
    reset, detach, batch_first = checks.each_yes_or_no(reset=reset, detach=detach, batch_first=batch_first)
    state_axis = checks.at_least_or_none("state_axis", state_axis, 0)
    if state_axis is None and isinstance(module, nn.RNNBase):
        state_axis = 1
    return TruncatedBPTT(module, stream, k, state, reset, detach, int(batch_first), state_axis)


class TruncatedBPTT(Iterator[Any]):
    """What `tbptt` returns.

    Attributes:
        state: what the chunk given out last ended in, without a graph; keep it to go on later.
    """

    def __init__(
        self,
        module: Callable[..., tuple[Any, Any]],
        stream: Iterable[Tensor | Sequence[Tensor]],
        k: int,
        state: Any,
        reset: bool,
        detach: bool,
        time_axis: int,
        state_axis: int | None,
    ) -> None:
        self._detach = detach
        self.state = self._cut_from_graph(state)
        self._module = module
        self._reset = reset
        self._axis = time_axis
        self._state_axis = state_axis
        self._begun: Tensor | None = None  # rows that begin anew, by an item without steps: before the next step
        self._chunks = _cut(map(self._item, stream), k, time_axis)
        forward = getattr(module, "forward", module)
        self._resets_itself = reset and "reset" in inspect.signature(forward).parameters

    def __next__(self) -> Any:
        """Run the next chunk."""
        chunk = next(self._chunks, None)
        if chunk is None:
            if self._begun is not None:
                self.state, self._begun = reset_rows(self.state, self._begun, self._state_axis), None
            if not self._detach and self.state is not None:
                self.state.settle()
            raise StopIteration
        x, *rest = chunk
        mask = rest.pop() if self._reset else None
        output, state = self._run(x, mask)
        self.state = self._cut_from_graph(state)
        return (output, *rest) if rest else output

    def _cut_from_graph(self, state: Any) -> Any:
        """The state of the next chunk: detached, or with its past and without its graph."""
        if self._detach or state is None:
            return detached(state)
        if not all(callable(getattr(state, name, None)) for name in ("without_graph", "settle")):
            raise ValueError(
                f"detach=False needs a state that keeps its past, such as SAB's, got a {type(state).__name__}"
            )
        return state.without_graph()

    def _item(self, item: Tensor | Sequence[Tensor]) -> Pieces:
        """An item of the stream as a tuple of tensors of as many steps, the mask one of them."""
        if not isinstance(cast("object", item), Tensor | tuple | list) or isinstance(item, PackedSequence):
            raise ValueError(f"stream: an item must be a tensor or a tuple of tensors, got {type(item).__name__}")
        pieces: list[Any] = [item] if isinstance(item, Tensor) else list(item)
        for number, piece in enumerate(pieces):
            if not isinstance(piece, Tensor):
                raise ValueError(f"stream: element {number} of an item must be a tensor, got {type(piece).__name__}")
        if len(pieces) < 1 + self._reset:
            form, got = "(input, ..., mask) with reset=True" if self._reset else "(input, ...)", len(pieces)
            raise ValueError(f"stream: each item must be {form}, got {got} tensor{'s' * (got != 1)}")
        x = cast(Tensor, pieces[0])
        if x.dim() < 2:
            form = "(B, T, ...)" if self._axis else "(T, B, ...)"
            raise ValueError(f"stream: the input must have shape {form}, got {tuple(x.shape)}")
        if self._reset:
            pieces[-1] = self._mask(pieces[-1], x)
        steps = x.shape[self._axis]
        for number, piece in enumerate(pieces):
            if piece.dim() <= self._axis or piece.shape[self._axis] != steps:
                raise ValueError(
                    f"stream: element {number} of an item must have as many steps as the input, {steps} on axis "
                    f"{self._axis}; got shape {tuple(piece.shape)}"
                )
        return tuple(pieces)

    def _mask(self, mask: Tensor, x: Tensor) -> Tensor:
        """A mask per row or per step and row as one in the input's layout."""
        rows, lead = x.shape[1 - self._axis], tuple(x.shape[:2])
        if mask.dtype != torch.bool or tuple(mask.shape) not in ((rows,), lead):
            raise ValueError(
                f"stream: the reset mask must be bool of shape {(rows,)} or {lead}, got {mask.dtype} of shape "
                f"{tuple(mask.shape)}"
            )
        begun, self._begun = self._begun, None
        begun = None if begun is None or len(begun) != rows else begun.to(mask.device)
        if not lead[self._axis]:
            now = mask if mask.dim() == 1 else torch.zeros(rows, dtype=torch.bool, device=mask.device)
            self._begun = now if begun is None else now | begun
            return mask.new_zeros(lead)
        steps = mask
        if mask.dim() == 1:
            steps = torch.zeros(lead, dtype=torch.bool, device=mask.device)
            steps.select(self._axis, 0).copy_(mask)
        if begun is not None:
            steps = steps.clone()
            steps.select(self._axis, 0).logical_or_(begun)
        return steps

    def _run(self, x: Tensor, mask: Tensor | None) -> tuple[Any, Any]:
        """One chunk; where rows are reset within it, stretch by stretch."""
        if mask is None:
            return self._module(x, self.state)
        if self._resets_itself:
            return self._module(x, self.state, reset=mask)
        fresh_at = cast("list[bool]", mask.any(1 - self._axis).tolist())
        due = [t for t, fresh in enumerate(fresh_at) if fresh and t > 0]
        state, outputs = self.state, list[Any]()
        for start, stop in pairwise([0, *due, x.shape[self._axis]]):
            fresh = mask.select(self._axis, start)
            if bool(fresh.any()):
                state = reset_rows(state, fresh, self._state_axis)
            output, state = self._module(x.narrow(self._axis, start, stop - start), state)
            outputs.append(output)
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, self._axis), state


def _check_stream(stream: object) -> None:
    """Refuse what has no items, and a tensor, whose items would be its single steps."""
    if isinstance(stream, Tensor):
        raise ValueError(
            f"stream must be an iterable of items (T, B, ...), got one tensor of shape {tuple(stream.shape)}: "
            "[tensor] is a stream of one item, tensor.unbind() a stream of its parts"
        )
    if not hasattr(stream, "__iter__") and not hasattr(stream, "__getitem__"):
        raise ValueError(f"stream must be an iterable of items (T, B, ...), got {type(stream).__name__}")


def _cut(items: Iterable[Pieces], k: int, axis: int) -> Iterator[Pieces]:
    """Join items of any length along time and cut them into chunks of k steps; the last may be shorter."""
    waiting: list[Pieces] = []
    steps = 0
    for item in items:
        if waiting and (len(item), item[0].shape[1 - axis]) != (len(waiting[0]), waiting[0][0].shape[1 - axis]):
            shapes = [[tuple(piece.shape) for piece in pieces] for pieces in (waiting[0], item)]
            raise ValueError(f"stream: after tensors of shapes {shapes[0]} came {shapes[1]}; rows or number differ")
        waiting.append(item)
        steps += item[0].shape[axis]
        if steps < k:
            continue
        whole = _joined(waiting, axis)
        for start in range(0, steps - k + 1, k):
            yield tuple(piece.narrow(axis, start, k) for piece in whole)
        steps %= k
        waiting = [tuple(piece.narrow(axis, piece.shape[axis] - steps, steps) for piece in whole)] if steps else []
        del whole
    if steps:
        yield _joined(waiting, axis)


def _joined(items: list[Pieces], axis: int) -> Pieces:
    if len(items) == 1:
        return items[0]
    return tuple(torch.cat(pieces, axis) for pieces in zip(*items, strict=True))


def detached(state: Any) -> Any:
    """The same state, however nested, cut from the graph that made it.

    Raises:
        ValueError: it holds something that cannot be detached.
    """
    return _mapped(state, "detach", lambda part: part.detach())


def reset_rows(state: Any, mask: Tensor, axis: int | None = None) -> Any:
    """The same state with 0 in some rows; the others keep their graph.

    Args:
        state: of B rows, however nested; what has a method `reset(mask)` uses it. None stays None.
        mask: which rows, (B,) bool.
        axis: which axis of its tensors counts rows; None: the one of the first two that has B elements.

    Raises:
        ValueError: a tensor's rows cannot be told, or something in it has no rows.
    """

    def cleared(part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part.reset(mask)
        row_axis = _row_axis(part, len(mask)) if axis is None else axis
        if part.dim() <= row_axis or part.shape[row_axis] != len(mask):
            raise ValueError(
                f"state holds a tensor of shape {tuple(part.shape)}, which does not have {len(mask)} rows on axis "
                f"{row_axis}; set state_axis, or give the state a method reset(mask)"
            )
        shape = [len(mask) if number == row_axis else 1 for number in range(part.dim())]
        return part.masked_fill(mask.to(part.device).view(shape), 0)

    return _mapped(state, "reset", cleared)


def _row_axis(part: Tensor, rows: int) -> int:
    found = [number for number, size in enumerate(part.shape[:2]) if size == rows]
    if len(found) == 1:
        return found[0]
    reason = "both of its first axes could be" if found else "neither of its first axes is"
    raise ValueError(
        f"state holds a tensor of shape {tuple(part.shape)}, and {reason} the {rows} rows of the batch; "
        "set state_axis"
    )


def _mapped(state: Any, method: str, change: Callable[[Any], Any]) -> Any:
    """`change` applied to every tensor, and every object with that method, in a nested state."""
    if isinstance(state, Tensor) or callable(getattr(state, method, None)):
        return change(state)
    if state is None or isinstance(state, bool | int | float | str):
        return state
    if isinstance(state, dict):
        items = cast("dict[Any, Any]", state).items()
        return {name: _mapped(part, method, change) for name, part in items}
    if isinstance(state, tuple | list):
        parts = [_mapped(part, method, change) for part in cast("Sequence[Any]", state)]
        kind: Any = type(cast(object, state))
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    if is_dataclass(state) and not isinstance(state, type):
        names = [field.name for field in fields(state) if field.init]
        return replace(state, **{name: _mapped(getattr(state, name), method, change) for name in names})
    raise ValueError(f"state holds a {type(state).__name__}, which has no method {method}(); give it one")
