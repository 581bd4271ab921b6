"""Which layer made a state: what another must have in common with it to run the state's past calls again."""

from __future__ import annotations

import json
from typing import NamedTuple

UNTOLD = "unknown"
"""In the place of a setting that the file of a state does not tell."""


class MadeBy(NamedTuple):
    """The settings of a layer that the record of its calls rests on; `SAB` explains each.

    Attributes:
        cell, score, encoder: names of built-in ones, or classes of a user's own; evict: the name of the function.
        stored: a state saved before there was a choice has "h".
    """

    input_size: int
    hidden_size: int
    num_layers: int
    cell: str
    score: str
    k_top: int | None
    k_att: int
    k_trunc: int | None
    normalizer: str
    semantics: str
    encoder: str | None
    stored: str = "h"
    capacity: int | str | None = UNTOLD
    evict: str = UNTOLD
    recall_scale: float | str = UNTOLD
    forget_scale: float | str = UNTOLD
    backtrack: bool | str = UNTOLD

    def unlike(self, other: MadeBy) -> list[str]:
        """The names of the settings in which another layer differs from this one, as far as both are known.

        A layer without a capacity has evicted nothing: a bounded one that evicts the oldest would have done the same.
        """
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self._fields}
        if self.capacity is None and other.evict == "fifo":
            del pairs["capacity"], pairs["evict"]
        return [name for name, (mine, others) in pairs.items() if mine != others and UNTOLD not in (mine, others)]

    def told(self, names: list[str]) -> str:
        """Some settings as one passes them."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def to_json(self) -> str:
        """For a file's metadata; `from_json` is the reverse."""
        return json.dumps(self._asdict(), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> MadeBy:
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            return MadeBy(**json.loads(text))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"the record of the layer that made the state is damaged: {error}") from error
