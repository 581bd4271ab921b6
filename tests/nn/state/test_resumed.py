"""A stream whose state is saved, copied or sent on between any two calls goes on as if that had not been done.

Every output, every gradient of every call, and so the calls at which credit is sent on, are the same to the last bit.

Shapes: T time, B batch.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from reminding import SAB, SABState
from tests.drawn import WHOLE, drawn
from tests.nn.credit.test_op_sweep import options
from tests.nn.samples import BUILT, data_of, draw, make, spread

ROWS = 3


def _by_file(state: SABState) -> SABState:
    with tempfile.TemporaryDirectory() as folder:
        state.save(Path(folder) / "state")
        return SABState.load(Path(folder) / "state")


def _by_queue(state: SABState) -> SABState:
    queue: Any = multiprocessing.get_context("spawn").Queue()
    queue.put(state.without_graph())
    found = queue.get(timeout=60)
    queue.close()
    queue.join_thread()
    return found


def _looked_at(state: SABState) -> SABState:
    assert state.nbytes > 0
    assert isinstance(state.past.segments, tuple)
    state.check()
    pickle.dumps(state.without_graph())
    return state


WAYS: dict[str, Callable[[SABState], SABState]] = {
    "file": _by_file,
    "pickle": lambda state: pickle.loads(pickle.dumps(state.without_graph())),
    "queue": _by_queue,
    "deep copy": copy.deepcopy,
    "clone": SABState.clone,
    "rows": lambda state: state.rows(torch.arange(state.batch_size)),
    "without graph": SABState.without_graph,
    "looked at": _looked_at,
}


@dataclass(frozen=True)
class Call:
    """One call of a stream.

    Attributes:
        reset: (T, B) bool; lengths: of packed rows. None: neither.
        backward: whether its loss is differentiated; graph: whether it is made with a graph.
        detach: whether its state is cut from the past.
    """

    steps: int
    reset: Tensor | None
    lengths: list[int] | None
    backward: bool
    graph: bool
    detach: bool


@st.composite
def calls(draw: st.DrawFn) -> list[Call]:
    made: list[Call] = []
    for _ in range(draw(st.integers(2, 8))):
        steps, kind = draw(st.integers(1, 7)), draw(st.sampled_from(["", "", "", "reset", "packed"]))
        mask = draw(st.lists(st.sampled_from([False, False, False, True]), min_size=ROWS, max_size=ROWS))
        reset = torch.zeros(steps, ROWS, dtype=torch.bool)
        reset[draw(st.integers(0, steps - 1))] = torch.tensor(mask)
        lengths = draw(st.lists(st.integers(1, steps), min_size=ROWS, max_size=ROWS)) if kind == "packed" else None
        rarely = st.sampled_from([False, False, False, False, False, True])
        made.append(
            Call(
                steps,
                reset if kind == "reset" else None,
                lengths,
                backward=not draw(rarely),
                graph=not draw(rarely),
                detach=draw(rarely),
            )
        )
    return made


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    further = {
        "num_layers": draw(st.sampled_from([1, 1, 2])),
        "credit_every": draw(st.integers(1, 5)),
        "backend": draw(st.sampled_from(BUILT)),
        "encoder": nn.Linear(3, 3, dtype=torch.float64) if draw(st.booleans()) else None,
    }
    return {**draw(options()), **further}


def streamed(
    configuration: dict[str, Any], stream: list[Call], change: Callable[[SABState], SABState]
) -> list[dict[str, Any]]:
    """What each call of a stream gives; `change` is applied to each state. The weights move after each call."""
    layer: SAB = make(3, 4, **configuration)
    spread(layer, 1, 0.4)
    state: Any = None
    found: list[dict[str, Any]] = []
    for number, call in enumerate(stream):
        x: Any = draw(call.steps, ROWS, 3, seed=number)
        if call.lengths is not None:
            x = pack_padded_sequence(x, torch.tensor(call.lengths), enforce_sorted=False)
        with torch.set_grad_enabled(call.graph):
            output, state = layer(x, state, reset=call.reset)
        if call.graph and call.backward:
            data_of(output).pow(2).sum().backward()
        found.append({"output": data_of(output).detach(), "waits": state.history.waits, **grads_of(layer)})
        with torch.no_grad():
            for place, parameter in enumerate(layer.parameters()):
                parameter += 0.05 * draw(*parameter.shape, seed=100 * number + place)
        state = change(state.detach() if call.detach else state)
    layer.settle(state)
    return [*found, grads_of(layer), state_of(state)]


def grads_of(layer: SAB) -> dict[str, Tensor]:
    found = {f"gradient of {name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    return found


def state_of(state: SABState) -> dict[str, Tensor]:
    return {
        name: tensor.detach()
        for number, layer in enumerate(state.layers)
        for name, tensor in layer.named(f"layer {number}").items()
    }


def assert_same(got: list[dict[str, Any]], want: list[dict[str, Any]]) -> None:
    for number, (mine, theirs) in enumerate(zip(got, want, strict=True)):
        assert mine.keys() == theirs.keys(), f"call {number}"
        for name, value in theirs.items():
            same = torch.equal(mine[name], value) if isinstance(value, Tensor) else mine[name] == value
            assert same, f"call {number}: {name}"


@drawn(100)
@given(configurations(), calls(), st.sampled_from([name for name in WAYS if name != "queue"]))
def test_a_drawn_stream_goes_on_as_if_uninterrupted(
    configuration: dict[str, Any], stream: list[Call], way: str
) -> None:
    assert_same(streamed(configuration, stream, WAYS[way]), streamed(configuration, stream, lambda state: state))


CASES: dict[str, dict[str, Any]] = {
    "no credit yet": {"capacity": 3, "credit_every": 4},
    "credit once a call": {"capacity": 3},
    "two layers": {"num_layers": 2, "capacity": 4, "credit_every": 3, "evict": "least_recalled"},
    "encoder": {"encoder": nn.Linear(3, 3, dtype=torch.float64), "credit_every": 3},
    "release": {"semantics": "release", "credit_every": 3},
    "horizon": {"horizon": 9, "credit_every": 5},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_every_call_of_a_stream_may_be_the_last_of_a_process(way: str, case: str) -> None:
    """The state goes through after all of the calls; and after each in turn, or, except in the whole tests, some."""
    configuration = {"k_top": 2, "k_att": 2, "k_trunc": 3, **CASES[case]}
    reset = torch.zeros(4, ROWS, dtype=torch.bool)
    reset[2, 1] = True
    plain = Call(5, None, None, backward=True, graph=True, detach=False)
    stream = [plain, plain, Call(4, reset, None, True, True, False), Call(6, None, [2, 6, 4], True, True, False)]
    stream = [*stream, *stream[:3]]
    want = streamed(configuration, stream, lambda state: state)
    assert_same(streamed(configuration, stream, WAYS[way]), want)
    first = list(WAYS).index(way) % 3
    for last in range(0 if WHOLE else first, len(stream) if way != "queue" else 0, 1 if WHOLE else 3):
        seen = iter(range(len(stream)))
        got = streamed(configuration, stream, lambda state: WAYS[way](state) if next(seen) == last else state)  # noqa: B023
        assert_same(got, want)
