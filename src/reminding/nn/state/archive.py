"""The history of a stream as named tensors, for a file, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reminding.nn.parts.memory import Memory
from reminding.nn.parts.tensors import HostWhole, TensorGroup
from reminding.nn.state.checks import WrongFieldError
from reminding.nn.state.past.history import History, HistoryData, Lazy
from reminding.nn.state.past.owed import Owed, StateCredit
from reminding.nn.state.past.reachable import Evicted
from reminding.nn.state.past.segments import EncoderInput, Segment

Named = dict[str, Tensor]
PREFIX = "history."


@dataclass(frozen=True)
class _Owing(TensorGroup):
    """What a history holds besides segments and evicted memories where credit waits to be sent on; see `History`."""

    begun: HostWhole
    stream: HostWhole
    held: tuple[Evicted, ...]
    credit: tuple[StateCredit, ...]


def name_tensors(history: History) -> Named:
    """Everything in a history by name, as `History.alone` has it; segments refer to the encoder's inputs.

    `restore` is the reverse.
    """
    data = HistoryData() if history.kept is None else history.kept.value
    inputs = list({id(segment.encoder_input): segment.encoder_input for segment in data.segments}.values())
    inputs = [given for given in inputs if given is not None]
    named: Named = {}
    for number, given in enumerate(inputs):
        named |= given.named(f"inputs.{number}")
    for number, segment in enumerate(data.segments):
        named |= replace(segment, encoder_input=None).named(f"segments.{number}")
        at = [place for place, given in enumerate(inputs) if given is segment.encoder_input]
        named |= {f"segments.{number}.input": segment.row.new_tensor(place) for place in at}
    for number, evicted in enumerate(data.evicted):
        named |= evicted.named(f"evicted.{number}")
    credit = tuple(each.credit for each in history.owing if each.credit is not None)
    if credit and history.begun is not None and history.stream is not None and history.held is not None:
        named |= _Owing(history.begun, history.stream, history.held.value, credit).named("owing")
    return {PREFIX + name: tensor for name, tensor in named.items()}


def restore(named: Named, memories: Sequence[Memory], step: Tensor) -> History:
    """The history that `name_tensors` named.

    Args:
        memories: each layer's, of the state it belongs to; step: that state's, (B,).
    """
    named = {name.removeprefix(PREFIX): tensor for name, tensor in named.items()}
    inputs = [EncoderInput.restored(part) for part in _parts(named, "inputs")]
    segments: list[Segment] = []
    for number, part in enumerate(_parts(named, "segments")):
        segment = Segment.restored(part)
        place = part.get("input")
        if place is not None and (place.dim() or place.dtype != torch.int64 or not 0 <= int(place) < len(inputs)):
            name = f"{PREFIX}segments.{number}.input"
            raise WrongFieldError(name, f"must be a number from 0 to {len(inputs) - 1}, got {place}")
        segments.append(segment if place is None else replace(segment, encoder_input=inputs[int(place)]))
    data = HistoryData(tuple(segments), tuple(Evicted.restored(part) for part in _parts(named, "evicted")))
    if not any(name.startswith("owing.") for name in named):
        held = tuple(Evicted(memory.value, memory.ascending_steps) for memory in memories)
        return History(Lazy(lambda: data), Lazy(lambda: held), step.clone(), (), torch.arange(len(step)))
    owing = _Owing.restored(named, "owing")
    owed = tuple(Owed(credit) for credit in owing.credit)
    return History(Lazy(lambda: data), Lazy(lambda: owing.held), owing.begun, (), owing.stream, owed)


def _parts(named: Named, name: str) -> list[Named]:
    """Tensors "name.number.rest" by number, as "rest"."""
    parts: dict[int, Named] = {}
    for whole, tensor in named.items():
        first, _, rest = whole.partition(".")
        if first == name:
            number, _, rest = rest.partition(".")
            parts.setdefault(int(number), {})[rest] = tensor
    return [parts[number] for number in sorted(parts)]
