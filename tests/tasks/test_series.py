"""Labelled series: file formats, splits, padding of short series, and messages about bad files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from reminding.tasks import Series, Split, SpokenDigits


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
        ("1 2 3\n0 4 x\n", "bad.txt, line 2: value 2 is 'x', expected a number"),
        ("1 2 3\n0 4 inf 5\n", "bad.txt, line 2: value 2 is not finite"),
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
    with pytest.raises(FileNotFoundError, match="no audio file"):
        Series(tmp_path).train_batches(1, 0)
    (tmp_path / "a_1.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"a_1.wav cannot be read as audio"):
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


def speak(path: Path, level: int, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.array([level, -level], "<i2").tobytes())


def voices_of(task: Series | SpokenDigits) -> dict[str, set[float]]:
    """The first value of each recording, which tells its speaker, by split."""
    splits: tuple[Split, ...] = ("train", "valid", "test")
    return {split: {float(value) for value in task.examples(split).values[:, 0, 0]} for split in splits}


def test_folders_of_splits_are_splits_of_their_own(tmp_path: Path) -> None:
    for number in range(5):
        for level, label in ((1000, "dog"), (2000, "cat")):
            speak(tmp_path / "train" / label / f"{number}.wav", level)
            speak(tmp_path / "test" / label / f"{number}.wav", level)
    task = Series(tmp_path)
    assert task.classes == ("cat", "dog")
    assert [len(task.examples(split).label) for split in ("train", "valid", "test")] == [8, 2, 10]


def test_groups_are_held_out_whole(tmp_path: Path) -> None:
    levels = {name: 1000 * (number + 1) for number, name in enumerate("abcdefghij")}
    for name, level in levels.items():
        for label in ("no", "yes"):
            speak(tmp_path / f"{label}_{name}_1.wav", level)
            speak(tmp_path / f"{label}_{name}_2.wav", level)
    task = Series(tmp_path, pattern="{label}_{group}_*")
    heard = voices_of(task)
    assert [len(voices) for voices in heard.values()] == [7, 1, 2]
    assert not (heard["train"] & heard["test"] or heard["train"] & heard["valid"] or heard["valid"] & heard["test"])


def test_without_groups_the_held_out_files_are_spread(tmp_path: Path) -> None:
    for number in range(20):
        for label in ("no", "yes"):
            speak(tmp_path / label / f"{number:02}.wav", 100 * (number + 1))
    task = Series(tmp_path)
    cut = task.form.cut
    tested = task.examples("test").values[:, 0, 0] * cut.scale.deviation[0] + cut.scale.mean[0]
    numbers = sorted({round(float(value) * 32768 / 100) - 1 for value in tested})
    assert numbers == [4, 9, 14, 19]
    assert "--pattern" in task.reading().notes[0]


def test_mixed_sample_rates_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        speak(tmp_path / "no" / f"{number}.wav", 100)
        speak(tmp_path / "yes" / f"{number}.wav", 100, 16000 if number == 1 else 8000)
    with pytest.raises(ValueError, match=r"yes/1\.wav has 16000 samples a second, .*no/0\.wav has 8000; convert"):
        Series(tmp_path).loaded()


def test_speakers_of_digits_can_be_held_out(tmp_path: Path) -> None:
    for digit in range(2):
        for number, speaker in enumerate(("ann", "bob", "cid", "dan")):
            for take in range(3):
                speak(tmp_path / f"{digit}_{speaker}_{take}.wav", 1000 * (number + 1))
    task = SpokenDigits(tmp_path, frame=2, hold_out="speakers")
    heard = voices_of(task)
    assert [len(voices) for voices in heard.values()] == [2, 1, 1]
    assert len(heard["train"] | heard["valid"] | heard["test"]) == 4


def test_dimensions_are_scaled_apart_and_missing_values_have_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    lines = ["@data", *(f"{i},{i},?:1000,{1000 + i},1000:{'ab'[i % 2]}" for i in range(8))]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"a\.ts, line 2: value 3 is missing; --missing carry"):
        Series(path, test=path).loaded()
    task = Series(path, test=path, missing="carry")
    assert task.input_size == 4
    values = task.examples("test").values[7].numpy()  # (T, I): two dimensions, two masks
    scale = task.form.cut.scale
    own = values[:, :2] * scale.deviation + scale.mean
    np.testing.assert_allclose(own, [[7, 1000], [7, 1007], [7, 1000]], rtol=1e-5)
    np.testing.assert_array_equal(values[:, 2:], [[0, 0], [0, 0], [1, 0]])
    train = task.examples("train").values[..., 1]
    assert (float(train.mean()), float(train.std(correction=0))) == pytest.approx((0, 1), abs=1e-5)
    zero = Series(path, test=path, missing="zero").examples("test").values[7].numpy()
    assert zero[2, 0] == 0


def test_labels_are_texts_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{label},{i},1\n" for i in range(5) for label in ("1234567", "1234568", "nan", "b")))
    task = Series(path)
    assert task.classes == ("1234567", "1234568", "b", "nan")
    assert task.examples("train").label.bincount().tolist() == [3, 3, 3, 3]


def test_a_label_that_no_training_series_has_is_named(tmp_path: Path) -> None:
    rows(tmp_path / "mine.tsv", 5)
    (tmp_path / "test.tsv").write_text("7\t1\t2\n")
    with pytest.raises(ValueError, match=r"test: .*test\.tsv, line 1: no training series has the label '7'"):
        Series(tmp_path / "mine.tsv", test=tmp_path / "test.tsv").loaded()
    own = Series(tmp_path / "mine.tsv", valid=tmp_path / "mine.tsv", test=tmp_path / "mine.tsv")
    assert [len(own.examples(split).label) for split in ("train", "valid", "test")] == [10, 10, 10]
