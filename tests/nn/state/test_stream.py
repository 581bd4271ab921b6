"""The state as a value: files, copies, types, resets.

Shapes: L layers, T time, B batch, M memory slots, H hidden.
"""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.serialization import safe_globals

from reminding import SAB, SABState
from reminding.nn.state.classes import STATE_CLASSES
from reminding.nn.state.storage import save_tensors
from tests.nn.samples import assert_same_state, draw, make
from tests.tolerance import assert_equal

OPTIONS: dict[str, dict[str, Any]] = {
    "lstm": {"num_layers": 2, "k_top": 2, "k_att": 2, "capacity": 4},
    "gru": {"cell": "gru", "k_top": 2, "k_att": 2},
    "release": {"semantics": "release", "k_top": 2, "k_att": 2},
    "no memory": {"k_top": 0},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def made(options: dict[str, Any]) -> tuple[SAB, SABState]:
    layer = make(**options)
    return layer, layer(draw(11, 3, 3), reset=torch.arange(33).reshape(11, 3) == 13)[1]


def assert_identical(got: SABState, want: SABState) -> None:
    """Equality of every bit, with types and flags."""
    assert torch.equal(got.step, want.step)
    assert (got.batched, got.zero_slot, len(got.layers)) == (want.batched, want.zero_slot, len(want.layers))
    for layer, wanted in zip(got.layers, want.layers, strict=True):
        mine, theirs = layer.named(), wanted.named()
        assert mine.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert mine[name].dtype == tensor.dtype, name
            assert torch.equal(mine[name], tensor), name


@pytest.mark.parametrize(
    "further",
    [{}, {"credit_every": 3}, {"encoder": nn.Linear(3, 3, dtype=torch.float64)}, {"k_top": None, "k_trunc": None}],
    ids=["plain", "credit waits", "encoder", "every memory"],
)
@pytest.mark.parametrize("options", [OPTIONS["lstm"], OPTIONS["release"]], ids=["lstm", "release"])
def test_torch_load_reads_states_once_it_knows_their_classes(
    options: dict[str, Any], further: dict[str, Any], tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {"recall_scale": 0.1, **options, **further}
    layer = make(**chosen)
    state: Any = None
    for number in range(2):
        output, state = layer(draw(5, 3, 3, seed=number), state)
        output.sum().backward()
    torch.save({"state": state, "weights": layer.state_dict()}, tmp_path / "stream.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "stream.pt", weights_only=True)
    with safe_globals(STATE_CLASSES):
        loaded: SABState = torch.load(tmp_path / "stream.pt", weights_only=True)["state"]
    loaded.check()
    assert_identical(loaded, state)
    found: list[Tensor] = []
    for each in (loaded, state):
        layer.zero_grad()
        layer(draw(7, 3, 3, seed=8), each)[1].h.sum().backward()
        assert layer.weight_hh_l0.grad is not None
        found.append(cast("Tensor", layer.weight_hh_l0.grad).clone())
    assert torch.equal(*found)


@every_option
def test_a_file_gives_the_state_back_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    layer, state = made(options)
    state.save(tmp_path / "state.safetensors")
    loaded = SABState.load(tmp_path / "state.safetensors")
    assert_identical(loaded, state)
    assert not loaded.h.requires_grad
    x = draw(7, 3, 3, seed=8)
    assert torch.equal(layer(x, loaded)[0], layer(x, state)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"], "nothing else is left behind"


def test_a_stream_goes_on_from_a_file_as_if_uninterrupted(tmp_path: Path) -> None:
    """Bit for bit, even after the row with most memories was reset, though rounding depends on memory layout."""
    layer = make(8, 24, k_top=None, k_att=1, cell="gru", dtype=torch.float32)
    _, state = layer(draw(23, 5, 8, dtype=torch.float32) * 0.2, reset=torch.arange(115).reshape(23, 5) == 29)
    state = state.reset([True, False, True, True, True])
    state.save(tmp_path / "state")
    x = draw(9, 5, 8, seed=8, dtype=torch.float32)
    assert torch.equal(layer(x, SABState.load(tmp_path / "state"))[0], layer(x, state)[0])


def test_a_file_of_an_unbatched_stream(tmp_path: Path) -> None:
    layer = make(k_top=2, k_att=2)
    _, state = layer(draw(9, 3))
    state.save(str(tmp_path / "state"))
    loaded = SABState.load(str(tmp_path / "state"))
    assert_identical(loaded, state)
    assert layer(draw(4, 3), loaded)[0].shape == (4, 4)


def test_a_fresh_state_of_no_rows_and_no_memories_can_be_saved(tmp_path: Path) -> None:
    for shape in ((0, 2, 3), (4, 0, 3)):
        _, state = make(num_layers=2)(draw(*shape))
        state.save(tmp_path / "state")
        assert_identical(SABState.load(tmp_path / "state"), state)


def test_saving_replaces_the_old_file(tmp_path: Path) -> None:
    _, state = made(OPTIONS["gru"])
    path = tmp_path / "state"
    path.write_bytes(b"old")
    state.save(path)
    assert_identical(SABState.load(path), state)


def test_without_safetensors_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    _, state = made(OPTIONS["gru"])
    with pytest.raises(ImportError, match=re.escape('pip install "reminding[io]"')):
        state.save(tmp_path / "state")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing"):
        SABState.load(tmp_path / "nothing")


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_damaged_file_is_named(tmp_path: Path, keep: int) -> None:
    _, state = made(OPTIONS["lstm"])
    path = tmp_path / "state"
    state.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is damaged: it is no whole safetensors file"):
        SABState.load(path)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text("hello, this is some text and no state at all")
    with pytest.raises(ValueError, match="damaged: it is no whole safetensors file"):
        SABState.load(path)
    save_tensors(path, {"weight": torch.zeros(2)}, {})
    with pytest.raises(ValueError, match=r"other holds no reminding.SABState of version 3; its metadata says \{\}"):
        SABState.load(path)
    save_tensors(path, {"weight": torch.zeros(2)}, {"format": "reminding.SABState", "version": "1"})
    with pytest.raises(ValueError, match=r"of version 3; its metadata says .*'version': '1'"):
        SABState.load(path)


@pytest.mark.parametrize("way", ["clone", "deepcopy", "pickle"])
@every_option
def test_copies_share_nothing(options: dict[str, Any], way: str) -> None:
    _, state = made(options)
    state = state.detach()
    ways = {"clone": lambda: state.clone(), "deepcopy": lambda: copy.deepcopy(state)}
    other = ways[way]() if way in ways else pickle.loads(pickle.dumps(state))
    assert_identical(other, state)
    addresses = {tensor.data_ptr() for layer in state.layers for tensor in layer.named().values() if tensor.numel()}
    assert not addresses & {t.data_ptr() for layer in other.layers for t in layer.named().values() if t.numel()}


def test_a_state_with_a_graph_can_be_copied_deeply() -> None:
    """PyTorch refuses to copy tensors inside a graph; the copy of a state has their values only."""
    _, state = made(OPTIONS["lstm"])
    assert state.h.requires_grad
    other = copy.deepcopy(state)
    assert not other.h.requires_grad
    assert_same_state(other, state)


def test_detach_and_clone_keep_or_cut_the_graph() -> None:
    _, state = made(OPTIONS["lstm"])
    assert state.clone().memory.requires_grad
    detached = state.detach()
    for layer in detached.layers:
        assert not any(tensor.requires_grad for tensor in layer.named().values())
    assert_identical(detached, state)


@every_option
def test_to_changes_the_numbers_and_not_the_counts(options: dict[str, Any]) -> None:
    layer, state = made(options)
    single = state.to(dtype=torch.float32)
    assert single.h.dtype == single.memory.dtype == torch.float32
    assert single.memory_step.dtype == single.step.dtype == torch.int64
    assert torch.equal(single.memory_step, state.memory_step)
    output = layer.float()(draw(5, 3, 3, dtype=torch.float32), single)[0]
    wanted = layer.double()(draw(5, 3, 3), state)[0]
    assert_equal(output, wanted, "output")
    assert_identical(state.to("cpu"), state)
    assert_identical(state.to(), state)


@every_option
def test_reset_rows_are_new_and_the_others_untouched(options: dict[str, Any]) -> None:
    layer, state = made(options)
    after = state.reset(torch.tensor([True, False, True]))
    x = draw(7, 3, 3, seed=8)
    output, wanted, new = layer(x, after)[0], layer(x, state)[0], layer(x)[0]
    assert_equal(output[:, 1], wanted[:, 1], "a row left alone")
    assert_equal(output[:, [0, 2]], new[:, [0, 2]], "rows begun anew")
    assert after.step.tolist() == [0, int(state.step[1]), 0]
    assert_identical(state.reset([True, False, True]), after)
    assert_equal(layer(x, state.reset())[0], new, "all rows")
    assert not state.reset().memory.any()
    assert_identical(state.reset([False] * 3), state)


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        (torch.tensor([True, False]), "torch.bool of shape (2,)"),
        (torch.tensor([1, 0, 1]), "torch.int64 of shape (3,)"),
        (torch.tensor(True), "torch.bool of shape ()"),
    ],
    ids=str,
)
def test_a_wrong_mask_is_told(mask: Tensor, shown: str) -> None:
    _, state = made(OPTIONS["gru"])
    with pytest.raises(ValueError, match=re.escape(f"mask must be bool of shape (3,), got {shown}")):
        state.reset(mask)


def test_its_attributes_have_the_shapes_they_say() -> None:
    _, state = make(num_layers=2, k_top=2, k_att=2)(draw(7, 3, 3))
    assert state.batch_size == 3
    assert state.h.shape == (2, 3, 4)
    assert isinstance(state.c, Tensor)
    assert state.c.shape == (2, 3, 4)
    assert state.memory.shape == (2, 3, 3, 4)
    assert state.memory_step.tolist() == [[[2, 4, 6]] * 3] * 2
    _, alone = make(num_layers=2, k_top=2, k_att=2)(draw(7, 3))
    assert alone.batch_size == 1
    assert alone.h.shape == (2, 4)
    assert isinstance(alone.c, Tensor)
    assert alone.c.shape == (2, 4)
    assert alone.memory.shape == (2, 3, 4)
    assert alone.memory_step.shape == (2, 3)
    h, c = alone
    assert torch.equal(h, alone.h)
    assert torch.equal(c, alone.c)
    assert make(cell="gru")(draw(7, 3))[1].c is None


def test_nbytes_counts_every_tensor() -> None:
    _, state = make(k_top=2, k_att=2, horizon=0)(draw(7, 3, 3))
    rows, slots, size, number = 3, 3, 4, 8
    vectors = (rows * size * 2 + rows * slots * size) * number  # h, c and the memory
    bookkeeping = rows * slots * (number + 8) + rows * 8  # accumulated weight and step of each slot, and count
    assert state.nbytes == vectors + bookkeeping


def test_a_state_of_another_layer_is_refused() -> None:
    _, state = made(OPTIONS["lstm"])
    with pytest.raises(ValueError, match="state must have 1 layers, got 2"):
        make()(draw(3, 3, 3), state)
    with pytest.raises(ValueError, match=r"state must have h and c of shapes \[\(3, 5\), \(3, 5\)\] in layer 0"):
        make(hidden_size=5, num_layers=2)(draw(3, 3, 3), state)


def test_a_state_may_change_layers_of_one_shape() -> None:
    """With another k_top, k_att or scorer, a state is still valid, but its past calls cannot be replayed."""
    _, state = make(k_top=2, k_att=2)(draw(9, 2, 3))
    x = draw(3, 2, 3, seed=2)
    with pytest.raises(ValueError, match=r"with score='additive', k_top=2, k_att=2, this layer has score='dot'"):
        make(k_top=None, k_att=1, score="dot")(x, state)
    state = state.detach()
    assert make(k_top=None, k_att=1, score="dot")(x, state)[1].memory_step[0, 0].tolist() == [2, 4, 6, 8, 10, 11, 12]
    assert_equal(make(k_top=0)(x, state)[0], make(k_top=0)(x, (state.h, state.c))[0], "a layer without memory")


def test_a_state_with_more_memories_than_the_layer_may_hold_is_refused() -> None:
    state = make(k_att=1)(draw(20, 2, 3))[1].detach()
    with pytest.raises(ValueError, match="state holds 20 memories a row, more than the layer's capacity=4"):
        make(k_att=1, capacity=4)(draw(3, 2, 3), state)


def test_saving_into_a_folder_that_is_not_there_names_it(tmp_path: Path) -> None:
    _, state = make()(draw(3, 2, 3))
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
        state.save(tmp_path / "nowhere" / "state.safetensors")


def test_layers_of_different_cells_have_no_common_c() -> None:
    cells = [torch.nn.LSTMCell(3, 4, dtype=torch.float64), torch.nn.GRUCell(4, 4, dtype=torch.float64)]
    _, state = make(num_layers=2, cell=cells)(draw(3, 2, 3))
    assert state.h.shape == (2, 2, 4)
    with pytest.raises(ValueError, match="no common c"):
        _ = state.c


def test_a_type_alone_may_be_given_as_a_tensor_takes_it() -> None:
    _, state = make()(draw(5, 2, 3))
    for moved in (state.to(torch.float32), state.to("cpu", torch.float32), state.to(dtype=torch.float32)):
        assert moved.h.dtype == torch.float32
        assert moved.step.dtype == torch.int64
        assert torch.equal(moved.memory_step, state.memory_step)
