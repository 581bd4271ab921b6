"""Options that the run, the task or the file cannot use are refused by every verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reminding.cli import main
from reminding.cli.parsing import check_empty
from reminding.lab.runs.facts import save_facts
from reminding.lab.verbs import commands, predicting
from reminding.tasks import Copying, FileStream
from tests.lab.explain.conftest import untrained
from tests.lab.explain.tables import table

TRAIN = "train copying --T 4 --steps 1"
REFUSED = {
    f"{TRAIN} --model lstm --k-top 3": "k_top is for sab, not for lstm; got 3",
    f"{TRAIN} --model lstm --k-top 5": "k_top is for sab, not for lstm; got 5",  # the default
    f"{TRAIN} --model lstm --k_top=5": "k_top is for sab, not for lstm; got 5",
    f"{TRAIN} --model lstm --backtrack": "backtrack is for sab, not for lstm; got True",
    f"{TRAIN} --no-check-finite --model mingru --no-backtrack": "backtrack is for sab, not for mingru; got False",
    f"{TRAIN} --model mingru --backend cpu": "backend is for sab, lstm, tbptt, attention, not for mingru; got cpu",
    f"{TRAIN} --min-radius 0.5": "min_radius is for rtu, not for sab; got 0.5",
    f"{TRAIN} --horizon 9": "horizon is for streams: whole sequences have no earlier chunks; got 9",
    f"{TRAIN} --evict least_recalled": "evict needs a capacity, without which no memory is evicted; got least_rec",
    f"{TRAIN} --dropout 0.1": "dropout acts between layers, and there is one; got 0.1",
    f"{TRAIN} --model rtu --embedding-size 4": "embedding_size must be None for rtu, whose input weights are an emb",
    "train cue --steps 1 --k-top 0 --capacity 9": "capacity is of memories, and k_top 0 recalls none; got 9",
    "train stream --data TEXT --missing carry": "in which nothing is missing; see format",
    "train stream --data TEXT --separator ;": "is read as bytes, which has no cells; see format",
    "train stream --data TEXT --na -999": "is read as bytes, which has no cells; see format",
    "train stream --data a.csv b.csv": "data: --data takes one file, got 2: a.csv, b.csv; name several by a pattern",
    f"{TRAIN} --capacity none": "capacity: --capacity takes a whole number or None, got 'none'",
    f"{TRAIN} --max-seconds=x": "max_seconds: --max-seconds takes a number or None, got 'x'",
    "train stream --data CSV --columns a --columns b": "columns: --columns is given 2 times; name all after one",
    "report LSTM --sequence 3 --sequence=4": "sequence is of the recalls that are drawn, and no run is of SAB; got 4",
    "eval LSTM --capacity 5": "capacity is for sab, not for lstm; got 5",
    "eval LSTM --evict fifo": "evict is for sab, not for lstm; got fifo",
    "eval SAB --evict least_recalled": "evict needs a capacity, without which no memory is evicted; got least_rec",
    "eval SAB --balanced": "balanced is for the training loss; got True in eval",
    "eval OVEN --window 5": "window sets the scale, which is that of training; got 5 in eval",
    "eval OVEN --data CSV --held-out 9": "held_out holds rows out, and new data are evaluated whole; got 9.0 in eval",
    "eval OVEN --data CSV --valid CSV": "valid holds rows out, and new data are evaluated whole; got ",
    "predict OVEN --input nowhere.csv": "input: nowhere.csv is neither a file nor a folder",
    "predict OVEN --input FOLDER": "is not a file",
    "explain OVEN --input CSV --split valid": "split is for sequences of the task, not for input; got valid",
    "sweep copying --space TOML --pruner none --warmup 9": "warmup is for the pruner median, not for none; got 9",
    "sweep copying --space TOML --evict fifo": "evict needs a capacity, without which no memory is evicted, and so",
    "sweep copying --space TOML --model lstm": "k_top is for sab, not for lstm, and so in every trial",
    "reproduce copying --grace 9": "grace is for the workers of a storage, and there is none; got 9",
    "reproduce copying --dry --data-dir FOLDER": "data_dir is of data sets, and copying reads none; got ",
    "reproduce pmnist --dry --no-verify": "verify is of published files, which pmnist does not compare; got False",
    f"{TRAIN} --clip 0 --clip-kind fixed": "clip_kind is of clipping, and clip 0 means none; got fixed",
    "train stream --data TEXT --valid TEXT --test TEXT --held-out 0.2": "held_out is for parts of data; valid and te",
    "report LSTM --sequence 3": "sequence is of the recalls that are drawn, and no run is of SAB; got 3",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs and files, by the words that stand for them."""
    folder = tmp_path_factory.mktemp("places")
    text, toml = folder / "text", folder / "space.toml"
    text.write_bytes(b"abcdefgh" * 50)
    toml.write_text("[k_top]\nlow = 1\nhigh = 3\n")
    found = {"TEXT": text, "TOML": toml, "FOLDER": folder}
    found["CSV"], found["OVEN"], _ = table(folder)
    for name, model in (("LSTM", "lstm"), ("SAB", "sab")):
        found[name] = untrained(folder / name, Copying(T=4), model=model)
        save_facts(found[name], Copying(T=4))
    return found


