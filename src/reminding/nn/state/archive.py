"""The history of a stream as named tensors, for a file, and back.

Shapes: B batch rows; the rest as in past/segments.py, past/reachable.py and past/owed.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from reminding.nn.parts.memory import Memory
from reminding.nn.parts.tensors import HostWhole, TensorGroup, host_range
from reminding.nn.state.checks import WrongFieldError
from reminding.nn.state.past.history import History, HistoryData, Lazy, PastCall
from reminding.nn.state.past.owed import Owed, StateCredit
from reminding.nn.state.past.reachable import Evicted
from reminding.nn.state.past.runs import SegmentRun
from reminding.nn.state.past.segments import EncoderInput, Segment

Named = dict[str, Tensor]
PREFIX = "history."
MOST_IDLE = 1 << 20
"""The most calls without credit that a file may count."""


@dataclass(frozen=True)
class _Owing(TensorGroup):
    """What a history holds besides segments and evicted memories where calls stand apart from these; see `History`.

    Attributes:
        idle: how many of the calls have not been sent any credit yet; None for 0.
    """

    begun: HostWhole
    stream: HostWhole
    held: tuple[Evicted, ...]
    credit: tuple[StateCredit, ...]
    idle: int | None


@dataclass(frozen=True)
class _Call(TensorGroup):
    """One of the calls since credit was last sent on; its segments stand behind those kept and those of older calls.

    Attributes:
        segments: how many there are; stored: see `PastCall`.
    """

    segments: int
    stored: tuple[Evicted, ...]


def name_tensors(history: History) -> Named:
    """Everything in a history by name, as `History.alone` has it; segments refer to the encoder's inputs.

    `restore` is the reverse.
    """
    segments = history.segments
    inputs = list({id(segment.encoder_input): segment.encoder_input for segment in segments}.values())
    inputs = [given for given in inputs if given is not None]
    named: Named = {}
    for number, given in enumerate(inputs):
        named |= given.named(f"inputs.{number}")
    for number, segment in enumerate(segments):
        named |= replace(segment, encoder_input=None, origin=None).named(f"segments.{number}")
        at = [place for place, given in enumerate(inputs) if given is segment.encoder_input]
        named |= {f"segments.{number}.input": segment.row.new_tensor(place) for place in at}
    for number, evicted in enumerate(history.evicted):
        named |= evicted.named(f"evicted.{number}")
    for number, call in enumerate(history.calls):
        count = sum(len(run.numbers) for run in call.by_stream)
        named |= _Call(count, call.stored.value).named(f"calls.{number}")
    if (history.owing or history.calls) and history.begun is not None and history.stream is not None:
        held = () if history.held is None else history.held.value
        credit = tuple(each.credit for each in history.owing if each.credit is not None)
        idle = len(history.owing) - len(credit)
        named |= _Owing(history.begun, history.stream, held, credit, idle or None).named("owing")
    return {PREFIX + name: tensor for name, tensor in named.items()}


def restore(named: Named, memories: Sequence[Memory], step: Tensor) -> History:
    """The history that `name_tensors` named.

    Args:
        memories: each layer's, of the state it belongs to; step: that state's, (B,).

    Raises:
        WrongFieldError: a number or a type is wrong.
        ValueError: a number is no single one, or has another type.
        KeyError: a part is missing.
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
    runs = [SegmentRun.of(segment) for segment in segments]
    calls = _restored_calls(_parts(named, "calls"), runs)
    kept = runs[: len(runs) - sum(len(call.runs.value) for call in calls)]
    data = HistoryData(tuple(kept), tuple(Evicted.restored(part) for part in _parts(named, "evicted")))
    if not any(name.startswith("owing.") for name in named):
        held = tuple(map(Evicted.copied, memories))
        return History(Lazy(lambda: data), Lazy(lambda: held), step.clone(), calls, host_range(len(step)))
    owing = _Owing.restored(named, "owing")
    idle = 0 if owing.idle is None else owing.idle
    if not 0 <= idle <= MOST_IDLE:
        raise WrongFieldError(f"{PREFIX}owing.idle", f"must be from 0 to {MOST_IDLE}, got {idle}")
    _check_types(owing.credit, memories)
    owed = *(Owed() for _ in range(idle)), *(Owed(credit) for credit in owing.credit)
    return History(Lazy(lambda: data), Lazy(lambda: owing.held), owing.begun, calls, owing.stream, owed)


def _check_types(credits: Sequence[StateCredit], memories: Sequence[Memory]) -> None:
    """Refuse credit of another type than the memories: a state that was converted is saved in its new type."""
    for number, credit in enumerate(credits):
        for layer, (part, memory) in enumerate(zip(credit.layers, memories, strict=False)):
            if part.h.dtype != memory.value.dtype:
                name = f"{PREFIX}owing.credit.{number}.layers.{layer}.h"
                raise WrongFieldError(name, f"must be {memory.value.dtype}, got {part.h.dtype}")


def _restored_calls(named: list[Named], runs: Sequence[SegmentRun]) -> tuple[PastCall, ...]:
    """The calls, which have the last of the segments, of which each is a run."""
    found = [_Call.restored(part) for part in named]
    first = len(runs) - sum(call.segments for call in found)
    if first < 0 or any(call.segments < 0 for call in found):
        raise WrongFieldError(f"{PREFIX}calls", f"must have {len(runs)} segments at most, and none a negative number")
    calls: list[PastCall] = []
    for call in found:
        own, first = tuple(runs[first : first + call.segments]), first + call.segments
        streams = host_range(len(call.stored[0].step) if call.stored else 0)
        calls.append(PastCall(streams, Lazy(partial(tuple, own)), Lazy(partial(tuple, call.stored))))
    return tuple(calls)


def _parts(named: Named, name: str) -> list[Named]:
    """Tensors "name.number.rest" by number, as "rest"."""
    parts: dict[int, Named] = {}
    for whole, tensor in named.items():
        first, _, rest = whole.partition(".")
        if first == name:
            number, _, rest = rest.partition(".")
            parts.setdefault(int(number), {})[rest] = tensor
    return [parts[number] for number in sorted(parts)]
