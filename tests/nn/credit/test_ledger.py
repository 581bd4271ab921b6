"""The credit that `SAB.credit` records equals the gradient of each memory through each step that read it.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from reminding import SAB, Credit
from tests import oracle
from tests.nn.samples import LAYERS, assert_same_gradients, chunks, draw, gradients, make
from tests.oracle import Config

SETTINGS = {name: options for name, options in LAYERS.items() if options.get("k_top", 5)}
Edges = dict[tuple[int, int, int, int], float]


def listed(tensor: Tensor) -> list[Any]:
    return tensor.tolist()  # pyright: ignore[reportUnknownVariableType]  torch does not say what of


def edges(credit: Credit) -> Edges:
    """Amounts of credit by layer, row, recalling step and step of the memory."""
    found: Edges = {}
    columns = torch.stack([credit.layer, credit.row, credit.step, credit.memory_step], 1)
    for column, amount in zip(listed(columns), listed(credit.amount), strict=True):
        edge = (column[0], column[1], column[2], column[3])
        found[edge] = found.get(edge, 0.0) + amount
    return found


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


@pytest.mark.parametrize("size", [20, 6, 1])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_memory_is_credited_through_the_steps_that_read_it(options: dict[str, Any], size: int) -> None:
    layer = make(**options)
    settings: dict[str, Any] = {"normalizer": layer.normalizer, "score": layer.score, **options}
    config = Config(**settings)
    x, weight = draw(20, 2, 3), draw(20, 2, 4, seed=2)
    state: Any = None
    with layer.credit() as credit:
        for part, w in zip(chunks(x, size), chunks(weight, size), strict=True):
            output, state = layer(part, state)
            (output * w).sum().backward()
    if size == 20:
        want = by_the_loop(layer, config, x, weight)
        got = {edge: amount for edge, amount in edges(credit).items() if amount > 1e-12}
        assert got.keys() == {edge for edge, amount in want.items() if amount > 1e-12}
        assert all(abs(got[edge] - want[edge]) < 1e-9 * max(1, want[edge]) for edge in got)
    assert (credit.amount.diff() <= 0).all(), "the largest first"
    assert (credit.memory_step < credit.step).all()
    assert len(credit) > 0


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
