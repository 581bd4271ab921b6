"""The history of a stream as named tensors, for a file, and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from reminding.nn.parts.generators import Random
from reminding.nn.parts.memory import Memory
from reminding.nn.state.history import Departed, Kept
from reminding.nn.state.segments import Entry, Passage, Segment, Source

Named = dict[str, Tensor]
PREFIX = "history."


def name_tensors(kept: Kept) -> Named:
    """Everything in a history by name; `restore` is the reverse."""
    sources = list({id(segment.source): segment.source for segment in kept.segments if segment.source}.values())
    named: Named = {}
    for number, source in enumerate(sources):
        named[f"sources.{number}.input"] = source.input
        if source.batch_sizes is not None:
            named[f"sources.{number}.batch_sizes"] = source.batch_sizes
        named |= {f"sources.{number}.{name}": tensor for name, tensor in _numbered("random", source.random or ())}
    for number, segment in enumerate(kept.segments):
        place = next((i for i, source in enumerate(sources) if source is segment.source), -1)
        named |= {f"segments.{number}.{name}": tensor for name, tensor in _segment_tensors(segment, place)}
    for number, departed in enumerate(kept.departed):
        named[f"departed.{number}.value"], named[f"departed.{number}.step"] = departed.value, departed.step
    return {PREFIX + name: tensor for name, tensor in named.items()}


def _segment_tensors(segment: Segment, source: int) -> Iterator[tuple[str, Tensor]]:
    yield "place", torch.tensor([segment.steps, segment.start, source])
    yield "row", segment.row
    yield "taken", segment.taken
    for name, tensor in (("x", segment.x), ("column", segment.column)):
        if tensor is not None:
            yield name, tensor
    yield from _numbered("kept", segment.kept)
    for number, passage in enumerate(segment.layers):
        for name, tensor in _passage_tensors(passage):
            yield f"layers.{number}.{name}", tensor


def _passage_tensors(passage: Passage) -> Iterator[tuple[str, Tensor]]:
    entry = passage.entry
    yield "h", entry.h
    yield from _numbered("extra", entry.extra)
    yield from _numbered("random", entry.random or ())
    if passage.read is not None:
        yield "read", passage.read
    if entry.memory is not None:
        yield "memory.step", entry.memory.step
        yield "memory.weight", entry.memory.weight
        yield "memory.count", entry.memory.count


def _numbered(name: str, tensors: tuple[Tensor, ...]) -> Iterator[tuple[str, Tensor]]:
    return ((f"{name}.{number}", tensor) for number, tensor in enumerate(tensors))


def restore(named: Named) -> Kept:
    """The history that `name_tensors` named."""
    named = {name.removeprefix(PREFIX): tensor for name, tensor in named.items()}
    sources = [
        Source(part["input"], part["batch_sizes"].cpu() if "batch_sizes" in part else None, _random(part))
        for part in _parts(named, "sources")
    ]
    departed = tuple(Departed(part["value"], part["step"]) for part in _parts(named, "departed"))
    return Kept(tuple(_segment(part, sources) for part in _parts(named, "segments")), departed)


def _segment(named: Named, sources: list[Source]) -> Segment:
    steps, start, source = (int(number) for number in named["place"])
    return Segment(
        row=named["row"].cpu(),
        taken=named["taken"].cpu(),
        steps=steps,
        x=named.get("x"),
        layers=tuple(_passage(part) for part in _parts(named, "layers")),
        kept=_listed(named, "kept"),
        source=None if source < 0 else sources[source],
        start=start,
        column=named["column"].cpu() if "column" in named else None,
    )


def _passage(named: Named) -> Passage:
    memory = None
    if "memory.step" in named:
        step, weight = named["memory.step"], named["memory.weight"]
        memory = Memory(weight.new_empty(*step.shape, 0), step, weight, named["memory.count"].cpu())
    return Passage(Entry(named["h"], _listed(named, "extra"), memory, _random(named)), named.get("read"))


def _random(named: Named) -> Random | None:
    return tuple(tensor.cpu() for tensor in _listed(named, "random")) or None


def _parts(named: Named, name: str) -> list[Named]:
    """Tensors "name.number.rest" by number, as "rest"."""
    parts: dict[int, Named] = {}
    for whole, tensor in named.items():
        first, _, rest = whole.partition(".")
        if first == name:
            number, _, rest = rest.partition(".")
            parts.setdefault(int(number), {})[rest] = tensor
    return [parts[number] for number in sorted(parts)]


def _listed(named: Named, name: str) -> tuple[Tensor, ...]:
    """Tensors "name.0", "name.1" and so on."""
    return tuple(named[f"{name}.{i}"] for i in range(sum(whole.startswith(f"{name}.") for whole in named)))
