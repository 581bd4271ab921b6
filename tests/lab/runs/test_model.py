"""The network of an experiment: encoders, layers, and the paper's readout."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reminding import SAB
from reminding.lab.runs.config import READ, ModelOptions, RunConfig, command, model_defaults
from reminding.lab.runs.model import SequenceModel
from reminding.nn import RTU, MinGRU, Transformer
from reminding.tasks import Adding, Copying, Cue, FileStream, mean_metrics
from tests.lab.runs.conftest import MODELS, build


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", [Copying(T=4, symbols=2), Adding(T=6)], ids=["tokens", "real"])
def test_every_model_learns_from_one_batch(task: Any, model: str) -> None:
    network = build(task, model=model)
    batch = next(task.train_batches(16, 0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(60):
        loss = task.loss(network(batch.input)[0], batch)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in network.parameters()), "every parameter takes part"
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_the_readout_is_the_papers() -> None:
    """y = V1 h + V2 s + b."""
    task = Copying(T=12, symbols=2)
    network = build(task)
    assert isinstance(network.layer, SAB) and network.summary_readout is not None
    tokens = next(task.train_batches(3, 0)).input
    h, _, recall = network.layer(tokens, return_recall=True)
    assert recall.summary.abs().sum() > 0
    want = F.linear(h, network.hidden_readout.weight, network.hidden_readout.bias)
    want = want + F.linear(recall.summary, network.summary_readout.weight)
    torch.testing.assert_close(network(tokens)[0], want)


@pytest.mark.parametrize("model", ["sab", "lstm", "rtu"])
def test_a_residual_prediction_is_the_last_value_and_a_change(tmp_path: Path, model: str) -> None:
    walk = np.random.default_rng(0).normal(size=(400, 3)).cumsum(0) * [1, 100, 1]
    pd.DataFrame(walk, columns=["a", "b", "c"]).to_csv(tmp_path / "a.csv", index=False)
    task = FileStream(tmp_path / "a.csv", target=("c", "a"), chunk=20)
    residual = build(task, model=model, residual=True, capacity=8)
    batch = next(task.train_batches(2, 0))
    metrics = mean_metrics([task.metrics(residual(batch.input)[0].detach(), batch)])
    assert metrics["mse"] == metrics["mse_unchanged"], "it begins with no change"
    plain = build(task, model=model, capacity=8)
    residual.load_state_dict(plain.state_dict())  # with the same names: the usual change is the task's
    assert task.continued is not None
    usual = torch.as_tensor(task.continued[1]).float()
    want = batch.input[..., [0, 2]] + usual * plain(batch.input)[0]
    torch.testing.assert_close(residual(batch.input)[0], want)


@pytest.mark.parametrize("task", [Copying(T=4), Adding(T=6)], ids=["tokens", "real"])
def test_residual_is_for_tables(task: Any) -> None:
    with pytest.raises(ValueError, match="residual is for tables, whose columns have last values, not for"):
        build(task, residual=True)


def test_residual_goes_on_from_the_value_before_a_gap(tmp_path: Path) -> None:
    walk = np.random.default_rng(0).normal(size=400).cumsum()
    walk[5::7] = np.nan
    pd.DataFrame({"a": walk}).to_csv(tmp_path / "a.csv", index=False)
    task = FileStream(tmp_path / "a.csv", missing="carry", chunk=20)
    batch = next(task.train_batches(1, 0))
    found = build(task, residual=True, capacity=8)(batch.input)[0].detach()
    carried = pd.Series(walk).ffill().to_numpy()[:20]
    np.testing.assert_allclose(found[:, 0, 0], task.scale.apply(carried[:, None].repeat(2, 1))[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="residual needs missing carry: with missing zero, a gap has no last value"):
        build(FileStream(tmp_path / "a.csv", missing="zero", chunk=20), residual=True, capacity=8)


@pytest.mark.parametrize("model", ["lstm", "tbptt"])
def test_models_without_recall_are_nn_lstm_and_nothing_more(model: str) -> None:
    names = {name.removeprefix("layer.") for name, _ in build(Copying(T=4), model=model).named_parameters()}
    recurrent = {name for name, _ in torch.nn.LSTM(10, 8).named_parameters()}
    assert names == recurrent | {"hidden_readout.weight", "hidden_readout.bias"}


def test_tbptt_and_sab_cut_at_the_same_steps_and_lstm_never() -> None:
    layers = {model: build(Copying(T=4), model=model).layer for model in ("sab", "tbptt", "lstm")}
    cuts = {model: layer.k_trunc for model, layer in layers.items() if isinstance(layer, SAB)}
    assert cuts == {"sab": 3, "tbptt": 3, "lstm": None}


@pytest.mark.parametrize(("task", "first"), [(Copying(T=4), 10), (Adding(T=6), 2)])
def test_an_embedding_is_learned_where_asked_for(task: Any, first: int) -> None:
    plain, embedded = build(task), build(task, embedding_size=5)
    assert dict(plain.named_parameters())["layer.weight_ih_l0"].shape == (32, first)
    parameters = dict(embedded.named_parameters())
    assert parameters["layer.weight_ih_l0"].shape == (32, 5)
    assert "layer.encoder.weight" in parameters


def test_forget_gates_are_scaled_and_biased() -> None:
    layer = build(Copying(T=4), model="tbptt", forget_scale=0.9, forget_bias=2.0).layer
    assert isinstance(layer, SAB)
    assert layer.rule.forget_scale == 0.9
    own = dict(layer.named_parameters())
    size = layer.hidden_size
    assert (own["bias_ih_l0"] + own["bias_hh_l0"])[size : 2 * size].tolist() == [2.0] * size


def test_options_of_one_model_reach_its_layer() -> None:
    layer = build(Copying(T=4), model="transformer", positions="t5", num_layers=3).layer
    assert isinstance(layer, Transformer)
    assert (layer.positions, len(layer.blocks.layers)) == ("t5", 3)
    layer = build(Copying(T=4), model="rtu", min_radius=0.9).layer
    assert isinstance(layer, RTU)
    assert torch.exp(-layer.nu.exp()).min() >= 0.9
    layer = build(Copying(T=4), model="mingru", num_layers=3, dropout=0.1).layer
    assert isinstance(layer, MinGRU)
    assert (layer.num_layers, layer.dropout.p) == (3, 0.1)


@pytest.mark.parametrize("model", ["mingru", "rtu"])
def test_chunks_of_a_stream_are_read_with_the_carried_state(model: str) -> None:
    task = Cue(lag=7, gap=3, chunk=4)
    network = build(task, model=model)
    batches = list(islice(task.train_batches(3, 0), 5))
    state: Any = None
    pieces: list[torch.Tensor] = []
    for batch in batches:
        prediction, state = network.read(batch, state)
        pieces.append(prediction)
    whole = network(torch.cat([batch.input for batch in batches]))[0]
    torch.testing.assert_close(torch.cat(pieces), whole)


class Noted(ModelOptions):
    """Options that note which of them are looked at."""

    seen: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        Noted.seen.add(name)
        return super().__getattribute__(name)


OPTIONS = {each.name for each in fields(ModelOptions)}
FULL: dict[str, Any] = {"hidden_size": 4, "num_layers": 2, "k_att": 2, "k_trunc": 5, "capacity": 4, "horizon": 9}
"""With these, every option of SAB means something on a stream."""


@pytest.mark.parametrize("model", READ)
def test_a_model_is_built_by_the_options_that_it_reads(model: Any) -> None:
    """An option that none looks at would be ignored in silence."""
    unread = ModelOptions(model=model, **FULL).unread(streamed=True)
    Noted.seen.clear()
    SequenceModel(Copying(T=4), Noted(model=model, **FULL))
    assert OPTIONS & Noted.seen - {"embedding_size"} == OPTIONS - {*unread, "embedding_size"}
    assert "embedding_size" in Noted.seen


OTHER: dict[str, Any] = {
    "cell": "gru", "forget_scale": 0.5, "forget_bias": 2.0, "num_layers": 3, "embedding_size": 5, "residual": True,
    "k_top": 2, "k_att": 1, "k_trunc": 2, "score": "dot", "score_size": 3, "normalizer": "softmax",
    "recall_scale": 0.3, "null_score": 1.0, "summary_gate": 0.2, "stored": "proposal", "semantics": "release",
    "capacity": 3, "evict": "least_recalled", "horizon": 1, "credit_every": 3, "backtrack": False,
    "positions": "none", "feedforward_size": 5, "min_radius": 0.5, "dropout": 0.5, "recurrent_dropout": 0.5,
    "backend": "reference", "engine": "autograd",
}  # fmt: skip
"""Each option with another value."""
LONELY: dict[str, tuple[dict[str, Any], set[str]]] = {
    "recalls nothing": ({"k_top": 0}, {"k_att", "score", "score_size", "capacity", "evict", "stored", "backtrack"}),
    "separable": ({"score": "separable"}, {"score_size"}),
    "release": ({"semantics": "release"}, {"score_size"}),
    "keeps all": ({"capacity": None}, {"evict"}),
    "within chunks": ({"horizon": 0}, {"credit_every"}),
    "one layer": ({"num_layers": 1}, {"dropout"}),
}
"""Options of SAB with which others mean nothing."""


def test_there_is_another_value_of_every_option() -> None:
    assert {*OTHER, "model", "hidden_size"} == OPTIONS
    assert all(set(read) <= OPTIONS for read in READ.values())


@pytest.mark.parametrize("task", [Copying(T=16, symbols=2), Cue(lag=17, gap=3, chunk=12)], ids=["whole", "stream"])
@pytest.mark.parametrize("given", [*({"model": name} for name in READ), *(given for given, _ in LONELY.values())])
def test_an_option_that_means_nothing_is_refused(task: Any, given: dict[str, Any]) -> None:
    """And the command that names the run leaves it out."""
    plain = RunConfig(task, replace(model_defaults(task.__class__), **{**FULL, **given})).essential()
    plain.check_read()
    for name, value in OTHER.items():
        if name in given or value == getattr(plain.model, name):
            continue
        changed = replace(plain, model=replace(plain.model, **{name: value}))
        if name in plain.unread():
            assert command(changed) == command(plain), name
            for refused, names in ((changed, None), (plain, [name])):
                with pytest.raises(ValueError, match=f"^{name} .*; got"):
                    refused.check_read(names)
        else:
            changed.check_read([name])
            assert name.replace("_", "-") in " ".join(command(changed)), name


@pytest.mark.filterwarnings("ignore:dropout acts between layers")
@pytest.mark.parametrize(("given", "names"), LONELY.values(), ids=LONELY)
def test_an_option_that_is_refused_changes_nothing(given: dict[str, Any], names: set[str]) -> None:
    options = replace(ModelOptions(), **{**FULL, **given})
    assert names <= options.unread(streamed=True).keys()
    task = Copying(T=16) if options.capacity is None else Cue(lag=17, gap=3, chunk=12)
    want = learned(task, options)
    for name in names:
        got = learned(task, replace(options, **{name: OTHER[name]}))
        assert all(map(torch.equal, got, want)), name


def test_whole_sequences_have_no_earlier_chunks() -> None:
    options = replace(ModelOptions(), **FULL)
    want, got = (learned(Copying(T=16), replace(options, horizon=horizon)) for horizon in (0, None))
    assert all(map(torch.equal, got, want))


def learned(task: Any, options: ModelOptions) -> list[Tensor]:
    """What a model predicts of a few chunks, and its gradients."""
    torch.manual_seed(0)
    network, state = SequenceModel(task, options), None
    predictions: list[Tensor] = []
    for batch in islice(task.train_batches(2, 0), 3):
        prediction, state = network.read(batch, state)
        prediction.square().mean().backward()
        predictions.append(prediction.detach())
    return [*predictions, *(each.grad for each in network.parameters() if each.grad is not None)]


@pytest.mark.parametrize(
    ("given", "cut"),
    [({}, 20), ({"model": "tbptt"}, 10), ({"k_trunc": 7}, 7), ({"model": "tbptt", "k_trunc": 20}, 20)],
    ids=["default", "tbptt", "given", "tbptt given"],
)
def test_a_stream_is_cut_at_the_borders_of_its_chunks_unless_it_is_cut_otherwise(
    given: dict[str, Any], cut: int
) -> None:
    options = replace(model_defaults(Cue), hidden_size=8, **given)
    layer = SequenceModel(Cue(chunk=20), options).layer
    assert isinstance(layer, SAB)
    assert layer.k_trunc == cut
    assert given or layer.k_att == 10, "a chunk stores several memories"


def test_a_stream_that_recalls_nothing_has_the_gradient_of_an_lstm_within_each_chunk() -> None:
    """By default SAB's gradient is cut where that of truncated BPTT by chunks is, and nowhere else."""
    task = Cue(lag=15, gap=5, chunk=20)
    options = replace(model_defaults(Cue), hidden_size=6, embedding_size=4, horizon=0)
    batches = list(islice(task.train_batches(3, 0), 2))
    gradients: list[list[Tensor]] = []
    for given in ({"k_top": 0}, {"model": "lstm"}):
        torch.manual_seed(0)
        network = SequenceModel(task, replace(options, **given)).double()
        _, state = network.read(batches[0])
        network.read(batches[1], state)[0][-1].square().sum().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for mine, lstms in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, lstms, rtol=1e-9, atol=1e-12)
    assert gradients[0][0].abs().max() > 0
