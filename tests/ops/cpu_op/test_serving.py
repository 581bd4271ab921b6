"""The op that serves streams: what its loops would read or write out of place is refused before they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from reminding.ops.contract import SEARCH, OpRule
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
        "held": Held(torch.tensor([[0, 3]] * B), tops, serving.trees(keys, rule)),
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


CHANGES: dict[str, Callable[[torch.Tensor], object]] = {
    "one row negated": lambda weight: weight[3].neg_(),
    "one column negated": lambda weight: weight[:, 1].neg_(),
    "all negated": lambda weight: weight.neg_(),
    "doubled": lambda weight: weight.mul_(2),
    "halved": lambda weight: weight.mul_(0.5),
    "one sign": lambda weight: weight[5, 7].neg_(),
    "two signs": lambda weight: weight[5:7, 7].neg_(),
    "signs a line apart": lambda weight: weight[5, :16:8].neg_(),
    "two rows swapped": lambda weight: weight.__setitem__([2, 9], weight[[9, 2]]),
    "rows rolled": lambda weight: weight.copy_(weight.roll(1, 0).clone()),
    "columns rolled": lambda weight: weight.copy_(weight.roll(8, 1).clone()),
    "the last number": lambda weight: weight[-1, -1].neg_(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(256, 64), (512, 128), (64, 33)], ids=str)
def test_a_fingerprint_changes_with_the_signs_and_the_scale(
    change: Callable[[torch.Tensor], object], dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    """Sums of words miss these: a sign is the highest bit of a word, and a doubled number a bit of its exponent."""
    for seed in range(5):
        torch.manual_seed(seed)
        weight = torch.randn(*shape, dtype=dtype)
        before = serving.fingerprint([weight])
        change(weight)
        assert serving.fingerprint([weight]) != before


def test_a_fingerprint_changes_with_the_order_of_the_tensors() -> None:
    one, other = torch.randn(8, 16), torch.randn(8, 16)
    assert serving.fingerprint([one, other]) != serving.fingerprint([other, one])


def searched(slots: int = 40) -> dict[str, Any]:
    """A call that searches a tree over its slots."""
    given = arguments()
    rule = given["rule"]._replace(search=SEARCH["tree"])
    value = torch.randn(B, slots, H)
    keys, tops = serving.prepare(value, (torch.randn(H, H), torch.randn(H, H)), rule)
    step, received = torch.ones(B, slots, dtype=torch.int64), torch.zeros(B, 0)
    held = Held(torch.tensor([[0, 30]] * B), tops, serving.trees(keys, rule))
    state = given["state"]._replace(step=torch.full((B,), 30))
    return {**given, "rule": rule, "slots": Slots(value, step, received, keys), "held": held, "state": state}


def test_a_tree_is_built_once_and_kept() -> None:
    given = searched()
    nodes, links = serving.tree_room(40)
    assert given["held"].trees.points.shape == (B, nodes, 3 * H)
    assert given["held"].trees.links.shape == (B, links)
    serving.serve(**given)
    notes = given["held"].trees.notes
    assert notes[:, 0].tolist() == [30] * B, "up to the last memory that was searched"
    given["slots"].step[:, :30] = torch.arange(1, 31)
    for_slots(given["held"].trees.links)[:, :29, 2] = 0
    given["state"] = given["state"]._replace(step=torch.full((B,), 31))
    served = serving.serve(**given)
    assert served.steps is not None
    assert (served.steps > 0).any(), "the memory of the call before was brought in after the others"
    known = torch.tensor([0, 30, 31])
    assert torch.isin(served.steps, known).all(), "a tree that says what is alive was believed, not built anew"
    given["held"].trees.forget(torch.tensor([True, False]))
    given["state"] = given["state"]._replace(step=torch.full((B,), 32))
    steps = serving.serve(**given).steps
    assert steps is not None
    assert (steps[0, 0] > 0).all()


def for_slots(links: torch.Tensor, slots: int = 40) -> torch.Tensor:
    """What a tree keeps of each slot (tree.h); the third number is whether its memory is alive."""
    return links[:, -5 * slots :].view(B, slots, 5)


def change_tree(field: str, to: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    def apply(given: dict[str, Any]) -> None:
        trees = given["held"].trees
        given["held"] = given["held"]._replace(trees=trees._replace(**{field: to(getattr(trees, field))}))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_tree("points", lambda points: points[:, 1:].contiguous()), "held: points"),
        (change_tree("points", lambda points: points[..., 1:].contiguous()), "held: points"),
        (change_tree("links", lambda links: links[:, 1:].contiguous()), "held: links"),
        (change_tree("links", lambda links: links.long()), "held: links must be int32"),
        (change_tree("notes", lambda notes: notes[:1]), "held: notes"),
    ],
)
def test_a_tree_that_does_not_fit_is_refused(damage: Callable[[dict[str, Any]], None], message: str) -> None:
    given = searched()
    damage(given)
    with pytest.raises(RuntimeError, match=message):
        serving.serve(**given)


def test_random_trees_end_no_process() -> None:
    """They can leave out a memory, or name one twice; nothing is read or written out of place, and no call hangs."""
    for seed in range(300):
        torch.manual_seed(seed)
        given = searched(120)
        trees = given["held"].trees
        if seed % 2:  # a tree of 30 memories, of which some numbers are changed; 80 more join it
            serving.serve(**given)
            changed = torch.rand(trees.links.shape) < 0.5 ** (seed % 9)
            trees.links[changed] = torch.randint(-3, 150, (int(changed.sum()),), dtype=torch.int32)
        else:
            trees.links.random_(-3, 10 ** (seed % 9 + 1))
            trees.notes[:, 1].random_(0, 2)
            trees.notes[:, 2:].random_(0, 256)
            trees.points.normal_().mul_(10.0 ** (seed % 20))
        trees.links[:, 4] = 30
        trees.notes[:, 0] = 30
        given["x"], given["state"] = torch.randn(80, B, 3), given["state"]._replace(step=torch.full((B,), 31))
        served = serving.serve(**given)
        assert served.output.shape == (80, B, H)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("number", [-2, 10**6, 2**63 - 1])
def test_notes_of_no_tree_are_refused(place: int, number: int) -> None:
    given = searched()
    given["held"].trees.notes[-1, place] = number
    with pytest.raises(RuntimeError, match=rf"held: notes must be between -?\d+ and \d+, got {number}"):
        serving.serve(**given)
