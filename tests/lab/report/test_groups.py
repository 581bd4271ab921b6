"""Seeds together: means, deviations, and comparisons at equal cost, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.lab.report.curves import mean_curve, seed_charts
from reminding.lab.report.groups import after_seconds, after_steps, group, spread
from reminding.lab.report.tables import costs, equal_cost, further_tests, methods
from reminding.lab.report.writing import write_report
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.records import find_runs
from reminding.lab.runs.runlog import LOG_NAME
from reminding.tasks import Adding
from tests.lab.conftest import small


def write(
    folder: Path, config: RunConfig, curve: list[tuple[int, float, float]], stopped: str = "steps", **summary: float
) -> None:
    """A finished run as its files tell it; curve: update, seconds, value."""
    folder.mkdir(parents=True)
    config.save(folder / checkpoint.CONFIG_NAME)
    metric = config.task.metric
    with (folder / LOG_NAME).open("w") as file:
        for step, seconds, value in curve:
            file.write(json.dumps({"kind": "train", "step": step, "seconds": seconds, "loss": 1.0}) + "\n")
            file.write(json.dumps({"kind": "valid", "step": step, metric: value}) + "\n")
    steps, seconds, _ = curve[-1]
    ending = {metric: curve[-1][2], "task": config.task.name, "stopped": stopped, "steps": steps, "seconds": seconds}
    checkpoint.write_summary(folder, {**ending, "command": f"reminding {folder.name}", **summary})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods, one with two seeds."""
    write(tmp_path / "T10" / "sab-seed0", small(seed=0), [(2, 10.0, 0.5), (4, 20.0, 0.4), (6, 30.0, 0.9)])
    write(tmp_path / "T10" / "sab-seed1", small(seed=1), [(2, 12.0, 0.3), (4, 24.0, 0.8)], backward_steps=7.0)
    write(tmp_path / "T10" / "lstm-seed0", small(model="lstm"), [(2, 1.0, 0.2), (4, 2.0, 0.6), (8, 4.0, 0.7)])
    return tmp_path


def test_seeds_of_a_method_are_one_row(runs: Path) -> None:
    groups = group(find_runs([runs]))
    assert [(each.method, len(each.runs)) for each in groups] == [("lstm", 1), ("sab", 2)]
    table = methods(groups)
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert row["test"] == "0.8500 ± 0.0707"
    assert row["worst seed"] == "0.8000"
    assert row["updates"] == "4-6"
    cost = costs(groups)
    assert dict(zip(cost.columns, cost.rows[1], strict=True))["backward steps"] == "7"


def test_at_equal_cost_nothing_is_compared_with_what_was_not_done(runs: Path) -> None:
    (table,) = equal_cost(group(find_runs([runs])))
    assert table.columns[1:] == ["after 4 updates", "after 0.1 minutes"]
    found = {row[0]: row[1:] for row in table.rows}
    assert found["lstm"] == ["0.6000", "0.7000"]
    assert found["sab"][0] == spread([0.5, 0.8])  # the best weights are kept: 0.5, not the 0.4 that came later
    assert found["sab"][1] == "-"  # within the four seconds of lstm it had not been evaluated yet


def test_equal_updates_are_those_that_all_were_evaluated_at(tmp_path: Path) -> None:
    """Stopped by the clock, a run is evaluated once more, where the others were not."""
    write(tmp_path / "sab-seed0", small(), [(5, 600.0, 0.5), (7, 900.0, 0.6)], stopped="time")
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(5, 300.0, 0.55), (10, 600.0, 0.7), (15, 905.0, 0.8)])
    (table,) = equal_cost(group(find_runs([tmp_path])))
    assert table.columns[1:] == ["after 5 updates", "after 15.0 minutes"]
    assert {row[0]: row[1:] for row in table.rows} == {"sab": ["0.5000", "0.6000"], "lstm": ["0.5500", "0.8000"]}


def test_a_run_stopped_by_its_target_sets_no_limit(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(), [(2, 1.0, 0.99)], stopped="target")
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(2, 1.0, 0.2), (8, 4.0, 0.7)])
    (table,) = equal_cost(group(find_runs([tmp_path])))
    assert table.columns[1] == "after 8 updates"
    assert {row[0]: row[1] for row in table.rows} == {"sab": "0.9900", "lstm": "0.7000"}


def test_the_curve_of_the_mean_does_not_fall_when_a_seed_has_reached_its_target(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 1.0)], stopped="target")
    write(tmp_path / "sab-seed1", small(seed=1), [(2, 1.0, 0.2), (4, 2.0, 0.4)])
    (both,) = group(find_runs([tmp_path]))
    curve = mean_curve(both)
    assert (curve.steps, curve.values, curve.band) == ([2, 4], pytest.approx([0.6, 0.7]), [(0.2, 1.0), (0.4, 1.0)])


