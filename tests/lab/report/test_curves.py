"""The charts of a report: means over seeds, and a dot for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.lab.report.curves import (
    file_name,
    learning_charts,
    length_charts,
    length_curve,
    mean_curve,
    seed_charts,
)
from reminding.lab.report.groups import Group, group
from reminding.lab.report.sections import Lines
from reminding.lab.report.writing import write_report
from reminding.lab.runs import checkpoint
from reminding.lab.runs.records import Run, find_runs
from reminding.tasks import FileStream
from tests.lab.conftest import small
from tests.lab.report.conftest import write


def test_the_curve_of_the_mean_does_not_fall_when_a_seed_has_reached_its_target(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 1.0)], stopped="target")
    write(tmp_path / "sab-seed1", small(seed=1), [(2, 1.0, 0.2), (4, 2.0, 0.4)])
    (both,) = group(map(Run.read, find_runs([tmp_path])))
    curve = mean_curve(both)
    assert (curve.steps, curve.values, curve.band) == ([2, 4], pytest.approx([0.6, 0.7]), [(0.2, 1.0), (0.4, 1.0)])


def groups_in(folder: Path) -> list[Group]:
    return group(map(Run.read, find_runs([folder])))


def remarks(groups: list[Group], out: Path) -> list[str]:
    """The remarks below the learning curves."""
    out.mkdir(exist_ok=True)
    return [line for block in learning_charts(groups, out) if isinstance(block, Lines) for line in block.lines]


def test_the_curve_of_the_mean_ends_with_the_first_seed_that_did_not_reach_its_target(tmp_path: Path) -> None:
    """Otherwise the mean would jump to that of the seeds that are left."""
    runs = tmp_path / "runs"
    write(runs / "sab-seed0", small(seed=0), [(2, 1.0, 0.2), (4, 2.0, 0.4)], stopped="time")
    write(runs / "sab-seed1", small(seed=1), [(2, 1.0, 0.2), (4, 2.0, 0.2), (6, 3.0, 0.8), (8, 4.0, 0.8)])
    write(runs / "sab-seed2", small(seed=2), [(2, 1.0, 1.0)], stopped="target")
    (three,) = groups_in(runs)
    curve = mean_curve(three)
    assert (curve.label, curve.steps, curve.values) == ("sab (3 seeds)", [2, 4], pytest.approx([1.4 / 3, 1.6 / 3]))
    (line,) = remarks([three], tmp_path / "out")
    assert line == (
        "sab: a seed that reached its target counts with its last value from then on; the mean ends at update 4, the "
        "last at which every seed has a value; one went on to 8."
    )
    write_report([runs], tmp_path / "report")
    assert line in (tmp_path / "report" / "report.md").read_text()
    assert line in (tmp_path / "report" / "index.html").read_text()


def test_seeds_that_all_reach_their_target_go_on_to_the_last_of_them(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 1.0)], stopped="target")
    write(tmp_path / "sab-seed1", small(seed=1), [(2, 1.0, 0.2), (4, 2.0, 0.4), (6, 2.0, 0.9)], stopped="target")
    (both,) = groups_in(tmp_path)
    assert (mean_curve(both).steps, mean_curve(both).values) == ([2, 4, 6], pytest.approx([0.6, 0.7, 0.95]))
    assert remarks([both], tmp_path / "out") == [
        "sab: a seed that reached its target counts with its last value from then on."
    ]


def test_a_seed_without_an_evaluation_is_counted_in_the_label(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 0.5), (4, 2.0, 0.6)])
    write(tmp_path / "sab-seed1", small(seed=1), [(2, 1.0, 0.7), (4, 2.0, 0.8)])
    write(tmp_path / "sab-seed2", small(seed=2), [(2, 1.0, 0.7)])
    (tmp_path / "sab-seed2" / "log.jsonl").write_text("")
    (three,) = groups_in(tmp_path)
    curve = mean_curve(three)
    assert (curve.label, curve.steps, curve.values) == ("sab (2 of 3 seeds)", [2, 4], pytest.approx([0.6, 0.7]))
    assert remarks([three], tmp_path / "out") == []


def test_seeds_without_a_common_update_have_no_curve(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(3, 1.0, 0.5)], stopped="time")
    write(tmp_path / "sab-seed1", small(seed=1), [(4, 1.0, 0.7)], stopped="time")
    assert remarks(groups_in(tmp_path), tmp_path / "out") == [
        "sab has no curve: its seeds were not evaluated after equal numbers of updates."
    ]


def test_seeds_are_shown_where_there_are_several_the_best_method_on_top(runs: Path, tmp_path: Path) -> None:
    (chart,) = seed_charts(group(map(Run.read, find_runs([runs]))), tmp_path)
    assert chart.figure.is_file()
    dots = json.loads(chart.plot)["data"][0]
    assert list(zip(dots["y"], dots["x"], strict=True)) == [("sab", 0.9), ("sab", 0.8), ("lstm", 0.7)]
    assert (
        seed_charts([each for each in group(map(Run.read, find_runs([runs]))) if each.method == "lstm"], tmp_path)
        == []
    )


def test_no_two_settings_draw_into_one_file(tmp_path: Path) -> None:
    for number, data in enumerate(("a-b.csv", "a_b.csv", "A_B.csv", "数据.csv", "данные.csv")):
        (tmp_path / data).write_text("u\n1\n")
        write(tmp_path / str(number), small(task=FileStream(tmp_path / data)), [(2, 1.0, 0.5)])
    groups = group(map(Run.read, find_runs([tmp_path])))
    names = [file_name(each.setting, groups).lower() for each in groups]
    assert names == ["stream-a-b.csv", "stream-a-b.csv_2", "stream-a-b.csv_3", "stream-.csv", "stream-.csv_2"]


def test_settings_of_many_columns_have_short_files(tmp_path: Path) -> None:
    names = [f"measured_{number}" for number in range(40)]
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + ",".join("1" * 40) + "\n")
    for number in (1, 2):
        task = FileStream(tmp_path / "a.csv", columns=tuple(names[number:]))
        write(tmp_path / str(number), small(task=task), [(2, 1.0, 0.5)])
    groups = group(map(Run.read, find_runs([tmp_path])))
    first, second = (file_name(each.setting, groups) for each in groups)
    assert len(first) <= 120
    assert second == "-".join(["stream-a.csv-columns", *names[2:]]).replace("_", "-")[:120].strip("-")


def further(folder: Path, results: dict[int, float], **changes: int) -> None:
    """Add tests of a run at some lengths."""
    for T, accuracy in results.items():
        record = {"task": {"name": "copying", "T": T}, "accuracy": accuracy, "changes": changes, "sequences": 50}
        checkpoint.add_evaluation(folder, {**record, "command": "reminding eval"})


def test_a_mean_at_other_lengths_is_of_the_same_seeds_at_each(runs: Path, tmp_path: Path) -> None:
    """Otherwise it would jump where a seed was not tested, as learning curves would."""
    further(runs / "T10" / "sab-seed0", {50: 0.9, 1000: 1.0, 2000: 0.7})
    further(runs / "T10" / "sab-seed1", {2000: 0.5, 50: 0.7})
    further(runs / "T10" / "sab-seed1", {50: 0.1}, capacity=8)
    for number in range(2):  # tested at 3000 in the same way, and one of them in another way, too
        further(runs / "T10" / f"sab-seed{number}", {3000: 0.2 + number / 5}, capacity=8)
    further(runs / "T10" / "sab-seed1", {3000: 1.0})
    further(runs / "T10" / "lstm-seed0", {50: 0.4, 1000: 0.2})
    groups = group(map(Run.read, find_runs([runs])))
    curves = {each.method: length_curve(each) for each in groups}
    sab, lstm = curves["sab"], curves["lstm"]
    assert (sab.label, sab.steps, sab.values) == ("sab (2 seeds)", [50, 2000, 3000], pytest.approx([0.8, 0.6, 0.3]))
    assert sab.band == [(0.7, 0.9), (0.5, 0.7), (0.2, 0.4)]
    assert (lstm.label, lstm.steps, lstm.values, lstm.band) == ("lstm", [50, 1000], [0.4, 0.2], None)
    (chart,) = length_charts(groups, tmp_path)
    assert chart.figure.is_file()
    assert {tuple(each["x"]) for each in json.loads(chart.plot)["data"] if len(each["x"]) in (2, 3)} == {
        (50, 2000, 3000),
        (50, 1000),
    }


def test_a_seed_without_tests_at_other_lengths_is_counted_in_the_label(runs: Path) -> None:
    further(runs / "T10" / "sab-seed1", {50: 0.7, 1000: 0.6})
    (curve,) = [length_curve(each) for each in group(map(Run.read, find_runs([runs]))) if each.method == "sab"]
    assert (curve.label, curve.steps, curve.values) == ("sab (1 of 2 seeds)", [50, 1000], [0.7, 0.6])
