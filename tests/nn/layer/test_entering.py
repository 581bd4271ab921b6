"""Error messages for wrong arguments: the argument's name, its value, and what was expected.

Shapes: L layers, T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from reminding import SAB, Memory
from reminding.nn import full_attention, truncated_bptt
from tests.nn.samples import draw, make

X = draw(4, 2, 3)


class Pair(nn.Module):
    """An encoder whose output no layer can read."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x, None


def newest(memory: Memory) -> Tensor:
    """An eviction rule in Python, which no op can run."""
    return memory.count - 1


GRU = nn.GRUCell(3, 4)
INTEGER = "must be an integer of at least"
BIAS = "forget_bias must be a number, or 'chrono:T' with T, in steps, above 2, or None, got"
KINDS = "must be a name, a module, or a sequence of modules, got"

SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "input_size 0": ({"input_size": 0}, f"input_size {INTEGER} 1, got 0"),
    "input_size True": ({"input_size": True}, f"input_size {INTEGER} 1, got True"),
    "hidden_size float": ({"hidden_size": 4.0}, f"hidden_size {INTEGER} 1, got 4.0"),
    "hidden_size None": ({"hidden_size": None}, f"hidden_size {INTEGER} 1, got None"),
    "num_layers": ({"num_layers": -1}, f"num_layers {INTEGER} 1, got -1"),
    "score_size": ({"score_size": 0}, f"score_size {INTEGER} 1, got 0"),
    "k_top": ({"k_top": -1}, f"k_top {INTEGER} 0, or None, got -1"),
    "k_top text": ({"k_top": "5"}, f"k_top {INTEGER} 0, or None, got '5'"),
    "k_att": ({"k_att": 0}, f"k_att {INTEGER} 1, got 0"),
    "k_trunc 0": ({"k_trunc": 0}, f"k_trunc {INTEGER} 1, or None, got 0"),
    "k_trunc negative": ({"k_trunc": -3}, f"k_trunc {INTEGER} 1, or None, got -3"),
    "k_trunc float": ({"k_trunc": 2.5}, f"k_trunc {INTEGER} 1, or None, got 2.5"),
    "k_trunc True": ({"k_trunc": True, "k_att": 1}, f"k_trunc {INTEGER} 1, or None, got True"),
    "capacity": ({"capacity": 0}, f"capacity {INTEGER} 1, or None, got 0"),
    "dropout": ({"dropout": 1.5}, "dropout must be a number from 0 to 1, got 1.5"),
    "dropout negative": ({"dropout": -0.1}, "dropout must be a number from 0 to 1, got -0.1"),
    "dropout nan": ({"dropout": float("nan")}, "dropout must be a number from 0 to 1, got nan"),
    "dropout text": ({"dropout": "no"}, "dropout must be a number from 0 to 1, got 'no'"),
    "dropout True": ({"dropout": True}, "dropout must be a number from 0 to 1, got True"),
    "bias": ({"bias": "no"}, "bias must be True or False, got 'no'"),
    "batch_first": ({"batch_first": 1}, "batch_first must be True or False, got 1"),
    "backtrack": ({"backtrack": None}, "backtrack must be True or False, got None"),
    "device": ({"device": "moon"}, "device must be a device such as 'cpu', or None, got 'moon'"),
    "device number": ({"device": 3.5}, "device must be a device such as 'cpu', or None, got 3.5"),
    "dtype": (
        {"dtype": "float32"},
        "dtype must be a floating-point type such as torch.float32, or None, got 'float32'",
    ),
    "dtype of integers": (
        {"dtype": torch.int64},
        "dtype must be a floating-point type such as torch.float32, or None, got torch.int64",
    ),
    "semantics": ({"semantics": "papers"}, "semantics must be one of ['paper', 'release'], got 'papers'"),
    "normalizer": (
        {"normalizer": "relu"},
        "normalizer must be one of ['threshold', 'softmax', 'softmax1'], got 'relu'",
    ),
    "memory_device": ({"memory_device": "moon"}, "memory_device must be a device such as 'cpu', or None, got 'moon'"),
    "recall_scale": ({"recall_scale": 0}, "recall_scale must be a number above 0 and at most 1, got 0"),
    "recall_scale above": ({"recall_scale": 1.5}, "recall_scale must be a number above 0 and at most 1, got 1.5"),
    "score": ({"score": "add"}, "score must be one of ['additive', 'dot', 'separable'], got 'add'"),
    "score module": (
        {"score": nn.Linear(2, 2)},
        "score must have methods keys(memory) and scores(",
    ),
    "score number": ({"score": 5}, f"score {KINDS} 5"),
    "cell": ({"cell": "LSTM"}, "cell must be one of ['lstm', 'gru', 'rnn'], got 'LSTM'"),
    "cell class": ({"cell": nn.LSTMCell}, f"cell {KINDS} <class 'torch.nn.modules.rnn.LSTMCell'>"),
    "cell None": ({"cell": None}, f"cell {KINDS} None"),
    "cell names": ({"cell": ["lstm"]}, f"cell {KINDS} ['lstm']"),
    "one cell for two": ({"cell": [GRU], "num_layers": 2}, "cell must have one module per layer, 2, got 1"),
    "one cell twice": (
        {"cell": [GRU, GRU], "num_layers": 2},
        "cell must have a module of its own for each layer, got the same one twice",
    ),
    "evict": ({"evict": "lru"}, "evict must be one of ['fifo', 'least_recalled'], got 'lru'"),
    "evict number": ({"evict": 5}, "evict must be one of ['fifo', 'least_recalled'], got 5"),
    "forget_scale": ({"forget_scale": 1.2}, "forget_scale must be a number above 0 and at most 1, got 1.2"),
    "forget_scale gru": ({"forget_scale": 0.9, "cell": "gru"}, "forget_scale is for cell='lstm', whose forget gate"),
    "forget_bias": ({"forget_bias": "large"}, f"{BIAS} 'large'"),
    "forget_bias nan": ({"forget_bias": float("nan")}, f"{BIAS} nan"),
    "forget_bias True": ({"forget_bias": True}, f"{BIAS} True"),
    "forget_bias of 2 steps": ({"forget_bias": "chrono:2"}, f"{BIAS} 'chrono:2'"),
    "forget_bias rnn": (
        {"forget_bias": 1.0, "cell": "rnn"},
        "forget_bias is for cell='lstm' or 'gru', whose gate keeps the state, got cell='rnn'",
    ),
    "forget_bias module": (
        {"forget_bias": 1.0, "cell": GRU},
        "forget_bias is for cell='lstm' or 'gru', whose gate keeps the state, got cell=a cell of your own",
    ),
    "forget_bias alone": ({"forget_bias": 1.0, "bias": False}, "forget_bias must be None where bias=False, got 1.0"),
    "null_score": (
        {"null_score": float("inf"), "normalizer": "softmax1"},
        "null_score must be a finite number, or None, got inf",
    ),
    "null_score of softmax": (
        {"null_score": 1.0},
        "null_score is for normalizer='softmax1', which can recall nothing, got normalizer='softmax'",
    ),
    "summary_gate": ({"summary_gate": 1}, "summary_gate must be a number between -1 and 1, or None, got 1"),
    "summary_gate True": (
        {"summary_gate": False},
        "summary_gate must be a number between -1 and 1, or None, got False",
    ),
    "stored": ({"stored": "h_hat"}, "stored must be one of ['h', 'proposal'], got 'h_hat'"),
    "horizon": ({"horizon": -1}, "horizon must be an integer of at least 0, or None, got -1"),
    "engine": ({"engine": "magic"}, "engine must be one of ['auto', 'autograd', 'replay'], got 'magic'"),
    "backend": ({"backend": "gpu"}, "backend must be one of ['auto', 'cuda', 'cpu', 'reference'], got 'gpu'"),
    "backend cpu": ({"backend": "cpu", "dtype": torch.bfloat16}, "backend='cpu' cannot run: "),
    "backend cuda": ({"backend": "cuda", "score_size": 1025}, "backend='cuda' cannot run: "),
}


