"""Settings, step counts and combinations far from the usual ones: the right result, or an error that names them.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.checks import MOST
from reminding.nn.state.past.segments import segment_starts
from reminding.ops.backends import BACKENDS
from tests.nn.samples import BUILT, assert_same_gradients, chunks, draw, make, needs_op
from tests.tolerance import assert_equal

WAYS = [(backend, engine) for backend in BUILT for engine in ("autograd", "replay")]
OPTIONS: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 4}
FAR_STEPS = (2**31 - 4, 2**40 - 4, MOST - 100)
"""Steps of streams, multiples of k_trunc and k_att, that chunks then pass or come near."""


def grads(layer: SAB) -> dict[str, Tensor]:
    """The gradient of each parameter, which all have one."""
    found = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def stream(layer: SAB, sizes: list[int], begun: int = 0) -> tuple[list[Tensor], SABState, dict[str, Tensor]]:
    """The outputs of a stream in chunks with a backward pass each, its last state, and the sum of the gradients."""
    state = layer.fresh(3)
    state.step.fill_(begun)
    outputs: list[Tensor] = []
    for x in chunks(draw(sum(sizes), 3, 3), sizes):
        output, state = layer(x, state)
        (output * output.detach().cos()).sum().backward()
        outputs.append(output.detach())
    layer.settle(state)
    return outputs, state.without_graph(), grads(layer)


@pytest.mark.parametrize(("backend", "engine"), WAYS)
@pytest.mark.parametrize("begun", FAR_STEPS)
@pytest.mark.parametrize("evict", ["fifo", "least_recalled"])
def test_a_stream_that_has_done_many_steps_is_one_that_began_otherwise(
    backend: str, engine: str, begun: int, evict: str
) -> None:
    bounded: dict[str, Any] = {"capacity": 3, "evict": evict}
    for options in ({}, bounded, {"horizon": 5}, {"credit_every": 2}, {"k_top": None}):
        settings: dict[str, Any] = {**OPTIONS, **options, "backend": backend, "engine": engine}
        both = [stream(make(**settings), [3, 1, 6, 2], at) for at in (0, begun)]
        (near, last, wanted), (far, after, got) = both
        assert all(torch.equal(*pair) for pair in zip(near, far, strict=True)), options
        assert_same_gradients(got, wanted)
        assert torch.equal(after.step, last.step + begun)
        stored = [layer.memory.step for layer in after.layers]
        assert all(
            torch.equal(step, layer.memory.step + begun) for step, layer in zip(stored, last.layers, strict=True)
        )


@pytest.mark.parametrize(("backend", "engine"), WAYS)
@pytest.mark.parametrize("huge", [10**6, 2**31, 2**40, MOST])
def test_huge_settings_do_what_none_does(backend: str, engine: str, huge: int) -> None:
    ways: dict[str, Any] = {"backend": backend, "engine": engine}
    plain: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": None} | ways
    none = stream(make(**plain), [3, 1, 6, 2])
    for name in ("k_trunc", "capacity", "horizon"):
        settings: dict[str, Any] = {**plain, name: huge}
        outputs, state, gradients = stream(make(**settings), [3, 1, 6, 2])
        assert all(torch.equal(*pair) for pair in zip(outputs, none[0], strict=True)), name
        assert_same_gradients(gradients, none[2])
        assert_equal(state.h, none[1].h, "h")
        assert_equal(state.memory, none[1].memory, "memory")
        assert torch.equal(state.memory_step, none[1].memory_step)


@pytest.mark.parametrize(("backend", "engine"), WAYS)
def test_memories_that_are_never_stored_are_no_memories(backend: str, engine: str) -> None:
    ways: dict[str, Any] = {"backend": backend, "engine": engine}
    outputs, state, _ = stream(make(k_top=2, k_att=MOST, k_trunc=4, **ways), [3, 5])
    none = stream(make(k_top=0, k_trunc=4, **ways), [3, 5])
    for got, want in zip(outputs, none[0], strict=True):
        torch.testing.assert_close(got, want)
    assert not state.layers[0].memory.count.any()


@pytest.mark.parametrize(("backend", "engine"), WAYS)
def test_all_memories_are_recalled_where_k_top_is_huge(backend: str, engine: str) -> None:
    ways: dict[str, Any] = {"backend": backend, "engine": engine}
    every = stream(make(**OPTIONS | {"k_top": None}, **ways), [3, 6])
    huge = stream(make(**OPTIONS | {"k_top": 5000}, **ways), [3, 6])
    for got, want in zip(huge[0], every[0], strict=True):
        torch.testing.assert_close(got, want)
    assert_same_gradients(huge[2], every[2])


def test_segments_are_not_counted_up_to_a_stream_or_a_cut_far_away() -> None:
    rule = make(k_trunc=MOST, k_att=1).rule
    assert segment_starts(torch.tensor([MOST - 100]), 20, rule) == [0]
    assert segment_starts(torch.tensor([MOST - 7]), 20, rule) == [0, 7]


@pytest.mark.parametrize("name", ["k_att", "k_trunc", "capacity", "horizon", "credit_every"])
@pytest.mark.parametrize("value", [MOST + 1, 2**63, 10**30])
def test_a_setting_beyond_any_stream_is_refused_by_name(name: str, value: int) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} must be at most {MOST:,}.*got {value}"):
        SAB(3, 4, **settings)


def test_a_k_top_that_no_step_has_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k_top must be at most 1,048,576, or None, got 1048577"):
        SAB(3, 4, k_top=2**20 + 1)


@pytest.mark.parametrize("begun", [-1, MOST + 1, 2**63 - 1])
def test_a_state_with_a_step_count_of_no_stream_is_refused(begun: int) -> None:
    layer = make(**OPTIONS)
    state = layer.fresh(2)
    state.step.fill_(begun)
    with pytest.raises(ValueError, match=rf"state\.step must be at least 0 and at most {MOST}"):
        layer(draw(3, 2, 3), state)


@pytest.mark.parametrize(("backend", "engine"), WAYS)
@pytest.mark.parametrize("options", [{"semantics": "release"}, {"forget_scale": 0.9}, {}])
def test_chunks_without_memory_take_their_gradients(backend: str, engine: str, options: dict[str, Any]) -> None:
    """A state carries gradient within a segment, from chunk to chunk, where nothing is recalled too."""
    plain: dict[str, Any] = {"k_top": 0, "k_trunc": 4, **options}
    pieces = stream(make(**plain, backend=backend, engine=engine), [1, 2, 3, 6])
    whole = stream(make(**plain, backend="reference", engine="autograd"), [12])
    torch.testing.assert_close(torch.cat(pieces[0]), whole[0][0])
    assert_same_gradients(pieces[2], whole[2])


def _never(key: Tensor, query: Tensor) -> bool:
    return False


def reset_in_one_chunk(**options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """A stream whose rows' phases agree in the first chunk only."""
    layer = make(**options)
    reset = torch.zeros(5, 3, dtype=torch.bool)
    reset[2, 1] = True
    state: Any = None
    outputs: list[Tensor] = []
    for number, x in enumerate(chunks(draw(15, 3, 3), 5)):
        output, state = layer(x, state, reset=reset if number == 1 else None)
        output.pow(2).sum().backward()
        outputs.append(output.detach())
    return torch.cat(outputs), grads(layer)


