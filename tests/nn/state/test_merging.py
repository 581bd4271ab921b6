"""States of separate streams merged into one, and taken apart again, go on as if they had been one from the start.

Shapes: T time, B batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.nn.state.merging import merge_states, own_rows
from tests.nn.samples import BUILT

CASES: dict[str, dict[str, Any]] = {
    "credit into past calls": {},
    "capacity": {"capacity": 3},
    "deferred credit": {"capacity": 3, "credit_every": 4},
    "two layers": {"num_layers": 2, "capacity": 4},
    "release": {"semantics": "release", "score": "separable", "normalizer": None, "k_top": 3},
    "within the call": {"horizon": 0},
    "encoder": {"encoder": torch.nn.Linear(3, 3, dtype=torch.float64)},
}
CALLS, STEPS = 8, 4
HALVES = (slice(0, 2), slice(2, 4))


def layer_of(options: dict[str, Any]) -> SAB:
    torch.manual_seed(0)
    usual: dict[str, Any] = {"k_top": 2, "k_trunc": 3, "k_att": 2, "horizon": None, "dtype": torch.float64}
    return SAB(3, 5, **{**usual, **options})


def chunks() -> Tensor:
    """(calls, T, B, I), two streams for each of two processes."""
    torch.manual_seed(1)
    return torch.randn(CALLS, STEPS, 4, 3, dtype=torch.float64)


def run(layer: SAB, x: Tensor, state: Any, resets: Tensor | None = None) -> SABState:
    """Read some chunks of a stream, each with a backward pass of its own."""
    for number, chunk in enumerate(x):
        reset = resets if number == 0 else None
        output, state = layer(chunk, state, reset=reset)
        output.pow(2).sum().backward()
    return state


def gradients(layer: SAB) -> list[Tensor]:
    return [torch.zeros_like(each) if each.grad is None else each.grad for each in layer.parameters()]


@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "by a file"])
@pytest.mark.parametrize("name", CASES)
def test_separate_streams_go_on_together(name: str, saved: bool, tmp_path: Path) -> None:
    x = chunks()
    whole = layer_of(CASES[name])
    end = run(whole, x, None)
    whole.settle(end)

    split = layer_of(CASES[name])
    parts = [run(split, x[:5, :, rows], None) for rows in HALVES]
    state = merge_states(parts)
    if saved:
        state.save(tmp_path / "state.safetensors")
        state = SABState.load(tmp_path / "state.safetensors")
    assert torch.equal(state.h, torch.cat([part.h for part in parts], dim=1))
    middle = run(split, x[5:6], state)
    again = [own_rows(middle, rows, ended=rows.start == 0) for rows in HALVES]
    ends = [run(split, x[6:, :, rows], part) for part, rows in zip(again, HALVES, strict=True)]
    for each in ends:
        split.settle(each)
    torch.testing.assert_close(torch.cat([each.h for each in ends], dim=1), end.h, rtol=1e-9, atol=1e-12)
    for got, want in zip(gradients(split), gradients(whole), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("credit_every", [1, 3, 100])
def test_streams_that_begin_anew_in_one_part_are_kept_apart(credit_every: int) -> None:
    x, fresh = chunks(), torch.tensor([False, True])
    options = {"capacity": 3, "credit_every": credit_every}
    whole, split = layer_of(options), layer_of(options)
    state = run(whole, x[:2], None)
    state = run(whole, x[2:4], state, torch.cat([fresh, ~fresh]))
    whole.settle(run(whole, x[4:], state))
    parts: list[SABState] = []
    for rows, reset in zip(HALVES, (fresh, ~fresh), strict=True):
        part = run(split, x[:2, :, rows], None)
        parts.append(run(split, x[2:4, :, rows], part, reset))
    middle = run(split, x[4:5], merge_states(parts))
    for rows in HALVES:
        split.settle(run(split, x[5:, :, rows], own_rows(middle, rows, ended=rows.start == 0)))
    for got, want in zip(gradients(split), gradients(whole), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_states_of_single_environments_go_on_as_a_batch() -> None:
    """Each has read unbatched input for a time of its own."""
    layer, x = layer_of({}), chunks()[:2].flatten(0, 1)  # (T, B, I)
    parts = [layer(x[row:, row])[1] for row in range(3)]
    output, state = layer(x[:, :3], merge_states(parts))
    output.sum().backward()
    assert state.step.tolist() == [16, 15, 14]
    got = gradients(layer)
    layer.zero_grad()
    torch.stack([layer(x[:, row], part)[0].sum() for row, part in enumerate(parts)]).sum().backward()
    for one, other in zip(got, gradients(layer), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options", [{"num_layers": 2}, {"k_top": 1}, {"cell": "gru"}, {"dtype": torch.float32}], ids=str
)
def test_states_of_different_layers_are_refused(options: dict[str, Any]) -> None:
    parts = [layer_of(each)(chunks()[0].to(each.get("dtype")))[1] for each in ({}, options)]
    with pytest.raises(ValueError, match="parts must be states of one layer, of one type and device; got "):
        merge_states(parts)


def test_no_states_are_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        merge_states([])


@pytest.mark.parametrize("when", ["at once", "a call later", "after a copy"])
def test_rows_of_one_state_that_are_merged_again_send_what_they_are_owed_once(when: str) -> None:
    x = chunks()
    whole, split = layer_of({"credit_every": 20}), layer_of({"credit_every": 20})
    whole.settle(run(whole, x[:6], None))
    state = run(split, x[:4], None)
    parts = [state.rows(rows) for rows in HALVES]
    if when == "a call later":
        parts = [run(split, x[4:5, :, rows], part) for part, rows in zip(parts, HALVES, strict=True)]
    merged = merge_states(parts)
    if when == "after a copy":
        merged = merged.clone()
    split.settle(run(split, x[5 if when == "a call later" else 4 : 6], merged))
    for got, want in zip(gradients(split), gradients(whole), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("credit_every", [2, 3, 20])
@pytest.mark.parametrize("copied", [False, True])
def test_what_comes_to_the_parts_after_the_merge_is_sent_on_by_the_whole(credit_every: int, copied: bool) -> None:
    """Their last call's backward pass comes when the whole has been made."""
    x = chunks()
    whole, split = layer_of({"credit_every": 1}), layer_of({"credit_every": credit_every})
    whole.settle(run(whole, x[:5], None))
    parts: list[SABState] = []
    losses: list[Tensor] = []
    for rows in HALVES:
        part = run(split, x[:3, :, rows], None)
        output, part = split(x[3][:, rows], part)
        losses.append(output.pow(2).sum())
        parts.append(part)
    merged = merge_states(parts)
    merged = merged.clone() if copied else merged
    torch.stack(losses).sum().backward()
    split.settle(run(split, x[4:5], merged))
    for got, want in zip(gradients(split), gradients(whole), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BUILT)
def test_what_merged_states_are_owed_goes_into_a_file_and_another_type(backend: str, tmp_path: Path) -> None:
    x = chunks()
    found: list[list[Tensor]] = []
    for kind in (None, torch.float32, torch.float64):
        layer = layer_of({"credit_every": 20, "backend": backend})
        merged = merge_states([run(layer, x[:3, :, rows], None) for rows in HALVES])
        if kind is not None:
            merged = merged.to(kind)
            merged.save(tmp_path / "state.safetensors")
            merged = SABState.load(tmp_path / "state.safetensors").to(torch.float64)
        layer.zero_grad()
        layer.settle(merged)
        found.append(gradients(layer))
    for number, tolerance in ((1, 1e-5), (2, 1e-9)):
        for got, want in zip(found[number], found[0], strict=True):
            torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
