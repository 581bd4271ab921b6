"""The op that serves streams: what its loops would read or write out of place is refused before they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from reminding.ops.contract import OpRule
from reminding.ops.cpu_op import missing, serving
from reminding.ops.serving import Held, Slots, StreamState

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
B, H, M = 2, 4, 6


def arguments(capacity: int | None = None) -> dict[str, Any]:
    """A call of one step that stores, on three memories a row."""
    rule = OpRule.of(cell="gru", score="dot", k_top=2, k_att=1, capacity=capacity)
    recurrent = (torch.randn(3 * H, 3), torch.randn(3 * H, H), None, None)
    scorer = (torch.randn(H, H), torch.randn(H, H))
    value = torch.randn(B, M, H)
    keys, tops = serving.prepare(value, scorer, rule)
    return {
        "x": torch.randn(1, B, 3),
        "state": StreamState(torch.zeros(B, H), torch.zeros(B, 0), torch.full((B,), 3)),
        "packed": serving.pack(recurrent, scorer, rule),
        "slots": Slots(value, torch.ones(B, M, dtype=torch.int64), torch.zeros(B, M if capacity else 0), keys),
        "held": Held(torch.tensor([[0, 3]] * B), tops),
        "c": torch.zeros(B, 0),
        "rule": rule,
        "record": True,
    }


def test_a_call_writes_behind_the_window_alone() -> None:
    given = arguments()
    before = given["slots"].value.clone()
    served = serving.serve(**given)
    assert given["held"].window.tolist() == [[0, 4]] * B
    assert torch.equal(given["slots"].value[:, 3], served.output[0])
    assert given["slots"].step[:, 3].tolist() == [4] * B
    kept = torch.arange(M) != 3
    assert torch.equal(given["slots"].value[:, kept], before[:, kept])


def change(name: str, field: str, to: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    def apply(given: dict[str, Any]) -> None:
        given[name] = given[name]._replace(**{field: to(getattr(given[name], field))})

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("held", "window", lambda _: torch.tensor([[0, 3], [-1, 3]])), "held: window must be between 0"),
        (change("held", "window", lambda _: torch.tensor([[0, 3], [0, M + 1]])), "held: window must be between 0"),
        (change("held", "window", lambda _: torch.tensor([[0, 3], [4, 3]])), "held: window must be between 4"),
        (change("held", "window", lambda _: torch.tensor([[0, 3], [0, M]])), "room for what the call stores"),
        (change("held", "tops", lambda tops: tops[:, 1:].contiguous()), "held: tops"),
        (change("slots", "keys", lambda keys: keys[:, 1:].contiguous()), "slots: keys"),
        (change("slots", "step", lambda step: step.int()), "slots: step must be int64"),
        (change("state", "step", lambda step: step - 9), "step0 must be between 0"),
        (change("state", "h", lambda h: h[:1]), "state: h"),
    ],
)
def test_what_does_not_fit_is_refused(damage: Callable[[dict[str, Any]], None], message: str) -> None:
    given = arguments()
    damage(given)
    with pytest.raises(RuntimeError, match=message):
        serving.serve(**given)


def test_a_window_holds_no_more_than_the_capacity() -> None:
    with pytest.raises(RuntimeError, match="held: window must be between 0 and 2"):
        serving.serve(**arguments(capacity=2))


def test_a_fingerprint_changes_with_any_number_of_a_small_tensor() -> None:
    weight = torch.randn(7, 5)
    before = serving.fingerprint([weight])
    assert serving.fingerprint([weight.clone()]) == before
    for place in range(weight.numel()):
        changed = weight.clone()
        changed.view(-1)[place] += 1
        assert serving.fingerprint([changed]) != before
    assert serving.fingerprint([weight.flip(0).contiguous()]) != before
