"""Some drawn calls; `python -m tests.reliability.shape_fuzz` makes thousands. And what the fuzz finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from reminding.ops.cpu_op import missing
from tests.reliability import shape_fuzz
from tests.reliability.draws import Draw, draw
from tests.reliability.shape_fuzz import (
    PLAIN,
    WAYS,
    Results,
    differing,
    judge,
    perturbed,
    results_of,
    rounded_scores,
    run,
)

DRAWS = 30
FAULT = 1e-8
"""Of the largest number of a gradient."""
REPLAY = {"backend": "reference", "engine": "replay"}


def test_drawn_calls_are_the_references_on_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(seed=1, first=0, draws=DRAWS, longest=12)
    assert found["wrong"] == 0, capsys.readouterr().out
    assert found["tried"] == DRAWS * len(WAYS)
    assert found["right"] > found["tried"] / 2


def float64_draws(numbers: range, **options: str) -> Iterator[tuple[Draw, Results]]:
    """Draws in double precision with these options that are not refused, with the reference's results."""
    wanted = {"dtype": torch.float64, **options}
    for drawn in (draw(1, number, 12) for number in numbers):
        if all(drawn.options[name] == value for name, value in wanted.items()):
            try:
                yield drawn, results_of(drawn, PLAIN)
            except ValueError:
                continue


def gradients_of(want: Results) -> list[str]:
    """The names of those that are finite, and not so small that the comparison is absolute."""
    gradients = {name: found for name, found in want.items() if name.startswith("gradient")}
    return [
        name
        for name, found in gradients.items()
        if found is not None and found.numel() and found.isfinite().all() and found.abs().max() > 1e-6
    ]


def with_fault(want: Results, name: str) -> Results:
    gradient = want[name]
    assert gradient is not None
    wrong = gradient.clone(memory_format=torch.contiguous_format)
    wrong.view(-1)[-1] += FAULT * float(gradient.abs().max())
    return {**want, name: wrong}


@pytest.mark.parametrize(
    ("numbers", "options"), [(range(30), {}), (range(120), {"score": "additive", "normalizer": "threshold"})]
)
def test_a_fault_in_one_element_of_one_gradient_is_found(
    numbers: range, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as rounding leaves no room for it, not even where additive scores make threshold weights."""
    verdicts: Counter[str] = Counter()
    for drawn, want in float64_draws(numbers, **options):
        nudged = perturbed(drawn)
        for name in gradients_of(want):
            faulty = with_fault(want, name)
            with monkeypatch.context() as patch:
                patch.setattr(shape_fuzz, "results_of", lambda *_, faulty=faulty: faulty)  # pyright: ignore
                verdicts[judge(drawn, REPLAY, want, nudged).kind] += 1
    assert verdicts == {"wrong": verdicts.total()}
    assert verdicts.total() > 10


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_draw_that_differs_is_the_reference_with_scores_by_the_ops_formula() -> None:
    """Inputs of 1e-300 give scores that are equal up to rounding, so that threshold weights are 0 or 1."""
    drawn = draw(2, 348)
    want = results_of(drawn, PLAIN)
    with rounded_scores(0):
        by_formula = results_of(drawn, PLAIN)
    for engine in ("autograd", "replay"):
        got = results_of(drawn, {"backend": "cpu", "engine": engine})
        assert differing(got, want, drawn)
        assert differing(got, by_formula, drawn) == {}
