"""What surrounds a call of a layer: transforms, tracing, checkpointing, and tensors that are no plain ones.

Each either changes which code may run a call, or is refused with a message that says what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.parts.memory import EVICT
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.user_modules import UserModules, other_hooks, sharded_in
from reminding.nn.state.stream import SABState

_EXPORT = (
    "reminding.nn.export.SequenceModule(layer).export() uses torch.export and holds for any length, batch and state; "
    "save_onnx writes it as ONNX, and StepModule is one step of it"
)
_WRAP_WHOLE = "wrap the whole layer (fully_shard(layer), or an auto_wrap_policy that does not go into SAB)"


def transform_of(tensors: Iterable[Tensor]) -> str | None:
    """The transform of torch.func or of forward-mode differentiation that a call is under; None: neither.

    Args:
        tensors: all that the call computes with, those of its state among them.

    Raises:
        ValueError: it is torch.vmap, under which a layer's step counts and evictions cannot differ by sample.
    """
    level = cast("int", forward_ad._current_level)  # pyright: ignore
    transformed: bool = torch._C._are_functorch_transforms_active()  # pyright: ignore
    if not transformed and level < 0:
        return None
    held = list(tensors)
    if transformed and any(map(_batched, held)):
        raise ValueError(
            "SAB does not run under torch.vmap: pass the samples as rows of the batch, of which each is a stream of "
            "its own; for gradients by sample, or several sets of weights, loop over them"
        )
    if transformed:
        return "a transform of torch.func"
    dual = (forward_ad.unpack_dual(tensor).tangent for tensor in held)
    return "forward-mode differentiation" if any(tangent is not None for tangent in dual) else None


def check_no_past(state: SABState, made: Iterable[Tensor], transform: str) -> None:
    """Refuse a state whose past gets no credit under a transform: that of calls outside of it, or of calls in it.

    Args:
        made: its tensors that a derivative would go through.

    Raises:
        ValueError: it has such a past.
    """
    if any(map(_transformed, made)) or (torch.is_grad_enabled() and not state.history.empty):
        raise ValueError(
            f"state has past calls, into which no gradient goes under {transform}: give the layer the whole sequence "
            "in one call; state.detach() goes on without them"
        )


def _transformed(tensor: Tensor) -> bool:
    """Whether a tensor carries a derivative of a transform of torch.func or of forward-mode differentiation."""
    functorch, level = torch._C._functorch, cast("int", forward_ad._current_level)  # pyright: ignore
    dual = level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None
    if dual or not functorch.is_functorch_wrapped_tensor(tensor):  # pyright: ignore
        return dual
    return tensor.requires_grad or _transformed(cast("Tensor", functorch.get_unwrapped(tensor)))  # pyright: ignore


def _batched(tensor: Tensor) -> bool:
    """Whether torch.vmap is the innermost transform of a tensor, or one around it."""
    functorch = torch._C._functorch  # pyright: ignore
    while functorch.is_functorch_wrapped_tensor(tensor):  # pyright: ignore
        if functorch.is_batchedtensor(tensor):  # pyright: ignore
            return True
        tensor = cast("Tensor", functorch.get_unwrapped(tensor))  # pyright: ignore
    return False


def none_for(input: Tensor) -> bool:
    """Whether a call on this input is under no transform, and the input an ordinary tensor on the CPU."""
    level = cast("int", forward_ad._current_level)  # pyright: ignore
    if level >= 0 or torch._C._are_functorch_transforms_active() or torch.jit.is_tracing():  # pyright: ignore
        return False
    plain = type(input) in (Tensor, torch.nn.Parameter) and input.layout == torch.strided
    return plain and input.is_cpu and not input.is_neg()


def check_tracing() -> None:
    """Refuse what would record the steps of one input: torch.jit.trace, torch.export, make_fx of the layer itself.

    Raises:
        RuntimeError: one of them is recording.
    """
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        raise RuntimeError(
            f"torch.jit.trace cannot record a SAB layer: it would repeat the steps of this one input. {_EXPORT}"
        )
    is_exporting = getattr(torch.compiler, "is_exporting", None)  # PyTorch 2.6 has none
    if is_exporting is not None and is_exporting():
        raise RuntimeError(
            f"torch.export cannot record a SAB layer itself: what a call does depends on its values. {_EXPORT}"
        )
    c = torch._C  # pyright: ignore[reportPrivateUsage]
    if c._get_dispatch_mode(c._TorchDispatchModeKey.PROXY) is not None:  # pyright: ignore
        raise RuntimeError(
            "make_fx and torch.func.linearize cannot record a SAB layer: what a call does depends on its values. "
            f"torch.func.jvp runs it anew for each tangent. {_EXPORT}"
        )


def refuse_script() -> None:
    """Refuse torch.jit.script, which compiles less of Python than a layer uses.

    Raises:
        RuntimeError: always; the message says what to do instead.
    """
    raise RuntimeError(f"torch.jit.script cannot compile a SAB layer. {_EXPORT}")


def check_exportable(layer: nn.Module, rule: Rule | None, forward: Callable[..., Any]) -> None:
    """Refuse to export what a graph of the layer's equations would leave out, in silence.

    Args:
        rule: of the layer; None: it is no SAB. forward: what its calls run unless a subclass or an attribute has
            another.

    Raises:
        ValueError: it is no SAB; or it evicts by a function; or its calls do more than `forward` does.
    """
    if rule is None:
        raise ValueError(f"layer must be a SAB to be exported, got {type(layer).__name__}")
    if rule.evict_name is None:
        raise ValueError(f"evict must be one of {list(EVICT)} for a layer to be exported, got a function")
    if "forward" in vars(layer) or getattr(type(layer), "forward", None) is not forward:
        raise ValueError(
            f"layer must have the forward of SAB to be exported, which {type(layer).__name__} replaces by another: "
            "export a SAB, and compute around it what the other adds"
        )
    hooks = other_hooks(layer)
    if hooks:
        raise ValueError(
            f"layer must have no forward hooks to be exported, since an exported module runs none; got {hooks}: "
            "remove them, and compute around the exported module what they change"
        )


def check_checkpoint(input: Tensor | PackedSequence, training: bool, rule: Rule) -> None:
    """Refuse torch.utils.checkpoint in its reentrant form, whose first pass leaves no record for later calls.

    It differentiates nothing where its input needs no gradient, and says so itself.

    Raises:
        RuntimeError: such a checkpoint runs this call.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    if torch.is_grad_enabled() or rule.horizon == 0 or not (training or getattr(data, "requires_grad", False)):
        return
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code.co_name == "forward" and frame.f_code.co_filename.endswith("torch/utils/checkpoint.py"):
            raise RuntimeError(
                "torch.utils.checkpoint with use_reentrant=True loses the credit that later calls send into this "
                "one; use_reentrant=False keeps it, and engine='replay' needs no checkpoint"
            )
        frame = frame.f_back