@pytest.mark.parametrize(("words", "says"), REFUSED.items(), ids=REFUSED)
def test_an_option_that_cannot_be_used_is_refused(
    words: str,
    says: str,
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as refused:
        main([str(places.get(word, word)) for word in words.split()])
    boxed = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert says in f"{refused.value} {boxed}"
    assert list(tmp_path.iterdir()) == [], "nothing has begun"


def test_of_many_columns_the_terminal_shows_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "a.csv"
    data.write_text("a,b,c\n" + "".join(f"{i % 3},{i % 5},{i % 7}\n" for i in range(90)))
    task = FileStream(data, chunk=5, eval_rows=1, held_out=9)
    run = untrained(tmp_path / "run", task)
    save_facts(run, task)
    monkeypatch.setattr(predicting, "MOST_COLUMNS", 1)
    monkeypatch.setattr(commands, "MOST_ROWS", 1)
    main(["predict", str(run), "--input", str(data)])
    assert "and 2 more columns; --out writes all to a file" in capsys.readouterr().out
    main(["eval", str(run), "--data", str(data)])
    assert "and 2 more\n" in capsys.readouterr().out


def test_what_a_parquet_file_says_itself_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"a": range(60)}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"^encoding: .*a\.parquet is a Parquet file, which says it$"):
        FileStream(tmp_path / "a.parquet", encoding="utf-8").facts()
    task = FileStream(tmp_path / "a.parquet", held_out=9, chunk=5, missing="zero", na=("7",))
    assert task.facts()["masks"] == ["a"]


def test_a_folder_that_cannot_be_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("reading_shown", "checkpoint.with_facts"):
        monkeypatch.setattr(f"reminding.lab.train.trainer.{name}", worked)
    for name in ("commands.explain_run", "commands.write_report", "predicting.load"):
        monkeypatch.setattr(f"reminding.lab.verbs.{name}", worked)
    file = tmp_path / "lin.csv"
    file.write_text("a,b\n1,2\n")
    for words in (TRAIN, f"explain {tmp_path}", f"report {tmp_path}", f"predict {tmp_path} --input {file}"):
        out = file / "out.csv" if words.startswith("predict") else file
        with pytest.raises(SystemExit, match=f"could not write {file}: it is a file, and a folder is needed"):
            main([*words.split(), "--out", str(out)])
    for option, name in (("--out", "a.csv"), ("--figure", "a.png")):
        (tmp_path / name).mkdir()
        with pytest.raises(SystemExit, match=f"could not write {tmp_path / name}: it is a folder, and a file is"):
            main(["predict", str(tmp_path), "--input", str(file), option, str(tmp_path / name)])


@pytest.mark.parametrize("words", [["--out", "~/a.csv"], ["--out=~/a.csv"]])
def test_the_home_folder_is_meant_where_a_shell_leaves_its_sign(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After = and in the quotes of a pattern; a folder called ~ was made, whose removal may remove one's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    meant: list[Any] = []

    def taken(*given: Any) -> None:
        meant.extend(given)

    monkeypatch.setattr(predicting, "predict", taken)
    main(["predict", "RUN", "--input", "~/in/m*.csv", *words])
    assert (meant[1].input, meant[2]) == (tmp_path / "in" / "m*.csv", tmp_path / "a.csv")
    main(["predict", "RUN", "--input", "./~/b.csv", "--out=a~.csv"])
    assert (meant[5].input, meant[6]) == (Path("~/b.csv"), Path("a~.csv"))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([*TRAIN.split(), "--out", ""], "out"),
        ([*TRAIN.split(), "--out="], "out"),
        (["sweep", "copying", "--space", "s.toml", "--study", ""], "study"),
        (["sweep", "copying", "--space", "s.toml", "--storage="], "storage"),
        (["reproduce", "copying", "--data_dir", ""], "data_dir"),
        (["reproduce", "copying", "--methods", "sab", ""], "methods"),
        (["report", ""], "argument"),
        (["eval", "", "--T", "9"], "argument"),
    ],
)
def test_an_empty_text_as_of_an_unset_variable_is_refused(
    words: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"reminding: {name} must not be empty, got ''"):
        main(words)
    assert not list(tmp_path.iterdir())


def test_free_text_may_be_empty() -> None:
    check_empty(["run", "--prompt", "", "--na", "", "-", "--prompt="])
