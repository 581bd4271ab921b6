"""The legend for the values of a sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reminding.lab.explain.legend import Legend, from_mu_law, legend_of
from reminding.tasks import Copying, Cue, MatchSpeaker, NBack, NoisyCIFAR10, SelectiveCopying
from reminding.tasks.data.scale import Scale
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


@pytest.mark.parametrize("pooled", [False, True])
def test_a_value_that_is_missing_is_not_drawn_and_no_mask_is(pooled: bool) -> None:
    scale = Scale(np.array([10.0, 0.0]), np.array([2.0, 1.0]))
    legend = Legend("lines", channels=("a", "b"), scale=scale, masked=(1,), pooled=pooled)
    frames = [[1, 5, 0], [2, 7, 1]], [[3, 0, 1], [4, 0, 1]], [[0, 0, 0], [0, 0, 0]]
    found = legend.values(np.array(frames, np.float32).reshape(3, 6))
    if pooled:
        np.testing.assert_array_equal(found, [[13, 5], [17, np.nan], [10, 0]])
    else:
        np.testing.assert_array_equal(found, [[12, 5, 14, np.nan], [16, np.nan, 18, np.nan], [10, 0, 10, 0]])
    padded = legend.values(np.array(frames, np.float32).reshape(3, 6), padding=2)
    assert np.isnan(padded[:2]).all() and not np.isnan(padded[2]).any()
    for padding, drawn in ((0, found), (2, padded)):
        shades = legend.shades(np.array(frames, np.float32).reshape(3, 6), padding)
        np.testing.assert_array_equal(np.isnan(shades), np.isnan(drawn))
        assert np.nanmin(shades) == 0 and np.nanmax(shades) == (0 if padding else 1)


def test_a_strip_of_sound_has_amplitudes() -> None:
    legend = Legend("lines", channels=("amplitude",), sampled=True)
    levels = np.array([0, 160, 255])
    np.testing.assert_allclose(legend.shades(levels)[:, 0], (from_mu_law(levels) + 1) / 2, atol=1e-12)
