"""Models of equal size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reminding.lab.runs.config import ModelOptions
from reminding.lab.runs.model import SequenceModel
from reminding.lab.runs.parity import matched, parameters
from reminding.tasks import Adding, Copying
from tests.lab.runs.conftest import MODELS


def counted(task: Any, options: ModelOptions) -> int:
    """The parameters of the model itself."""
    return sum(parameter.numel() for parameter in SequenceModel(task, options).parameters())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wanted", [9_999, 40_000, 150_000])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_model_can_have_a_wanted_size(model: Any, wanted: int, layers: int) -> None:
    task = Copying(T=5)
    options = ModelOptions(model=model, num_layers=1 if model == "rtu" else layers)
    found = matched(task, options, wanted)
    assert counted(task, found) == pytest.approx(wanted, rel=0.03)


def test_the_nearest_multiple_of_4_is_found_where_it_is_near_enough() -> None:
    task, options = Copying(T=5), ModelOptions(model="lstm")
    wanted = parameters(task, ModelOptions(hidden_size=130))
    counts = {size: parameters(task, ModelOptions(model="lstm", hidden_size=size)) for size in range(4, 300, 4)}
    nearest = min(counts, key=lambda size: abs(counts[size] - wanted))
    assert matched(task, options, wanted).hidden_size == nearest


def test_other_sizes_count_where_no_multiple_of_4_is_near() -> None:
    task, options = Adding(T=9), ModelOptions(model="lstm")
    wanted = parameters(task, ModelOptions(model="lstm", hidden_size=18))
    assert matched(task, options, wanted).hidden_size == 18


def test_a_transformers_feed_forward_layers_make_up_the_difference() -> None:
    """Only where no multiple of the heads is near: half way between two small ones."""
    task, options = Copying(T=5), ModelOptions(model="transformer", num_layers=2)
    counts = [parameters(task, replace(options, hidden_size=size)) for size in (16, 20)]
    wanted = sum(counts) // 2
    found = matched(task, options, wanted)
    assert found.hidden_size in (16, 20)
    assert found.feedforward_size is not None
    assert counted(task, found) == pytest.approx(wanted, abs=2 * (2 * found.hidden_size + 1))
    with pytest.raises(ValueError, match=f"no transformer has {wanted:,} parameters"):
        matched(task, replace(options, feedforward_size=64), wanted)  # a given width stays
    for size, count in zip((16, 20), counts, strict=True):
        assert matched(task, options, count) == replace(options, hidden_size=size)


def test_the_size_of_a_given_model_is_found_again() -> None:
    for size in (16, 64, 128):
        options = ModelOptions(hidden_size=size)
        assert matched(Copying(T=5), ModelOptions(), parameters(Copying(T=5), options)) == options


def test_a_number_that_no_model_has() -> None:
    with pytest.raises(ValueError, match=r"parameters: no lstm has 10 parameters within 3%; the .* hidden_size 1 "):
        matched(Copying(T=5), ModelOptions(model="lstm"), 10)
