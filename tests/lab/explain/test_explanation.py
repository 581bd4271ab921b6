"""Explanations record what the layer did, for sequences of the run's task and for those of the user."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch.nn import functional as F

from reminding.lab.explain.explanation import ExplainOptions, Explanation, explain, most_credited
from reminding.lab.explain.legend import legend_of
from reminding.lab.explain.summary import summary
from reminding.lab.runs import checkpoint
from reminding.nn import SAB
from reminding.tasks import Adding, Copying, Cue, Digits, FileStream, Series, Text8
from reminding.tasks.data.sources import mu_law
from reminding.tasks.own import read_own
from tests.lab.explain.conftest import untrained
from tests.tasks.test_series import write_wav


def one(folder: Path, **options: Any) -> Explanation:
    (explanation,) = explain(folder, ExplainOptions(sequence=(0,), **options))
    return explanation


def test_it_holds_what_the_layer_recalled_and_what_credit_recorded(copying: Path) -> None:
    config, model = checkpoint.load_run(copying)
    batch = next(iter(config.task.eval_batches("test", 1)))
    assert isinstance(model.layer, SAB)
    with model.layer.credit() as credit:
        prediction, _, recall = model(batch.input)
        config.task.loss(prediction, batch).backward()
    found = one(copying)
    layer = found.layers[0]
    assert (found.input == batch.input[:, 0].numpy()).all()
    assert (found.target == batch.target[:, 0].numpy()).all()
    assert (layer.step == recall.step[:, 0].numpy()).all()
    np.testing.assert_allclose(layer.weight, recall.weight[:, 0], rtol=1e-6)
    assert (layer.reader == credit.step.numpy()).all()
    assert (layer.memory == credit.memory_step.numpy()).all()
    np.testing.assert_allclose(layer.amount, credit.amount, rtol=1e-6)
    assert len(layer.amount) > 0
    assert found.credit_of == "the task's loss"


def test_the_old_names_of_the_ends_of_credit_warn(copying: Path) -> None:
    layer = one(copying).layers[0]
    with pytest.warns(DeprecationWarning, match=r"Reminders\.reader"):
        assert layer.payer is layer.reader
    with pytest.warns(DeprecationWarning, match=r"Reminders\.memory"):
        assert layer.payee is layer.memory


def test_credit_at_some_steps_is_of_their_loss_alone(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Copying(T=8, symbols=3, balanced=True))
    config, model = checkpoint.load_run(folder)
    batch = next(iter(config.task.eval_batches("test", 1)))
    assert isinstance(model.layer, SAB)
    with model.layer.credit() as credit:
        prediction = model(batch.input)[0]
        F.cross_entropy(prediction[[9, 11], 0], batch.target[[9, 11], 0]).backward()
    found = one(folder, at=(10, 12))
    np.testing.assert_allclose(found.layers[0].amount, credit.amount, rtol=1e-5)
    assert found.layers[0].reader.max() == 12
    assert found.credit_of == "the loss at steps 10, 12"
    assert one(folder, at=(10,)).layers[0].reader.max() == 10


def test_where_the_gradient_met_the_input_is_what_autograd_says(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Adding(T=20))
    config, model = checkpoint.load_run(folder)
    batch = next(iter(config.task.eval_batches("test", 1)))
    x = batch.input.clone().requires_grad_()
    config.task.loss(model(x)[0], batch).backward()
    assert x.grad is not None
    found = one(folder).reached
    assert found is not None
    np.testing.assert_allclose(found, (x * x.grad)[:, 0].detach().abs().sum(1), rtol=1e-4, atol=1e-9)
    assert found.min() >= 0
    assert (found > 0).sum() > 3, "back along arcs, not the last segment alone"


def test_tokens_have_no_gradient(copying: Path) -> None:
    assert one(copying).reached is None


def test_a_class_may_be_asked_for_before_the_end(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Digits())
    found = one(folder, at=(20, 30))
    assert found.layers[0].reader.max() == 30
    assert set(found.layers[0].reader) & set(range(1, 21)), "step 20 counts as well, not the last alone"
    assert found.target is not None
    assert list(found.target[-2:]) == [-1, 0]


def test_each_layer_has_its_own(tmp_path: Path) -> None:
    found = one(untrained(tmp_path / "run", Copying(T=8, symbols=3), num_layers=2))
    assert len(found.layers) == 2
    assert not np.array_equal(found.layers[0].weight, found.layers[1].weight)
    assert all(len(layer.amount) for layer in found.layers)


def test_rows_of_streams_go_on_over_chunks(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Cue(lag=20, gap=10, chunk=10))
    first, second = explain(folder, ExplainOptions(sequence=(0, 3), steps=75))
    assert len(first.input) == len(second.input) == 75
    assert not np.array_equal(first.input, second.input)
    assert first.layers[0].step.max() > 40, "memories are numbered through all chunks"
    asked = int(np.flatnonzero(first.target >= 0)[0]) + 1 if first.target is not None else 0
    assert one(folder, steps=75, at=(asked,)).layers[0].reader.max() == asked
    with pytest.raises(ValueError, match="at: test stream 0 has no target at the chosen steps"):
        one(folder, steps=75, at=(1,))
    with pytest.raises(ValueError, match="sequence must be below 32, the number of streams of cue, got 32"):
        explain(folder, ExplainOptions(sequence=(32,)))


def test_own_tokens_give_what_the_task_gives_of_the_same(copying: Path, tmp_path: Path) -> None:
    known = one(copying)
    mine = tmp_path / "mine.txt"
    mine.write_text(" ".join(map(str, known.input)))
    found = one(copying, input=mine)
    assert (found.layers[0].step == known.layers[0].step).all()
    assert found.target is None
    assert "log-probability of the class predicted at every step" in found.credit_of
    assert one(copying, input=mine, at=(5,)).layers[0].reader.max() <= 5


@pytest.mark.parametrize(
    ("text", "message"),
    [("1 2 10", "step 3 is 10, expected a token from 0 to 9"), ("1 a", "line 1"), ("", "no numbers")],
)
def test_what_is_no_sequence_of_tokens_is_named(copying: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(ValueError, match=f"input: .*bad.txt.*{message}"):
        one(copying, input=tmp_path / "bad.txt")


def test_own_image_is_read_in_row_order(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Digits())
    known = one(folder)
    np.save(tmp_path / "image.npy", known.input.reshape(8, 8))
    found = one(folder, input=tmp_path / "image.npy")
    assert (found.input == known.input).all()
    assert "predicted at the last step" in found.credit_of
    np.save(tmp_path / "small.npy", np.zeros((7, 8)))
    with pytest.raises(ValueError, match=r"input: .* has shape \(7, 8\), expected 64 steps of 1 values"):
        one(folder, input=tmp_path / "small.npy")
    np.save(tmp_path / "bright.npy", np.full((8, 8), 16))
    with pytest.raises(ValueError, match="from 16 to 16, expected 0 to 1"):
        one(folder, input=tmp_path / "bright.npy")


def test_own_rows_of_values(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Adding(T=12))
    (tmp_path / "rows.csv").write_text("\n".join(f"0.{i},{int(i in (2, 7))}" for i in range(9)))
    found = one(folder, input=tmp_path / "rows.csv")
    assert found.input.shape == (9, 2)
    assert "the value predicted at the last step" in found.credit_of
    (tmp_path / "one.csv").write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"expected \(T, 2\)"):
        one(folder, input=tmp_path / "one.csv")


def test_own_table_is_scaled_as_the_training_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trained = "\n".join(f"{a},{b},x" for a, b in rng.normal(5, 2, (200, 2)))
    (tmp_path / "trained.csv").write_text("a,b,name\n" + trained)
    (tmp_path / "mine.csv").write_text("b,a\n" + "\n".join(f"{i},{2 * i}" for i in range(40)))
    task = FileStream(tmp_path / "trained.csv", chunk=5, held_out=20, eval_rows=1)
    found = one(untrained(tmp_path / "run", task), input=tmp_path / "mine.csv", start=3, steps=10)
    mean, deviation = task.scale.mean, task.scale.deviation
    rows = np.array([[2 * i, i] for i in range(3, 14)])
    np.testing.assert_allclose(found.input, ((rows - mean) / deviation)[:10], rtol=1e-5)
    assert found.target is not None
    np.testing.assert_allclose(found.target[:-1], found.input[1:], rtol=1e-6)
    assert found.legend.channels == ("a", "b")
    (tmp_path / "other.csv").write_text("b,c\n1,2\n")
    with pytest.raises(ValueError, match=r"input: columns: .*other.csv has no 'a'"):
        read_own(task, tmp_path / "other.csv")


def test_own_text_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"abc def\n")
    own = read_own(Text8(), tmp_path / "text.txt")
    assert own.input[:, 0].tolist() == [1, 2, 3, 0, 4, 5]
    assert own.target is not None
    assert own.target[-1, 0] == 6
    (tmp_path / "caps.txt").write_bytes(b"abC")
    with pytest.raises(ValueError, match=r"input: .*caps.txt: b'C' at character 2"):
        read_own(Text8(), tmp_path / "caps.txt")
    (tmp_path / "trained.txt").write_bytes(bytes(range(256)) * 4)
    task = FileStream(tmp_path / "trained.txt", chunk=5)
    found = one(untrained(tmp_path / "run", task), input=tmp_path / "text.txt")
    assert found.legend.marks(found.input) == ["a", "b", "c", "", "d", "e", "f"]
    with pytest.raises(ValueError, match="has 8 steps, expected at least 9"):
        read_own(task, tmp_path / "text.txt", start=7)


def test_own_sound(tmp_path: Path) -> None:
    samples = (np.sin(np.arange(80)) * 20000).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 80, "NONE", ""))
        file.writeframes(samples.tobytes())
    task = FileStream(tmp_path / "a.wav", chunk=5)
    own = read_own(task, tmp_path / "a.wav", steps=50)
    assert (own.input[:, 0].numpy() == mu_law(samples[:50] / 2**15)).all()
    drawn = legend_of(task).values(own.input[:, 0].numpy())[:, 0]
    np.testing.assert_allclose(drawn, samples[:50] / 2**15, atol=0.02)
    (tmp_path / "b.wav").write_bytes(b"RIFF?")
    with pytest.raises(ValueError, match=r"input: .* cannot be read as audio"):
        read_own(task, tmp_path / "b.wav")


@pytest.mark.parametrize("options", [{"model": "lstm"}, {"model": "attention"}, {"k_top": 0}])
def test_a_run_that_recalls_no_few_memories_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = untrained(tmp_path / "run", Copying(T=8, symbols=3), **options)
    with pytest.raises(ValueError, match="nothing to explain"):
        explain(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence": (1000,)}, "sequence: the test split of copying has no sequence 1000"),
        ({"layer": 2}, "layer must be from 1 to 1, got 2"),
        ({"at": (15,)}, "at must be at most 14, the steps of test sequence 0, got 15"),
        ({"steps": 5}, "steps is for streams; a sequence of copying is read whole"),
        ({"input": Path("nowhere.txt")}, "input: nowhere.txt is not a file"),
    ],
)
def test_options_that_do_not_fit_are_named(copying: Path, options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"sequence": (0,), **options}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        explain(copying, ExplainOptions(**given))


@pytest.mark.parametrize(
    ("name", "value"), [("sequence", (-1,)), ("at", (0,)), ("at", (5, 7, 5)), ("start", 1), ("steps", 0)]
)
def test_options_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        ExplainOptions(**{name: value})


def test_the_memories_with_most_credit_are_told(copying: Path) -> None:
    found = one(copying)
    layer = found.layers[0]
    received = np.bincount(layer.memory, weights=layer.amount)
    assert f"the memory of step {received.argmax()} {received.max() / received.sum():.2g}" in most_credited(found)


def test_places_are_rows_of_the_file_where_the_first_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame(np.random.default_rng(0).normal(size=(400, 2)), columns=["a", "b"]).to_csv(path, index=False)
    run = untrained(tmp_path / "run", FileStream(path, held_out=50, eval_rows=1, chunk=20))
    (found,) = explain(run, ExplainOptions(input=path, start=100, steps=40))
    assert (found.place(1), found.place(40), found.place(41)) == ("row 101", "row 140", "row 141")
    assert "from row 101 to row 140" in summary(found)
    assert summary(replace(found, at=(5, 7), forecast=None)).startswith("At row 105 and row 107 the model")
    assert found.times is not None and found.times.labels("row")[:2] == ("row 101", "row 102")
    (whole,) = explain(run, ExplainOptions(input=path, steps=40))
    assert whole.place(1) == "row 1" and whole.times is None


def test_places_are_rows_of_the_file_where_some_are_left_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(400, 2))
    values[5:9, 0] = np.nan
    path = tmp_path / "a.csv"
    pd.DataFrame(values, columns=["a", "b"]).to_csv(path, index=False)
    run = untrained(tmp_path / "run", FileStream(path, missing="drop", held_out=50, eval_rows=1, chunk=20))
    (found,) = explain(run, ExplainOptions(input=path, start=2, steps=10))
    assert [found.place(step) for step in (1, 3, 4)] == ["row 3", "row 5", "row 10"]
    np.testing.assert_allclose(found.values[3], values[9], rtol=1e-5)
    (found,) = explain(run, ExplainOptions(input=path, steps=3))
    assert found.times is None


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_what_was_filled_is_not_measured(tmp_path: Path, missing: Any) -> None:
    values = np.random.default_rng(0).normal(size=(400, 2))
    values[3:300:7, 0] = np.nan
    path = tmp_path / "a.csv"
    pd.DataFrame(values, columns=["a", "b"]).to_csv(path, index=False)
    run = untrained(tmp_path / "run", FileStream(path, missing=missing, held_out=50, eval_rows=1, chunk=20))
    (found,) = explain(run, ExplainOptions(input=path, steps=40))
    assert found.forecast is not None
    np.testing.assert_allclose(found.values, values[:40], rtol=1e-5)
    np.testing.assert_allclose(found.forecast.measured, values[:40], rtol=1e-5)
    np.testing.assert_allclose(found.forecast.truth, values[1:41], rtol=1e-5)
    assert found.legend.channels == ("a", "b")


@pytest.mark.parametrize("audio", [False, True])
def test_the_padding_of_a_short_series_is_known(tmp_path: Path, audio: bool) -> None:
    """A recording may begin with silence, which is no padding."""
    rng = np.random.default_rng(0)
    if audio:
        for number in range(20):
            samples = (rng.normal(size=80 if number else 160) * 3000).astype(int)
            samples[:24] = 0
            write_wav(tmp_path / "all" / f"{'ab'[number % 2]}_{number}.wav", samples.tolist())
        data = tmp_path / "all"
    else:
        lines = [f"{'ab'[i % 2]} {' '.join(map(str, rng.normal(size=160 if i == 0 else 80)))}" for i in range(20)]
        data = tmp_path / "all.txt"
        data.write_text("\n".join(lines))
    run = untrained(tmp_path / "run", Series(data, frame=8))
    for found in explain(run, ExplainOptions(sequence=(0, 1))):
        assert (len(found.input), found.padding) == (20, 10)
        assert np.isnan(found.values[:10]).all() and not np.isnan(found.values[10:]).any()
        assert found.place(10).endswith("which is padding") and "padding" not in found.place(11)
        if audio:
            assert found.times is not None and found.times.texts[10] == "0.000 s"


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_a_gap_in_a_column_that_had_none_in_training_is_missing(tmp_path: Path, missing: Any) -> None:
    """Such a column has no mask, so that the network cannot tell; a reader can."""
    values = np.random.default_rng(0).normal(size=(400, 2))
    gapped = values.copy()
    gapped[5:9, 0] = np.nan
    for name, rows in (("a", values), ("b", gapped)):
        pd.DataFrame(rows, columns=["a", "b"]).to_csv(tmp_path / f"{name}.csv", index=False)
    task = FileStream(tmp_path / "a.csv", missing=missing, held_out=50, eval_rows=1, chunk=20)
    (found,) = explain(untrained(tmp_path / "run", task), ExplainOptions(input=tmp_path / "b.csv", steps=20))
    assert found.forecast is not None
    np.testing.assert_allclose(found.values, gapped[:20], rtol=1e-5)
    np.testing.assert_allclose(found.forecast.measured, gapped[:20], rtol=1e-5)
    np.testing.assert_allclose(found.forecast.truth, gapped[1:21], rtol=1e-5)
    assert not np.isnan(found.input).any(), "which the network reads"
    assert found.input.shape == (20, 2), "without masks"
    known = ~np.isnan(gapped[1:21, 0])
    own, _ = found.forecast.errors()[0]
    off = np.abs(found.forecast.predicted[:, 0] - gapped[1:21, 0])
    assert own == pytest.approx(off[known].mean(), rel=1e-5)


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_a_gap_in_a_series_of_a_set_without_any_is_missing(tmp_path: Path, missing: Any) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{'ab'[i % 2]} {' '.join(map(str, rng.normal(size=24)))}" for i in range(20)]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    series = rng.normal(size=20)
    series[[3, 9]] = np.nan
    (tmp_path / "one.txt").write_text(f"a {' '.join('NaN' if np.isnan(v) else str(v) for v in series)}")
    run = untrained(tmp_path / "run", Series(tmp_path / "all.txt", frame=4, missing=missing))
    (found,) = explain(run, ExplainOptions(input=tmp_path / "one.txt"))
    assert (len(found.input), found.padding) == (6, 1)
    np.testing.assert_allclose(found.values[1:].ravel(), series, rtol=1e-4)
    assert found.target is not None and found.target[-1] == 0


def test_the_known_label_of_a_line_is_shown_beside_the_answer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{1 + i % 2} {' '.join(map(str, rng.normal(size=12).round(3)))}" for i in range(20)]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    run = untrained(tmp_path / "run", Series(tmp_path / "all.txt"))
    for label, told in (("1", "right"), ("2", "right"), ("?", "the truth is not known")):
        (tmp_path / "one.txt").write_text(f"{label} {lines[3].partition(' ')[2]}")
        (found,) = explain(run, ExplainOptions(input=tmp_path / "one.txt"))
        answer = found.legend.classes[int(found.prediction[-1].argmax())]
        told = told if label in (answer, "?") else f'wrong: it is "{label}"'
        assert told in summary(found)
