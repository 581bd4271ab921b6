"""The compiled op as a PyTorch operator. Its numbers are tested by the layer's tests.

Shapes: B batch, T time, I input, H hidden, D score width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB
from reminding.ops import cpu_op
from reminding.ops.contract import (
    CELLS,
    EVICT,
    NORMALIZERS,
    SEARCH,
    SEMANTICS,
    STORED,
    LayerInput,
    OpRule,
    Recalled,
    bits_of,
)
from reminding.ops.cpu_op.forward import sab_forward
from reminding.ops.cpu_op.packing import KEEP_GATES, KEEP_REPLAY, raw
from reminding.ops.scores import SCORES

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))


BOUNDS: dict[str, dict[str, Any]] = {
    "unbounded": {},
    "fifo": {"capacity": 3},
    "least recalled": {"capacity": 3, "evict": "least_recalled"},
}
every_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS.keys())


def layer(dtype: torch.dtype = torch.float64, engine: str = "autograd", **options: Any) -> SAB:
    torch.manual_seed(0)
    return SAB(3, 50, k_top=2, k_att=2, k_trunc=4, backend="cpu", engine=engine, dtype=dtype, **options)


def results(run: Callable[[Tensor], Any], module: SAB, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of every parameter and of x."""
    x = x.clone().requires_grad_()
    output = run(x)[0]
    return [output.detach(), *torch.autograd.grad((output * output.detach().cos()).sum(), [*module.parameters(), x])]


