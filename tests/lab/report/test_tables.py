"""The tables of a report: methods, costs, comparisons at equal cost, and further tests, worked out by hand."""

from __future__ import annotations

from pathlib import Path

from reminding.lab.report.groups import group, spread
from reminding.lab.report.tables import costs, equal_cost, further_tests, methods
from reminding.lab.runs import checkpoint
from reminding.lab.runs.records import Run, find_runs
from reminding.lab.runs.runlog import LOG_NAME
from reminding.tasks import Adding
from tests.lab.conftest import small
from tests.lab.report.conftest import write


def test_seeds_of_a_method_are_one_row(runs: Path) -> None:
    groups = group(map(Run.read, find_runs([runs])))
    assert [(each.method, len(each.runs)) for each in groups] == [("lstm", 1), ("sab", 2)]
    table = methods(groups)
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert row["test"] == "0.8500 ± 0.0707"
    assert row["worst seed"] == "0.8000"
    assert row["updates"] == "4-6"
    cost = costs(groups)
    assert dict(zip(cost.columns, cost.rows[1], strict=True))["backward steps"] == "7"


def test_at_equal_cost_nothing_is_compared_with_what_was_not_done(runs: Path) -> None:
    (table,) = equal_cost(group(map(Run.read, find_runs([runs]))))
    assert table.columns[1:] == ["after 4 updates", "after 0.1 minutes"]
    found = {row[0]: row[1:] for row in table.rows}
    assert found["lstm"] == ["0.6000", "0.7000"]
    assert found["sab"][0] == spread([0.5, 0.8])  # the weights with the best value are kept: 0.5, not the later 0.4
    assert found["sab"][1] == "-"  # it was not evaluated within the four seconds of lstm


def test_at_equal_cost_a_mean_over_the_fastest_seeds_says_so(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(), [(2, 10.0, 0.5), (4, 20.0, 0.9)])
    write(tmp_path / "sab-seed1", small(seed=1), [(2, 40.0, 0.3), (4, 80.0, 0.7)])
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(2, 6.0, 0.2), (4, 12.0, 0.6)])
    (table,) = equal_cost(group(map(Run.read, find_runs([tmp_path]))))
    assert table.columns[1:] == ["after 4 updates", "after 0.2 minutes"]
    found = {row[0]: row[1:] for row in table.rows}
    assert found == {"sab": [spread([0.9, 0.7]), "0.5000 (1 of 2 seeds)"], "lstm": ["0.6000", "0.6000"]}


def test_equal_updates_are_those_that_all_were_evaluated_at(tmp_path: Path) -> None:
    """A run stopped by a time limit is evaluated once more, at an update where the others were not."""
    write(tmp_path / "sab-seed0", small(), [(5, 600.0, 0.5), (7, 900.0, 0.6)], stopped="time")
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(5, 300.0, 0.55), (10, 600.0, 0.7), (15, 905.0, 0.8)])
    (table,) = equal_cost(group(map(Run.read, find_runs([tmp_path]))))
    assert table.columns[1:] == ["after 5 updates", "after 15.0 minutes"]
    assert {row[0]: row[1:] for row in table.rows} == {"sab": ["0.5000", "0.6000"], "lstm": ["0.5500", "0.8000"]}


def test_equal_updates_of_runs_that_were_evaluated_at_different_times_are_common_to_all(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(), [(2, 1.0, 0.1), (4, 2.0, 0.2), (6, 3.0, 0.3), (8, 4.0, 0.4)])
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(3, 1.0, 0.5), (6, 2.0, 0.6), (9, 4.0, 0.7)])
    (table,) = equal_cost(group(map(Run.read, find_runs([tmp_path]))))
    assert table.columns[1] == "after 6 updates"
    assert {row[0]: row[1] for row in table.rows} == {"sab": "0.3000", "lstm": "0.6000"}


def test_a_run_without_an_evaluation_is_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(), [(4, 2.0, 0.2)])
    write(tmp_path / "sab-seed1", small(seed=1), [(4, 2.0, 0.8)])
    (tmp_path / "sab-seed1" / LOG_NAME).write_text("")
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(4, 2.0, 0.6)])
    (table,) = equal_cost(group(map(Run.read, find_runs([tmp_path]))))
    assert {row[0]: row[1] for row in table.rows} == {"sab": "0.2000", "lstm": "0.6000"}
    assert table.notes[1:] == ["Without an evaluation yet, and left out: sab-seed1."]


