"""A stepper: streams of a layer that are taken on a step a call.

Shapes: L layers, B batch, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor
from torch.nn.modules import module as all_modules

from reminding.nn.forward.packed_weights import Weights
from reminding.nn.forward.streams import Streams
from reminding.nn.layer import entering, surroundings
from reminding.nn.layer.calls import LayerCalls
from reminding.nn.parts.tensors import counting_on_host
from reminding.nn.state.stream import Recall, SABState
from reminding.ops import untraced

GLOBAL_HOOKS = tuple(
    getattr(all_modules, f"_global_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre")
)
"""The hooks of all modules, by their numbers: `_has_any_global_hook` of newer versions of PyTorch looks at these."""


class Stepper:
    """Streams of a layer, taken on one step a call and without gradient, for inference on live data::

        step = layer.stepper(state)      # or layer.stepper(): new streams
        for x in live:                   # (B, I)
            h = step(x)                  # (B, H)
        state = step.state               # goes on in a call of the layer, in another stepper, or in a file

    It computes what `layer` does with the same steps as one sequence, in the layer's present mode. Weights that have
    changed are used from the next step on. Memories and their keys stay in place between steps, so a step costs a
    product with the weights and a score per memory. Layers that the C++ op cannot run, such as those with cells of
    your own, are called as usual: the numbers are the same, the speed is not.

    Threads may share a layer if each has a stepper of its own. A stepper serves one thread.

    Args:
        layer: whose streams they are; forward: what a call of it runs, unless a subclass has another `forward`.
        state: see `SAB.stepper`.
    """

    def __init__(self, layer: LayerCalls, forward: Callable[..., Any], state: SABState | None = None) -> None:
        self._layer, self._forward = layer, forward
        self._streams: Streams | None = None
        self._state: SABState | None = None
        if state is None:
            return
        if not isinstance(cast("object", state), SABState):
            raise ValueError(f"state must be a SABState or None, got {type(state).__name__}")
        with torch.inference_mode(False), torch.no_grad(), counting_on_host():
            entering.check_state(state.detach(), layer.fresh(state.batch_size, state.batched))
            entering.check_capacity(state, layer.rule.capacity)
            self._state = state.detach().clone()

    @property
    def state(self) -> SABState:
        """A copy of the state that the streams are in now, which later steps do not change.

        Raises:
            ValueError: there is none, since the first step of new streams says how many there are.
        """
        with torch.inference_mode(False), torch.no_grad(), counting_on_host():
            if self._streams is not None:
                return self._streams.state()
            if self._state is not None:
                return self._state.detach().clone()
        raise ValueError("a stepper that was given no state has none before its first step")

    @overload
    def __call__(self, x: Tensor, reset: Tensor | None = None, return_recall: Literal[False] = False) -> Tensor: ...
    @overload
    def __call__(
        self, x: Tensor, reset: Tensor | None = None, *, return_recall: Literal[True]
    ) -> tuple[Tensor, Recall]: ...
    def __call__(
        self, x: Tensor, reset: Tensor | None = None, return_recall: bool = False
    ) -> Tensor | tuple[Tensor, Recall]:
        """Take one step.

        Args:
            x: input, (B, I), unbatched (I,); where the layer has an encoder, the encoder's input without its axis of
                time.
            reset: where new streams begin before this step, (B,) bool, unbatched ().
            return_recall: also return the `Recall`, without the axis of time.

        Returns:
            h of the last layer, (B, H), unbatched (H,); with `return_recall` a pair.

        Raises:
            ValueError: shape, type or device do not fit; the message names the argument.
        """
        if not isinstance(cast("object", x), Tensor):
            raise ValueError(f"x must be a Tensor, got {type(x).__name__}")
        if torch.compiler.is_compiling():
            return untraced.run(self._take, x, reset, return_recall)
        return self._take(x, reset, return_recall)

    def _take(self, x: Tensor, reset: Tensor | None, return_recall: bool) -> Tensor | tuple[Tensor, Recall]:
        """`__call__`, outside of what torch.compile traces."""
        layer = self._layer
        surroundings.check_dense(x)
        weights = layer.weights_to_serve(x) if self._plain() else None
        if weights is None:
            return self._called(x, reset, return_recall)
        given, batched = self._entered(x, weights)
        streams = self._served(given.shape[1], batched, weights)
        if reset is not None and bool((mask := _mask(reset, streams.rows, streams.batched)).any()):
            streams.restart(mask)
        h, recall = streams.advance(given, weights, return_recall)
        h = h[0] if batched else h[0, 0]
        return h if recall is None else (h, self._one_step(recall, batched))

    def _plain(self) -> bool:
        """Whether a call of the layer is its own `forward` and nothing else: no hooks, no subclass's or one's own."""
        own = vars(self._layer)
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own or any(GLOBAL_HOOKS):
            return False
        return getattr(type(self._layer), "forward", None) is self._forward

    def _entered(self, x: Tensor, weights: Weights) -> tuple[Tensor, bool]:
        """One step's input through the encoder, (1, B, I), and whether it has a batch axis."""
        size, like, axes = self._layer.input_size, weights.like, x.dim()
        if self._layer.encoder is None and axes in (1, 2) and x.shape[-1] == size and x.dtype == like.dtype:
            given = (x.detach() if x.requires_grad else x).reshape(1, -1, size)
            return given.contiguous(), axes == 2
        self._check(x)
        with torch.no_grad(), counting_on_host():
            given, layout = self._layer.entered(x.unsqueeze(self._time_axis(x)))
        return given.contiguous(), layout.batched

    def _check(self, x: Tensor) -> None:
        """Refuse what is no step's input; what an encoder takes is known to it alone."""
        if self._layer.encoder is not None:
            return
        if x.dim() not in (1, 2):
            raise ValueError(f"x must have shape (B, I) or, unbatched, (I,); got {tuple(x.shape)}")
        entering.check_input(x, self._layer.input_size, self._layer.like(), "x")

    def _time_axis(self, x: Tensor) -> int:
        """Where the axis of time goes into an input of one step."""
        held = self._streams or self._state
        batched = x.dim() > int(self._layer.encoder is None) if held is None else held.batched
        return int(self._layer.batch_first and batched)

    def _served(self, rows: int, batched: bool, weights: Weights) -> Streams:
        """The streams in slots, where they are from now on."""
        if self._streams is None:
            with torch.no_grad(), counting_on_host():
                state = self._layer.fresh(rows, batched) if self._state is None else self._state
                _check_rows(rows, batched, state.batch_size, state.batched)
                self._streams, self._state = Streams(state, weights), None
        _check_rows(rows, batched, self._streams.rows, self._streams.batched)
        return self._streams

    def _called(self, x: Tensor, reset: Tensor | None, return_recall: bool) -> Tensor | tuple[Tensor, Recall]:
        """A step as a call of the layer."""
        if self._streams is not None:
            self._state, self._streams = self.state, None
        if self._state is not None:
            self._state = _as_the_layer(self._state, self._layer.like())
        axis, state = self._time_axis(x), self._state
        self._check(x)
        if self._layer.encoder is None:
            batched, rows = x.dim() == 2, 1 if x.dim() == 1 else len(x)
            if state is not None:
                _check_rows(rows, batched, state.batch_size, state.batched)
            if reset is not None:
                _mask(reset, rows, batched)
        asked = {"reset": reset, "return_recall": return_recall or None}  # a subclass's forward may lack them
        with torch.no_grad():
            output, self._state, *recall = cast("Any", self._layer)(
                x.unsqueeze(axis), self._state, **{name: value for name, value in asked.items() if value is not None}
            )
        h = output.select(axis, 0)
        if not return_recall:
            return h
        inner = axis + (self._layer.num_layers > 1)
        step, weight = (tensor.select(inner, 0) for tensor in (recall[0].step, recall[0].weight))
        return h, Recall(recall[0].summary.select(axis, 0), step, weight)

    def _one_step(self, recall: Recall, batched: bool) -> Recall:
        """What was recalled in one step, without the axis of time, and without that of layers where there is one."""
        summary, step, weight = recall.summary[0], recall.step[:, 0], recall.weight[:, 0]
        if self._layer.num_layers == 1:
            step, weight = step[0], weight[0]
        return Recall(summary, step, weight) if batched else Recall(summary[0], step.squeeze(-2), weight.squeeze(-2))


def _as_the_layer(state: SABState, like: Tensor) -> SABState:
    """A state in the type and on the device that the layer has by now."""
    same = state.h.dtype == like.dtype and state.h.device == like.device
    return state if same else state.to(like.device, like.dtype)


def _check_rows(rows: int, batched: bool, wanted: int, wants_batch: bool) -> None:
    """Compare the rows of a step with the streams it is to take on."""
    if rows != wanted or batched != wants_batch:
        kinds = {True: "batched", False: "unbatched"}
        raise ValueError(
            f"x must have a row for each of the {wanted} streams, {kinds[wants_batch]} as they are; "
            f"got {rows}, {kinds[batched]}"
        )


def _mask(reset: object, rows: int, batched: bool) -> Tensor:
    """`reset` as a mask on the host, (B,)."""
    wanted = (rows,) if batched else ()
    if not isinstance(reset, Tensor) or reset.dtype != torch.bool or tuple(reset.shape) != wanted:
        got = f"{reset.dtype} of shape {tuple(reset.shape)}" if isinstance(reset, Tensor) else repr(reset)
        raise ValueError(f"reset must be a bool tensor of shape {wanted}, got {got}")
    return reset.cpu().reshape(-1)
