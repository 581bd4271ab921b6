"""The search of the best memories through a tree of bounds: what it relies on, and that it finds what a scan finds.

Shapes: T time, B batch, I input, M memories, D score width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reminding import SAB
from reminding.ops import cpu_op
from reminding.ops.contract import OpRule
from reminding.ops.cpu_op.packing import raw
from tests.drawn import drawn
from tests.nn.samples import draw, make, run

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))

both_scores = pytest.mark.parametrize("score", ["additive", "dot"])


@pytest.fixture
def widest() -> Iterator[None]:
    """Restores the widest instruction set after a test."""
    yield
    raw().limit_isa(2)


def bounds(keys: Tensor, query: Tensor, weight: Tensor | None) -> Tensor:
    """Each memory's score, and the bounds of the groups that it is in, (levels, M); infinite above the top."""
    rule = OpRule.of(cell="lstm", score="dot" if weight is None else "additive", k_top=1)
    return raw().bounds(keys.clone(), query.clone(), weight, list(rule))


@drawn(150)
@given(
    score=st.sampled_from(["additive", "dot"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    memories=st.integers(1, 700),
    width=st.integers(1, 70),
    key_scale=st.sampled_from([0.0, 1e-6, 1.0, 10.0, 60.0, 1e4]),
    query_scale=st.sampled_from([0.0, 1e-6, 1.0, 10.0, 60.0, 1e4]),
    tiny=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_no_member_scores_above_the_bound_of_its_groups(
    score: str,
    dtype: torch.dtype,
    memories: int,
    width: int,
    key_scale: float,
    query_scale: float,
    tiny: bool,
    seed: int,
) -> None:
    """Not by a bit, with tanh at saturation too, where e^2k is clamped, and with weights of 0 and of all sizes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weight = normal(width)
    if tiny:
        weight *= torch.tensor(10.0, dtype=dtype) ** torch.randint(-30, 3, (width,), generator=generator)
        weight[0] = 0
    found = bounds(
        key_scale * normal(memories, width), query_scale * normal(width), weight if score == "additive" else None
    )
    assert (found[1:] >= found[0]).all()


def test_bounds_are_close_for_groups_of_similar_keys() -> None:
    """A bound is the score of a key made of the members', not a number that nothing can exceed."""
    keys, query, weight = torch.randn(1, 20) + 1e-6 * torch.randn(600, 20), torch.randn(20), torch.randn(20)
    for found in (bounds(keys, query, weight), bounds(keys, query, None)):
        levels = int(found[:, 0].isfinite().sum())
        assert levels in (3, 4), "600 memories, 38 to 100 groups, and groups of these but the topmost"
        torch.testing.assert_close(found[1:levels], found[:1].expand(levels - 1, -1), rtol=1e-4, atol=1e-4)


def test_groups_hold_similar_keys_in_whatever_order_they_come() -> None:
    """Else the bounds of a stream that repeats itself would be loose."""
    kinds = 3 * torch.randn(40, 20)
    which = torch.randperm(4000) % 40
    keys, query, weight = kinds[which] + 1e-3 * torch.randn(4000, 20), torch.randn(20), torch.randn(20)
    for found in (bounds(keys, query, weight), bounds(keys, query, None)):
        close = (found[1] - found[0]).abs() < 0.05 * (found[0].max() - found[0].min())
        assert close.float().mean() > 0.95


def test_equal_keys_have_no_bound() -> None:
    """They are one member, however many there are."""
    keys, query, weight = torch.randn(7, 20).repeat(100, 1), torch.randn(20), torch.randn(20)
    for found in (bounds(keys, query, weight), bounds(keys, query, None)):
        assert found[0].isfinite().all()
        assert found[1:].isinf().all(), "seven members are one group"


class Found(NamedTuple):
    """What a layer computes over 300 steps, and how it says that it finds memories."""

    output: Tensor
    steps: Tensor
    weights: Tensor
    gradients: dict[str, Tensor]
    search: str


def found(search: str, mask: Tensor | None = None, x: Tensor | None = None, **options: Any) -> Found:
    settings: dict[str, Any] = {"k_top": 3, "k_att": 1, "k_trunc": 6, "backend": "cpu", "search": search, **options}
    layer = make(3, 20, **settings, seed=5)
    x = draw(300, 4, 3, dtype=next(layer.parameters()).dtype) if x is None else x
    mask = torch.zeros(x.shape[:2], dtype=torch.bool) if mask is None else mask
    output, _, recall, gradients = run(layer, x, mask)
    return Found(output, recall.step, recall.weight, gradients, layer.plan(len(x)).search)


def assert_equal_found(got: Found, want: Found) -> None:
    """Bit by bit: both compute a memory's score by the same instructions."""
    assert torch.equal(got.steps, want.steps)
    assert torch.equal(got.weights, want.weights)
    assert torch.equal(got.output, want.output)
    for name, gradient in want.gradients.items():
        assert torch.equal(got.gradients[name], gradient), name


OPTIONS: dict[str, dict[str, Any]] = {
    "unbounded": {},
    "threshold": {"normalizer": "threshold"},
    "release": {"semantics": "release", "k_top": 5},
    "softmax1, replayed": {"normalizer": "softmax1", "engine": "replay"},
    "two layers": {"num_layers": 2},
    "the oldest goes": {"capacity": 140},
    "the least recalled goes": {"capacity": 140, "evict": "least_recalled"},
    "float32": {"dtype": torch.float32},
    "score_size": {"score_size": 5},
    "rnn": {"cell": "rnn", "recall_scale": 0.5},
}


@both_scores
@pytest.mark.parametrize("search", ["tree", "auto"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_a_search_finds_what_a_scan_finds(options: dict[str, Any], search: str, score: str) -> None:
    """In rows that begin apart and begin anew, so that places in memory differ."""
    mask = torch.zeros(300, 4, dtype=torch.bool)
    mask[7, 1] = mask[150, 2] = mask[290, 3] = True
    got = found(search, mask, score=score, **options)
    assert got.search == search
    assert_equal_found(got, found("scan", mask, score=score, **options))


@both_scores
@pytest.mark.parametrize("evict", ["fifo", "least_recalled"])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_tree_outlives_what_was_evicted(repeated: bool, evict: str, score: str) -> None:
    """Twenty of a thousand memories are kept, so it is built anew at times; those of a class go one by one."""
    x = draw(1000, 2, 3)
    if repeated:
        x = x[:4].repeat(250, 1, 1)
    options: dict[str, Any] = {"capacity": 20, "evict": evict, "score": score, "x": x}
    assert_equal_found(found("tree", **options), found("scan", **options))


@pytest.mark.parametrize("seed", range(20))
def test_of_a_class_any_memory_may_go(seed: int) -> None:
    """A younger one before an older one, too: the next with the same key is found all the same."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(3, 1, 3, dtype=torch.float64, generator=generator)
    x = kinds[torch.randint(3, (400,), generator=generator)].expand(-1, 2, -1)
    options: dict[str, Any] = {"capacity": 6 + seed, "evict": "least_recalled", "cell": "rnn", "stored": "proposal"}
    outputs: list[Tensor] = []
    for search in ("tree", "scan"):
        layer = make(3, 20, k_top=3, k_att=1, backend="cpu", search=search, seed=5, **options)
        with torch.no_grad():
            layer.get_parameter("weight_hh_l0").zero_()  # so that a proposal depends on the input alone
            outputs.append(layer(x)[0])
    assert torch.equal(*outputs)


@both_scores
def test_of_equal_scores_the_older_memory_wins(score: str) -> None:
    """A constant input brings the state to rest: the memories and their scores are equal from then on."""
    x = torch.ones(300, 2, 3, dtype=torch.float64)
    assert_equal_found(found("tree", x=x, score=score), found("scan", x=x, score=score))


@pytest.mark.parametrize("isa", [0, 1, 2])
@both_scores
def test_on_every_instruction_set(score: str, isa: int, widest: None) -> None:
    raw().limit_isa(isa)
    options: dict[str, Any] = {"score": score, "dtype": torch.float32}
    assert_equal_found(found("tree", **options), found("scan", **options))


@both_scores
@pytest.mark.parametrize("search", ["tree", "auto"])
def test_a_stream_in_chunks_is_searched_as_a_whole(search: str, score: str) -> None:
    """Memories that a call is given join the tree before its first step."""
    options: dict[str, Any] = {"k_top": 3, "k_att": 1, "score": score, "capacity": 100, "backend": "cpu", "seed": 5}
    x, whole, layer = draw(400, 2, 3), make(3, 20, search="scan", **options), make(3, 20, search=search, **options)
    state: Any = None
    parts: list[Tensor] = []
    with torch.no_grad():
        for chunk in torch.split(x, 37):
            output, state = layer(chunk, state)
            parts.append(output)
        torch.testing.assert_close(torch.cat(parts), whole(x)[0], rtol=1e-9, atol=1e-9)


SERVED: dict[str, dict[str, Any]] = {
    "all": {},
    "the oldest goes": {"capacity": 90},
    "the least recalled goes": {"capacity": 90, "evict": "least_recalled"},
    "two layers": {"num_layers": 2},
    "stored every 3 steps": {"k_att": 3},
}


def served(layer: SAB, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs of a stepper, and of calls of seven steps that go on from the state of the call before."""
    step = layer.stepper()
    steps = torch.stack([step(x_t, reset) for x_t, reset in zip(x, mask, strict=True)])
    parts: list[Tensor] = []
    state: Any = None
    with torch.no_grad():
        for chunk, resets in zip(torch.split(x, 7), torch.split(mask, 7), strict=True):
            output, state = layer(chunk, state, reset=resets)
            parts.append(output)
    return steps, torch.cat(parts)


@both_scores
@pytest.mark.parametrize("search", ["tree", "auto"])
@pytest.mark.parametrize("options", SERVED.values(), ids=SERVED.keys())
def test_streams_keep_their_trees_from_step_to_step(options: dict[str, Any], search: str, score: str) -> None:
    """Rows begin anew, so that trees are built anew; slots are moved to the front, and laid out anew."""
    settings: dict[str, Any] = {"k_top": 3, "k_att": 1, "score": score, "backend": "cpu", "seed": 5, **options}
    x, mask = draw(500, 2, 3), torch.zeros(500, 2, dtype=torch.bool)
    mask[120, 1] = mask[430, 0] = True
    found = served(make(3, 20, search=search, **settings), x, mask)
    wanted = served(make(3, 20, search="scan", **settings), x, mask)
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(got, want)


@both_scores
def test_a_state_may_go_on_twice(score: str) -> None:
    """The second call, which shares the slots with the first, has a tree of its own."""
    settings: dict[str, Any] = {"k_top": 3, "k_att": 1, "score": score, "backend": "cpu", "search": "tree", "seed": 5}
    layer, x = make(3, 20, **settings), draw(200, 2, 3)
    with torch.no_grad():
        _, state = layer(x[:100])
        _, state = layer(x[100:110], state)
        first = [layer(x[110:117], state)[0] for _ in range(3)]
        _, other = layer(x[130:137], state)
        layer(x[137:144], other)
        again = layer(x[110:117], state)[0]
    for output in (*first, again):
        torch.testing.assert_close(output, first[0], rtol=1e-12, atol=1e-12)


@both_scores
def test_trees_are_built_anew_when_the_weights_change(score: str) -> None:
    settings: dict[str, Any] = {"k_top": 3, "k_att": 1, "score": score, "backend": "cpu", "seed": 5}
    layer, other = make(3, 20, search="tree", **settings), make(3, 20, search="scan", **settings)
    x = draw(200, 2, 3)
    steppers = [layer.stepper(), other.stepper()]
    for t in range(200):
        if t == 150:
            with torch.no_grad():
                for parameter in (*layer.parameters(), *other.parameters()):
                    parameter.mul_(-0.9)
        got, want = (step(x[t]) for step in steppers)
        assert torch.equal(got, want)


@both_scores
@pytest.mark.parametrize("search", ["tree", "auto"])
def test_a_number_that_is_none_spoils_what_a_scan_lets_it_spoil(search: str, score: str) -> None:
    x = draw(300, 4, 3)
    x[100, 1] = torch.nan
    with torch.no_grad():
        got = make(3, 20, search=search, score=score, k_att=1, backend="cpu")(x)[0]
        want = make(3, 20, search="scan", score=score, k_att=1, backend="cpu")(x)[0]
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert want[:, [0, 2, 3]].isfinite().all()


def test_the_plan_says_how_memories_are_found() -> None:
    def search(steps: int, **options: Any) -> str:
        settings: dict[str, Any] = {"k_att": 1, "backend": "cpu", **options}
        return SAB(3, 4, **settings).plan(steps).search

    assert search(500) == "auto"
    assert search(500, search="scan") == "scan"
    assert search(500, search="tree") == "tree"
    assert search(60) == "scan", "few memories are scored sooner than searched"
    assert search(60, search="tree") == "tree"
    assert search(16, search="tree") == "scan", "there is no group to pass over"
    assert search(500, score="separable") == "scan", "its ranking is kept up as memories are stored"
    assert search(500, k_top=64) == "scan"
    assert search(500, k_top=None) == "scan", "all memories are recalled"
    assert search(500, backend="reference") == "scan"
    assert search(5000, capacity=50) == "scan"


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(ValueError, match=r"search must be one of \['auto', 'scan', 'tree'\], got 'best'"):
        SAB(3, 4, search="best")
