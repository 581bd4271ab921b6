"""Streams taken on a step a call, by a stepper or by calls without gradient: the numbers of the whole sequence.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, Memory, Recall, SABState
from tests.nn.samples import LAYERS, assert_same_recall, assert_same_state, draw, joined, make, needs_op
from tests.tolerance import assert_equal

STEPS, ROWS = 31, 3
MEMORIES: dict[str, dict[str, Any]] = {
    "all": {},
    "fifo": {"capacity": 3},
    "least recalled": {"capacity": 3, "evict": "least_recalled"},
}
RESETS = torch.arange(STEPS * ROWS).reshape(STEPS, ROWS) % 29 == 13


def whole(layer: SAB, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, SABState, Recall]:
    with torch.no_grad():
        return layer(x, reset=mask, return_recall=True)


def with_time(recall: Recall) -> Recall:
    """The recall of a step with an axis of time before the batch's."""
    return recall.map(lambda tensor: tensor.unsqueeze(-3))


def stepped(layer: SAB, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, SABState, list[Recall]]:
    step = layer.stepper()
    outputs: list[Tensor] = []
    recalls: list[Recall] = []
    for t, x_t in enumerate(x):
        h, recall = step(x_t, None if mask is None else mask[t], return_recall=True)
        outputs.append(h)
        recalls.append(recall)
    return torch.stack(outputs), step.state, recalls


def called(layer: SAB, x: Tensor, size: int, mask: Tensor | None = None) -> tuple[Tensor, SABState, list[Recall]]:
    """The same by calls of so many steps."""
    state: Any = None
    outputs: list[Tensor] = []
    recalls: list[Recall] = []
    with torch.no_grad():
        for first in range(0, len(x), size):
            part = slice(first, first + size)
            reset = None if mask is None else mask[part]
            output, state, recall = layer(x[part], state, reset=reset, return_recall=True)
            outputs.append(output)
            recalls.append(recall)
    return torch.cat(outputs), state, recalls


