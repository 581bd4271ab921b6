"""Labelled series: file formats, splits, padding of short series, and messages about bad files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from reminding.tasks import Series, SpokenDigits


def write_wav(path: Path, samples: list[int], channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.array(samples, "<i2").tobytes())


def rows(path: Path, count: int = 20, length: int = 6) -> Path:
    """Two classes of `count` series each; the values of a series are its line number."""
    lines = [f"{number % 2}.0\t" + "\t".join([str(number)] * length) for number in range(2 * count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def firsts(task: Series, split: str, scale: tuple[float, float]) -> list[int]:
    """The line numbers, as written by `rows`, of the series in a split."""
    values = task.examples(split).values[:, -1, 0] * scale[1] + scale[0]  # pyright: ignore[reportArgumentType]
    return [round(float(value)) for value in values]


def test_a_fifth_of_each_class_is_held_out_twice_where_there_is_no_test_file(tmp_path: Path) -> None:
    task = Series(rows(tmp_path / "mine.tsv"))
    kept = list(range(26))  # of 20 per class, 4 are for the test; of the other 16, 3 are for validation
    scale = (float(np.mean(kept)), float(np.std(kept)))
    assert firsts(task, "train", scale) == kept
    assert firsts(task, "valid", scale) == list(range(26, 32))
    assert firsts(task, "test", scale) == list(range(32, 40))
    for split in ("train", "valid", "test"):
        assert task.examples(split).label.bincount().numpy().tolist() == [len(task.examples(split).label) // 2] * 2
    train = task.examples("train").values
    assert (float(train.mean()), float(train.std(correction=0))) == pytest.approx((0, 1), abs=1e-6)


def test_the_test_file_beside_the_training_file_is_taken(tmp_path: Path) -> None:
    rows(tmp_path / "Mine_TEST.txt", count=3)
    task = Series(rows(tmp_path / "Mine_TRAIN.txt", count=5))
    assert [len(task.examples(split).label) for split in ("train", "valid", "test")] == [8, 2, 6]
    assert len(Series(tmp_path / "Mine_TRAIN.txt", test=tmp_path / "Mine_TRAIN.txt").examples("test").label) == 10


def test_short_series_end_at_the_last_step_and_frames_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    lines = ["# about", "@problemName a", "@data", "1,2,3,4,5:cat", "5,4,3:dog", "1,2,3,4,5:cat", "5,4,3:dog"]
    path.write_text("\n".join(lines))
    task = Series(path, test=path, frame=2)
    examples, mean, deviation = (
        task.examples("test"),
        np.mean([1, 2, 3, 4, 5, 5, 4, 3]),
        np.std([1, 2, 3, 4, 5, 5, 4, 3]),
    )
    assert task.classes == ("cat", "dog")
    assert task.input_size == 2
    assert task.output_size == 2
    cat, dog = (examples.values[row].numpy() * deviation + mean for row in (0, 1))
    assert np.allclose(cat, np.array([[1.0, 2], [3, 4], [5, mean]]))
    assert np.allclose(dog, np.array([[mean, mean], [5.0, 4], [3, mean]]))
    assert torch.equal(next(task.eval_batches("test", 1)).input[:, 0], examples.values[0])
    assert Series(path, test=path, samples=4).examples("test").values.shape == (4, 4, 1)


def test_labels_that_are_numbers_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{label},0,1,NaN,NaN\n" * 3 for label in (10, 9, -1)))
    assert Series(path).classes == ("-1", "9", "10")
    assert Series(path).examples("train").values.shape[1] == 2, "NaN after the end is no value"


def test_wav_files_are_labelled_by_folder_or_name(tmp_path: Path) -> None:
    for number in range(3):
        write_wav(tmp_path / "tree" / "yes" / f"{number}.wav", [0, 16384])
        write_wav(tmp_path / "tree" / "no" / f"{number}.wav", [-16384, 0])
        write_wav(tmp_path / "flat" / f"yes_{number}.wav", [0, 0, 16384, 16384], channels=2)
        write_wav(tmp_path / "flat" / f"no_{number}.wav", [-16384, -16384, 0, 0], channels=2)
    tree, flat = Series(tmp_path / "tree"), Series(tmp_path / "flat")
    assert tree.classes == flat.classes == ("no", "yes")
    assert torch.equal(tree.examples("train").values, flat.examples("train").values)
    assert tree.examples("train").values.shape == (1 * 2, 2, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3\n0 4 x\n", "bad.txt, line 2: could not convert string to float: 'x'"),
        ("1 2 3\n0 4 nan 5\n", "bad.txt, line 2: value 2 is not finite"),
        ("1 2 3\n0\n", "bad.txt, line 2: no values"),
        ("1 2 3\n1 2 3\n1 2 3\n", "at least 2 different labels, got 1"),
        ("1 2 3\n1 2 3\n1 2 3\n1 2 3\n2 2 3\n", "too few series with the label '2'"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        Series(path).train_batches(1, 0)


def test_a_missing_or_damaged_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data PATH"):
        Series().train_batches(1, 0)
    with pytest.raises(FileNotFoundError, match="nowhere is neither a file nor a folder"):
        Series(tmp_path / "nowhere").train_batches(1, 0)
    with pytest.raises(FileNotFoundError, match=r"no \.wav file"):
        Series(tmp_path).train_batches(1, 0)
    (tmp_path / "a_1.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a_1.wav cannot be read as WAV"):
        Series(tmp_path).train_batches(1, 0)
    (tmp_path / "a.ts").write_text("@data\n1,2,3\n")
    with pytest.raises(ValueError, match="line 2: 0 colons"):
        Series(tmp_path / "a.ts").train_batches(1, 0)
    with pytest.raises(FileNotFoundError, match=r"0_george_0\.wav"):
        SpokenDigits(tmp_path).train_batches(1, 0)
    with pytest.raises(ValueError, match="frame must be an integer of at least 1, got 0"):
        Series(frame=0)


def test_spoken_digits_are_split_by_take(tmp_path: Path) -> None:
    for digit in range(10):
        for take in (0, 4, 5, 9, 10, 11):
            write_wav(tmp_path / "recordings" / f"{digit}_theo_{take}.wav", [digit, take] * 20)
    task = SpokenDigits(tmp_path, frame=16)
    assert task.output_size == 10
    for split in ("train", "valid", "test"):
        assert task.examples(split).label.bincount().numpy().tolist() == [2] * 10
        assert task.examples(split).values.shape == (20, 3, 16)
    batch = next(task.train_batches(8, 0))
    assert batch.input.shape == (3, 8, 16)


def test_real_recordings(real_data: Path) -> None:
    try:
        task = SpokenDigits(real_data)
        lengths = [len(task.examples(split).label) for split in ("train", "valid", "test")]
    except FileNotFoundError as error:
        pytest.skip(f"no real recordings: {error}")
    assert lengths == [2400, 300, 300]


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("PLAID/PLAID_TRAIN.ts", (537, 1344), 11),
        ("ACSF1/ACSF1_TRAIN.ts", (100, 1460), 10),
        ("PigCVP/PigCVP_TRAIN.txt", (104, 2000), 52),
    ],
)
def test_real_series(real_data: Path, name: str, shape: tuple[int, int], classes: int) -> None:
    if not (path := real_data / "ucr" / name).is_file():
        pytest.skip(f"no {path}")
    task = Series(path)
    known = sum(len(task.examples(split).label) for split in ("train", "valid"))
    assert ((known, task.examples("train").values.shape[1]), task.output_size) == (shape, classes)
    assert next(task.eval_batches("test", 10)).input.shape == (shape[1], 10, 1)
