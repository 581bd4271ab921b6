"""The history of a stream as named tensors, for a file, and back."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from reminding.nn.state.history import Evicted, HistoryData
from reminding.nn.state.segments import EncoderInput, Segment

Named = dict[str, Tensor]
PREFIX = "history."


def name_tensors(data: HistoryData) -> Named:
    """Everything in a history by name; segments refer to the encoder's inputs. `restore` is the reverse."""
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
    return {PREFIX + name: tensor for name, tensor in named.items()}


def restore(named: Named) -> HistoryData:
    """The history that `name_tensors` named."""
    named = {name.removeprefix(PREFIX): tensor for name, tensor in named.items()}
    inputs = [EncoderInput.restored(part) for part in _parts(named, "inputs")]
    segments: list[Segment] = []
    for part in _parts(named, "segments"):
        segment = Segment.restored(part)
        segments.append(replace(segment, encoder_input=inputs[int(part["input"])]) if "input" in part else segment)
    return HistoryData(tuple(segments), tuple(Evicted.restored(part) for part in _parts(named, "evicted")))


def _parts(named: Named, name: str) -> list[Named]:
    """Tensors "name.number.rest" by number, as "rest"."""
    parts: dict[int, Named] = {}
    for whole, tensor in named.items():
        first, _, rest = whole.partition(".")
        if first == name:
            number, _, rest = rest.partition(".")
            parts.setdefault(int(number), {})[rest] = tensor
    return [parts[number] for number in sorted(parts)]