@pytest.mark.parametrize("memories", MEMORIES.values(), ids=MEMORIES.keys())
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS.keys())
def test_steps_give_the_numbers_of_the_whole_sequence(options: dict[str, Any], memories: dict[str, Any]) -> None:
    layer, x = make(**options, **memories), draw(STEPS, ROWS, 3)
    output, state, recall = whole(layer, x, RESETS)
    for got, after, recalls in (stepped(layer, x, RESETS), called(layer, x, 1, RESETS), called(layer, x, 4, RESETS)):
        assert_equal(got, output, "output")
        assert_same_state(after, state)
        if options.get("k_top", 1) is not None:  # else a recall is as wide as the memory, which grows
            every = [with_time(each) if each.summary.dim() == 2 else each for each in recalls]
            widened = joined(every) if layer.num_layers == 1 else None
            if widened is not None:
                assert_same_recall(widened, recall)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("score", ["additive", "dot", "separable"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_cell_and_score_at_sizes_that_fill_no_vector(cell: str, score: str, dtype: torch.dtype) -> None:
    layer = make(5, 19, cell=cell, score=score, k_top=4, k_att=1, capacity=23, recall_scale=0.05, dtype=dtype)
    x = draw(70, 7, 5, dtype=dtype)
    output, state, _ = whole(layer, x)
    got, after, _ = stepped(layer, x)
    assert_equal(got, output, "output")
    assert_same_state(after, state)


def test_no_limit_on_memories_and_no_gap_between_growths() -> None:
    layer, x = make(k_top=2, k_att=1), draw(150, 2, 3)
    output, state, _ = whole(layer, x)
    for got, after, _ in (stepped(layer, x), called(layer, x, 1)):
        assert_equal(got, output, "output")
        assert_same_state(after, state)


def test_scores_beyond_the_range_of_the_keys_stay_exact() -> None:
    """In one dimension |W1 m| and |W2 h| are so large that e^(2k) leaves float64; the others tell memories apart."""
    layer = make(3, 4, k_top=2, k_att=1, score="additive")
    with torch.no_grad():
        for name in ("score_memory_l0", "score_query_l0"):
            layer.get_parameter(name)[0] *= 5000
    x = draw(20, 2, 3)
    output, _, recall = whole(layer, x)
    assert_equal(output, whole(make_plain(layer), x)[0], "the op leaves it to the reference")
    got, _, recalls = stepped(layer, x)
    assert_equal(got, output, "output")
    assert torch.equal(joined([with_time(each) for each in recalls]).step, recall.step)


def make_plain(layer: SAB) -> SAB:
    """The same layer in plain PyTorch."""
    plain = make(3, 4, k_top=2, k_att=1, score="additive", backend="reference")
    plain.load_state_dict(layer.state_dict())
    return plain


def test_a_stepper_goes_on_from_a_state_and_a_layer_from_a_stepper() -> None:
    layer, x = make(num_layers=2, k_top=2, k_att=2, capacity=4), draw(30, 3, 3)
    output, state, _ = whole(layer, x)
    before = layer(x[:10])[1]  # of a call with gradient, which has a history
    step = layer.stepper(before)
    middle = torch.stack([step(x_t) for x_t in x[10:20]])
    last, after = layer(x[20:], step.state)
    assert_equal(torch.cat([middle, last]), output[10:], "output")
    assert_same_state(after.detach(), state)
    assert not middle.requires_grad


@pytest.mark.parametrize("memories", MEMORIES.values(), ids=MEMORIES.keys())
def test_a_state_that_was_given_out_never_changes(memories: dict[str, Any]) -> None:
    layer, x = make(k_top=2, k_att=1, **memories), draw(40, 3, 3)
    with torch.no_grad():
        state = layer(x[:9])[1]
        step, given = layer.stepper(state), [state]
        snapshots = [step.state]
        for t in range(9, 40):
            given.append(layer(x[t : t + 1], given[-1])[1])
            step(x[t], reset=torch.tensor([t == 20, False, False]))
            snapshots.append(step.state)
    fresh = [whole(layer, x[: 9 + number])[1] for number in range(len(given))]
    for mine, wanted in zip(given, fresh, strict=True):
        assert_same_state(mine, wanted)
    for mine, wanted in zip(snapshots[:12], fresh, strict=False):
        assert_same_state(mine, wanted)


@pytest.mark.parametrize("memories", MEMORIES.values(), ids=MEMORIES.keys())
def test_two_futures_of_one_state_do_not_meet(memories: dict[str, Any]) -> None:
    layer, x, other = make(k_top=2, k_att=1, **memories), draw(20, 3, 3), draw(20, 3, 3, seed=9)
    with torch.no_grad():
        state = layer(x[:8])[1]
        state = layer(x[8:9], state)[1]
        one, two = state, state
        for t in range(9, 20):
            one, two = layer(x[t : t + 1], one)[1], layer(other[t : t + 1], two)[1]
    assert_same_state(one, whole(layer, x)[1])
    assert_same_state(two, whole(layer, torch.cat([x[:9], other[9:]]))[1])


def change_in_place(layer: SAB) -> None:
    with torch.no_grad():
        layer.get_parameter("score_memory_l0").mul_(-1.5)


def change_through_data(layer: SAB) -> None:
    for parameter in layer.parameters():
        parameter.data.mul_(0.7)


def change_signs_through_data(layer: SAB) -> None:
    layer.get_parameter("weight_hh_l0").data.neg_()


def change_by_loading(layer: SAB) -> None:
    layer.load_state_dict(make(k_top=2, k_att=1, seed=3).state_dict())


def change_the_parameter(layer: SAB) -> None:
    layer.weight_hh_l0 = nn.Parameter(layer.get_parameter("weight_hh_l0").detach() * 0.5)


def change_by_an_optimizer(layer: SAB) -> None:
    layer(draw(3, 3, 3))[0].sum().backward()
    torch.optim.Adam(layer.parameters(), lr=0.1).step()


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        change_through_data,
        change_signs_through_data,
        change_by_loading,
        change_the_parameter,
        change_by_an_optimizer,
    ],
)
def test_keys_are_never_those_of_old_weights(change: Any) -> None:
    layer, x = make(k_top=2, k_att=1), draw(20, 3, 3)
    with torch.no_grad():
        step, state = layer.stepper(), layer(x[:1])[1]
        for t in range(10):
            step(x[t])
            state = layer(x[t : t + 1], state)[1] if t else state
    change(layer)
    plain = copy.deepcopy(layer)
    with torch.no_grad():
        wanted, _ = plain(x[10:], step.state)
        got = torch.stack([step(x_t) for x_t in x[10:]])
        output, _ = layer(x[10:], state)
    assert_equal(got, wanted, "steps")
    assert_equal(output, wanted, "a call")


