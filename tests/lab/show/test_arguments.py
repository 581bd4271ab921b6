"""What the public figures take: chunks of a stream, any kind of array, and errors that name the argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.lab.show.plots import Curve, credit_map, learning_curves, recall_map
from reminding.nn import SAB

LATER = r"for a later chunk of a stream pass 1 \+ state\.step"


def dots(figure: Any) -> list[list[float]]:
    """Later and earlier step of each link that is drawn."""
    return [at for each in figure.axes[0].collections[:1] for at in each.get_offsets().tolist()]


@pytest.fixture
def chunk() -> tuple[Any, Any, Any]:
    """The state after 12 steps of a stream, and recall and credit of the 8 steps after them."""
    torch.manual_seed(0)
    layer, x = SAB(3, 4, k_top=3, k_trunc=2, capacity=10, horizon=None), torch.randn(20, 1, 3)
    with layer.credit() as credit:
        _, state = layer(x[:12])
        output, _, recall = layer(x[12:], state, return_recall=True)
        output.square().sum().backward()
    return state, recall, credit


def test_a_later_chunk_is_drawn_on_the_clock_of_its_stream(chunk: tuple[Any, Any, Any]) -> None:
    state, recall, _ = chunk
    step, weight = recall.step[:, 0], recall.weight[:, 0]
    drawn = recall_map(step, weight, first=int(state.step[0]) + 1, input=np.arange(8), marks=list("abcdefgh"))
    known = [[13 + t, s] for t, row in enumerate(step.tolist()) for s in row if s]
    assert sorted(dots(drawn)) == sorted(known)
    lowest = min(s for _, s in known)
    assert lowest < 12, "it recalls a memory of the chunk before"
    assert drawn.axes[0].get_xlim() == drawn.axes[1].get_xlim() == (12.5, 20.5)
    assert drawn.axes[0].get_ylim() == (lowest - 0.5, 20.5)
    assert [text.get_position()[0] for text in drawn.axes[1].texts] == list(range(13, 21))
    assert drawn.axes[1].images[0].get_extent() == [12.5, 20.5, 0, 1]
    with pytest.raises(ValueError, match=rf"^first: step 1 would have recalled a memory of step .*{LATER}"):
        recall_map(step, weight)


def test_the_credit_of_a_later_chunk_is_drawn_on_the_clock_of_its_stream(chunk: tuple[Any, Any, Any]) -> None:
    _, _, credit = chunk
    earliest = int(credit.step.min())
    drawn = credit_map(credit.step, credit.memory_step, credit.amount, first=earliest)
    assert sorted(map(tuple, dots(drawn))) == sorted(
        zip(credit.step.tolist(), credit.memory_step.tolist(), strict=True)
    )
    assert drawn.axes[0].get_xlim() == (earliest - 0.5, 20.5)
    heights = drawn.axes[1].patches[0].get_data()
    assert heights.values.sum() == pytest.approx(float(credit.amount.sum()), rel=1e-5)
    assert heights.edges[0] == drawn.axes[0].get_ylim()[0] == int(credit.memory_step.min()) - 0.5
    with pytest.raises(ValueError, match=r"^step must be at least 19, the argument first"):
        credit_map(credit.step, credit.memory_step, credit.amount, first=19)


def test_times_are_those_of_the_stream(chunk: tuple[Any, Any, Any]) -> None:
    state, recall, _ = chunk
    times = np.datetime64("2020-01-01") + np.arange(20)
    drawn = recall_map(recall.step[:, 0], recall.weight[:, 0], first=int(state.step[0]) + 1, times=times)
    axes = drawn.axes[0]
    for ticks, labels in ((axes.get_xticks(), axes.get_xticklabels()), (axes.get_yticks(), axes.get_yticklabels())):
        assert [label.get_text() for label in labels] == [str(times[int(tick) - 1]) for tick in ticks]
    assert axes.get_xticks()[0] == 13
    with pytest.raises(ValueError, match=r"^times must have a text for each of 20 steps, got 8"):
        recall_map(recall.step[:, 0], recall.weight[:, 0], first=13, times=times[12:])


def test_many_links_of_a_chunk_are_summed_over_its_part_of_the_stream() -> None:
    step = np.full((7000, 1), 900)
    image = recall_map(step, np.ones((7000, 1)), first=1001).axes[0].images[0]
    assert image.get_extent() == [1000.5, 8000.5, 899.5, 8000.5]
    assert (np.asarray(image.get_array()).max(1) > 0).nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, np.float16, list])
def test_numbers_may_be_of_any_kind(kind: Any) -> None:
    step, weight = [[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]], [[0.0, 0.0], [1.0, 0.0], [0.5, 0.25]]
    if isinstance(kind, torch.dtype):
        made: Callable[[Any], Any] = lambda values: torch.tensor(values, dtype=kind, requires_grad=True)  # noqa: E731
    else:
        made = list if kind is list else lambda values: np.array(values, kind)
    assert sorted(dots(recall_map(made(step), made(weight), input=made([0.0, 1.0, 2.0])))) == [[2, 1], [3, 1], [3, 2]]
    assert dots(credit_map(made([3.0]), made([1.0]), made([0.5]))) == [[3, 1]]


def test_a_missing_value_of_the_input_is_blank() -> None:
    drawn = recall_map([[0], [1]], [[0], [1]], input=[np.nan, 1.0], marks=["a", "b"], times=["x", "y"])
    assert np.ma.getmaskarray(drawn.axes[1].images[0].get_array()).tolist() == [[True, False]]


def test_a_layer_without_recalls_and_a_step_without_credit_are_empty_maps() -> None:
    assert dots(recall_map(np.zeros((5, 0)), np.zeros((5, 0)))) == []
    assert dots(credit_map([], [], [])) == []


def test_a_path_may_be_a_text_and_says_what_it_can_be(tmp_path: Path) -> None:
    recall_map([[0], [1]], [[0], [1]], path=str(tmp_path / "a.PNG"))
    assert (tmp_path / "a.PNG").stat().st_size > 1000
    learning_curves([Curve("a", [1, 2], [0.5, 0.6])], "loss", "", str(tmp_path / "b.svg"))
    assert (tmp_path / "b.svg").stat().st_size > 1000
    for wrong in ("a.xyz", "a"):
        with pytest.raises(ValueError, match=r"^path must end in \.png, "):
            recall_map([[0], [1]], [[0], [1]], path=tmp_path / wrong)
    with pytest.raises(ValueError, match=r"^path must be a file, got 3"):
        recall_map([[0], [1]], [[0], [1]], path=3)  # pyright: ignore[reportArgumentType]


STEP, WEIGHT = np.array([[0], [1], [1]]), np.ones((3, 1))
WRONG: list[tuple[str, dict[str, Any]]] = [
    (r"step must have at least one row, got \(0, 2\)", {"step": np.zeros((0, 2)), "weight": np.zeros((0, 2))}),
    (r"step and weight must be \(T, K\), got \(3,\)", {"step": [0, 1, 1], "weight": [1, 1, 1]}),
    (r"step .*choose a row .* step\[:, 0\] and ", {"step": STEP[:, None], "weight": WEIGHT[:, None]}),
    (r"step .*choose a row .* step\[-1\]\[:, 0\]", {"step": STEP[None, :, None], "weight": WEIGHT[None, :, None]}),
    (r"weight must be finite, got nan at \[1, 0\]", {"weight": [[1], [np.nan], [1]]}),
    (r"weight must be real numbers", {"weight": [["a"], ["b"], ["c"]]}),
    (r"step must be finite, got inf at \[2, 0\]", {"step": [[0], [1], [np.inf]]}),
    (r"step must be whole numbers from 0, got 0\.5", {"step": [[0], [0.5], [1]]}),
    (r"step must be whole numbers from 0, got -1", {"step": [[0], [-1], [1]]}),
    (r"first must be at least 1, got 0", {"first": 0}),
    (r"first must be a whole number, got tensor", {"first": torch.tensor([4, 5])}),
    (r"input must have a value for each of 3 steps, got \(2,\)", {"input": [1, 2]}),
    (r"input must be \(T,\) or \(T, I\), of one sequence, got \(3, 1, 1\)", {"input": np.ones((3, 1, 1))}),
    (r"input must not be infinite", {"input": [1, 2, np.inf]}),
    (r"marks must have a text for each of 3 steps, got 4", {"input": [1, 2, 3], "marks": list("abcd")}),
    (r"times must have a text for each of 3 steps, got 2", {"times": ["a", "b"]}),
]


@pytest.mark.parametrize(("message", "changes"), WRONG)
def test_an_argument_of_a_recall_map_that_cannot_be_drawn_is_named(message: str, changes: dict[str, Any]) -> None:
    given: dict[str, Any] = {"step": STEP, "weight": WEIGHT, **changes}
    with pytest.raises(ValueError, match=f"^{message}"):
        recall_map(**given)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (r"steps must be at least 1, got 0", {"steps": 0}),
        (r"amount must be finite, got nan at \[0\]", {"amount": [np.nan]}),
        (r"memory_step must be before step 3, got 3", {"memory_step": [3]}),
        (r"step must be whole numbers", {"step": [2.5]}),
        (r"step must be at least 1", {"step": [0], "memory_step": [0]}),
        (r"input must be \(T,\) or \(T, I\), got a number", {"input": 3.0}),
    ],
)
def test_an_argument_of_a_credit_map_that_cannot_be_drawn_is_named(message: str, changes: dict[str, Any]) -> None:
    given: dict[str, Any] = {"step": [3], "memory_step": [1], "amount": [1.0], **changes}
    with pytest.raises(ValueError, match=f"^{message}"):
        credit_map(**given)


def test_curves_take_tensors_and_say_what_does_not_fit(tmp_path: Path) -> None:
    values = torch.tensor([0.5, float("nan"), 0.7], dtype=torch.bfloat16, requires_grad=True)
    band: Any = torch.tensor([[0.4, 0.6]] * 3)
    path = tmp_path / "a.png"
    learning_curves([Curve("a", torch.arange(3), values, band)], "loss", "", path)  # pyright: ignore[reportArgumentType]
    assert path.stat().st_size > 5000
    with pytest.raises(ValueError, match=r"^curves must be at least one, got none"):
        learning_curves([], "loss", "", path)
    with pytest.raises(ValueError, match=r"^steps and values of 'a' must be \(N,\), got \(2,\) and \(1,\)"):
        learning_curves([Curve("a", [1, 2], [0.5])], "loss", "", path)
    with pytest.raises(ValueError, match=r"^band of 'a' must be \(2, 2\), got \(1, 2\)"):
        learning_curves([Curve("a", [1, 2], [0.5, 0.6], [(0.4, 0.6)])], "loss", "", path)