@pytest.mark.parametrize("options", [{}, {"semantics": "release"}, {"horizon": 1}, {"credit_every": 3}])
def test_a_stream_without_memory_may_change_between_kernels(options: dict[str, Any]) -> None:
    """PyTorch's own kernels need rows of one phase; the other chunks run on the op, and credit passes both."""
    plain: dict[str, Any] = {"k_top": 0, "k_trunc": 4, **options}
    output, gradients = reset_in_one_chunk(**plain, backend="auto")
    want, wanted = reset_in_one_chunk(**plain, backend="reference", engine="autograd")
    torch.testing.assert_close(output, want)
    assert_same_gradients(gradients, wanted)


@needs_op
@pytest.mark.parametrize("normalizer", ["softmax", "softmax1", "threshold"])
@pytest.mark.parametrize("engine", ["autograd", "replay"])
def test_a_stream_may_change_between_the_op_and_the_reference(
    normalizer: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where one chunk's scores are out of the op's range; credit passes the segments of both."""

    layer = make(k_top=2, k_att=1, k_trunc=3, normalizer=normalizer, engine=engine)
    plain = make(k_top=2, k_att=1, k_trunc=3, normalizer=normalizer, backend="reference", engine="autograd")
    for each in (layer, plain):
        state: Any = None
        for number, x in enumerate(chunks(draw(16, 2, 3), 4)):
            with monkeypatch.context() as patch:
                if number == 2:
                    patch.setattr(BACKENDS["cpu"].op, "in_range", _never)
                output, state = each(x, state)
            output.pow(2).sum().backward()
    assert_same_gradients(grads(layer), grads(plain))


@pytest.mark.parametrize(("backend", "engine"), [*WAYS, ("auto", "auto")])
@pytest.mark.parametrize("k_top", [0, 2])
@pytest.mark.parametrize("loss", ["output", "summary", "h", "memory"])
def test_every_parameter_has_a_gradient_from_every_call(backend: str, engine: str, k_top: int, loss: str) -> None:
    """A call of one step finds no memory to score; DistributedDataParallel waits for all the same gradients."""
    layer = make(k_top=k_top, k_att=1, k_trunc=4, num_layers=2, backend=backend, engine=engine)
    state: Any = None
    for call, x in enumerate(draw(3, 1, 2, 3)):
        layer.zero_grad()
        output, state, recall = layer(x, state, return_recall=True)
        losses = {"output": output, "summary": recall.summary, "h": state.h, "memory": state.memory}
        if not losses[loss].requires_grad:
            assert loss in ("summary", "memory"), "with no memory these are constants"
            continue
        losses[loss].sum().backward()
        without = [name for name, parameter in layer.named_parameters() if parameter.grad is None]
        assert without == [], f"call {call}"


@pytest.mark.parametrize(("dtype", "tiny"), [(torch.float32, 1e-40), (torch.float64, 1e-310)], ids=str)
def test_scores_whose_sum_has_no_inverse_still_have_weights(dtype: torch.dtype, tiny: float) -> None:
    """1 / sum overflows where the sum is subnormal; each score's share of it does not."""
    found: list[Tensor] = []
    for backend in BUILT:
        layer = make(
            2, 3, k_top=2, k_att=1, k_trunc=4, score="separable", normalizer="threshold", backend=backend
        ).to(dtype)
        with torch.no_grad():
            layer.get_parameter("score_weight_l0").mul_(tiny)
        output, _, recall = layer(draw(9, 2, 2).to(dtype), return_recall=True)
        assert output.isfinite().all()
        torch.testing.assert_close(recall.weight[5].sum(-1), torch.ones(2, dtype=dtype))
        found.append(output)
    for output in found[1:]:
        torch.testing.assert_close(output, found[0], rtol=1e-4, atol=1e-4)