def raises(message: str) -> Any:
    return pytest.raises(ValueError, match="^" + re.escape(message))


@pytest.mark.parametrize(("options", "message"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_wrong_setting(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"input_size": 3, "hidden_size": 4, **options}
    with raises(message):
        SAB(**given)


def test_flags_may_be_of_numpy() -> None:
    layer = SAB(3, 4, bias=np.bool_(False), batch_first=np.bool_(True))  # pyright: ignore
    assert (layer.bias, layer.batch_first) == (False, True)


@pytest.mark.parametrize("steps", [-1, 1.5, "x", None])
def test_a_plan_is_of_a_number_of_steps(steps: Any) -> None:
    with raises(f"steps must be an integer of at least 0, got {steps!r}"):
        SAB(3, 4).plan(steps)


def test_a_layer_that_recalls_nothing_has_no_memory() -> None:
    layer = SAB(3, 4, k_top=0, dtype=torch.float64)
    _, state = layer(X)
    assert state.memory.shape == (1, X.shape[1], 0, 4)
    layer(X, state.reset(torch.tensor([True, False])))
    layer(X, X.new_zeros(1, X.shape[1], 4).expand(2, 1, -1, -1).unbind())


@pytest.mark.parametrize("semantics", ["paper", "release"])
@pytest.mark.parametrize("served", [False, True])
def test_a_state_goes_on_where_another_number_of_memories_is_recalled(semantics: str, served: bool) -> None:
    """From recalling nothing to recalling two, and back; the release's zero vector is there from the start."""
    layers = [SAB(3, 4, k_top=k_top, k_att=1, semantics=semantics, dtype=torch.float64) for k_top in (0, 2)]
    for first, second in (layers, layers[::-1]):
        state = first(X)[1].detach()
        with torch.set_grad_enabled(not served):
            for _ in range(2):
                output, state = second(X, state)
                assert output.isfinite().all()
        assert state.step.tolist() == [3 * len(X)] * X.shape[1]


@pytest.mark.parametrize("maker", [truncated_bptt, full_attention])
def test_a_wrong_setting_of_a_baseline(maker: Callable[..., SAB]) -> None:
    with raises("cell must be one of ['lstm', 'gru', 'rnn'], got 'mlp'"):
        maker(3, 4, cell="mlp")


PACKED = pack_sequence([draw(4), draw(2)])
INPUTS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "features": ({}, draw(4, 2, 5), "input must have input_size=3 features in its last axis, got 5"),
    "one axis": ({}, draw(3), "input must have shape (T, B, I) or, unbatched, (T, I); got (3,)"),
    "four axes": (
        {"batch_first": True},
        draw(4, 2, 3, 1),
        "input must have shape (B, T, I) or, unbatched, (T, I); got (4, 2, 3, 1)",
    ),
    "float32": ({}, X.float(), "input must be torch.float64 as the layer's parameters, got torch.float32"),
    "integers": ({}, X.long(), "input must be torch.float64 as the layer's parameters, got torch.int64"),
    "device": ({}, X.to("meta"), "input must be on the layer's device cpu, got meta"),
    "array": ({}, np.zeros((4, 2, 3)), "input must be a Tensor or a PackedSequence, got ndarray"),
    "nothing": ({}, None, "input must be a Tensor or a PackedSequence, got NoneType"),
    "packed vectors": ({}, PACKED, "input must be a PackedSequence of data (N, input_size), got (6,)"),
    "encoder's features": (
        {"encoder": nn.Linear(3, 6).double()},
        X,
        "encoder(input) must have input_size=3 features in its last axis, got 6",
    ),
    "encoder's axes": (
        {"encoder": nn.Flatten(0).double()},
        X,
        "encoder(input) must have shape (T, B, I) or, unbatched, (T, I); got (24,)",
    ),
    "encoder's answer": ({"encoder": Pair()}, X, "encoder(input) must be a Tensor, got tuple"),
    "encoder's answer, packed": (
        {"encoder": Pair()},
        pack_sequence([X[:, 0]]),
        "encoder(input) must be a Tensor, got tuple",
    ),
    "encoder's type": (
        {"encoder": nn.Identity()},
        X.half(),
        "encoder(input) must be torch.float64 as the layer's parameters, got torch.float16",
    ),
}


@pytest.mark.parametrize(("options", "x", "message"), INPUTS.values(), ids=INPUTS.keys())
def test_a_wrong_input(options: dict[str, Any], x: Any, message: str) -> None:
    with raises(message):
        make(**options)(x)


@pytest.mark.filterwarnings("ignore:Complex modules")
def test_a_layer_of_complex_numbers() -> None:
    with pytest.raises(ValueError, match=r"must have parameters of a floating-point type .* got torch\.complex64"):
        make().to(torch.complex64)(X.to(torch.complex64))


H = torch.zeros(1, 2, 4, dtype=torch.float64)
ZEROS = "state must be tensors of shapes [(1, 2, 4), (1, 2, 4)], got"
STATES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "h alone for an lstm": ({}, H, f"{ZEROS} [(1, 2, 4)]"),
    "three tensors": ({}, (H, H, H), f"{ZEROS} [(1, 2, 4), (1, 2, 4), (1, 2, 4)]"),
    "other rows": ({}, (H, H[:, :1]), f"{ZEROS} [(1, 2, 4), (1, 1, 4)]"),
    "h and c for a gru": (
        {"cell": "gru"},
        (H, H),
        "state must be tensors of shapes [(1, 2, 4)], got [(1, 2, 4), (1, 2, 4)]",
    ),
    "text": ({}, "abc", "state must be a SABState or tensors, got ['str']"),
    "half a state": ({}, (H, None), "state must be a SABState or tensors, got ['Tensor', 'NoneType']"),
    "float32": ({}, (H, H.float()), "state must be torch.float64 on cpu, got torch.float32 on cpu"),
    "device": ({}, (H.to("meta"), H), "state must be torch.float64 on cpu, got torch.float64 on meta"),
    "a state of one row": (
        {},
        make()(draw(4, 1, 3))[1],
        "state must have a row for each of the input's 2 rows, got 1; state.rows(index)",
    ),
    "a gru's state": (
        {},
        make(cell="gru")(X)[1],
        "state must have h and c of shapes [(2, 4), (2, 4)] in layer 0, got [(2, 4)]",
    ),
    "an unbatched state": ({}, make()(draw(4, 3))[1], "state comes from unbatched input, this input is batched"),
    "too many layers": ({}, make(num_layers=2)(X)[1], "state must have 1 layers, got 2"),
    "the release's state": (
        {},
        make(semantics="release")(X)[1],
        "state comes from a layer with semantics='release', this layer has semantics='paper'",
    ),
    "a float32 state": (
        {},
        make(dtype=torch.float32)(X.float())[1],
        "state must be torch.float64 on cpu, got torch.float32 on cpu; state.to(...) moves it",
    ),
}


