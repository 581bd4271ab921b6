"""Every code block in the documentation runs, and every command in it is valid."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding import cli
from reminding.lab.paper.reproduce import ReproduceOptions, experiment
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.show import plots
from reminding.lab.verbs import campaigns, commands, measuring, predicting
from reminding.tasks import Copying, FileStream
from reminding.tasks.data.download import DATA_VARIABLE

from .pages import ANNOUNCED, BLOCKS, EXPLAIN_OPTIONS, PAGES, ROOT, TYPED, Block, command_lines

PYTHON = {path: [b for b in BLOCKS if b.kind == "python" and ROOT / b.page == path] for path in PAGES}
COMMANDS = [(block, words) for block in BLOCKS if block.kind == "sh" for words in command_lines(block)]
REMINDING = [(b, words) for b, words in COMMANDS if words[0].endswith("reminding")]
TYPED_OUT = REMINDING + [(block, words) for block in TYPED for words in command_lines(block)]
SMALL = {"steps": 2, "eval-every": 1, "hidden-size": 4, "batch-size": 4, "eval-sequences": 2, "test-sequences": 2}
TINY = {"train": [f"--{name}={value}" for name, value in SMALL.items()], "eval": ["--sequences", "2"]}
FEWER = {"--occlude": "2"}
ACTIONS = {
    "reproduce": campaigns,
    "sweep": campaigns,
    "bench": measuring,
    "predict": predicting,
    "sample": predicting,
}
"""The modules of the verbs whose actions are not in `commands`."""
BEYOND_OLDEST = ("save_onnx", "fully_shard") if torch.__version__.startswith("2.6.") else ()
"""Names that PyTorch 2.6 has no working code for: no ONNX of a layer, and FSDP2 on a GPU only."""


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile reads it
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp calls it
@pytest.mark.parametrize("page", [path for path, blocks in PYTHON.items() if blocks], ids=lambda path: path.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for block in PYTHON[page]:
        if not block.announced and not any(name in block.text for name in BEYOND_OLDEST):
            exec(compile("\n" * block.line + block.text, ROOT / block.page, "exec"), names)


def test_git_ignores_what_the_tutorials_write() -> None:
    """A newcomer types the commands in the clone: its scripts, tables, pictures and runs are no changes of it."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    words = " ".join(block.text for block in BLOCKS if block.page.startswith("docs/howto") and block.kind != "text")
    prose = " ".join(page.read_text() for page in PAGES if "howto" in page.parts)
    named = set(re.findall(r"[\s\"'=]([\w./-]+\.(?:csv|tsv|txt|parquet|png))\b", words))
    named |= set(re.findall(r"`(make_\w+\.py)`", prose)) | set(re.findall(r"--out (runs/[\w-]+)", words))
    written = {name for name in named if not name.startswith(("/", "~", "../", "docs/"))} | {"levels/config.json"}
    assert {"sensors.csv", "knocks.tsv", "make_kiln.py", "forecast.csv", "next.png", "runs/sensors"} <= written
    told = subprocess.run(
        ["git", "check-ignore", "--no-index", *sorted(written)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert sorted(written) == told.stdout.split()


def test_every_fenced_block_is_of_a_known_kind() -> None:
    assert {block.kind for block in BLOCKS} <= {"python", "sh", "text", "bibtex"}


def test_what_is_announced_is_not_there_yet() -> None:
    """If this fails, an announced name now exists: remove it from the list, so that its blocks and commands run."""
    there = [name for name in ANNOUNCED if name in cli.VERBS or hasattr(plots, name)]
    assert there == []


def _note(done: list[str], verb: str, *_: Any, **__: Any) -> None:
    done.append(verb)


def _configure(
    done: list[str], task: Any, model: ModelOptions, options: TrainOptions, *_: Any, given: set[str], **__: Any
) -> None:
    RunConfig(task, model, options).check_read(given)  # refuses options that the model has not
    done.append("train")


def _plan(done: list[str], name: str, options: ReproduceOptions) -> None:
    experiment(name, options)  # refuses a setting or a method that there is not
    done.append("reproduce")


def _some_task(folder: Path) -> Copying | FileStream:
    """The task of a run on a table, named so, or of any other."""
    return FileStream(Path("sensors.csv")) if folder.name == "sensors" else Copying()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The commands whose options were parsed; none is run."""
    monkeypatch.chdir(tmp_path)
    done: list[str] = []
    for verb in cli.VERBS:
        name = "evaluate" if verb == "eval" else verb
        monkeypatch.setattr(ACTIONS.get(verb, commands), name, partial(_note, done, verb))
    for kind in ("bench_serve", "bench_stream", "bench_gpu"):
        monkeypatch.setattr(measuring, kind, partial(_note, done, "bench"))
    monkeypatch.setattr(commands, "train", partial(_configure, done))
    monkeypatch.setattr(campaigns, "reproduce", partial(_plan, done))
    monkeypatch.setattr(commands, "task_of", _some_task)
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))  # where the experiment on the kiln makes its table
    return done


@pytest.mark.parametrize(("block", "words"), TYPED_OUT, ids=[f"{b}-{' '.join(w[1:3])}" for b, w in TYPED_OUT])
def test_a_command_of_the_command_line_can_be_typed(
    block: Block, words: list[str], parsed: list[str], tmp_path: Path
) -> None:
    _, verb, *rest = words
    if verb in ANNOUNCED:
        assert {word for word in rest if word.startswith("--")} <= EXPLAIN_OPTIONS
        return
    if "--data" in rest:
        place = tmp_path / rest[rest.index("--data") + 1].replace("*", "a")
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"0,0\n1,1\n" * 20)
    cli.main([verb, *rest])
    assert parsed == [verb]


def test_the_other_commands_are_ones_that_there_are() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    others = [words for _, words in COMMANDS if not words[0].endswith("reminding")]
    assert {words[1] for words in others if words[0] == "make"} <= targets
    # Variables for a program stand before its name.
    programs = {next(word for word in words if "=" not in word) for words in others}
    assert programs <= {
        "git",
        "cd",
        "make",
        "source",
        "torchrun",
        "accelerate",
        "python",
        "pip",
    }
    scripts = [word for words in others for word in words if word.endswith(".py")]
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize("page", ["docs/howto/data.md", "docs/quickstart.md"])
def test_the_path_of_a_newcomer_leads_to_a_trained_model_and_its_report(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands run in order at tiny sizes; those that need other files are skipped."""
    monkeypatch.chdir(tmp_path)
    if page == "docs/howto/data.md":
        for block in PYTHON[ROOT / page]:
            exec(block.text, {})
    typed = [words[1:] for block, words in REMINDING if block.page == page and words[1] not in ANNOUNCED]
    for verb, *rest in typed:
        files = [Path(rest[rest.index(option) + 1]) for option in ("--data", "--input") if option in rest]
        if all(file.is_file() for file in files):
            words = [FEWER.get(before, word) for before, word in zip(["", *rest], rest, strict=False)]
            cli.main([verb, *words, *TINY.get(verb, [])])
    out = Path("runs/sensors" if page == "docs/howto/data.md" else "runs/copying")
    assert (out / "model.safetensors").is_file()
    assert (out / "report" / "index.html").is_file()
