"""The README's code does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_python_block_runs(number: int) -> None:
    from reminding import SAB

    names: dict[str, Any] = {
        "SAB": SAB,
        "nn": nn,
        "torch": torch,
        "stream": ((torch.randn(70, 3, 64), torch.randn(70, 3, 128)) for _ in range(3)),
        "input_size": 64,
        "hidden_size": 128,
        "input": torch.randn(12, 3, 64),
        "layer": SAB(64, 128),
        "chunk": torch.randn(70, 3, 64),
        "state": None,
        "next_chunk": torch.randn(4, 3, 64),
    }
    exec(BLOCKS[number], names)
    assert names["output"].shape[-1] == 128


def test_the_lstm_it_speaks_of_gives_the_same_numbers() -> None:
    from reminding import SAB

    lstm = nn.LSTM(64, 128, num_layers=2, batch_first=True)
    layer = SAB(64, 128, num_layers=2, batch_first=True, k_top=0, k_trunc=None)
    layer.load_state_dict(lstm.state_dict())
    x = torch.randn(3, 12, 64)
    torch.testing.assert_close(layer(x)[0], lstm(x)[0])


def test_pictures_and_pages_it_links_to_are_there() -> None:
    links: list[str] = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    root = Path(__file__).parent.parent
    assert [link for link in links if not (root / link).exists()] == []