def test_a_run_stopped_by_its_target_sets_no_limit(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(), [(2, 1.0, 0.99)], stopped="target")
    write(tmp_path / "lstm-seed0", small(model="lstm"), [(2, 1.0, 0.2), (8, 4.0, 0.7)])
    (table,) = equal_cost(group(map(Run.read, find_runs([tmp_path]))))
    assert table.columns[1] == "after 8 updates"
    assert {row[0]: row[1] for row in table.rows} == {"sab": "0.9900", "lstm": "0.7000"}


def test_further_tests_are_columns_in_order_and_the_last_of_equal_ones_counts(runs: Path) -> None:
    folder = runs / "T10" / "sab-seed0"
    kept = {"capacity": 8, "evict": "fifo"}
    for length, value, changes in ((1000, 0.1, {}), (200, 0.7, {}), (1000, 0.4, kept), (1000, 0.5, {})):
        record = {"task": {"name": "copying", "T": length}, "accuracy": value, "command": "reminding eval"}
        checkpoint.add_evaluation(folder, {**record, "changes": changes, "sequences": 20 if changes else 50})
    (table,) = further_tests(group(map(Run.read, find_runs([runs]))))
    assert table.columns == ["method", "T=200", "T=1,000", "trained on"]
    wide, narrow = "0.5000 (1 of 2 seeds)", "0.4000 (capacity 8, evict fifo, 1 of 2 seeds)"
    assert [row[:-1] for row in table.rows] == [["sab", "0.7000 (1 of 2 seeds)", f"{wide}; {narrow}"]]
    assert table.notes == ["Sequences: 50 at T=200, 20 or 50 at T=1,000."]


def test_a_further_test_on_all_sequences_may_stand_beside_one_on_some(runs: Path) -> None:
    for length, sequences in ((200, None), (300, None), (300, 50)):
        record = {"task": {"name": "copying", "T": length}, "accuracy": 0.5, "command": "reminding eval"}
        folder = runs / "T10" / ("sab-seed0" if sequences is None else "sab-seed1")
        checkpoint.add_evaluation(folder, {**record, "changes": {}, "sequences": sequences})
    (table,) = further_tests(group(map(Run.read, find_runs([runs]))))
    assert table.notes == ["Sequences: all at T=200, 50 or all at T=300."]


def test_a_test_of_weights_that_are_not_recorded_counts_unless_it_is_older_than_one_of_earlier_weights(
    tmp_path: Path,
) -> None:
    """Versions before 0.2 recorded no weights. Here a run was tested, went on, was tested, and went on again."""

    def test(seed: int, T: int, accuracy: float, **best_step: int) -> None:
        record = {"task": {"name": "copying", "T": T}, "accuracy": accuracy, "command": "reminding eval", **best_step}
        checkpoint.add_evaluation(tmp_path / f"sab-seed{seed}", record)

    for seed in range(3):
        write(tmp_path / f"sab-seed{seed}", small(seed=seed), [(4, 2.0, 0.8)], best_step=4)
    test(0, 50, 0.1)
    test(0, 50, 0.2, best_step=2)
    test(1, 50, 0.6)
    test(2, 50, 0.4)
    test(2, 50, 0.8, best_step=4)
    test(2, 60, 0.3, best_step=4)
    (table,) = further_tests(group(map(Run.read, find_runs([tmp_path]))))
    assert table.rows[0][1:3] == [f"{spread([0.6, 0.8])} (2 of 3 seeds)", "0.3000 (1 of 3 seeds)"]
    assert table.notes[1:] == [
        "An older version tested sab-seed1, and did not record of which weights. If such a run went on since then, "
        "`reminding eval` tests it again."
    ]
    assert [len(checkpoint.read_evaluations(tmp_path / f"sab-seed{seed}")) for seed in range(3)] == [0, 1, 3]


def test_further_tests_of_another_metric_have_a_table_of_their_own(tmp_path: Path) -> None:
    for name, config in (("copy", small()), ("add", small(task=Adding(6)))):
        write(tmp_path / name, config, [(2, 1.0, 0.5)])
        metric = config.task.metric
        record = {
            "task": {"name": config.task.name, "T": 50},
            metric: 0.25,
            "changes": {},
            "command": "reminding eval",
        }
        checkpoint.add_evaluation(tmp_path / name, record)
    tables = further_tests(group(map(Run.read, find_runs([tmp_path]))))
    found = {table.title: [row[:2] for row in table.rows] for table in tables}
    assert found == {
        "Tested at other lengths: mse": [["add", "0.2500"]],
        "Tested at other lengths: accuracy": [["copy", "0.2500"]],
    }