def test_smaller_is_better_where_it_is_an_error(tmp_path: Path) -> None:
    for seed, errors in enumerate(([0.3, 0.1, 0.2], [0.3, 0.2, 0.15])):
        curve = [(2 * i + 2, float(i), error) for i, error in enumerate(errors)]
        write(tmp_path / f"sab-seed{seed}", small(task=Adding(6), seed=seed), curve)
    (both,) = group(find_runs([tmp_path]))
    assert both.values(after_steps(6)) == [0.1, 0.15]
    assert both.values(after_seconds(1.0)) == [0.1, 0.2]
    table = methods([both])
    assert dict(zip(table.columns, table.rows[0], strict=True))["worst seed"] == "0.2000"


def test_seeds_are_shown_where_there_are_several_the_best_method_on_top(runs: Path, tmp_path: Path) -> None:
    (chart,) = seed_charts(group(find_runs([runs])), tmp_path)
    assert chart.figure.is_file()
    dots = json.loads(chart.plot)["data"][0]
    assert list(zip(dots["y"], dots["x"], strict=True)) == [("sab", 0.9), ("sab", 0.8), ("lstm", 0.7)]
    assert seed_charts([each for each in group(find_runs([runs])) if each.method == "lstm"], tmp_path) == []


def test_other_options_are_another_group(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 0.5)])
    write(tmp_path / "sab-seed1", small(seed=1, lr=0.1), [(2, 1.0, 0.5)])
    assert len(group(find_runs([tmp_path]))) == 2
    write(tmp_path / "sab-seed2", small(seed=2, steps=99), [(2, 1.0, 0.5)])  # more updates are the same experiment
    assert sorted(len(each.runs) for each in group(find_runs([tmp_path]))) == [1, 2]


def test_further_tests_are_columns_in_order_and_the_last_of_equal_ones_counts(runs: Path) -> None:
    folder = runs / "T10" / "sab-seed0"
    kept = {"capacity": 8, "evict": "fifo"}
    for length, value, changes in ((1000, 0.1, {}), (200, 0.7, {}), (1000, 0.4, kept), (1000, 0.5, {})):
        record = {"task": {"name": "copying", "T": length}, "accuracy": value, "command": "reminding eval"}
        checkpoint.add_evaluation(folder, {**record, "changes": changes, "sequences": 20 if changes else 50})
    (table,) = further_tests(group(find_runs([runs])))
    assert table.columns == ["trained on", "method", "T=200", "T=1,000"]
    assert [row[1:] for row in table.rows] == [["sab", "0.7000", "0.5000; 0.4000 (capacity 8, evict fifo)"]]
    assert table.notes == ["Sequences: 50 at T=200, 20 or 50 at T=1,000."]


def test_a_further_test_on_all_sequences_may_stand_beside_one_on_some(runs: Path) -> None:
    for length, sequences in ((200, None), (300, None), (300, 50)):
        record = {"task": {"name": "copying", "T": length}, "accuracy": 0.5, "command": "reminding eval"}
        folder = runs / "T10" / ("sab-seed0" if sequences is None else "sab-seed1")
        checkpoint.add_evaluation(folder, {**record, "changes": {}, "sequences": sequences})
    (table,) = further_tests(group(find_runs([runs])))
    assert table.notes == ["Sequences: all at T=200, 50 or all at T=300."]


def test_sizes_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for size in (1000, 200, 30):
        write(tmp_path / f"T{size}" / "sab-seed0", small(), [(2, 1.0, 0.5)])
    assert [folder.parent.name for folder in find_runs([tmp_path])] == ["T30", "T200", "T1000"]


def test_a_report_of_a_folder_has_a_band_over_the_seeds_and_every_command(runs: Path, tmp_path: Path) -> None:
    result = write_report([runs], tmp_path / "report", title="Both", remarks=["Careful."])
    page = (tmp_path / "report" / "index.html").read_text()
    text = (tmp_path / "report" / "report.md").read_text()
    for part in ("Both", "Careful.", "0.8500 ± 0.0707", "reminding sab-seed0", "reminding lstm-seed0"):
        assert part in page
        assert part in text
    assert result.tables[0].title == "Methods"
    assert (tmp_path / "report" / "curves-copying.png").stat().st_size > 0


def test_of_one_value_there_is_no_deviation() -> None:
    assert (spread([]), spread([0.5]), spread([1.0, 3.0], ".1f")) == ("-", "0.5000", "2.0 ± 1.4")


def test_methods_of_one_name_in_two_places_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    for place, lr in (("slow", 1e-3), ("fast", 1e-2)):
        write(tmp_path / place / "sab-seed0", small(lr=lr), [(2, 1.0, 0.5)])
    assert [each.method for each in group(find_runs([tmp_path]))] == ["fast/sab", "slow/sab"]
