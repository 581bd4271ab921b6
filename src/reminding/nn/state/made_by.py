"""Which layer made a state: what another must have in common with it to run the state's past calls again."""

from __future__ import annotations

import json
from typing import NamedTuple


class MadeBy(NamedTuple):
    """The settings of a layer that the record of its calls rests on; `SAB` explains each.

    Attributes:
        cell, score, encoder: names of built-in ones, or classes of a user's own.
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

    def unlike(self, other: MadeBy) -> list[str]:
        """The names of the settings that differ."""
        return [name for name in self._fields if getattr(self, name) != getattr(other, name)]

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