@pytest.mark.parametrize(("options", "state", "message"), STATES.values(), ids=STATES.keys())
def test_a_wrong_state(options: dict[str, Any], state: Any, message: str) -> None:
    with raises(message):
        make(**options)(X, state)


def test_a_wrong_state_of_unbatched_input() -> None:
    layer = make()
    with raises("state comes from batched input, this input is unbatched"):
        layer(X[:, 0], layer(X)[1])
    with raises("state must be tensors of shapes [(1, 4), (1, 4)], got [(1, 2, 4), (1, 2, 4)]"):
        layer(X[:, 0], (H, H))


def mask(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.bool)


RESETS: dict[str, tuple[bool, Tensor, Any, str, str]] = {
    "rows": (False, X, mask(3), "bool of shape (2,) or (4, 2)", "torch.bool of shape (3,)"),
    "axes": (False, X, mask(2, 4), "bool of shape (2,) or (4, 2)", "torch.bool of shape (2, 4)"),
    "batch first": (
        True,
        X.transpose(0, 1),
        mask(4, 2),
        "bool of shape (2,) or (2, 4)",
        "torch.bool of shape (4, 2)",
    ),
    "unbatched": (False, X[:, 0], mask(1), "bool of shape () or (4,)", "torch.bool of shape (1,)"),
    "numbers": (False, X, torch.zeros(2), "bool of shape (2,) or (4, 2)", "torch.float32 of shape (2,)"),
    "list": (False, X, [True, False], "a bool tensor of shape (2,) or (4, 2)", "[True, False]"),
}


@pytest.mark.parametrize(("batch_first", "x", "reset", "wanted", "came"), RESETS.values(), ids=RESETS.keys())
def test_a_wrong_reset(batch_first: bool, x: Tensor, reset: Any, wanted: str, came: str) -> None:
    with raises(f"reset must be {wanted}, got {came}"):
        make(batch_first=batch_first)(x, reset=reset)
