"""The legend for the values of a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reminding.lab.explain.legend import from_mu_law, legend_of
from reminding.tasks import Copying, Cue, MatchSpeaker, NBack, NoisyCIFAR10, SelectiveCopying
from reminding.tasks.data.sources import mu_law


def test_mu_law_is_undone() -> None:
    levels = np.arange(256)
    assert (mu_law(from_mu_law(levels)) == levels).all()


@pytest.mark.parametrize(
    ("task", "kind", "names", "classes"),
    [
        (Copying(alphabet=2), "tokens", ("·", "1", "2", "?"), ("·", "1", "2", "?")),
        (Cue(alphabet=2, distractors=1), "tokens", ("·", "1", "2", "3", "?"), ("1", "2")),
        (SelectiveCopying(alphabet=2), "tokens", ("·", "1", "2", "?"), ("1", "2")),
        (MatchSpeaker(), "wave", (), ("another", "same")),
        (MatchSpeaker(spectrum=True), "lines", (), ("another", "same")),
        (NBack(), "wave", (), tuple("0123456789")),
        (NoisyCIFAR10(), "wave", (), tuple("0123456789")),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_tokens_and_classes_have_the_names_of_their_task(
    task: Any, kind: str, names: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    legend = legend_of(task)
    assert (legend.kind, legend.names, legend.classes) == (kind, names, classes)
    assert len(legend.classes) == task.output_size
