"""Seeds of one method as one group: values, means and deviations, worked out by hand."""

from __future__ import annotations

from pathlib import Path

from reminding.lab.report.groups import after_seconds, after_steps, group, spread
from reminding.lab.report.tables import methods
from reminding.lab.runs.records import Run, find_runs
from reminding.tasks import Adding
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