class OwnScorer(nn.Module):
    """A dot score."""

    def keys(self, memory: Tensor) -> Tensor:
        return memory

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return (keys @ query.unsqueeze(2)).squeeze(2)


def most_recalled(memory: Memory) -> Tensor:
    return memory.weight.argmax(1)


def with_weight_norm() -> SAB:
    layer = make(k_top=2, k_att=2)
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    return layer


PLAIN: dict[str, Callable[[], SAB]] = {
    "own cell": lambda: make(cell=nn.GRUCell(3, 4), k_top=2, k_att=2),
    "own scorer": lambda: make(score=OwnScorer(), k_top=2, k_att=2),
    "own eviction": lambda: make(capacity=3, k_att=1, evict=most_recalled),
    "reference": lambda: make(backend="reference", k_top=2, k_att=2),
    "weight norm": with_weight_norm,
    "half precision": lambda: make(k_top=2, k_att=2, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("build", PLAIN.values(), ids=PLAIN.keys())
def test_layers_that_the_op_cannot_run_are_called(build: Any) -> None:
    layer = build()
    x = draw(12, 3, 3, dtype=layer.like().dtype)
    output, state, _ = whole(layer, x, RESETS[:12])
    got, after, _ = stepped(layer, x, RESETS[:12])
    assert_equal(got, output, "output")
    assert torch.equal(after.step, state.step)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_an_encoder_and_every_layout(batched: bool, batch_first: bool) -> None:
    layer = make(k_top=2, k_att=2, batch_first=batch_first, encoder=nn.Embedding(7, 3, dtype=torch.float64))
    ids = torch.randint(0, 7, (ROWS, 12), generator=torch.Generator().manual_seed(0))
    given = ids if batched else ids[0]
    with torch.no_grad():
        output, state = layer(given if batch_first or not batched else given.T)
    step = layer.stepper()
    got = torch.stack([step(given[..., t]) for t in range(12)], dim=-2)  # (B, T, H)
    assert_equal(got, output if batch_first or not batched else output.transpose(0, 1), "output")
    assert_same_state(step.state, state)
    assert step.state.batched == batched


def test_unbatched_streams() -> None:
    layer, x = make(num_layers=2, k_top=2, k_att=2), draw(12, 3)
    output, state, recall = whole(layer, x)
    step = layer.stepper(layer(x[:3])[1])
    found = [step(x_t, torch.tensor(False), return_recall=True) for x_t in x[3:]]
    assert_equal(torch.stack([h for h, _ in found]), output[3:], "output")
    assert torch.equal(torch.stack([each.step for _, each in found], dim=1), recall.step[:, 3:])
    assert_same_state(step.state, state)


def test_dropout_is_off_in_evaluation_and_drawn_in_training() -> None:
    layer, x = make(num_layers=2, k_top=2, k_att=2, dropout=0.5), draw(12, 3, 3)
    layer.eval()
    assert_equal(stepped(layer, x)[0], whole(layer, x)[0], "output in evaluation")
    layer.train()
    torch.manual_seed(0)
    one = stepped(layer, x)[0]
    torch.manual_seed(1)
    assert not torch.equal(one, stepped(layer, x)[0])


def test_hooks_of_the_layer_run() -> None:
    layer, x = make(k_top=2, k_att=2), draw(3, 3, 3)
    seen: list[Any] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments)

    layer.register_forward_hook(note)
    step = layer.stepper()
    for x_t in x:
        step(x_t)
    assert len(seen) == 3


def test_threads_share_a_layer_with_a_stepper_or_a_state_each() -> None:
    layer = make(8, 16, k_top=3, k_att=1, capacity=20)
    inputs = [draw(120, 2, 8, seed=seed) for seed in range(6)]
    wanted = [whole(layer, x)[0] for x in inputs]
    with ThreadPoolExecutor(6) as threads:
        steps = [each[0] for each in threads.map(partial(stepped, layer), inputs)]
        calls = [each[0] for each in threads.map(partial(called, layer, size=1), inputs)]
    for one, two, output in zip(steps, calls, wanted, strict=True):
        assert_equal(one, output, "steppers")
        assert_equal(two, output, "states")


def test_threads_go_on_from_one_state() -> None:
    layer, x = make(8, 16, k_top=3, k_att=1), draw(30, 2, 8)
    with torch.no_grad():
        state = layer(x[:1], layer(x[:9])[1])[1]

    def goes_on(seed: int) -> Tensor:
        found: list[Tensor] = []
        after = state
        with torch.no_grad():
            for x_t in draw(40, 2, 8, seed=seed):
                output, after = layer(x_t.unsqueeze(0), after)
                found.append(output)
        return torch.cat(found)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(goes_on, range(8)))
    for seed, output in enumerate(found):
        assert torch.equal(output, goes_on(seed))