def check_dense(input: Tensor | PackedSequence) -> None:
    """Refuse nested, sparse and fake tensors, and the proxies of torch.fx, by name.

    Raises:
        ValueError: it is a nested, sparse or fake tensor.
        RuntimeError: it is a proxy.
    """
    tensor = input.data if isinstance(input, PackedSequence) else input
    if isinstance(cast("object", tensor), fx.Proxy):
        raise RuntimeError(
            "torch.fx.symbolic_trace cannot record a SAB layer: what a call does depends on its values. A Tracer "
            "whose is_leaf_module(module, name) is True of a SAB records what is around it, as around an nn.LSTM"
        )
    if not isinstance(cast("object", tensor), Tensor):
        return  # which the layout refuses
    if tensor.is_nested:
        raise ValueError(
            "input must be a dense Tensor or a PackedSequence, got a nested tensor; "
            "torch.nn.utils.rnn.pack_sequence(tensor.unbind()) makes one of it"
        )
    if tensor.layout != torch.strided:
        raise ValueError(f"input must be a dense Tensor or a PackedSequence, got {tensor.layout}; input.to_dense()")
    c = torch._C  # pyright: ignore[reportPrivateUsage]
    if c._get_dispatch_mode(c._TorchDispatchModeKey.FAKE) is not None or isinstance(tensor, FakeTensor):  # pyright: ignore
        raise ValueError(
            "input must hold numbers, got a fake tensor, or a call under FakeTensorMode: what a call does depends on "
            "its values. With device='meta' a layer and its input hold no numbers, and a call gives the shapes"
        )


def check_replayable(modules: UserModules) -> None:
    """Refuse to run modules again that FSDP divides: it gathers their parameters for a call of theirs alone.

    Raises:
        ValueError: FSDP divides one of them; the message names it.
    """
    module = modules.sharded
    if module is not None:
        raise ValueError(
            f"FSDP divides {type(module).__name__} in the layer's encoder, which a replay or credit to earlier calls "
            f"would run again: {_WRAP_WHOLE}, apply the encoder to the input before the layer, or build the layer "
            "with engine='autograd' and horizon=0"
        )


def check_gathered(layer: nn.Module) -> None:
    """Refuse a layer whose parameters FSDP divides, outside of its call: they are not whole then.

    Raises:
        ValueError: FSDP divides some.
    """
    tables = [table for module in layer.modules() for table in (vars(module), vars(module)["_parameters"])]
    held = [value for table in tables for value in table.values()]
    if sharded_in([layer]) is not None or any(map(_divided, held)):
        raise ValueError(
            "state has credit that waits, and FSDP divides the layer's parameters among processes, which are whole "
            "only within its call: set layer.credit_every = 1 before the last chunk, whose backward pass sends on "
            "all that waits"
        )


def _divided(value: object) -> bool:
    """Whether something is a tensor that FSDP divides, or has emptied after the call that needed it."""
    if not isinstance(value, Tensor) or value.is_meta:
        return False
    if hasattr(value, "_fsdp_flattened") or hasattr(value, "full_tensor"):  # FSDP1's and FSDP2's
        return True
    return type(value) in (Tensor, nn.Parameter) and value.numel() > 0 and value.untyped_storage().nbytes() == 0


def check_whole(role: str, modules: Iterable[nn.Module]) -> None:
    """Refuse cells and scorers that FSDP divides: it would gather their parameters at every step, or not at all.

    Raises:
        ValueError: FSDP divides one; the message names it.
    """
    module = sharded_in(inner for outer in modules for inner in outer.modules())
    if module is not None:
        raise ValueError(f"FSDP divides {type(module).__name__} in the layer's {role}: {_WRAP_WHOLE}")
