"""`k_top=None`: the compiled op recalls every memory, as the reference does.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reminding.ops import cpu_op
from reminding.ops.cpu_op import able
from tests.nn.samples import (
    assert_same_gradients,
    assert_same_recall,
    assert_same_state,
    draw,
    make,
    run,
    streamed,
)
from tests.tolerance import assert_equal

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))

SETTINGS: dict[str, dict[str, Any]] = {
    "full attention": {"k_att": 1, "k_trunc": None},
    "threshold": {"k_att": 2, "k_trunc": 3, "normalizer": "threshold"},
    "dot, gru": {"k_att": 1, "k_trunc": 5, "score": "dot", "cell": "gru", "recall_scale": 0.3},
    "separable, rnn": {"k_att": 2, "k_trunc": 3, "score": "separable", "cell": "rnn", "normalizer": "softmax1"},
    "release": {"k_att": 2, "k_trunc": 3, "semantics": "release"},
    "the newest": {"k_att": 1, "k_trunc": 4, "capacity": 3},
    "the most recalled": {"k_att": 1, "k_trunc": 4, "capacity": 3, "evict": "least_recalled", "horizon": 0},
    "two layers": {"num_layers": 2, "k_att": 2, "k_trunc": 4},
    "no credit": {"k_att": 2, "k_trunc": 4, "backtrack": False},
}
all_settings = pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())


@pytest.mark.parametrize("engine", ["autograd", "replay"])
@all_settings
def test_the_op_recalls_what_the_reference_recalls(options: dict[str, Any], engine: str) -> None:
    """The rows are at different steps: the second row begins anew at step 4."""
    x, mask = draw(17, 3, 3), torch.zeros(17, 3, dtype=torch.bool)
    mask[4, 1] = True
    ran, wanted = (
        run(make(3, 4, k_top=None, backend=backend, engine=engine, seed=2, **options), x, mask)
        for backend in ("cpu", "reference")
    )
    assert_equal(ran[0], wanted[0], "output")
    assert_same_state(ran[1], wanted[1])
    assert_same_recall(ran[2], wanted[2])
    assert_same_gradients(ran[3], wanted[3])


@pytest.mark.parametrize("size", [1, 4, 5])
@all_settings
def test_credit_from_chunk_to_chunk(options: dict[str, Any], size: int) -> None:
    """A chunk records what a replay needs: which memories existed when each segment began."""
    x, weight = draw(20, 2, 3), draw(20, 2, 4, seed=7)
    (found, state), (wanted, after) = (
        streamed(make(3, 4, k_top=None, backend=backend, seed=2, **options), x, weight, size)
        for backend in ("cpu", "reference")
    )
    assert_same_state(state, after)
    assert_same_gradients(found, wanted)


def test_a_stream_may_change_between_the_op_and_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference runs the chunks that the op can no longer run. The gradient equals that of either alone."""
    x, weight = draw(24, 2, 3), draw(24, 2, 4, seed=7)
    options: dict[str, Any] = {"k_top": None, "k_att": 1, "k_trunc": 7, "seed": 2}
    wanted, _ = streamed(make(3, 4, backend="reference", **options), x, weight, 4)
    monkeypatch.setattr(able, "MOST_RECALLED", 9)
    layer = make(3, 4, backend="auto", **options)
    found, _ = streamed(layer, x, weight, 4)
    assert_same_gradients(found, wanted)
    assert layer.plan(10).backend == "cpu"
    assert layer.plan(11).backend == "reference"
    assert "recalls at most 9 memories a step, not 10" in layer.plan(11).why


def test_more_than_it_recalls_is_refused_by_name() -> None:
    layer = make(k_top=None, k_att=1, backend="cpu")
    with pytest.raises(ValueError, match=r"backend='cpu' cannot run: .* at most 1024 memories a step, not 1025"):
        layer(draw(1026, 1, 3))
    assert make(k_top=None, k_att=1, capacity=9, backend="cpu")(draw(1026, 1, 3))[0].shape == (1026, 1, 4)


def test_hundreds_are_ranked_as_a_few_are() -> None:
    """There are more memories than the op ranks by insertion."""
    (_, _, recall), (_, _, wanted) = (
        make(3, 4, k_top=None, k_att=1, k_trunc=5, backend=backend)(draw(150, 2, 3), return_recall=True)
        for backend in ("cpu", "reference")
    )
    assert_same_recall(recall, wanted)
    assert recall.weight.shape == (150, 2, 149)
    assert torch.equal(recall.step[-1, 0].sort().values, torch.arange(1, 150))


def test_of_equals_the_oldest_comes_first() -> None:
    layer = make(3, 4, k_top=None, k_att=1, k_trunc=5, score="dot", backend="cpu")
    with torch.no_grad():
        layer.get_parameter("score_query_l0").zero_()
    recall = layer(draw(100, 1, 3), return_recall=True)[2]
    assert torch.equal(recall.step[-1, 0], torch.arange(1, 100))


def test_what_is_not_a_number_is_not_lost() -> None:
    layer = make(3, 4, k_top=None, k_att=1, backend="cpu")
    x = draw(100, 1, 3)
    x[80] = float("nan")
    output = layer(x)[0]
    assert output[:80].isfinite().all()
    assert output[80:].isnan().all()
