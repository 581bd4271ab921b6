"""The layer equals a loop over rows and Python lists in random configurations, every gradient included.

Shapes: L layers, T time, B batch, I input, H hidden, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from reminding import SAB, Recall, SABState
from reminding.ops.cpu_op import missing
from reminding.ops.scores import SCORES
from tests import oracle
from tests.drawn import drawn
from tests.nn.samples import CELLS, assert_same_gradients, draw, gradients, make, spread
from tests.oracle import Answer, Config, Stream
from tests.tolerance import assert_equal

# Rounding may change the order of scores or accumulated weights that are closer than this, relative to their size.
UNCLEAR = 1e-7


@dataclass(frozen=True)
class Case:
    """A configuration with sizes, a seed, and the borders of its chunks."""

    config: Config
    sizes: tuple[int, int, int, int]
    bias: bool
    backend: str
    engine: str
    seed: int
    borders: tuple[int, ...]
    scale: float = 0.6


@st.composite
def configs(draw: st.DrawFn) -> Config:
    semantics = draw(st.sampled_from(["paper", "paper", "release"]))
    cell = draw(st.sampled_from(CELLS))
    normalizer = draw(st.sampled_from(["softmax", "softmax1", "softmax1", "threshold"]))
    return Config(
        cell=cell,
        k_top=draw(st.sampled_from([None, 0, 1, 2, 2, 3, 5])),
        k_att=draw(st.sampled_from([None, 1, 1, 2, 3, 5])),
        k_trunc=draw(st.sampled_from([None, 1, 2, 3, 5, 50])),
        score=draw(st.sampled_from(list(SCORES))),
        normalizer=normalizer,
        recall_scale=draw(st.sampled_from([1.0, 1.0, 0.7])),
        semantics=semantics,
        capacity=draw(st.sampled_from([None, None, 1, 2, 4])),
        evict=draw(st.sampled_from(["fifo", "least_recalled"])),
        backtrack=draw(st.sampled_from([True, True, True, False])),
        num_layers=draw(st.sampled_from([1, 1, 2])),
        horizon=draw(st.sampled_from([None, None, None, 0, 2, 5])),
        forget_scale=draw(st.sampled_from([1.0, 1.0, 0.7])) if cell == "lstm" else 1.0,
        null_score=draw(st.sampled_from([None, 0.5])) if normalizer == "softmax1" else None,
        summary_gate=draw(st.sampled_from([None, None, 0.1])),
        stored=draw(st.sampled_from(["h", "proposal"])),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    steps = draw(st.integers(0, 12))
    rows, input_size, hidden_size, score_size = (draw(st.integers(1, most)) for most in (3, 3, 4, 4))
    cuts = draw(st.lists(st.integers(0, steps), max_size=3))
    return Case(
        config=draw(configs()),
        sizes=(rows, input_size, hidden_size, score_size),
        bias=draw(st.booleans()),
        backend=draw(st.sampled_from(["auto", "auto", "reference"])),
        engine=draw(st.sampled_from(["autograd", "replay"])),
        seed=draw(st.integers(0, 1000)),
        borders=tuple(sorted({0, *cuts, steps})) if steps else (0, 0),
    )


@st.composite
def dropping_cases(draw: st.DrawFn) -> Case:
    """Recurrent dropout; its mask changes only at the borders of chunks."""
    case = draw(cases())
    return replace(case, config=replace(case.config, recurrent_dropout=draw(st.sampled_from([0.3, 0.6, 1.0]))))


@st.composite
def bounded_cases(draw: st.DrawFn) -> Case:
    """Sequences that overflow a bounded memory of the op several times per chunk."""
    case = draw(cases())
    config = replace(
        case.config,
        k_top=draw(st.sampled_from([1, 2, 3, 5])),
        k_att=draw(st.sampled_from([1, 1, 2, 3])),
        capacity=draw(st.sampled_from([1, 2, 3, 4, 6])),
    )
    steps = draw(st.integers(8, 25))
    cuts = draw(st.lists(st.integers(1, steps - 1), max_size=2))
    return replace(case, config=config, backend="cpu", borders=tuple(sorted({0, *cuts, steps})), scale=0.4)


def build(case: Case) -> SAB:
    _, input_size, hidden_size, score_size = case.sizes
    options = asdict(case.config)
    layer = make(
        input_size,
        hidden_size,
        options.pop("num_layers"),
        score_size=score_size,
        bias=case.bias,
        backend=case.backend,
        **options,
    )
    layer.engine = case.engine
    spread(layer, case.seed, case.scale)
    return layer


def started(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """An input (T, B, I), and an h and c (L, B, H) to start from."""
    rows, input_size, hidden_size, _ = case.sizes
    x = draw(case.borders[-1], rows, input_size, seed=case.seed + 1)
    h, c = draw(2, case.config.num_layers, rows, hidden_size, seed=case.seed + 2)
    return x.requires_grad_(), h.clone().requires_grad_(), c.clone().requires_grad_()


def streams_of(config: Config, h: Tensor, c: Tensor) -> list[list[Stream]]:
    return [[oracle.begin(config, *pair) for pair in zip(*layer, strict=True)] for layer in zip(h, c, strict=True)]


def recall_of(answers: list[list[Answer]], width: int) -> tuple[Tensor, Tensor]:
    """The oracle's reads in the library's form: steps and weights, (L, T, B, K)."""

    def spread(part: int) -> list[list[list[list[float]]]]:
        return [
            [
                [[pair[part] for pair in read] + [0.0] * (width - len(read)) for read in at_step]
                for at_step in zip(*(answer.read for answer in layer), strict=True)
            ]
            for layer in answers
        ]

    shape = (len(answers), len(answers[0][0].read), len(answers[0]), width)
    step, weight = (torch.tensor(spread(part), dtype=torch.float64).reshape(shape) for part in (0, 1))
    return step.long(), weight


def check_recall(recall: Recall, answers: list[list[Answer]], summary: Tensor) -> None:
    step, weight = recall_of(answers, recall.step.shape[-1])
    if len(answers) == 1:
        step, weight = step[0], weight[0]
    seen = weight > 1e-100  # one exponential may underflow where another does not
    assert torch.equal(recall.step * seen, step * seen), "recalled steps"
    assert_equal(recall.weight, weight, "recall weights")
    assert_equal(recall.summary, summary, "summary")


def check_state(state: SABState, streams: list[list[Stream]], config: Config) -> None:
    assert_equal(state.h, stacked(streams, "h"), "h")
    if config.cell == "lstm":
        assert isinstance(state.c, Tensor)
        assert_equal(state.c, stacked(streams, "c"), "c")
    assert state.step.tolist() == [stream.step for stream in streams[0]]
    if config.k_top == 0:
        return
    assert state.memory_step.tolist() == [[[slot.step for slot in s.memory] for s in layer] for layer in streams]
    for layer, wanted in zip(state.layers, streams, strict=True):
        for number, stream in enumerate(wanted):
            for slot, memory in enumerate(stream.memory):
                assert_equal(layer.memory.value[number, slot], memory.value, f"memory {slot} of row {number}")
                if config.capacity is not None:
                    received = torch.tensor(memory.recalled, dtype=torch.float64)
                    assert_equal(layer.memory.weight[number, slot], received, "accumulated weight", floor=1.0)


def loss_of(output: Tensor, summary: Tensor, h: Tensor, c: object, seed: int) -> Tensor:
    """A loss that depends on every result of a chunk."""
    loss = (output * draw(*output.shape, seed=seed)).sum() + (summary * draw(*output.shape, seed=seed + 1)).sum()
    loss = loss + (h * draw(*h.shape, seed=seed + 2)).sum()
    return loss + (c * draw(*h.shape, seed=seed + 3)).sum() if isinstance(c, Tensor) else loss


@dataclass
class Run:
    """The results of one implementation: output, summary and state of each chunk, and every gradient of their sum.

    `factors` holds the factors of recurrent dropout for each chunk and layer, (B, H).
    """

    outputs: list[Tensor]
    recalls: list[Recall]
    states: list[SABState]
    gradients: dict[str, Tensor]
    factors: list[tuple[Tensor, ...]]


def watch_factors(layer: SAB, seen: list[tuple[Tensor, ...]]) -> None:
    """Record the masks that recurrent dropout draws in each call."""
    drawn = layer.draw_factors

    def noted(state: SABState) -> tuple[Tensor, ...]:
        seen.append(drawn(state))
        return seen[-1]

    layer.draw_factors = noted


def run_chunk(
    x: Tensor, layer: SAB, streams: list[list[Stream]], config: Config, factors: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, list[list[Answer]]]:
    """Run the loop over a chunk with its masks."""
    for peers, masks in zip(streams, factors, strict=False):
        for stream, factor in zip(peers, masks, strict=True):
            stream.factor = factor
    return oracle.run(x, dict(layer.named_parameters()), streams, config)


def by_library(case: Case, layer: SAB) -> Run:
    x, h, c = started(case)
    state = (h, c) if case.config.cell == "lstm" else h
    run = Run([], [], [], {}, [])
    watch_factors(layer, run.factors)
    torch.manual_seed(case.seed)
    losses: list[Tensor] = []
    for start, stop in pairwise(case.borders):
        output, state, recall = layer(x[start:stop], state, return_recall=True)
        if start == stop:
            run.factors.append(())  # a call of no steps draws none
        losses.append(loss_of(output, recall.summary, state.h, state.c, case.seed))
        run.outputs.append(output)
        run.recalls.append(recall)
        run.states.append(state)
    run.gradients = gradients(layer, torch.stack(losses).sum(), x=x, h0=h, c0=c)
    return run


def stacked(streams: list[list[Stream]], name: str) -> Tensor:
    return torch.stack([torch.stack([getattr(stream, name) for stream in layer]) for layer in streams])


def compare(case: Case) -> float:
    """Compare the layer with the loop unless a rounding error decides a choice; returns the smallest gap."""
    layer = build(case)
    got = by_library(case, layer)
    want: dict[str, Tensor] = {}
    clearest = math.inf
    remembered: list[list[frozenset[int]]] | None = None  # per layer and row, when the chunk begins
    for number, (start, stop) in enumerate(pairwise(case.borders)):
        x, h, c = started(case)
        streams = streams_of(case.config, h, c)
        for peers, kept in zip(streams, remembered or [], strict=False):
            for stream, steps in zip(peers, kept, strict=True):
                stream.constant = frozenset(range(1, start + 1)) - steps
                stream.constant_to = 0 if case.config.horizon is None else max(start - case.config.horizon, 0)
        if number:  # the inputs and the given state of past chunks get no gradient
            for place, peers in enumerate(streams):
                for row, stream in enumerate(peers):
                    stream.h, stream.c = h[place, row].detach(), c[place, row].detach()
        for past, (begin, end) in enumerate(list(pairwise(case.borders))[:number]):
            run_chunk(x[begin:end].detach(), layer, streams, case.config, got.factors[past])
        output, summary, answers = run_chunk(x[start:stop], layer, streams, case.config, got.factors[number])
        clearest = min(clearest, *(answer.gap for peers in answers for answer in peers))
        if clearest < UNCLEAR:
            return clearest
        assert_equal(got.outputs[number], output, "output")
        check_recall(got.recalls[number], answers, summary)
        check_state(got.states[number], streams, case.config)
        last_c = stacked(streams, "c") if case.config.cell == "lstm" else None
        loss = loss_of(output, summary, stacked(streams, "h"), last_c, case.seed)
        for name, gradient in gradients(layer, loss, x=x, h0=h, c0=c).items():
            want[name] = want[name] + gradient if name in want else gradient
        remembered = [[frozenset(slot.step for slot in stream.memory) for stream in peers] for peers in streams]
    assert_same_gradients(got.gradients, want)
    return clearest


@drawn(250)
@given(cases())
def test_layer_equals_the_loop(case: Case) -> None:
    assume(compare(case) > UNCLEAR)


@drawn(150)
@given(dropping_cases())
def test_recurrent_dropout_equals_the_loop(case: Case) -> None:
    assume(compare(case) > UNCLEAR)


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@drawn(150)
@given(bounded_cases())
def test_a_full_memory_in_the_op_equals_the_loop(case: Case) -> None:
    try:
        clearest = compare(case)
    except ValueError as error:
        assume("beyond the op's range" not in str(error))  # adding memories may let states grow without bound
        raise
    assume(clearest > UNCLEAR)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("score", SCORES)
def test_a_long_sequence_with_everything_on(cell: str, score: str) -> None:
    """Many hops between many memories, two layers, k_att that does not divide k_trunc, chunks that cut segments."""
    config = Config(cell, 2, 3, 4, score, capacity=3, evict="least_recalled", num_layers=2)
    clearest = compare(Case(config, (2, 3, 4, 5), True, "auto", "autograd", 3, (0, 8, 9, 20), scale=0.3))
    assert clearest > UNCLEAR, "the seed leaves every choice clear"


def test_a_raw_score_of_zero_is_nothing_recalled() -> None:
    """The release's zero vector has the dot score 0, so it ranks above memories with negative scores."""
    config = Config("lstm", 3, 1, 4, "dot", normalizer="threshold", semantics="release")
    assert compare(Case(config, (2, 3, 4, 4), True, "auto", "autograd", 0, (0, 3, 6))) > UNCLEAR


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("k_trunc", [4, None])
@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_recurrent_dropout_over_many_chunks(cell: str, k_trunc: int | None, engine: str, backend: str) -> None:
    """A segment split between two calls is replayed with the mask of each call."""
    config = Config(cell, 2, 3, k_trunc, "dot", recall_scale=0.5, num_layers=2, recurrent_dropout=0.4)
    case = Case(config, (3, 3, 4, 5), True, backend, engine, 3, (0, 3, 5, 8, 9, 20))
    assert compare(case) > UNCLEAR, "the seed leaves every choice clear"
