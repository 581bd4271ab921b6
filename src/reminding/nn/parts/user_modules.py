"""Modules of a layer's user, run once more as they ran in a call: its cells, its scorers, its encoder.

A replay must give the gradient of what the call computed, and leave no trace of its own. So it runs the modules with
the tensors of the call, in the call's mode, on copies of their buffers, and without the hooks that only watch.

Shapes: N modules, those within others included.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from reminding.nn.parts.outside import Watch, watching

Result = TypeVar("Result")

_MAKES_WEIGHTS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that compute a module's weight before it runs."""
_DECIDING: set[int] = set()
"""The numbers of the hooks that were seen to decide what comes out of a module; PyTorch gives no number twice."""
_MADE_WITHIN: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""The attributes and buffers of a module that it was seen to make anew as it ran: they are stale before it does."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_RUNNING = threading.RLock()
"""Held while modules have other tensors than their own in place, and while a call of a layer runs them."""


class _Place(NamedTuple):
    """Where a module holds a tensor: in one of its tables, or among its attributes."""

    module: nn.Module
    name: str
    table: str | None

    def put(self, tensor: Tensor) -> None:
        """Put another tensor there."""
        attributes = vars(self.module)
        (attributes if self.table is None else attributes[self.table])[self.name] = tensor


class UserModules:
    """The modules of a call.

    Attributes:
        tensors: their parameters as they were when this was made, each once; then the tensors among their attributes
            and buffers that require a gradient, such as the views that FSDP1 sets in the place of parameters; then
            those from outside.

    Args:
        outside: tensors that they compute with and do not hold, see `Watch`.
    """

    def __init__(self, modules: Iterable[nn.Module], outside: Iterable[Tensor] = ()) -> None:
        self._modules = tuple(dict.fromkeys(inner for module in modules for inner in module.modules()))
        with _RUNNING:  # a replay in another thread has its own tensors in place
            places = _places_in(self._modules)
        for tensor in outside:
            places.setdefault(tensor, [])
        self._places = tuple(places.values())
        self.tensors: tuple[Tensor, ...] = tuple(places)

    def __bool__(self) -> bool:
        return len(self._modules) > 0

    @property
    def sparse(self) -> frozenset[Tensor]:
        """The weights of embeddings whose gradient is sparse, and is that no more once zeros are added."""
        found = [module for module in self._modules if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
        return frozenset(module.weight for module in found if module.sparse)

    @property
    def sharded(self) -> nn.Module | None:
        """One of them, or of the modules in them, that FSDP divides among processes; None if there is none."""
        return sharded_in(self._modules)

    def with_outside(self, tensors: Iterable[Tensor]) -> UserModules:
        """The same modules, which compute with these tensors from outside besides."""
        return UserModules(self._modules, [*self.tensors, *tensors])

    @property
    def modes(self) -> Tensor:
        """Which of them, and of the modules in them, are in training mode, (N,) bool."""
        return torch.tensor([module.training for module in self._modules], dtype=torch.bool)

    @contextmanager
    def in_call(self) -> Generator[None]:
        """While a call of the layer runs the modules: notes which hooks decide what comes out, and what is new."""
        if not self:
            yield
            return
        with _RUNNING, self._noting_attributes():
            hooked = [hooks for module in self._modules for hooks in _hooks_of(module) if hooks]
            own = [dict(hooks) for hooks in hooked]
            for hooks in hooked:
                hooks.update({number: _noting(number, hook) for number, hook in hooks.items()})
            try:
                yield
            finally:
                for hooks, before in zip(hooked, own, strict=True):
                    hooks.update({number: hook for number, hook in before.items() if number in hooks})

    @contextmanager
    def _noting_attributes(self) -> Generator[None]:
        """Note which tensors among the modules' attributes are made anew meanwhile."""
        modules = self._modules
        before = [_held_by_name(module) for module in modules]
        try:
            yield
        finally:
            for module, known in zip(modules, before, strict=True):
                made = {name for name, tensor in _held_by_name(module).items() if known.get(name) is not tensor}
                if made:
                    _MADE_WITHIN.setdefault(module, set()).update(made)

    def try_out(self, function: Callable[[], object], watch: Watch) -> None:
        """Call a function for what a watch sees, and leave no trace in the modules."""
        with _RUNNING, self._as_they_were(None), watching(watch):
            function()

    def run(self, function: Callable[[], Result], tensors: Sequence[Tensor], modes: Tensor | None) -> Result:
        """Call a function while the modules compute with these tensors, in these modes.

        Args:
            tensors: in the places of `tensors`; modes: see `modes`; None: the present ones.

        Raises:
            ValueError: a module computes with a tensor from outside that is not among `tensors`; or there were more
                modules in the call.
        """
        if not self:
            return function()
        with _RUNNING, self._as_they_were(modes), watching(Watch(self.tensors, tensors)):
            for places, tensor in zip(self._places, tensors, strict=True):
                for place in places:
                    place.put(tensor)
            return function()

    @contextmanager
    def _as_they_were(self, modes: Tensor | None) -> Generator[None]:
        """The modules in these modes, with copies of their buffers and with the hooks that decide.

        After it, all of them are as they are now.
        """
        modules = self._modules
        own = [dict(vars(module)) for module in modules]
        known = cast("list[bool]", [] if modes is None else modes.tolist())  # of a call, the encoder's may be missing
        if len(known) > len(modules):
            raise ValueError(
                f"state comes from a layer whose cell, score and encoder had {len(known)} modules in all, and now "
                f"have {len(modules)}, so they cannot run its past calls again; state.detach() goes on without them"
            )
        training = known + [module.training for module in modules[len(known) :]]
        copies: dict[Tensor, Tensor] = {}
        try:
            for module, mode in zip(modules, training, strict=True):
                module.training = mode
                vars(module)["_parameters"] = dict(vars(module)["_parameters"])
                vars(module)["_buffers"] = {
                    name: buffer if buffer is None else copies.setdefault(buffer, buffer.clone())
                    for name, buffer in cast("dict[str, Tensor | None]", vars(module)["_buffers"]).items()
                }
                for name in _HOOKS:
                    hooks = getattr(module, name)
                    kept = type(hooks)((number, hook) for number, hook in hooks.items() if _decides(number, hook))
                    setattr(module, name, kept)
            yield
        finally:
            for module, before in zip(modules, own, strict=True):
                vars(module).clear()
                vars(module).update(before)


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """A module in evaluation, with the weights that its hooks make; after it, in the modes that it has now."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        make_weights(module)
        yield
    finally:
        for each, training in modes.items():
            each.training = training


def make_weights(module: nn.Module) -> None:
    """Have the hooks that make a module's weights make them anew, as they do before a call."""
    for hook in tuple(vars(module)["_forward_pre_hooks"].values()):
        if isinstance(hook, _MAKES_WEIGHTS):
            cast("Any", hook)(module, ())


def other_hooks(module: nn.Module) -> list[Any]:
    """A module's forward hooks, and those before it, but for those that make its weights."""
    return [hook for hooks in _hooks_of(module) for hook in hooks.values() if not isinstance(hook, _MAKES_WEIGHTS)]


def sharded_in(modules: Iterable[nn.Module]) -> nn.Module | None:
    """The first of some modules that FSDP divides among processes."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # importing it takes a while, and who shards has done so
    kinds = [getattr(fsdp, name, None) for name in ("FullyShardedDataParallel", "FSDPModule")]
    known = tuple(kind for kind in kinds if isinstance(kind, type))
    return next((module for module in modules if isinstance(module, known)), None)


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """A module's own parameters, also while another thread replays it with other tensors in their places."""
    with _RUNNING:
        return list(module.parameters())


def _places_in(modules: Iterable[nn.Module]) -> dict[Tensor, list[_Place]]:
    """Where modules hold parameters, and other tensors that require a gradient and were there before they ran."""
    places: dict[Tensor, list[_Place]] = {}
    for module in modules:
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(parameter, []).append(_Place(module, name, "_parameters"))
    for module in modules:
        made_within = _MADE_WITHIN.get(module, ())
        for name, tensor, table in _held_by(module):
            if tensor.requires_grad and name not in made_within:
                places.setdefault(tensor, []).append(_Place(module, name, table))
    return places


def _hooks_of(module: nn.Module) -> tuple[dict[int, Any], ...]:
    """A module's forward hooks and those before them."""
    return tuple(vars(module)[name] for name in _HOOKS)


def _held_by(module: nn.Module) -> Iterator[tuple[str, Tensor, str | None]]:
    """The tensors that a module holds besides parameters: attributes, and buffers with their table."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield name, value, None
    for name, buffer in cast("dict[str, Tensor | None]", vars(module)["_buffers"]).items():
        if buffer is not None:
            yield name, buffer, "_buffers"


def _held_by_name(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor, _ in _held_by(module)}


def _decides(number: int, hook: Any) -> bool:
    return number in _DECIDING or isinstance(hook, _MAKES_WEIGHTS)


def _noting(number: int, hook: Callable[..., Any]) -> Callable[..., Any]:
    """The same hook, which is noted where it returns anything or sets a tensor that its module computes with."""
    if isinstance(hook, _MAKES_WEIGHTS):
        return hook

    def noted(module: nn.Module, *arguments: Any, **options: Any) -> Any:
        before = _held_by_name(module)
        answer = hook(module, *arguments, **options)
        if answer is not None or any(before.get(name) is not now for name, now in _held_by_name(module).items()):
            _DECIDING.add(number)
        return answer

    return noted
