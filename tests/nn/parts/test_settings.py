"""Arguments of layers are numbers of Python or numpy; what a layer keeps of them is Python's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from reminding import SAB
from reminding.nn import RTU, MinGRU, Transformer
from tests.nn.samples import BUILT
from tests.tolerance import assert_equal

INTEGERS: dict[str, Any] = {
    "input_size": 3,
    "hidden_size": 4,
    "num_layers": 2,
    "k_top": 2,
    "k_att": 1,
    "k_trunc": 2,
    "capacity": 3,
    "horizon": 6,
    "score_size": 5,
    "credit_every": 2,
}
NUMBERS: dict[str, Any] = {
    "recall_scale": 0.5,
    "forget_scale": 0.75,
    "dropout": 0.25,
    "null_score": 0.5,
    "summary_gate": 0.125,
    "forget_bias": 1.5,
}


@pytest.mark.parametrize("backend", BUILT)
def test_a_layer_of_numpys_numbers_is_that_of_pythons(backend: str) -> None:
    torch.manual_seed(0)
    plain = SAB(**INTEGERS, **NUMBERS, normalizer="softmax1", backend=backend).eval()
    of_numpy: dict[str, Any] = {name: np.int64(value) for name, value in INTEGERS.items()}
    of_numpy |= {name: np.float32(value) for name, value in NUMBERS.items()}
    layer = SAB(**of_numpy, normalizer="softmax1", backend=backend).eval()
    assert layer.rule == plain.rule and layer.extra_repr() == plain.extra_repr()
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(7, 2, 3)
    assert_equal(layer(x)[0], plain(x)[0], backend)
    layer(x)[0].sum().backward()


@pytest.mark.parametrize("value", [True, np.bool_(True), np.float64(2.0), 2.0, "2", np.int64(0), np.array([2])])
@pytest.mark.parametrize("name", ["hidden_size", "k_trunc", "capacity"])
def test_what_is_no_integer_is_refused(name: str, value: Any) -> None:
    options: dict[str, Any] = {"input_size": 3, "hidden_size": 4, name: value}
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        SAB(**options)


@pytest.mark.parametrize("kind", [RTU, MinGRU, Transformer])
def test_baselines_take_integers_of_numpy(kind: Any) -> None:
    further = {RTU: (), MinGRU: ("num_layers",), Transformer: ("num_layers", "heads")}[kind]
    options: dict[str, Any] = {name: np.int64(2) for name in further}
    layer = kind(np.int64(3), np.int64(4), **options)
    output, _ = layer(torch.randn(5, 2, 3))
    assert output.shape == (5, 2, 4) and type(layer.hidden_size) is int


@pytest.mark.parametrize("value", [torch.tanh, torch.nn.Tanh, [torch.nn.Tanh()], "tanh"])
def test_an_encoder_is_a_module(value: Any) -> None:
    with pytest.raises(ValueError, match=r"encoder must be a torch\.nn\.Module, or None"):
        SAB(3, 4, encoder=value)


@pytest.mark.parametrize("value", [torch.cfloat, torch.int64, torch.bool])
def test_parameters_are_real_numbers(value: torch.dtype) -> None:
    with pytest.raises(ValueError, match="dtype must be a floating-point type"):
        SAB(3, 4, dtype=value)


def test_a_backend_is_asked_for_where_the_parameters_are() -> None:
    """On the meta device no backend runs; a layer is made there to be filled elsewhere."""
    layer = torch.nn.utils.skip_init(SAB, 3, 4, backend=BUILT[-1])
    layer.load_state_dict(SAB(3, 4).state_dict())
    assert layer(torch.randn(5, 2, 3))[0].shape == (5, 2, 4)
    with torch.device("meta"):
        assert SAB(3, 4, backend=BUILT[-1]).weight_ih_l0.is_meta
