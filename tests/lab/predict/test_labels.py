"""Labels of series and images that a run was not trained on.

Shapes: T values of a series, C classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import reminding
from reminding.cli import main
from reminding.lab.runs.facts import save_facts
from reminding.tasks import Digits, Series
from reminding.tasks.own import read_own
from tests.lab.explain.conftest import untrained
from tests.lab.predict.test_predictor import informed_run
from tests.lab.test_portable import write_labelled


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A run on series with the labels a, b and c, which are no longer there."""
    data = write_labelled(tmp_path / "trained.txt", 0, "abbc")
    task = Series(data, frame=2)
    folder = untrained(tmp_path / "run", task)
    save_facts(folder, task)
    data.unlink()
    return folder


def test_labels_have_the_probabilities_of_the_model(labelled: Path, tmp_path: Path) -> None:
    predictor = reminding.load(labelled)
    assert predictor.classes == ("a", "b", "c")
    series = np.random.default_rng(1).normal(size=(7, 15))
    found = predictor.predict(series)
    form = predictor.config.task.form
    for values, (label, *shares) in zip(series, found.itertuples(index=False), strict=True):
        padded = np.zeros(16)
        padded[:15] = form.cut.scale.apply(values[:, None])[:, 0]
        with torch.no_grad():
            logits = predictor.model(torch.as_tensor(padded.reshape(8, 1, 2), dtype=torch.float32))[0][-1, 0]
        np.testing.assert_allclose(shares, logits.softmax(0).numpy(), rtol=1e-4)
        assert label == "abc"[int(logits.argmax())]
    lines = "".join("? " + " ".join(map(repr, map(float, values))) + "\n" for values in series)
    (tmp_path / "new.txt").write_text(lines)
    read = predictor.predict(tmp_path / "new.txt")
    np.testing.assert_allclose(read[list("abc")], found[list("abc")], rtol=1e-5)
    lengths = [series[0], series[1, :4], series[2]]
    assert predictor.predict(lengths).loc[[0, 2], "a"].to_numpy() == pytest.approx(found.loc[[0, 2], "a"].to_numpy())
    frame = pd.DataFrame(series, index=list("tuvwxyz"))
    assert list(predictor.predict(frame).index) == list("tuvwxyz")


def test_new_series_are_evaluated_as_they_are_predicted_whatever_else_is_in_their_file(
    labelled: Path, tmp_path: Path
) -> None:
    rng, new = np.random.default_rng(2), tmp_path / "new.txt"
    lengths = [40, 7, 16, 90, 23, 16, 90]  # those of training have up to 16
    series = [rng.normal(size=length).round(3) for length in lengths]
    found = reminding.load(labelled).predict(series)
    truth = [*found["label"][:3], *("abc"["bca".index(label)] for label in found["label"][3:])]
    lines = [f"{label} {' '.join(map(str, each))}\n" for label, each in zip(truth, series, strict=True)]
    new.write_text("".join(lines))
    main(["eval", str(labelled), "--data", str(new)])
    record = json.loads((labelled / "eval.jsonl").read_text().splitlines()[-1])
    assert record["accuracy"] == pytest.approx(3 / 7)
    chosen = [found.loc[row, label] for row, label in enumerate(truth)]
    assert record["cross_entropy"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)


@pytest.mark.parametrize("none", [[], np.zeros((0, 5)), pd.DataFrame(columns=range(5), dtype=float)])
def test_no_series_have_no_labels(labelled: Path, none: Any) -> None:
    with pytest.raises(ValueError, match=r"data must (have at least one series, got none|be one series)"):
        reminding.load(labelled).predict(none)


