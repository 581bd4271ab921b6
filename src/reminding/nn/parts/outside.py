"""Tensors from outside a user's modules: those that a module computes with and does not hold.

A closure's tensor, a tensor in a plain list, another module's parameter, a hypernetwork's output: autograd follows
each of them, and so must a replay. A watch notes each as it is used, and a replay puts another tensor in its place.

Shapes: B batch, M memories, H hidden, D width of what a scorer keeps of a memory; tensors from outside have any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from reminding.nn.parts.cells import CellState, Step
from reminding.nn.parts.scorers import Scorer

_CUTS: set[Any] = {Tensor.detach, Tensor.detach_, torch.detach, torch.detach_}
_CUTS.update(getattr(Tensor, name).__get__ for name in ("data", "grad"))
_LIKE = (
    "new_",
    "zeros_like",
    "ones_like",
    "empty_like",
    "full_like",
    "rand_like",
    "randn_like",
    "randint_like",
)
_ADVICE = (
    "register the tensor as a parameter or buffer of the module, set it as an attribute, or build the layer with "
    "engine='autograd' and horizon=0, which replay nothing"
)
_LOCAL = threading.local()


class _Entry(NamedTuple):
    """One run of a function of a module; number: of all runs so far."""

    module: str
    function: str
    number: int

    def before(self, other: _Entry) -> bool:
        """Whether it is an earlier run of the same function."""
        return self.number < other.number and self[:2] == other[:2]


class Watch(TorchFunctionMode):
    """Sees each tensor that modules compute with while it is the current watch: see `watching`.

    Args:
        held: the tensors that the modules hold.
        exchanged: what they compute with in the places of these, in a replay; None: with these, and what comes from
            outside is noted.

    Attributes:
        found: the tensors from outside that may receive a gradient, each with the module that used it.
        carried: the tensors that a module has made in one step and used in another, each with the module.

    Raises:
        ValueError: in a replay, a module uses a tensor from outside for which there is no other.
    """

    def __init__(self, held: Sequence[Tensor], exchanged: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.found: dict[Tensor, str] = {}
        self.carried: dict[Tensor, str] = {}
        self._replays, self._now, self._begun = exchanged is not None, _Entry("", "", 0), _nodes_so_far()
        self._held = (held, held if exchanged is None else exchanged)  # which keeps them, and so their numbers
        self._others = {id(tensor): other for tensor, other in zip(*self._held, strict=True)}
        self._made: dict[int, tuple[ref[Tensor], _Entry]] = {}
        self._note(self._held[1])

    def run(self, module: str, name: str, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """What a function of a module, of this name, returns for these arguments."""
        self._now = _Entry(module, name, self._now.number + 1)
        self._note(given)
        with self:
            return function(*given)

    def made(self, tensor: Tensor) -> bool:
        """Whether a tensor was given to the modules, or came out of what they computed."""
        return self._made_in(tensor) is not None

    def _made_in(self, tensor: Tensor) -> _Entry | None:
        known, made_in = self._made.get(id(tensor), (None, self._now))
        if known is not None and known() is tensor:
            return made_in
        node = tensor.grad_fn  # what a transform of torch.func returns comes past this mode
        return self._now if node is not None and _number(node) >= self._begun else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        unknown: list[Tensor] = []
        args = tuple([self._exchange(value, unknown) for value in args])
        result = func(*args, **self._exchange(kwargs, unknown)) if kwargs else func(*args)
        changed = args[:1] if result is None else result
        if unknown and _differentiable(func, changed):
            for tensor in unknown:
                self._take(tensor)
        self._note(changed)
        return result

    def _exchange(self, value: Any, unknown: list[Tensor]) -> Any:
        """Arguments with other tensors in the places of those held; what is neither held nor made is `unknown`."""
        if isinstance(value, Tensor):
            other = self._others.get(id(value))
            if other is not None:
                return other
            if value.requires_grad:
                made_in = self._made_in(value)
                if made_in is None:
                    unknown += [] if _wrapped(value) else [value]
                elif made_in.before(self._now):
                    self.carried.setdefault(value, self._now.module)
            return value
        if type(value) in (tuple, list):
            changed = [self._exchange(each, unknown) for each in cast("Sequence[Any]", value)]
            return tuple(changed) if type(value) is tuple else changed
        if type(value) is dict:
            return {name: self._exchange(each, unknown) for name, each in cast("dict[Any, Any]", value).items()}
        return value

    def _take(self, tensor: Tensor) -> None:
        if self._replays:
            raise ValueError(
                f"{self._now.module} computes with a tensor of shape {tuple(tensor.shape)} that it does not hold and "
                f"that this call did not find, so a replay would lose its gradient: {_ADVICE}"
            )
        self.found.setdefault(tensor, self._now.module)

    def _note(self, value: object) -> None:
        """Note what was made; only what requires a gradient is ever asked for."""
        for tensor in (value,) if isinstance(value, Tensor) else _tensors(value):
            if tensor.requires_grad:
                self._made[id(tensor)] = ref(tensor), self._now


@contextmanager
def watching(watch: Watch | None) -> Generator[None]:
    """While this is the current watch of the thread; None: there is none."""
    before = current()
    _LOCAL.watch = watch
    try:
        yield
    finally:
        _LOCAL.watch = before


def current() -> Watch | None:
    """The thread's current watch."""
    return getattr(_LOCAL, "watch", None)


