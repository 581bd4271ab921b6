"""torch.ao.quantization.quantize_dynamic on a model with a layer: it replaces modules by their type.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB
from tests.nn.samples import chunks, draw, make

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor.* deprecated"),
    pytest.mark.skipif(torch.backends.quantized.engine == "none", reason="this PyTorch has no quantized kernels"),
]


class Network(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = make(3, 8, k_top=2, k_att=2, dtype=torch.float32, recall_scale=0.5, **options)
        self.readout = nn.Linear(8, 2)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = self.layer(x, state)
        return self.readout(output), state


def quantized(**options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    network: Any = Network(**options).eval()
    quantization: Any = torch.ao.quantization
    return network, quantization.quantize_dynamic(network, dtype=torch.qint8)


def is_quantized(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.ao.nn.quantized")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_layer_keeps_its_own_weights_and_the_readout_is_quantized(cell: str) -> None:
    network, smaller = quantized(cell=cell, num_layers=2)
    x = draw(20, 2, 3, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(smaller.layer(x)[0], network.layer(x)[0])
        got, want = smaller(x)[0], network(x)[0]
    assert is_quantized(smaller.readout)
    assert not torch.equal(got, want)
    assert float((got - want).abs().max()) < 0.05 * float(want.abs().max())


def test_a_stream_goes_on_in_a_quantized_model() -> None:
    _, smaller = quantized()
    x = draw(20, 2, 3, dtype=torch.float32)
    with torch.no_grad():
        whole, state = smaller.layer(x)[0], None
        for part, want in zip(chunks(x, 7), chunks(whole, 7), strict=True):
            output, state = smaller.layer(part, state)
            torch.testing.assert_close(output, want)


def test_a_cell_of_ones_own_that_was_swapped_is_the_one_that_runs() -> None:
    network, smaller = quantized(cell=nn.LSTMCell(3, 8))
    assert is_quantized(smaller.layer.cells[0])
    x = draw(1, 2, 3, dtype=torch.float32)
    with torch.no_grad():
        got, want = smaller.layer(x)[0][0], network.layer(x)[0][0]
        cell = smaller.layer.cells[0](x[0], (torch.zeros(2, 8), torch.zeros(2, 8)))[0]
    assert torch.equal(got, cell), "nothing is remembered yet: the output is the cell's"
    assert not torch.equal(got, want)


def test_an_encoder_that_was_swapped_is_the_one_that_runs() -> None:
    network, smaller = quantized(encoder=nn.Linear(3, 3))
    assert is_quantized(smaller.layer.encoder)
    x = draw(9, 2, 3, dtype=torch.float32)
    without = SAB(3, 8, k_top=2, k_att=2, recall_scale=0.5)
    without.load_state_dict({n: w for n, w in network.layer.state_dict().items() if not n.startswith("encoder")})
    with torch.no_grad():
        torch.testing.assert_close(smaller.layer(x)[0], without(smaller.layer.encoder(x))[0])