def test_a_file_without_labels_is_not_misread(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.txt").write_text("0.5 0.25 0.125\n")
    with pytest.raises(ValueError, match=r"bare.txt, line 1 has the label '0.5', expected one of a, b, c, or \?"):
        reminding.load(labelled).predict(tmp_path / "bare.txt")
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.npy holds no array of numbers that NumPy can read"):
        reminding.load(labelled).predict(tmp_path / "empty.npy")


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_audio_is_refused_where_the_training_data_were_text(verb: str, labelled: Path, tmp_path: Path) -> None:
    """Its samples were labelled as if they were the file's numbers."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16), 8000)
    with pytest.raises(SystemExit, match=r"^reminding: input: .*a\.wav is audio, and the training data are text$"):
        main([verb, str(labelled), "--input", str(path)])


def test_images_are_labelled(tmp_path: Path) -> None:
    predictor = reminding.load(informed_run(tmp_path / "run", Digits()))
    images = np.random.default_rng(0).random((3, 8, 8))
    found = predictor.predict(images)
    shown = torch.as_tensor(images.reshape(3, 64, 1), dtype=torch.float32).transpose(0, 1)
    with torch.no_grad():
        logits = predictor.model(shown)[0][-1]
    np.testing.assert_allclose(found[list(map(str, range(10)))], logits.softmax(1).numpy(), rtol=1e-4)
    with pytest.raises(ValueError, match="data must be from 0 to 1"):
        predictor.predict(images * 16)


@pytest.mark.parametrize("missing", ["carry", "zero"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_stepper_of_labelled_series_carries_as_predict_does(tmp_path: Path, missing: Any, masked: bool) -> None:
    """A value that is missing at the beginning of a frame is carried from the frame before."""
    task = Series(tmp_path / "gone.txt", frame=2, missing=missing).with_facts(
        {
            "classes": ["a", "b"],
            "counts": [5, 5],
            "mean": [2.0],
            "deviation": [0.5],
            "constant": [],
            "steps": 4,
            "masked": masked,
            "rate": None,
        }
    )
    predictor = reminding.load(informed_run(tmp_path / "run", task))
    series = np.array([3.0, 1.0, np.nan, 2.5, 4.0, np.nan, np.nan, np.nan])
    wanted = predictor.predict(series).iloc[0]
    stepper = predictor.stepper()
    for _ in range(2):
        told = [stepper.step(frame) for frame in series.reshape(4, 2)][-1]
        np.testing.assert_allclose([told["a"], told["b"]], wanted[["a", "b"]].to_numpy(float), rtol=1e-5)
        stepper.reset()


def sound(**options: Any) -> Series:
    """Recordings as files of 16 bits are read, from -1 to 1, which are no longer there."""
    learned: dict[str, Any] = {"mean": [0.0], "deviation": [0.1], "constant": [], "steps": 4, "masked": False}
    classes = {"classes": ["a", "b"], "counts": [5, 5], "rate": 8000}
    return Series(Path("gone"), frame=16, **options).with_facts(learned | classes)


def test_the_whole_numbers_of_a_sound_are_refused_where_it_was_read_as_samples(tmp_path: Path) -> None:
    """Libraries read 16 bits as whole numbers, which gave labels as sure as they were wrong."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 64).astype(np.int16)
    samples[0] = 9000
    predictor = reminding.load(informed_run(tmp_path / "run", sound()))
    said = "whole numbers up to 9000, expected samples from -1 to 1, as files are read; divide those of 16 bits by"
    with pytest.raises(ValueError, match=f"^data: {said}"):
        predictor.predict(samples)
    with pytest.raises(ValueError, match=f"^value: {said}"):
        predictor.stepper().step(samples[:16])
    np.save(tmp_path / "new.npy", samples)
    with pytest.raises(ValueError, match=f"^input: .*new.npy: {said}"):
        read_own(predictor.config.task, tmp_path / "new.npy")
    for quiet in (samples / 32768, np.sign(samples)):
        assert len(predictor.predict(quiet)) == 1

    spectra = reminding.load(informed_run(tmp_path / "spectra", sound(spectrum=True)))
    pd.testing.assert_frame_equal(spectra.predict(samples), spectra.predict(samples / 32768), rtol=1e-4)


def test_a_table_that_is_one_series_or_one_image_has_one_label(tmp_path: Path) -> None:
    """Its index has a name for each step, of which none is the series'."""
    task = Series(tmp_path / "gone.ts", frame=2).with_facts(
        {
            "classes": ["a", "b"],
            "counts": [5, 5],
            "mean": [2.0, 1.0],
            "deviation": [0.5, 1.0],
            "constant": [],
            "steps": 4,
            "masked": False,
            "rate": None,
        }
    )
    runs = {"series": (task, (8, 2)), "image": (Digits(), (8, 8))}
    for name, (kind, shape) in runs.items():
        predictor = reminding.load(informed_run(tmp_path / name, kind))
        values = np.random.default_rng(0).random(shape)
        found = predictor.predict(pd.DataFrame(values, index=pd.date_range("2024-01-01", periods=8)))
        pd.testing.assert_frame_equal(found, predictor.predict(values))
        assert len(found) == 1
