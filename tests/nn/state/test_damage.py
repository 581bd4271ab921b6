"""Files of states with damage: refused by one error that names file and tensor, or read as they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reminding import SABState
from reminding.disk.errors import DamagedFileError
from reminding.nn.state.storage import load_tensors, pack_tensors
from tests.nn.samples import draw, make

FAR = 2**62


class Dropping(nn.Module):
    """A cell with dropout, which draws random numbers."""

    state_shapes = ()

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(7, 4, dtype=torch.float64)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return nn.functional.dropout(self.mix(torch.cat([x, h], 1)).tanh(), 0.5)


def states() -> Iterator[tuple[str, SABState]]:
    """A state of every kind of entry: credit that waits, evicted memories, an encoder's input, masks, generators."""
    reset = torch.arange(33).reshape(11, 3) == 13
    options: dict[str, dict[str, Any]] = {
        "lstm": {"num_layers": 2, "dropout": 0.5, "capacity": 2, "evict": "least_recalled"},
        "release": {"semantics": "release", "cell": "gru"},
        "all memories": {"k_top": None, "recurrent_dropout": 0.5, "backend": "reference"},
        "encoder": {"encoder": nn.Linear(3, 3, dtype=torch.float64)},
        "own cell that draws": {"cell": Dropping()},
    }
    for name, chosen in options.items():
        together: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 3, "horizon": None, **chosen}
        layer = make(**together)
        _, state = layer(draw(11, 3, 3), reset=reset)
        yield name, layer(draw(4, 3, 3, seed=1), state)[1]
    layer = make(k_top=2, k_att=2, k_trunc=3, horizon=None, credit_every=4)
    state = layer(draw(11, 3, 3))[1]
    for seed in (1, 2):
        output, state = layer(draw(7, 3, 3, seed=seed), state)
        output.sum().backward()
    assert state.history.waits
    yield "credit that waits", state


STATES = dict(states())
every_state = pytest.mark.parametrize("name", STATES)


def content(state: SABState, folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    state.save(folder / "whole")
    return load_tensors(folder / "whole")


@every_state
def test_a_whole_state_passes(name: str, tmp_path: Path) -> None:
    STATES[name].check()
    tensors, _ = content(STATES[name], tmp_path)
    loaded = SABState.load(tmp_path / "whole")
    loaded.save(tmp_path / "again")
    again = load_tensors(tmp_path / "again")[0]
    assert tensors.keys() == again.keys()
    assert all(torch.equal(tensors[each], again[each]) for each in tensors)


def other(tensor: Tensor, value: int) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "another type": lambda t: t.to(torch.float16 if t.is_floating_point() else torch.int32),
    "a wider type": lambda t: t.to(torch.float32 if t.dtype == torch.float64 else torch.float64),
    "one row short": lambda t: t[:-1],
    "one column short": lambda t: t[..., :-1],
    "a further axis": lambda t: t.unsqueeze(0),
    "no axis": lambda t: t.reshape(-1)[:1].squeeze(0),
    "negative": lambda t: other(t, -2),
    "huge": lambda t: other(t, FAR),
}
FREE_VALUES = ("memory_step", "steps_done", "begun", "evicted.", "held.", ".start", ".column")
"""Numbers of steps, and of rows that an encoder makes, for which a huge one is no contradiction."""
FREE_SHAPES = (".modes", ".generators", "history.inputs")
FREE_KINDS = ("history.inputs.0.input", "history.inputs.1.input")
"""What an encoder of the user's own reads."""


