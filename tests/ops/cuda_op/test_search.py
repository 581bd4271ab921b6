"""The search of the best memories through bounds, in Triton's interpreter or on a GPU: it finds what a scan finds.

Shapes: T time, B batch, I input, H hidden, M memory slots, D score width.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from reminding.ops import cuda_op
from reminding.ops.contract import SEARCH, OpRule
from reminding.ops.cuda_op import packing
from reminding.ops.cuda_op.packing import Call
from reminding.ops.cuda_op.trees import Trees, members
from tests.nn.samples import draw, make
from tests.ops.cuda_op.comparisons import DEVICE, compiled_for_gpu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        cuda_op.missing() is not None, reason=f"{cuda_op.missing()}; `make test-all` has Triton interpret its kernels"
    ),
]
both_scores = pytest.mark.parametrize("score", ["additive", "dot"])
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 4 memories and spans of 4 blocks, so that few memories fill some; tiles of fewer from D = 5 on."""
    for name, value in {"LEAST_FAN": 4, "LEAST_IN_TREE": 1, "LEAST_SEARCHED": 8, "TILE_SIZE": 16}.items():
        monkeypatch.setattr(packing, name, value)


def kernels() -> Any:
    """The kernels of search_kernels.py, which needs Triton."""
    return importlib.import_module("tests.ops.cuda_op.search_kernels")


class Row(NamedTuple):
    """The memories of one row, and a query."""

    keys: Tensor  # (1, M, D)
    query: Tensor  # (D,)
    w3: Tensor | None  # (D,)
    call: Call
    filled: int

    @property
    def trees(self) -> Trees:
        return Trees.of(self.keys, torch.tensor([self.filled], device=self.keys.device), self.w3, self.call)


def row(
    keys: Tensor, query: Tensor, w3: Tensor | None, *, filled: int | None = None, k_top: int = 3, **options: Any
) -> Row:
    """A row whose memories have these keys (M, D); options are of the rule."""
    M, D = keys.shape
    score = "additive" if w3 is not None else "dot"
    rule = OpRule.of(cell="lstm", score=score, normalizer="softmax", k_top=k_top, **options)
    call = Call(rule._replace(search=SEARCH["tree"]), 0, 1, D, D, M)
    w3 = w3 if w3 is None else w3.to(DEVICE)
    return Row(keys.unsqueeze(0).to(DEVICE).contiguous(), query.to(DEVICE), w3, call, M if filled is None else filled)


def find(
    of: Row, search: str, alive: Tensor | None = None, patience: tuple[int, int] = (0, 0)
) -> tuple[Tensor, Tensor, list[int]]:
    """The best scores and slots, and the patience that is left.

    Args:
        alive: the slots of the memories that are not evicted, where there are gaps.
    """
    call, trees = of.call, of.trees
    numbers, like = {**call.numbers, **call.shapes, **call.choosing}, of.keys
    listed = torch.arange(call.most, dtype=torch.int32)
    if alive is not None:
        listed[: len(alive)] = alive.int()
        held = torch.zeros(1, call.M, dtype=torch.bool, device=like.device)
        held[0, alive.to(like.device)] = True
        trees = trees._replace(members=members(held, call))
    value, slot = like.new_empty(numbers["KP"]), torch.empty(numbers["KP"], dtype=torch.int32, device=like.device)
    left = torch.tensor(patience, dtype=torch.int32, device=like.device)
    given = inspect.signature(kernels().find_kernel.fn).parameters
    kernels().find_kernel[(1,)](
        like, of.query, of.w3, like.new_empty(call.most), listed.to(like.device), *trees[:3], left,
        torch.tensor([of.filled], device=like.device), value, slot, scale=numbers["score_scale"],
        **{name: number for name, number in numbers.items() if name in given} | {"SEARCH": SEARCH[search]},
    )  # fmt: skip
    return value, slot, [int(each) for each in left]


def assert_found(of: Row, alive: Tensor | None = None) -> None:
    """A search finds what a scan finds, bit by bit."""
    for got, want in zip(find(of, "tree", alive), find(of, "scan", alive), strict=True):
        if isinstance(got, Tensor) and isinstance(want, Tensor):
            torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


