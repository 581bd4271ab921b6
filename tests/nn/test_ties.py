"""Of memories whose scores are equal the oldest is the best, on every backend and engine, and in replays.

Shapes: T time, B batch, I input, H hidden, K recalled memories.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from reminding import SAB
from reminding.nn.export import SequenceModule
from tests import oracle
from tests.nn.samples import BUILT, assert_same_gradients, chunks, draw, gradients, make
from tests.oracle import Config
from tests.tolerance import assert_equal

SCORES = ("additive", "dot", "separable")
RULES: dict[str, dict[str, Any]] = {
    "softmax": {"normalizer": "softmax"},
    "softmax1": {"normalizer": "softmax1"},
    "threshold": {"normalizer": "threshold"},
    "release": {"semantics": "release"},
    "bounded": {"capacity": 6},
    "least recalled": {"capacity": 6, "evict": "least_recalled", "normalizer": "softmax1"},
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"backend": "reference", "engine": "autograd"},
    "plain replay": {"backend": "reference", "engine": "replay"},
    **(
        {
            "op": {"backend": "cpu", "engine": "autograd", "search": "scan"},
            "op replay": {"backend": "cpu", "engine": "replay", "search": "scan"},
            "op tree": {"backend": "cpu", "search": "tree"},
        }
        if "cpu" in BUILT
        else {}
    ),
}


def scored_by(feature: int, layer: SAB) -> SAB:
    """The layer with weights by which only one feature of a memory decides its score, without rounding."""
    with torch.no_grad():
        first = torch.arange(layer.hidden_size) == feature
        for name, parameter in layer.named_parameters():
            if name.startswith("score_memory"):
                factor = torch.tensor([0.7, -0.4 if layer.score == "additive" else 0.0], dtype=torch.float64)
                parameter.copy_(factor.unsqueeze(1) * first)
            elif name.startswith("score_out"):
                parameter.fill_(1.0)
            elif name.startswith("score_weight"):
                parameter[layer.hidden_size :].copy_(0.9 * first)
    return layer


def of_periods(steps: int, rows: int = 2) -> Tensor:
    """An input whose first two proposed features are exactly 0, 1 or -1, with periods of 3 and 2 steps."""
    x = draw(steps, rows, 3)
    for feature, period in enumerate((torch.tensor([0.0, 20, -20]), torch.tensor([20.0, -20]))):
        x[:, :, feature] = period.repeat(steps)[:steps].unsqueeze(1)
    return x


def periodic(**options: Any) -> SAB:
    """A layer whose memories take their first two features from the input alone, and differ in the others."""
    usual: dict[str, Any] = {
        "cell": "rnn",
        "k_top": 2,
        "k_att": 1,
        "k_trunc": 4,
        "stored": "proposal",
        "score_size": 2,
    }
    layer = make(3, 4, **{**usual, **options})
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if not name.startswith("score"):
                parameter[:2] = torch.eye(3)[:2] if name == "weight_ih_l0" else 0
    return scored_by(0, layer)


def recalled_by_the_oracle(layer: SAB, config: Config, x: Tensor) -> tuple[Tensor, list[list[list[int]]]]:
    """The output, and the steps of what each step recalled in each row, best first."""
    zero = torch.zeros(x.shape[1], layer.hidden_size, dtype=torch.float64)
    streams = [[oracle.begin(config, h, h) for h in zero]]
    output, _, (answers,) = oracle.run(x, dict(layer.named_parameters()), streams, config)
    return output, [[[step for step, _ in read] for read in answer.read] for answer in answers]


def named(steps: Tensor) -> list[list[list[int]]]:
    """What each step recalled in each row, from (T, B, K)."""
    rows = cast("list[list[list[int]]]", steps.transpose(0, 1).tolist())
    return [[[step for step in read if step] for read in row] for row in rows]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("score", SCORES)
def test_the_oldest_of_equal_memories_is_recalled(score: str, rule: dict[str, Any], way: dict[str, Any]) -> None:
    if score == "separable" and way.get("search") == "tree":
        pytest.skip("nothing to search: scores do not depend on the query")
    layer, x = periodic(score=score, **rule, **way), of_periods(23)
    shared: dict[str, Any] = {"cell": "rnn", "k_top": 2, "k_att": 1, "k_trunc": 4, "stored": "proposal"}
    shared |= {"score": score, "normalizer": layer.normalizer, **rule}
    want, steps = recalled_by_the_oracle(layer, Config(**shared), x)
    if rule.get("semantics") == "release":  # the zero vector's step is 0
        steps = [[[step for step in read if step] for read in row] for row in steps]
    weight = draw(*want.shape, seed=3)
    expected = gradients(layer, (want * weight).sum())
    output, _, recall = layer(x, return_recall=True)
    assert named(recall.step) == steps
    assert_equal(output, want, "output")
    assert_same_gradients(gradients(layer, (output * weight).sum()), expected)
    state: Any = None
    for begun, part in zip((0, 9, 18), chunks(x, 9), strict=True):
        output, state, recall = layer(part, state, return_recall=True)
        assert named(recall.step) == [row[begun : begun + 9] for row in steps]
    stepper = layer.stepper()
    each = [stepper(x_t, return_recall=True)[1].step for x_t in x]
    assert named(torch.stack(each)) == steps


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("steps", [20, 100, 300])
def test_where_all_scores_are_equal_the_first_memories_are_recalled(steps: int, way: dict[str, Any]) -> None:
    layer = make(k_top=3, k_att=1, k_trunc=5, recall_scale=0.5, **way)
    with torch.no_grad():
        layer.get_parameter("score_out_l0").zero_()
    recall = layer(draw(steps, 2, 3), return_recall=True)[2]
    assert recall.step[1:4, 0].tolist() == [[1, 0, 0], [1, 2, 0], [1, 2, 3]]
    assert (recall.step[4:] == torch.tensor([1, 2, 3])).all()


@pytest.mark.parametrize("credit_every", [1, 2])
@pytest.mark.parametrize("rule", [RULES["threshold"], RULES["release"]], ids=["threshold", "release"])
@pytest.mark.parametrize("score", SCORES)
def test_new_weights_make_equal_scores_of_which_the_oldest_is_the_best(
    score: str, rule: dict[str, Any], credit_every: int
) -> None:
    """What was recorded ranks by another feature then; which of two equals sets the threshold, the gradient shows."""
    x, found = of_periods(21), list[dict[str, Tensor]]()
    for way in WAYS.values():
        layer = periodic(score=score, credit_every=credit_every, k_top=3, **rule, **way)
        state: Any = None
        for number, part in enumerate(chunks(x, 7)):
            layer.zero_grad()
            output, state = layer(part, state)
            (output * draw(*output.shape, seed=number)).sum().backward()
            scored_by(1, layer)
        state.settle()
        found.append({name: p.grad for name, p in layer.named_parameters() if p.grad is not None})
    for one in found[1:]:
        assert_same_gradients(one, found[0])


@pytest.mark.parametrize("rule", [RULES["softmax"], RULES["threshold"], RULES["bounded"]], ids=["1", "2", "3"])
def test_an_exported_layer_takes_the_same(rule: dict[str, Any]) -> None:
    layer, x = periodic(**rule, backend="reference"), of_periods(23)
    module = SequenceModule(layer)
    with torch.no_grad():
        want, _ = layer(x)
        _, before = layer(x[:9])
        output, _ = module(x[9:], module.tensors_of(before, steps=14))
    assert_equal(output, want[9:], "output")
