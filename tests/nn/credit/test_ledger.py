"""The credit that `SAB.credit` records equals the gradient of each memory through each step that read it.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from reminding import SAB, Credit
from reminding.nn.credit import ledger
from tests import oracle
from tests.nn.pytorch.ways import gathered
from tests.nn.samples import LAYERS, assert_same_gradients, chunks, draw, gradients, make
from tests.oracle import Config

SETTINGS = {name: options for name, options in LAYERS.items() if options.get("k_top", 5)}
Edges = dict[tuple[int, int, int, int], float]


def listed(tensor: Tensor) -> list[Any]:
    return tensor.tolist()  # pyright: ignore[reportUnknownVariableType]  torch does not say what of


def edges(credit: Credit) -> Edges:
    """Amounts of credit by layer, row, recalling step and step of the memory, of which each stands there once."""
    columns = torch.stack([credit.layer, credit.row, credit.step, credit.memory_step], 1)
    found: Edges = {}
    for column, amount in zip(listed(columns), listed(credit.amount), strict=True):
        found[column[0], column[1], column[2], column[3]] = amount
    assert len(found) == len(credit), "one entry for each recall"
    return found


def assert_same_edges(credit: Credit, want: Edges) -> None:
    """The amounts agree; below 1e-12 a recall may be there or not."""
    got = {edge: amount for edge, amount in edges(credit).items() if amount > 1e-12}
    assert got.keys() == {edge for edge, amount in want.items() if amount > 1e-12}
    assert all(abs(got[edge] - want[edge]) < 1e-9 * max(1, want[edge]) for edge in got)


def by_the_loop(layer: SAB, config: Config, x: Tensor, weight: Tensor) -> Edges:
    """The same amounts from the oracle: the gradient of the copy of a state that each step read."""
    zero = torch.zeros(config.num_layers, x.shape[1], weight.shape[2], dtype=torch.float64)
    streams = [[oracle.begin(config, h, h) for h in rows] for rows in zero]
    output, _, _ = oracle.run(x, dict(layer.named_parameters()), streams, config)
    lent = {
        (number, row, step, slot.step): value
        for number, peers in enumerate(streams)
        for row, stream in enumerate(peers)
        for slot in stream.memory
        for step, value in slot.lent.items()
        if value.requires_grad
    }
    grad: Any = torch.autograd.grad
    found: list[Tensor | None] = grad((output * weight).sum(), list(lent.values()), allow_unused=True)
    sizes = {edge: float((g * g).sum().sqrt()) for edge, g in zip(lent, found, strict=True) if g is not None}
    return {edge: size for edge, size in sizes.items() if size > 0}


@pytest.mark.parametrize("joined", [False, True], ids=["a loss each", "one loss"])
@pytest.mark.parametrize("size", [20, 6, 1])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_memory_is_credited_through_the_steps_that_read_it(
    options: dict[str, Any], size: int, joined: bool
) -> None:
    """Once for each recall, and as much as in a call of the whole sequence, however it is divided into calls."""
    layer = make(**options)
    settings: dict[str, Any] = {"normalizer": layer.normalizer, "score": layer.score, **options}
    config = Config(**settings)
    x, weight = draw(20, 2, 3), draw(20, 2, 4, seed=2)
    state: Any = None
    losses: list[Tensor] = []
    with layer.credit() as credit:
        for part, w in zip(chunks(x, size), chunks(weight, size), strict=True):
            output, state = layer(part, state)
            losses.append((output * w).sum())
            if not joined:
                losses.pop().backward()
        if joined:
            torch.stack(losses).sum().backward()
    assert_same_edges(credit, by_the_loop(layer, config, x, weight))
    assert (credit.amount.diff() <= 0).all(), "the largest first"
    assert (credit.memory_step < credit.step).all()
    assert len(credit) > 0


@pytest.mark.parametrize("by", ["layer", "state"])
def test_what_settling_sends_on_is_recorded(by: str) -> None:
    """It is what a backward pass of 0 sends on, with the same gradients."""

    def recorded(settles: bool) -> tuple[Credit, dict[str, Tensor]]:
        layer = make(k_trunc=3, credit_every=9)
        state: Any = None
        for part in chunks(draw(20, 2, 3), 5):
            output, state = layer(part, state)
            output.pow(2).sum().backward()
        with layer.credit() as credit:
            if settles:
                _ = layer.settle(state) if by == "layer" else state.settle()
            else:
                (0 * layer(draw(2, 2, 3), state)[0]).sum().backward()
        return credit, gathered(layer)

    (got, gradient), (want, wanted) = recorded(True), recorded(False)
    assert len(got) > 0
    for name in ("layer", "row", "step", "memory_step"):
        assert torch.equal(getattr(got, name), getattr(want, name))
    torch.testing.assert_close(got.amount, want.amount)
    assert_same_gradients(gradient, wanted)


def test_what_is_recorded_changes_no_gradient() -> None:
    layer, x = make(), draw(25, 2, 3)
    want = gradients(layer, layer(x)[0].sum())
    with layer.credit():
        got = gradients(layer, layer(x)[0].sum())
    assert_same_gradients(got, want)
    assert layer.plan(25).engine == "autograd", "afterwards as before"


def test_what_a_memory_received_in_all() -> None:
    layer = make(k_trunc=3)
    with layer.credit() as credit:
        layer(draw(20, 2, 3))[0].sum().backward()
    steps, amounts = credit.received(row=1)
    assert listed(steps) == sorted(set(listed(steps)))
    assert torch.isclose(amounts.sum(), credit.amount[credit.row == 1].sum())


@pytest.mark.parametrize("size", [12, 5])
def test_what_a_memory_received_does_not_depend_on_the_calls(size: int) -> None:
    layer, x = make(k_trunc=3), draw(20, 2, 3)
    found: list[tuple[Tensor, Tensor]] = []
    for length in (20, size):
        state: Any = None
        outputs: list[Tensor] = []
        with layer.credit() as credit:
            for part in chunks(x, length):
                output, state = layer(part, state)
                outputs.append(output)
            torch.cat(outputs).sum().backward()
        found.append(credit.received(row=1))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_streams_in_one_row_are_told_apart() -> None:
    """After a reset, and where one state is gone on from twice, the same steps are other recalls."""
    layer, x = make(k_trunc=3), draw(10, 2, 3)
    with layer.credit() as credit:
        layer(torch.cat([x, 2 * x]), reset=(torch.arange(20) == 10).unsqueeze(1).expand(20, 2))[0].sum().backward()
    with layer.credit() as alone:
        (layer(x)[0].sum() + layer(2 * x)[0].sum()).backward()
    assert torch.allclose(credit.amount, alone.amount)
    places = torch.stack([credit.row, credit.step, credit.memory_step], 1)
    assert len(credit) == 2 * len({tuple(place) for place in listed(places)})
    _, state = layer(x)
    with layer.credit() as ways:
        (layer(x, state)[0].sum() + layer(2 * x, state)[0].sum()).backward()
    mine = ways.step > 10
    each: list[Tensor] = []
    for way in (x, 2 * x):
        with layer.credit() as one:
            layer(way, state)[0].sum().backward()
        each.append(one.amount[one.step > 10])
    assert torch.allclose(ways.amount[mine], torch.cat(each).sort(descending=True).values)


def test_a_recall_keeps_the_row_of_its_call_where_later_calls_have_others() -> None:
    layer, x = make(k_trunc=3), draw(18, 2, 3)
    with layer.credit() as whole:
        layer(x)[0][:, 0].sum().backward()
    with layer.credit() as credit:
        first, state = layer(x[:10])
        last, _ = layer(x[10:, [0]], state.rows(torch.tensor([0])))
        (first[:, 0].sum() + last.sum()).backward()
    assert_same_edges(credit, edges(whole))
    with layer.credit() as credit:
        first, state = layer(x[:10])
        last, _ = layer(x[10:].flip(1), state.rows(torch.tensor([1, 0])))
        (first[:, 0].sum() + last[:, 1].sum()).backward()
    early = credit.step <= 10
    assert set(listed(credit.row[early])) == {0}
    assert set(listed(credit.row[~early])) == {1}
    assert len(credit) == len(whole)
    torch.testing.assert_close(credit.amount, whole.amount)


def test_many_backward_passes_hold_one_vector_for_each_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_APART", 10)
    layer, x = make(k_trunc=3), draw(20, 2, 3)
    with layer.credit() as credit:
        loss = layer(x)[0].sum()
        for _ in range(8):
            loss.backward(retain_graph=True)
    held = sum(len(part.row) for part in credit._parts)  # pyright: ignore[reportPrivateUsage]
    with layer.credit() as once:
        layer(x)[0].sum().backward()
    assert held < 3 * len(once)
    torch.testing.assert_close(credit.amount, 8 * once.amount)


def test_rows_of_a_packed_sequence_keep_their_numbers() -> None:
    layer = make(k_trunc=3)
    short, long = draw(4, 3), draw(20, 3, seed=2)
    with layer.credit() as credit:
        layer(pack_sequence([short, long], enforce_sorted=False))[0].data.sum().backward()
    assert credit.step[credit.row == 0].tolist() == [4]
    assert int(credit.step[credit.row == 1].max()) == 20


def test_nothing_recorded_is_empty() -> None:
    layer = make()
    with layer.credit() as credit:
        layer(draw(25, 2, 3))
    assert len(credit) == 0
    assert credit.received()[0].tolist() == []
    with pytest.raises(ValueError, match="row must be an integer of at least 0, got -1"):
        credit.received(-1)
    with pytest.raises(ValueError, match="layer must be an integer of at least 0, got 'top'"):
        credit.received(0, "top")  # pyright: ignore


def pickled(layer: SAB) -> SAB:
    return pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, pickled])
def test_a_copy_made_in_a_recording_records_on_its_own(copied: Callable[[SAB], SAB]) -> None:
    layer, x = make(), draw(25, 2, 3)
    with layer.credit() as credit:
        other = copied(layer)
        with other.credit() as its_own:
            other(x)[0].square().sum().backward()
        assert len(credit) == 0
        layer(x)[0].square().sum().backward()
    assert len(its_own) == len(credit) > 0
    other(x)[0].sum().backward()
    assert len(its_own) == len(credit)


@pytest.mark.parametrize(
    ("options", "message"), [({"k_top": None}, "credit() needs a layer with a k_top"), ({}, "already being recorded")]
)
def test_what_cannot_be_recorded_says_so(options: dict[str, Any], message: str) -> None:
    layer: SAB = make(**options)

    def record() -> None:
        with layer.credit(), layer.credit():
            pass

    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        record()
    assert isinstance(layer, nn.Module)