def changes_of(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Changes after which a tensor is no longer one that the state may have."""
    left_out = set[str]()
    if tensor.dtype != torch.int64:
        left_out |= {"negative", "huge"}
    elif name.split(".")[-1] == "step" or any(part in name for part in FREE_VALUES):
        left_out |= {"huge"}
    if tensor.dim() == 0:
        left_out |= {"one row short", "one column short", "no axis"}
    if any(part in name for part in FREE_SHAPES):
        left_out |= {"one row short", "one column short", "a further axis"}
    if name in FREE_KINDS:
        left_out |= {"another type", "a wider type"}
    return {change: made(tensor) for change, made in CHANGES.items() if change not in left_out}


def rewrite(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file without waiting for the disk."""
    path.write_bytes(pack_tensors(tensors, metadata))


def refuse_changes(name: str, folder: Path, every: int) -> None:
    """Make every n-th change of the entries of a state's file; each must be refused."""
    tensors, metadata = content(STATES[name], folder)
    changes = [
        (entry, changed)
        for entry, tensor in tensors.items()
        for changed in (changes_of(entry, tensor).values() if tensor.numel() else ())
    ]
    assert len(changes) > 2 * len(tensors)
    for entry, changed in changes[::every]:
        rewrite(folder / "changed", {**tensors, entry: changed}, metadata)
        with pytest.raises(DamagedFileError, match="changed is damaged"):
            SABState.load(folder / "changed")


@every_state
def test_an_entry_of_another_type_shape_or_range_is_refused(name: str, tmp_path: Path) -> None:
    """Every 41st change, so that changes and entries go through each other; the slow test makes all."""
    refuse_changes(name, tmp_path, 41)


@pytest.mark.slow
@every_state
def test_every_entry_of_another_type_shape_or_range_is_refused(name: str, tmp_path: Path) -> None:
    refuse_changes(name, tmp_path, 1)


@every_state
def test_a_missing_or_a_further_entry_is_refused(name: str, tmp_path: Path) -> None:
    tensors, metadata = content(STATES[name], tmp_path)
    path = tmp_path / "changed"
    for entry in list(tensors)[::7]:
        rest = {each: tensor for each, tensor in tensors.items() if each != entry}
        rewrite(path, rest, metadata)
        optional = entry.endswith(
            (".cell_state.0", "batch_first", "batch_sizes", ".drawn_rows", ".factor", ".memory", ".read")
        ) or any(part in entry for part in ("evicted", "dropout_masks", "generators"))
        try:
            SABState.load(path)
        except DamagedFileError:
            continue
        assert optional, f"{entry} was not missed"
    for entry in ("more", "layers.9.h", "history.more", "history.segments.99.row", "layers.x.h"):
        rewrite(path, {**tensors, entry: torch.zeros(3, dtype=torch.int64)}, metadata)
        with pytest.raises(DamagedFileError, match=str(path)):
            SABState.load(path)


def test_the_wrong_entry_is_named(tmp_path: Path) -> None:
    tensors, metadata = content(STATES["lstm"], tmp_path)
    for entry, changed, message in (
        (
            "layers.1.memory.count",
            torch.tensor([2, -1, 2]),
            r"layers\.1\.memory\.count: must be from 0 to 2, got -1 to 2",
        ),
        (
            "history.segments.0.row",
            torch.tensor([0, 1, 9]),
            r"history\.segments\.0\.row: must be from 0 to 2, got 0 to 9",
        ),
        ("layers.0.cell_state.0", torch.zeros(3, 4), r"cell_state\.0: must be torch\.float64 of shape \(3, 4\), got"),
        (
            "step",
            torch.tensor([1, 2, 3], dtype=torch.int32),
            r"step: must be torch\.int64 of shape \(3,\), got torch\.int32",
        ),
    ):
        rewrite(tmp_path / "changed", {**tensors, entry: changed}, metadata)
        with pytest.raises(DamagedFileError, match=f"changed is damaged: .*{message}"):
            SABState.load(tmp_path / "changed")


@pytest.mark.parametrize("flag", ["batched", "zero_slot", "made_by"])
def test_metadata_that_is_wrong_is_refused(tmp_path: Path, flag: str) -> None:
    tensors, metadata = content(STATES["release"], tmp_path)
    rewrite(tmp_path / "changed", tensors, {**metadata, flag: "7"})
    with pytest.raises(DamagedFileError, match="changed is damaged"):
        SABState.load(tmp_path / "changed")


def test_no_damaged_byte_gives_other_numbers(tmp_path: Path) -> None:
    tensors, metadata = content(STATES["credit that waits"], tmp_path)
    whole, path = (tmp_path / "whole").read_bytes(), tmp_path / "damaged"
    draws = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        raw, at = bytearray(whole), int(draws.integers(len(whole)))
        raw[at : at + int(draws.integers(1, 9))] = draws.bytes(int(draws.integers(0, 9)))
        path.write_bytes(raw)
        try:
            got, told = load_tensors(path)
        except DamagedFileError:
            refused += 1
            continue
        assert told == metadata
        assert all(torch.equal(got[each], tensors[each]) for each in tensors)
    assert refused > 250


def test_a_file_without_checksums_is_of_version_0_1_and_is_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    tensors, metadata = content(STATES["lstm"], tmp_path)
    safetensors.save_file(tensors, tmp_path / "old", metadata=metadata)
    assert torch.equal(SABState.load(tmp_path / "old").h, STATES["lstm"].h)
    safetensors.save_file(tensors, tmp_path / "lost", metadata={**metadata, "cheksum": "12"})
    with pytest.raises(DamagedFileError, match="metadata checksums: they are missing"):
        SABState.load(tmp_path / "lost")