def assert_close(got: list[Tensor], want: list[Tensor], tolerance: float) -> None:
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def forward_arguments(cell: str, score: str, keep: int, evict: str | None) -> tuple[Any, ...]:
    """Sample arguments; with `evict`, a full memory of one slot, and of h a part is dropped."""
    T, B, features, H, D = 5, 2, 3, 4, 6
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * H

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    keys = (weight(D, H), weight(D, H)) if score != "separable" else (None, None)
    out = {"additive": weight(D), "separable": weight(2 * H)}.get(score)
    start = (weight(B, H), weight(B, H if cell == "lstm" else 0), weight(B, 1, H))
    counters = (torch.tensor([1, 0]), torch.tensor([2, 5]))
    recurrent = (weight(gates, features), weight(gates, H), weight(gates), weight(gates))
    room = [1, EVICT[evict]] if evict else [0, 0]
    scales = [bits_of(0.9), bits_of(0.8)]
    kind = [CELLS[cell], SCORES[score].code, NORMALIZERS["softmax"], SEMANTICS["paper"]]
    further = [SEARCH["auto"], 0, 0, STORED["h"]]
    rule = list(OpRule._make([*kind, 2, 2, 3, 1, *room, *scales, *further]))
    received = torch.rand(B, 1 if evict else 0, dtype=torch.float64)
    factor = torch.rand(B, H, dtype=torch.float64) if evict else None
    return (weight(T, B, features), *start, *counters, *recurrent, *keys, out, received, factor, rule, keep, [2, 1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keep", [KEEP_GATES, KEEP_REPLAY], ids=["kept", "replay"])
@pytest.mark.parametrize(
    ("cell", "score", "evict"),
    [("lstm", "additive", None), ("gru", "dot", "fifo"), ("rnn", "separable", "least_recalled")],
)
def test_opcheck_finds_nothing(cell: str, score: str, evict: str | None, keep: int) -> None:
    torch.manual_seed(0)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(sab_forward, forward_arguments(cell, score, keep, evict), test_utils=tests)


@pytest.mark.parametrize("engine", ["autograd", "replay"])
def test_a_graph_can_be_used_twice(engine: str) -> None:
    module = layer(engine=engine)
    x = torch.randn(17, 3, 3, dtype=torch.float64, requires_grad=True)
    loss = module(x)[0].pow(2).sum()
    first = torch.autograd.grad(loss, [x, *module.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [x, *module.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def run_op(module: SAB, x: Tensor, **options: Any) -> Recalled:
    """One call of the op with a layer's weights, for rows that have done 0, 1, 2, ... steps."""
    rows = x.shape[1]
    zero = x.new_zeros(rows, 50)
    weights = tuple(getattr(module, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    scorer = tuple(getattr(module, f"score_{name}_l0") for name in ("memory", "query", "out"))
    start = (x, zero, zero if module.cell == "lstm" else None, x.new_zeros(rows, 0, 50))
    counters = (torch.zeros(rows, dtype=torch.int64), torch.arange(rows))
    room = {name: options.pop(name) for name in ("capacity", "evict") if name in options}
    rule = OpRule.of(cell=module.cell, score="additive", k_top=2, k_att=2, k_trunc=4, **room)
    received = options.pop("received0", None)
    return cpu_op.layer(LayerInput(*start, *counters, weights, scorer, received), rule, **options)


@pytest.mark.filterwarnings("ignore")
@every_bound
def test_torch_compile_keeps_one_graph(bound: dict[str, Any]) -> None:
    module = layer()
    x = torch.randn(9, 2, 3, dtype=torch.float64)
    options = {**bound, "received0": x.new_zeros(2, 0)}

    def run(x: Tensor) -> Tensor:
        return run_op(module, x, **options).output

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), run(x))


@pytest.mark.parametrize("differentiate", [True, False])
@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize(("stride", "offset"), [(3, 0), (3, 2), (4, -1), (20, 5), (20, 15), (1, 0)])
def test_milestones_are_the_cs_that_enter_their_steps(
    stride: int, offset: int, replay: bool, differentiate: bool
) -> None:
    module, x = layer(), torch.randn(11, 7, 3, dtype=torch.float64)
    with torch.set_grad_enabled(differentiate):
        found = run_op(module, x, replay=replay, milestones=(stride, offset)).milestones
    assert not found.requires_grad
    wanted = [run_op(module, x[:t]).c for t in range(11) if (t - offset) % stride == 0]
    assert_close([*found], wanted, 1e-12)


def test_milestones_unasked_for_or_without_a_c_are_empty() -> None:
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    assert run_op(layer(), x).milestones.shape == (0, 2, 50)
    assert run_op(layer(cell="gru"), x, milestones=(2, 0)).milestones.shape == (3, 2, 0)


@pytest.fixture
def narrowest() -> Iterator[None]:
    """The kernels for the baseline instruction set, which any processor can run."""
    raw().limit_isa(0)
    yield
    raw().limit_isa(2)


@every_bound
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_computes_the_same(
    dtype: torch.dtype, bound: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    module, x = layer(dtype, **bound), torch.randn(13, 7, 3, dtype=dtype)
    widest = results(module, module, x)
    request.getfixturevalue("narrowest")
    assert_close(results(module, module, x), widest, 1e-9 if dtype == torch.float64 else 1e-4)


@every_bound
def test_threads_change_nothing(bound: dict[str, Any]) -> None:
    module, x = layer(**bound), torch.randn(40, 33, 3, dtype=torch.float64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results(module, module, x)
        torch.set_num_threads(2)
        assert_close(results(module, module, x), one, 1e-12)
    finally:
        torch.set_num_threads(threads)


def test_threads_change_nothing_where_many_memories_are_given() -> None:
    """Keys of the memories given, their gradients, and a replay of the past, of more rows than one thread takes."""
    module, x = layer(), torch.randn(2, 120, 5, 3, dtype=torch.float64)
    threads, found = torch.get_num_threads(), list[list[Tensor]]()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            module.zero_grad()
            output, state = module(x[1], module(x[0])[1])
            output.square().sum().backward()
            found.append([output, state.memory, *(p.grad for p in module.parameters() if p.grad is not None)])
    finally:
        torch.set_num_threads(threads)
    assert len(found[0]) > 7
    assert_close(found[1], found[0], 1e-12)


@every_bound
@pytest.mark.parametrize("engine", ["autograd", "replay"])
def test_fresh_memory_is_never_read(engine: str, bound: dict[str, Any]) -> None:
    """With deterministic algorithms PyTorch fills new tensors with NaN."""
    module, x = layer(engine=engine, **bound), torch.randn(17, 5, 3, dtype=torch.float64)
    want = results(module, module, x)
    torch.use_deterministic_algorithms(True)
    try:
        got = results(module, module, x)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_close(got, want, 1e-12)


@pytest.mark.parametrize("score_size", [1, 8, 9, 16, 20, 24, 31, 32, 40, 48, 60, 64, 70, 96])
@pytest.mark.parametrize("scale", [1, 60, 2000])
def test_additive_scores_of_any_width_and_size_equal_the_reference(score_size: int, scale: float) -> None:
    """Terms of the score share denominators, as many as fit a vector, a pair or a block and do not overflow.

    All memories are recalled: large scores tie, and which of them are the best would hang on a last bit.
    """
    found: list[Tensor] = []
    for backend in ("cpu", "reference"):
        torch.manual_seed(1)
        options: dict[str, Any] = {
            "k_top": None,
            "k_att": 1,
            "k_trunc": 4,
            "dtype": torch.float64,
            "backend": backend,
        }
        module = SAB(3, 20, score_size=score_size, normalizer="softmax1", **options)
        with torch.no_grad():
            module.get_parameter("score_memory_l0").mul_(scale)
        _, _, recall = module(torch.randn(17, 2, 3, dtype=torch.float64), return_recall=True)
        found.append(recall.weight.detach())
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_beyond_its_range_go_to_the_reference_or_are_refused(dtype: torch.dtype) -> None:
    """W1 m and W2 h are large and of opposite signs, so both of the op's exponentials would be clamped."""
    module = layer(dtype)
    x = torch.randn(12, 3, 3, dtype=dtype)
    with torch.no_grad():
        module.get_parameter("score_memory_l0").fill_(4e3 if dtype == torch.float64 else 4e2)
        module.get_parameter("score_query_l0").copy_(-module.get_parameter("score_memory_l0"))
    with pytest.raises(ValueError, match="backend='cpu' cannot run this input"):
        module(x)
    module.backend = "auto"
    got = module(x, return_recall=True)
    module.backend = "reference"
    want = module(x, return_recall=True)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[2].step, want[2].step)