def check_found(watch: Watch, known: Iterable[Tensor]) -> None:
    """Require that credit into past calls reaches every tensor from outside.

    Args:
        watch: of the call; known: the tensors whose gradient it gives.

    Raises:
        ValueError: a module used another; the message names it.
    """
    numbers = {id(tensor) for tensor in known}
    for tensor, name in watch.found.items():
        if id(tensor) not in numbers:
            raise ValueError(
                f"{name} computes at some steps with a tensor of shape {tuple(tensor.shape)} that it does not hold "
                f"and does not use at the first step, so credit to earlier calls would miss it: {_ADVICE}"
            )


def check_carried(watch: Watch) -> None:
    """Require that modules keep nothing that takes a gradient from one step to the next.

    Raises:
        ValueError: one does; the message names it.
    """
    for tensor, name in watch.carried.items():
        raise ValueError(
            f"{name} keeps a tensor of shape {tuple(tensor.shape)} from one step to the next, which is not part of "
            "its state, so a replay would lose its gradient: compute it at every step, return it as state, or build "
            "the layer with engine='autograd' and horizon=0, which replay nothing"
        )


def check_followed(outputs: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
    """Require that the graph of a replay ends in its inputs and in what its modules have made.

    Raises:
        ValueError: it reaches another tensor, by a way that a watch does not see.
    """
    watch = current()
    seen: set[Node] = {get_gradient_edge(tensor).node for tensor in inputs if tensor.requires_grad}
    left = [output.grad_fn for output in outputs]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and (watch is None or not watch.made(leaf)):
            raise ValueError(
                f"the layer's cell, score or encoder computes with a tensor of shape {tuple(leaf.shape)} in a way "
                "that a replay cannot follow, as a scripted module does, or autograd.Function with a tensor from "
                f"outside, so its gradient would be lost: {_ADVICE}"
            )
        left += [before for before, _ in node.next_functions]


def watched(role: str, module: nn.Module, function: Callable[..., Any], name: str = "forward") -> Callable[..., Any]:
    """A function of a module that the current watch sees; without one it runs as it is."""
    place = f"{role} ({type(module).__name__})", f"{id(module)}.{name}"

    def run(*arguments: Any) -> Any:
        watch = current()
        return function(*arguments) if watch is None else watch.run(*place, function, arguments)

    return run


def watched_cell(module: nn.Module, step: Step) -> Step:
    """A user's cell that the current watch sees."""
    return cast("Callable[[Tensor, Tensor, CellState], tuple[Tensor, CellState]]", watched("cell", module, step))


class WatchedScorer:
    """A user's scorer that the current watch sees."""

    def __init__(self, module: nn.Module, scorer: Scorer) -> None:
        self._keys = watched("score", module, scorer.keys, "keys")
        self._scores = watched("score", module, scorer.scores, "scores")

    def keys(self, memory: Tensor) -> Tensor:
        """What is kept of each memory, (..., H) to (..., D)."""
        return self._keys(memory)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """The relevance of each memory, from keys (B, M, D) and query (B, H): (B, M)."""
        return self._scores(keys, query)


def _differentiable(function: Any, result: object) -> bool:
    """Whether a gradient can go back through a function, by what it returned or changed."""
    if torch.is_grad_enabled():
        return any(tensor.requires_grad or _wrapped(tensor) for tensor in _tensors(result))
    if function in _CUTS or getattr(function, "__name__", "").startswith(_LIKE):
        return False
    return any(tensor.is_floating_point() or tensor.is_complex() for tensor in _tensors(result))


def _nodes_so_far() -> int:
    """The number of the next node that this thread adds to a graph."""
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).clone().grad_fn
    assert node is not None
    return _number(node) + 1


def _number(node: Node) -> int:
    """Where a node comes among those that its thread has added to graphs."""
    return node._sequence_nr()  # pyright: ignore[reportPrivateUsage]


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in cast("Sequence[object]", value):
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(cast("dict[object, object]", value).values()))


def _wrapped(tensor: Tensor) -> bool:
    """Whether it is a transform's view of another tensor."""
    return cast("bool", torch._C._functorch.is_functorch_wrapped_tensor(tensor))  # pyright: ignore