def test_a_state_of_served_calls_is_a_state_like_any(tmp_path: Path) -> None:
    """Files, pickles, copies, other types, rows and resets; and training goes on from it."""
    layer, x = make(num_layers=2, k_top=2, k_att=1, capacity=4), draw(14, 3, 3)
    wanted = whole(layer, x)[1]

    def served() -> SABState:
        return called(layer, x, 1)[1]

    served().save(tmp_path / "state")
    for got in (SABState.load(tmp_path / "state"), pickle.loads(pickle.dumps(served())), copy.deepcopy(served())):
        assert_same_state(got, wanted)
    assert served().to(torch.float32).memory.dtype == torch.float32
    assert_same_state(served().rows(slice(1, 3)), wanted.rows(slice(1, 3)))
    assert_same_state(served().reset([True, False, False]), wanted.reset([True, False, False]))
    output, after = layer(x, served())
    output.sum().backward()
    assert after.past.segments
    assert_equal(output.detach(), whole(layer, torch.cat([x, x]))[0][14:], "output")


def test_a_memory_that_its_owner_changed_is_read_as_it_is_now() -> None:
    layer, x = make(k_top=2, k_att=1), draw(12, 3, 3)
    with torch.no_grad():
        state = called(layer, x[:11], 1)[1]
        state.layers[0].memory.value.mul_(-2)
        loaded = state.clone()
        assert_equal(layer(x[11:], state)[0], layer(x[11:], loaded)[0], "output")


def test_calls_in_inference_mode_and_out_of_it() -> None:
    layer, x = make(k_top=2, k_att=1, capacity=4), draw(20, 3, 3)
    output, wanted, _ = whole(layer, x)
    step = layer.stepper()
    state: Any = None
    found: list[Tensor] = []
    for t in range(20):
        with torch.inference_mode(t % 3 != 1), torch.no_grad():
            one, state = layer(x[t : t + 1], state)
            two = step(x[t], torch.zeros(3, dtype=torch.bool))
        assert_equal(one[0].clone(), two.clone(), "the same step")
        found.append(one.clone())
    assert_equal(torch.cat(found), output, "output")
    assert_same_state(state, wanted)


@needs_op
def test_old_states_keep_no_more_slots_than_they_share() -> None:
    """A thousand calls in a row write to slots behind the others': copies of all memories stay rare."""
    layer, x = make(k_top=2, k_att=1, capacity=64), draw(1000, 1, 3)
    with torch.no_grad():
        state = layer(x[:64])[1]
        storages: set[int] = set()
        for x_t in x:
            state = layer(x_t.unsqueeze(0), state)[1]
            storages.add(state.layers[0].memory.kept.slots.value.data_ptr())
    assert len(storages) <= 1000 // 32 + 2
