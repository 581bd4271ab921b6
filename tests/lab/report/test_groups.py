"""Seeds of one method as one group: values, means and deviations, worked out by hand."""

from __future__ import annotations

from pathlib import Path

from reminding.disk.records import write_json
from reminding.lab.report.groups import after_seconds, after_steps, group, spread
from reminding.lab.report.names import tails, told_apart
from reminding.lab.report.tables import methods
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import FORMAT_VERSION, read_config
from reminding.lab.runs.facts import FACTS_NAME, FACTS_VERSION
from reminding.lab.runs.records import Run, find_runs
from reminding.tasks import Adding, FileStream
from reminding.tasks.data.fingerprint import fingerprint
from tests.lab.conftest import small
from tests.lab.report.conftest import write


def test_smaller_is_better_where_it_is_an_error(tmp_path: Path) -> None:
    for seed, errors in enumerate(([0.3, 0.1, 0.2], [0.3, 0.2, 0.15])):
        curve = [(2 * i + 2, float(i), error) for i, error in enumerate(errors)]
        write(tmp_path / f"sab-seed{seed}", small(task=Adding(6), seed=seed), curve)
    (both,) = group(map(Run.read, find_runs([tmp_path])))
    assert both.values(after_steps(6)) == [0.1, 0.15]
    assert both.values(after_seconds(1.0)) == [0.1, 0.2]
    table = methods([both])
    assert dict(zip(table.columns, table.rows[0], strict=True))["worst seed"] == "0.2000"


def test_other_options_are_another_group(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 0.5)])
    write(tmp_path / "sab-seed1", small(seed=1, lr=0.1), [(2, 1.0, 0.5)])
    assert len(group(map(Run.read, find_runs([tmp_path])))) == 2
    write(tmp_path / "sab-seed2", small(seed=2, steps=99), [(2, 1.0, 0.5)])  # the same experiment, longer
    assert sorted(len(each.runs) for each in group(map(Run.read, find_runs([tmp_path])))) == [1, 2]


def test_of_one_value_there_is_no_deviation() -> None:
    assert (spread([]), spread([0.5]), spread([1.0, 3.0], ".1f")) == ("-", "0.5000", "2.0 ± 1.4")


def test_methods_of_one_name_in_two_places_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    for place, lr in (("slow", 1e-3), ("fast", 1e-2)):
        write(tmp_path / place / "sab-seed0", small(lr=lr), [(2, 1.0, 0.5)])
    assert [each.method for each in group(map(Run.read, find_runs([tmp_path])))] == ["fast/sab", "slow/sab"]


def test_methods_of_one_name_in_one_place_are_told_apart_by_their_options(tmp_path: Path) -> None:
    for seed, lr in enumerate((1e-3, 1e-2, 1e-2)):
        write(tmp_path / f"sab-seed{seed}", small(seed=seed, lr=lr), [(2, 1.0, 0.5)])
    groups = group(map(Run.read, find_runs([tmp_path])))
    assert [(each.method, len(each.runs)) for each in groups] == [("sab (lr 0.001)", 1), ("sab (lr 0.01)", 2)]


def test_a_seed_of_a_version_without_an_option_is_of_the_same_group(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"sab-seed{seed}", small(seed=seed), [(2, 1.0, 0.5)])
    config = read_config(tmp_path / "sab-seed1" / checkpoint.CONFIG_NAME)
    del config["model"]["residual"]
    write_json(tmp_path / "sab-seed1" / checkpoint.CONFIG_NAME, {**config, "format": FORMAT_VERSION})
    (both,) = group(map(Run.read, find_runs([tmp_path])))
    assert len(both.runs) == 2


def test_different_data_of_one_name_are_different_tasks(tmp_path: Path) -> None:
    texts = {"one": "u\n1\n2\n", "two": "u\n5\n9\n", "copy": "u\n1\n2\n"}
    for place, text in texts.items():
        (tmp_path / place).mkdir()
        (tmp_path / place / "data.csv").write_text(text)
        config = small(task=FileStream(tmp_path / place / "data.csv"))
        write(tmp_path / "runs" / place / "sab-seed0", config, [(2, 1.0, 0.5)])
        facts = {"format": FACTS_VERSION, "facts": {}, "files": {"data": fingerprint(config.task.data)}}
        write_json(tmp_path / "runs" / place / "sab-seed0" / FACTS_NAME, facts)
    runs = told_apart([Run.read(tmp_path / "runs" / place / "sab-seed0") for place in texts])
    assert [run.task.title for run in runs] == ["stream one/data.csv", "stream two/data.csv", "stream one/data.csv"]
    assert [run.name for run in runs] == ["one/sab-seed0", "two/sab-seed0", "copy/sab-seed0"]
    assert [(each.setting, each.method) for each in group(runs)] == [
        ("stream one/data.csv", "one/sab"),
        ("stream two/data.csv", "sab"),
        ("stream one/data.csv", "copy/sab"),
    ]


def test_paths_are_named_by_as_few_parts_as_tell_them_apart() -> None:
    paths = [Path("/a/x/run"), Path("/b/x/run"), Path("/b/y/run"), Path("/b/y/other")]
    assert list(tails(paths).values()) == ["a/x/run", "b/x/run", "y/run", "other"]
