"""Cells, scorers and ways to evict that a user's own module holds: trained with, recorded, and loaded again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.cli import main
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.model import SequenceModel
from tests.lab.conftest import small
from tests.lab.stream_runs import small as small_stream
from tests.lab.stream_runs import text as text

OWN = """
import torch
from torch import nn


class Leaky(nn.Module):
    state_shapes = ()

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.mix = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x, h):
        h = (h + torch.tanh(self.mix(torch.cat([x, h], dim=1)))) / 2
        return h, h


class Cosine(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)

    def keys(self, memory):
        return nn.functional.normalize(memory, dim=-1)

    def scores(self, keys, query):
        return (keys @ nn.functional.normalize(self.query(query), dim=-1).unsqueeze(2)).squeeze(2)


def second(memory):
    return torch.ones(len(memory.value), dtype=torch.int64)


number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with mine.py."""
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_run_with_code_of_ones_own_is_trained_and_loaded_by_its_names(folder: Path) -> None:
    words = ["--T", "4", "--symbols", "2", "--hidden-size", "8", "--num-layers", "2", "--k-trunc", "2"]
    words += ["--batch-size", "4", "--steps", "4", "--eval-every", "2", "--capacity", "3", "--out", "run"]
    main(["train", "copying", *words, "--cell", "mine:Leaky", "--score", "mine:Cosine", "--evict", "mine:second"])
    config, model = checkpoint.load_run(folder / "run")
    assert (config.model.cell, config.model.score, config.model.evict) == ("mine:Leaky", "mine:Cosine", "mine:second")
    names = dict(model.layer.named_parameters())
    assert sum(name.endswith("mix.weight") for name in names) == 2
    assert sum(name.endswith("query.weight") for name in names) == 2
    again = SequenceModel(config.task, config.model)
    again.load_state_dict(model.state_dict())
    tokens = next(config.task.eval_batches("test", 3, 3)).input
    assert torch.equal(again.eval()(tokens)[0], model(tokens)[0])


def test_an_own_way_to_evict_is_used(folder: Path, text: Path) -> None:
    from reminding.tasks import FileStream

    config = small_stream(FileStream(text, chunk=10))
    model = SequenceModel(config.task, replace(config.model, evict="mine:second")).eval()
    with torch.no_grad():
        _, state, _ = model(torch.zeros(60, 1, dtype=torch.int64))
    assert state.memory_step[0, 0, 0] == 3, "the oldest stays"


def test_a_run_whose_code_is_gone_says_so(folder: Path) -> None:
    config = small()
    config = RunConfig(config.task, replace(config.model, cell="mine:Leaky"))
    (folder / "run").mkdir()
    config.save(folder / "run" / checkpoint.CONFIG_NAME)
    checkpoint.save_weights(folder / "run", SequenceModel(config.task, config.model))
    del sys.modules["mine"]
    (folder / "mine.py").unlink()
    with pytest.raises(ValueError, match=r"cell: 'mine:Leaky' is code of your own, .* put the folder of mine.py on"):
        checkpoint.load_run(folder / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "mine:Leeky"}, "has no class or function 'Leeky'; did you mean Leaky"),
        ({"score": "mine:number"}, "has no class or function 'number'"),
        ({"score": "mine:Leaky"}, r"score: mine:Leaky\(8\) cannot be made .* a scorer with hidden_size"),
        ({"cell": "lsmt"}, "cell must be"),
        ({"evict": "lifo"}, "evict must be one of"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, options: dict[str, Any], message: str) -> None:
    config = small()
    with pytest.raises(ValueError, match=message):
        SequenceModel(config.task, replace(config.model, **options))
