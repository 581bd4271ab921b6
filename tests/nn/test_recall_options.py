"""Recalling nothing from the first step, and what goes to memory; the loop of test_oracle.py has the numbers.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.nn.state.made_by import MadeBy
from reminding.ops.cuda_op import able
from tests.nn.samples import BUILT, assert_same_gradients, draw, gradients, make, streamed
from tests.tolerance import assert_equal

WAYS = [(backend, engine) for backend in BUILT for engine in ("autograd", "replay")]
every_way = pytest.mark.parametrize(("backend", "engine"), WAYS)
SHORT: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 4}


def recurrent(layer: SAB) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in layer.state_dict().items() if name.startswith(("weight", "bias"))}


@every_way
def test_a_closed_gate_leaves_truncated_bptt_and_learns_to_open(backend: str, engine: str) -> None:
    layer = make(backend=backend, engine=engine, summary_gate=0.0, **SHORT)
    torch.nn.init.zeros_(dict(layer.named_parameters())["summary_gate_l0"])
    plain = SAB(3, 4, k_top=0, k_trunc=4, dtype=torch.float64)
    plain.load_state_dict(recurrent(layer))
    x, loss = draw(12, 2, 3), draw(12, 2, 4, seed=2)
    output, _ = layer(x)
    assert_equal(output, plain(x)[0], "output")
    found = gradients(layer, (output * loss).sum())
    assert found["summary_gate_l0"].abs().min() > 1e-6, "the gate is credited while it is closed"
    assert found["score_query_l0"].abs().max() == 0, "what lies behind it is not"


@pytest.mark.parametrize("first", [0.0, 0.1, -0.5])
def test_a_gate_begins_as_asked(first: float) -> None:
    layer = SAB(3, 4, summary_gate=first, num_layers=2, dtype=torch.float64)
    x = draw(40, 2, 3)
    for number in range(2):
        gate = torch.tanh(dict(layer.named_parameters())[f"summary_gate_l{number}"])
        assert_equal(gate, torch.full((4,), first, dtype=torch.float64), "gate")
    _, _, recall = layer(x, return_recall=True)
    assert (first == 0) == (not bool(recall.summary.any()))


@every_way
def test_a_null_score_of_0_is_softmax1(backend: str, engine: str) -> None:
    plain = make(backend=backend, engine=engine, normalizer="softmax1", **SHORT)
    layer = SAB(
        3, 4, backend=backend, engine=engine, normalizer="softmax1", null_score=0.0, dtype=torch.float64, **SHORT
    )
    layer.load_state_dict(plain.state_dict(), strict=False)
    x, loss = draw(12, 2, 3), draw(12, 2, 4, seed=2)
    got, want = (gradients(each, (each(x)[0] * loss).sum()) for each in (layer, plain))
    assert got.pop("null_score_l0").abs() > 1e-6
    assert_same_gradients(got, want)


@pytest.mark.parametrize("score", ["additive", "dot", "separable"])
@pytest.mark.parametrize("backend", BUILT)
def test_the_null_score_says_how_much_is_recalled(backend: str, score: str) -> None:
    def recalled(null_score: float) -> Tensor:
        torch.manual_seed(0)
        options: dict[str, Any] = {**SHORT, "score": score, "backend": backend, "dtype": torch.float64}
        layer = SAB(3, 4, normalizer="softmax1", null_score=null_score, **options)
        return layer(draw(12, 2, 3), return_recall=True)[2].weight.sum(2)[2:]

    assert recalled(8.0).max() < 3e-3
    assert recalled(-8.0).min() > 1 - 3e-3
    assert (recalled(1.0) < recalled(0.0)).all()


def test_a_null_score_of_a_scorer_of_ones_own() -> None:
    class Alike(torch.nn.Module):
        """The dot product of memory and state."""

        def keys(self, memory: Tensor) -> Tensor:
            return memory

        def scores(self, keys: Tensor, query: Tensor) -> Tensor:
            return (keys * query.unsqueeze(1)).sum(2)

    options: dict[str, Any] = {**SHORT, "normalizer": "softmax1", "null_score": 0.5, "summary_gate": 0.3}
    layer = make(score=Alike(), **options)
    replayed = make(score=Alike(), engine="replay", **options)
    loss = draw(12, 2, 4, seed=2)
    got, want = (gradients(each, (each(draw(12, 2, 3))[0] * loss).sum()) for each in (replayed, layer))
    assert want["null_score_l0"].abs() > 1e-6
    assert_same_gradients(got, want)


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("capacity", [None, 3])
def test_a_stored_proposal_is_h_without_its_summary(backend: str, capacity: int | None) -> None:
    layer = make(backend=backend, stored="proposal", capacity=capacity, **SHORT)
    output, state, recall = layer(draw(13, 2, 3), return_recall=True)
    assert recall.summary.abs().max() > 0.1
    stored = (output - recall.summary)[1::2][-(capacity or 13) :]
    assert_equal(state.memory[0].transpose(0, 1), stored, "memory")


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("normalizer", ["softmax", "softmax1", "threshold"])
def test_stored_proposals_bound_the_state_of_any_stream(cell: str, normalizer: str) -> None:
    options: dict[str, Any] = {"k_top": 2, "k_att": 1, "k_trunc": 5, "capacity": 8, "normalizer": normalizer}
    bound = 2 * math.sqrt(4)

    def largest(stored: str) -> float:
        layer = make(cell=cell, stored=stored, **options)
        with torch.no_grad():
            return float(layer(draw(600, 2, 3))[0].norm(dim=2).max())

    assert largest("proposal") <= bound
    assert largest("h") > bound or normalizer == "softmax1", "sums of sums grow"


@pytest.mark.parametrize("stored", ["h", "proposal"])
def test_the_state_of_a_gru_is_bounded_by_small_recalls_alone(stored: str) -> None:
    """As the documentation says: it carries over what was recalled, whatever is stored."""

    def largest(recall_scale: float) -> float:
        layer = make(cell="gru", stored=stored, k_top=2, k_att=1, k_trunc=5, capacity=8, recall_scale=recall_scale)
        with torch.no_grad():
            return float(layer(draw(600, 2, 3))[0].norm(dim=2).max())

    assert largest(0.1) <= math.sqrt(4)
    assert not largest(1.0) <= 100 * math.sqrt(4)  # inf and nan, too


@every_way
@pytest.mark.parametrize("num_layers", [1, 2])
def test_chunks_credit_past_proposals_as_the_whole_does(backend: str, engine: str, num_layers: int) -> None:
    options: dict[str, Any] = {**SHORT, "normalizer": "softmax1", "null_score": 0.5, "summary_gate": 0.3}
    layer = make(num_layers=num_layers, backend=backend, engine=engine, stored="proposal", **options)
    x, weight = draw(23, 2, 3), draw(23, 2, 4, seed=2)
    want = gradients(layer, (layer(x)[0] * weight).sum())
    for size in (1, 5, 8):
        assert_same_gradients(streamed(layer, x, weight, size)[0], want)


def test_a_state_remembers_what_was_stored(tmp_path: Path) -> None:
    x = draw(9, 2, 3)
    _, state = make(stored="proposal", **SHORT)(x)
    state.save(tmp_path / "state")
    again = SABState.load(tmp_path / "state")
    with pytest.raises(ValueError, match="stored='proposal', this layer has stored='h'"):
        make(**SHORT)(x, again)
    make(stored="proposal", **SHORT)(x, again)


def test_a_state_saved_before_there_was_a_choice_stored_h() -> None:
    made_by = make(**SHORT).made_by
    older = {name: value for name, value in json.loads(made_by.to_json()).items() if name != "stored"}
    assert MadeBy.from_json(json.dumps(older)) == made_by


def test_what_the_file_of_a_state_does_not_tell_is_no_difference() -> None:
    untold = ("capacity", "evict", "recall_scale", "forget_scale", "backtrack")
    made_by = make(**SHORT, capacity=3, recall_scale=0.5).made_by
    older = MadeBy.from_json(json.dumps({k: v for k, v in made_by._asdict().items() if k not in untold}))
    assert older.unlike(made_by) == made_by.unlike(older) == []
    assert older.unlike(made_by._replace(k_top=9)) == ["k_top"]


@pytest.mark.parametrize("name", ["capacity", "recall_scale"])
def test_an_older_state_goes_on_in_its_layer(tmp_path: Path, name: str) -> None:
    layer, x = make(**SHORT, capacity=3, recall_scale=0.5), draw(9, 2, 3)
    state = layer(x)[1]
    made_by = state.made_by
    assert made_by is not None
    older = MadeBy.from_json(json.dumps({k: v for k, v in made_by._asdict().items() if k != name}))
    replace(state, made_by=older).save(tmp_path / "state")
    want = gradients(layer, layer(x, state)[0].sum())
    assert_same_gradients(gradients(layer, layer(x, SABState.load(tmp_path / "state"))[0].sum()), want)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"null_score": 1.0, "normalizer": "softmax1"}, "null_score"),
        ({"summary_gate": 0.0}, "summary_gate"),
        ({"stored": "proposal"}, "stored='proposal'"),
    ],
)
def test_the_triton_kernels_say_what_they_do_not_run(
    options: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(able, "missing", lambda: None)
    monkeypatch.setattr(able, "interpreted", lambda: True)
    with pytest.raises(ValueError, match=f"backend='cuda' cannot run: it does not run {named}"):
        SAB(3, 4, backend="cuda", **options)
    SAB(3, 4, backend="cuda", k_top=0, **options)


def test_a_layer_that_remembers_nothing_has_neither_gate_nor_null_score() -> None:
    layer = SAB(3, 4, k_top=0, normalizer="softmax1", null_score=1.0, summary_gate=0.5, stored="proposal")
    assert set(layer.state_dict()) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    assert layer.plan(8).backend == SAB(3, 4, k_top=0).plan(8).backend