def numbers(*shape: int, seed: int, dtype: torch.dtype, tied: bool = False) -> Tensor:
    """Normal numbers; tied: of three values."""
    drawn = draw(*shape, seed=seed)
    return (drawn.round().clamp(-1, 1) if tied else drawn).to(dtype)


TYPES = st.sampled_from([torch.float32, torch.float64])
SCALES = st.sampled_from([0.0, 1e-6, 1.0, 10.0, 60.0, 1e4])


@few
@given(
    score=st.sampled_from(["additive", "dot"]), dtype=TYPES, memories=st.integers(1, 70), width=st.integers(1, 40),
    key_scale=SCALES, query_scale=SCALES, tiny=st.booleans(), equal=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_no_member_scores_above_the_bounds_of_its_nodes(
    score: str,
    dtype: torch.dtype,
    memories: int,
    width: int,
    key_scale: float,
    query_scale: float,
    tiny: bool,
    equal: bool,
    seed: int,
) -> None:
    """Not by a bit and in whatever order a score is summed, with tanh at saturation too, and weights of all sizes.

    Sums in one order are monotone, rounding included. So scores are also summed in another order than bounds; members
    with equal keys, whose scores are their bound but for rounding, then exceed bounds without an allowance.
    """
    weight = draw(width, seed=seed)
    if tiny:
        weight *= 10.0 ** (16 * draw(width, seed=seed + 1)).clamp(-30, 3)
        weight[0] = 0
    keys = key_scale * numbers(1 if equal else memories, width, seed=seed + 2, dtype=dtype).expand(memories, -1)
    query = query_scale * numbers(width, seed=seed + 3, dtype=dtype)
    order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))
    w3 = weight.to(dtype) if score == "additive" else None
    of = row(keys, query, w3)
    score_of, bound_of = bounds(of)
    other, _ = bounds(row(keys[:, order], query[order], None if w3 is None else w3[order]))
    slot = torch.arange(memories, device=score_of.device)
    for nodes in (slot // of.call.fan**2, of.call.spans + slot // of.call.fan):
        assert (bound_of[nodes] >= score_of).all()
        assert (bound_of[nodes] >= other).all()


def bounds(of: Row) -> tuple[Tensor, Tensor]:
    """Every memory's score, and every node's bound."""
    call, (held, left, *_) = of.call, of.trees
    score, bound = of.keys.new_empty(call.M), torch.empty_like(left[0])
    shapes = {name: call.shapes[name] for name in ("SCORE", "DP")}
    kernels().bounds_kernel[(1,)](
        of.keys, of.query, of.w3, held, score, bound, call.M, len(bound), call.D, call.shapes["score_scale"],
        **shapes, TILE=call.tile,
    )  # fmt: skip
    return score, bound


@both_scores
def test_bounds_are_close_for_nodes_of_equal_keys(score: str) -> None:
    """A bound is the score of a key made of the members', not a number that nothing can exceed."""
    w3 = draw(20, seed=3) if score == "additive" else None
    of = row(draw(1, 20).expand(60, 20), draw(20, seed=2), w3)
    found, bound = bounds(of)
    torch.testing.assert_close(bound, found[:1].expand(len(bound)), rtol=1e-12, atol=1e-12)


@both_scores
def test_bounds_are_raised_as_memories_are_stored(score: str) -> None:
    """One by one they give the same as all at once, NaN included."""
    keys = draw(21, 5)
    keys[7, 2] = torch.nan
    of = row(keys, draw(5, seed=2), draw(5, seed=3) if score == "additive" else None)
    call, held = of.call, torch.full_like(of.trees.bounds, -torch.inf)
    shapes = {name: call.shapes[name] for name in ("SCORE", "DP")}
    kernels().widen_kernel[(1,)](of.keys, of.w3, held, call.M, call.spans, call.D, **shapes, FAN=call.fan)
    torch.testing.assert_close(held, of.trees.bounds, rtol=0, atol=0, equal_nan=True)


@few
@given(
    score=st.sampled_from(["additive", "dot"]), dtype=TYPES, evict=st.sampled_from([None, "fifo", "least_recalled"]),
    memories=st.integers(5, 90), width=st.integers(1, 20), k_top=st.integers(1, 9), tied=st.booleans(),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_a_search_finds_what_a_scan_finds(
    score: str, dtype: torch.dtype, evict: str | None, memories: int, width: int, k_top: int, tied: bool, seed: int
) -> None:
    """Of any memories, of which some are evicted and some slots are not filled yet; of equals the oldest first."""
    filled = max(memories - seed % 7, 1)
    room: dict[str, Any] = {} if evict is None else {"capacity": 1 + seed % memories, "evict": evict}
    of = row(
        numbers(memories, width, seed=seed, dtype=dtype, tied=tied),
        numbers(width, seed=seed + 1, dtype=dtype, tied=tied),
        numbers(width, seed=seed + 2, dtype=dtype, tied=tied) if score == "additive" else None,
        filled=filled, k_top=k_top, **room,
    )  # fmt: skip
    gaps = evict == "least_recalled"
    order = torch.randperm(filled, generator=torch.Generator().manual_seed(seed))
    assert_found(of, order[: of.call.most].sort().values if gaps else None)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that searches look into, in order; only the interpreter can be watched."""
    if not cuda_op.interpreted():
        pytest.skip("a kernel that is compiled is not watched")
    search: Any = importlib.import_module("reminding.ops.cuda_op.triton.search")
    seen: list[str] = []

    def watch(name: str, inner: Any) -> None:
        def watched(*arguments: Any) -> Any:
            seen.append(name)
            return inner(*arguments)

        monkeypatch.setattr(search, name, watched)

    for name in ("rank_block", "open_span"):
        watch(name, getattr(search, name).fn)
    return seen


@both_scores
def test_a_search_passes_over_what_cannot_rank(score: str, looks: list[str]) -> None:
    """Of 64 memories in 4 spans three rank, and all three are in one block."""
    keys, query = 0.01 * draw(64, 8), torch.ones(8, dtype=torch.float64)
    keys[24:28] += 1.0
    of = row(keys, query, query if score == "additive" else None)
    found = find(of, "tree")
    assert looks == ["open_span", "rank_block"]
    assert 24 <= int(found[1][:3].min()) <= int(found[1][:3].max()) < 28
    assert_found(of)


@both_scores
def test_of_equal_scores_the_older_memory_ranks_first(score: str) -> None:
    """Also where the block of the newer one has the larger bound, and is looked into first."""
    keys, query = torch.zeros(64, 8), torch.ones(8)
    keys[2:4, 0] = keys[40:44, 0] = 0.5
    keys[41, 0] = 1.0
    of = row(keys, query, query if score == "additive" else None, k_top=2)
    assert find(of, "tree")[1][:2].tolist() == [41, 2]
    assert_found(of)


def test_auto_gives_up_where_a_search_passes_over_little(looks: list[str]) -> None:
    """It is tried again after one step, then after three, seven and so on; the result is a scan's."""
    of = row(torch.ones(128, 8), torch.ones(8), None)  # all bounds are equal, so nothing is passed over
    of = of._replace(call=of.call._replace(rule=of.call.rule._replace(search=SEARCH["auto"])))
    want = find(of, "scan")
    patience, course = (0, 0), list[tuple[int, int]]()
    for _ in range(7):
        value, slot, (wait, pause) = find(of, "auto", patience=patience)
        assert torch.equal(value, want[0])
        assert torch.equal(slot, want[1])
        patience = wait, pause
        course.append(patience)
    assert course == [(1, 1), (0, 1), (3, 3), (2, 3), (1, 3), (0, 3), (7, 7)]
    assert len(looks) == 3 * (128 // (16 * of.call.fan))


def test_auto_goes_on_where_a_search_passes_over_much(looks: list[str]) -> None:
    keys = torch.zeros(128, 8)
    keys[84:88] = 1.0
    of = row(keys, torch.ones(8), None)
    of = of._replace(call=of.call._replace(rule=of.call.rule._replace(search=SEARCH["auto"])))
    assert find(of, "auto", patience=(0, 3))[2] == [0, 0]
    assert looks == ["open_span", "rank_block"]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:All-NaN slice")
@both_scores
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3e38])
@pytest.mark.parametrize("where", ["key", "query"])
def test_what_is_not_finite_is_left_to_the_scan(where: str, bad: float, score: str) -> None:
    """So is a dot product that may overflow."""
    keys, query = draw(60, 6).float(), draw(6, seed=2).float()
    (keys[33] if where == "key" else query)[1] = bad
    assert_found(row(keys, query, draw(6, seed=3).float() if score == "additive" else None))


class Found(NamedTuple):
    """What a layer computes in the second of two calls."""

    output: Tensor
    steps: Tensor
    weights: Tensor
    gradients: dict[str, Tensor]


def found(search: str, **options: Any) -> Found:
    """Calls of 15 and 9 steps, so that the second is given memories. A row begins anew in either."""
    rest: dict[str, Any] = {"k_top": 2, "k_att": 1, "k_trunc": 6, "backend": "cuda", "device": DEVICE, **options}
    layer = make(3, 5, search=search, seed=5, **rest)
    x, mask = draw(24, 2, 3, dtype=next(layer.parameters()).dtype).to(DEVICE), torch.zeros(24, 2, dtype=torch.bool)
    mask[5, 1] = mask[18, 0] = True
    _, state = layer(x[:15], reset=mask[:15])
    output, _, recall = layer(x[15:], state, reset=mask[15:], return_recall=True)
    loss = output.square().sum() + recall.summary.square().sum()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    return Found(output.detach(), recall.step, recall.weight.detach(), dict(zip(names, gradients, strict=True)))


@pytest.mark.parametrize(
    ("options", "search"),
    [
        ({"score": "additive", "normalizer": "threshold", "engine": "replay"}, "tree"),
        ({"score": "dot", "cell": "gru", "normalizer": "softmax1", "dtype": torch.float32}, "tree"),
        ({"score": "dot", "capacity": 13, "score_size": 3}, "tree"),
        ({"score": "additive", "capacity": 13, "evict": "least_recalled", "cell": "rnn"}, "tree"),
        ({"score": "additive", "capacity": 14}, "auto"),
    ],
    ids=["additive", "dot", "the newest", "the most recalled", "auto"],
)
def test_a_layer_recalls_what_a_scan_recalls(options: dict[str, Any], search: str) -> None:
    got, want = found(search, **options), found("scan", **options)
    assert torch.equal(got.steps, want.steps)
    assert torch.equal(got.weights, want.weights)
    assert torch.equal(got.output, want.output)
    for name, gradient in want.gradients.items():
        assert torch.equal(got.gradients[name], gradient), name


@pytest.mark.parametrize(
    ("pair", "cell", "score", "normalizer", "hidden_size", "capacity", "weights"),
    [
        ("rows", "lstm", "additive", "softmax", 128, 0, "fp32"),
        ("rows", "gru", "dot", "threshold", 128, 1000, "bf16"),
        ("tiles", "lstm", "additive", "softmax", 256, 0, "fp32"),
    ],
)
def test_a_search_compiles_for_a_gpu_and_stays_in_its_registers(
    pair: str, cell: str, score: str, normalizer: str, hidden_size: int, capacity: int, weights: str
) -> None:
    """Compute capability 9.0; no GPU is needed to compile for one."""
    told = compiled_for_gpu(pair, "even", cell, score, normalizer, str(hidden_size), str(capacity), weights, "auto")
    used = re.findall(r"STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told)
    assert len(used) == 2, told
    assert all(int(stack) <= 16 and local == "0" for stack, local in used), f"registers spill: {told}"


def test_the_plan_says_how_memories_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # as many memories as outside of this file

    def search(steps: int, **options: Any) -> str:
        rest: dict[str, Any] = {"k_att": 1, "backend": "cuda", "device": DEVICE, **options}
        return make(3, 4, **rest).plan(steps).search

    assert search(5000) == "auto"
    assert search(5000, search="scan") == "scan"
    assert search(4000) == "scan", "few memories are scored sooner than searched"
    assert search(4000, search="tree") == "tree"
    assert search(16, search="tree") == "scan", "there is no block to pass over"
    assert search(5000, score="separable") == "scan", "its query is the same to all memories"
    assert search(5000, k_top=64) == "scan", "a search holds the ranking in registers"
    assert search(5000, capacity=50) == "scan"
