"""Modules of a layer's user, run once more as they ran in a call: its cells, its scorers, its encoder.

A replay must give the gradient of what the call computed, and leave no trace of its own. So it runs the modules with
the tensors of the call, in the call's mode, on copies of their buffers, and without the hooks that only watch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

Result = TypeVar("Result")

_MAKES_WEIGHTS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that compute a module's weight before it runs."""
_DECIDING: set[int] = set()
"""The numbers of the hooks that were seen to decide what comes out of a module; PyTorch gives no number twice."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_RUNNING = threading.RLock()
"""Held while modules have other tensors than their own in place, and while a call of a layer runs them."""


class _Carrier(nn.Module):
    """Several modules as one, so that their tensors can be exchanged for the time of a function."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        super().__init__()
        self.carried = nn.ModuleList(modules)

    def forward(self, function: Callable[[], Any]) -> Any:
        """Call it."""
        return function()


class UserModules:
    """The modules of a call.

    Attributes:
        tensors: their parameters as they were when this was made, each once; and leaves, and views of leaves, that
            stand in their places as plain attributes, as FSDP's flat parameters leave them.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._carrier = _Carrier(modules)
        named = dict(self._carrier.named_parameters())
        self._names = tuple(named)
        self._attributes = [(module, name) for module in self._all() for name in _learned_attributes(module)]
        attributes = (vars(module)[name] for module, name in self._attributes)
        self.tensors: tuple[Tensor, ...] = (*named.values(), *attributes)

    def __bool__(self) -> bool:
        return len(self._carrier.carried) > 0

    @property
    def modes(self) -> Tensor:
        """Which of them, and of the modules in them, are in training mode, (N,) bool."""
        return torch.tensor([module.training for module in self._all()], dtype=torch.bool)

    @contextmanager
    def in_call(self) -> Generator[None]:
        """While a call of the layer runs the modules: notes which hooks decide what comes out, by returning it."""
        if not self:
            yield
            return
        with _RUNNING:
            hooked = [hooks for module in self._all() for hooks in _hooks_of(module) if hooks]
            own = [dict(hooks) for hooks in hooked]
            for hooks in hooked:
                hooks.update({number: _noting(number, hook) for number, hook in hooks.items()})
            try:
                yield
            finally:
                for hooks, before in zip(hooked, own, strict=True):
                    hooks.update({number: hook for number, hook in before.items() if number in hooks})

    def run(self, function: Callable[[], Result], tensors: Sequence[Tensor], modes: Tensor | None) -> Result:
        """Call a function while the modules compute with these tensors, in these modes.

        Args:
            tensors: in the places of `tensors`; modes: see `modes`; None: the present ones.
        """
        if not self:
            return function()
        with _RUNNING, self._as_they_were(modes):
            buffers = {name: buffer.clone() for name, buffer in self._carrier.named_buffers()}
            count = len(self._names)
            given = {**dict(zip(self._names, tensors[:count], strict=True)), **buffers}
            for (module, name), tensor in zip(self._attributes, tensors[count:], strict=True):
                vars(module)[name] = tensor
            return cast("Result", torch.func.functional_call(self._carrier, given, (function,)))

    @contextmanager
    def _as_they_were(self, modes: Tensor | None) -> Generator[None]:
        """The modules in these modes and with the hooks that decide; after it, all of them as they are now."""
        modules = self._all()
        own = [dict(vars(module)) for module in modules]
        known = cast("list[bool]", [] if modes is None else modes.tolist())  # of a call, the encoder's may be missing
        training = known + [module.training for module in modules[len(known) :]]
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
            for name in _HOOKS:
                hooks = getattr(module, name)
                setattr(
                    module,
                    name,
                    type(hooks)((number, hook) for number, hook in hooks.items() if _decides(number, hook)),
                )
        try:
            yield
        finally:
            for module, before in zip(modules, own, strict=True):
                vars(module).clear()
                vars(module).update(before)

    def _all(self) -> list[nn.Module]:
        return list(self._carrier.carried.modules())[1:]


def _learned_attributes(module: nn.Module) -> list[str]:
    """The names of a module's own attributes that are leaves, or views of leaves, and take a gradient.

    Anything else that takes one is the result of some call, and not what the next call computes with.
    """
    found: list[str] = []
    for name, value in vars(module).items():
        if isinstance(value, Tensor) and value.requires_grad:
            base = value._base  # pyright: ignore[reportPrivateUsage]
            if value.is_leaf or (base is not None and base.is_leaf):
                found.append(name)
    return found


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """A module in evaluation, with the weights that its hooks make; after it, in the modes that it has now."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        for hook in tuple(vars(module)["_forward_pre_hooks"].values()):
            if isinstance(hook, _MAKES_WEIGHTS):
                cast("Any", hook)(module, ())
        yield
    finally:
        for each, training in modes.items():
            each.training = training


def _hooks_of(module: nn.Module) -> tuple[dict[int, Any], ...]:
    """A module's forward hooks and those before them."""
    return tuple(vars(module)[name] for name in _HOOKS)


def _decides(number: int, hook: Any) -> bool:
    return number in _DECIDING or isinstance(hook, _MAKES_WEIGHTS)


def _noting(number: int, hook: Callable[..., Any]) -> Callable[..., Any]:
    """The same hook, which is noted where it returns anything."""
    if isinstance(hook, _MAKES_WEIGHTS):
        return hook

    def noted(*arguments: Any, **options: Any) -> Any:
        answer = hook(*arguments, **options)
        if answer is not None:
            _DECIDING.add(number)
        return answer

    return noted
