"""A report opens with its tasks' names, and with a sentence for each task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reminding.lab.report.groups import Group, group
from reminding.lab.report.opening import sentences, title_of
from reminding.lab.report.writing import write_report
from reminding.lab.runs import checkpoint
from reminding.lab.runs.records import Run, find_runs
from reminding.tasks import Adding, Copying, Text8
from tests.lab.conftest import small
from tests.lab.report.conftest import write


def groups_in(folder: Path) -> list[Group]:
    return group(map(Run.read, find_runs([folder])))


def test_the_winner_is_named_with_its_figure_its_baseline_and_the_next_one(runs: Path) -> None:
    assert sentences(groups_in(runs)) == [
        "On copying T=4, sab is best with an accuracy of 0.8500 ± 0.0707 on the test split over 2 seeds, better "
        "than chance (0.1250); next is lstm with 0.7000."
    ]


def test_methods_that_the_seeds_do_not_tell_apart_are_said_to_be_close(runs: Path) -> None:
    write(runs / "T10" / "lstm-seed1", small(model="lstm", seed=1), [(2, 1.0, 0.96)])
    (sentence,) = sentences(groups_in(runs))
    assert sentence.endswith("next is lstm with 0.8300 ± 0.1838, closer than the seeds of a method lie apart.")


def test_methods_with_the_same_result_tie(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"sab-seed{seed}", small(seed=seed), [(2, 1.0, 1.0)])
        write(tmp_path / f"lstm-seed{seed}", small(model="lstm", seed=seed), [(2, 1.0, 1.0)])
    assert sentences(groups_in(tmp_path)) == [
        "On copying T=4, lstm and sab tie with an accuracy of 1.0000 on the test split over 2 seeds each, better "
        "than chance (0.1250)."
    ]
    write(tmp_path / "truncated", small(model="tbptt"), [(2, 1.0, 0.5)])
    (sentence,) = sentences(groups_in(tmp_path))
    assert sentence.endswith("(0.1250); next is truncated with 0.5000.")
    for folder in tmp_path.iterdir():
        (folder / checkpoint.SUMMARY_NAME).unlink()
    (sentence,) = sentences(groups_in(tmp_path))
    assert sentence.endswith("; lstm and sab tie with an accuracy of 1.0000 on the validation split.")


def test_results_that_look_the_same_but_are_not_do_not_tie(tmp_path: Path) -> None:
    write(tmp_path / "a", small(task=Adding(T=6)), [(2, 1.0, 0.10001)])
    write(tmp_path / "b", small(task=Adding(T=6), model="lstm"), [(2, 1.0, 0.10004)])
    (sentence,) = sentences(groups_in(tmp_path))
    assert sentence.startswith("On adding T=6, a is best with a mean squared error of 0.1000 ")
    assert sentence.endswith("next is b with 0.1000, which differs in later decimals alone.")
    write(tmp_path / "c", small(task=Adding(T=6), model="rtu"), [(2, 1.0, 0.0000123)])
    (sentence,) = sentences(groups_in(tmp_path))
    assert sentence.startswith("On adding T=6, c is best with a mean squared error of 1.23e-05 ")


def test_a_smaller_error_is_better_and_one_above_the_baseline_is_worse(tmp_path: Path) -> None:
    write(tmp_path / "a", small(task=Adding(T=6)), [(2, 1.0, 0.25)])
    write(tmp_path / "b", small(task=Adding(T=6), model="lstm"), [(2, 1.0, 0.2)])
    assert sentences(groups_in(tmp_path)) == [
        "On adding T=6, b is best with a mean squared error of 0.2000 on the test split, worse than always "
        "predicting the mean (0.1667); next is a with 0.2500."
    ]


def test_the_baseline_of_bits_is_equally_likely_symbols(tmp_path: Path) -> None:
    write(tmp_path / "a", small(task=Text8()), [(2, 1.0, 3.5)])
    assert sentences(groups_in(tmp_path)) == [
        "On text8, a reaches 3.5000 bits per character on the test split, better than taking all 27 characters as "
        "equally likely (4.7549)."
    ]


def test_the_majority_of_the_test_sequences_is_the_baseline_if_it_is_known(tmp_path: Path) -> None:
    write(tmp_path / "a", small(), [(2, 1.0, 0.4)])
    summary = checkpoint.read_summary(tmp_path / "a")
    errors: dict[str, Any] = {
        "kind": "classes",
        "classes": ["u", "v"],
        "confusion": [[1, 1], [0, 3]],
        "recall": {"u": 0.5, "v": 1.0},
    }
    errors["majority"] = {"class": "v", "share": 0.6}
    checkpoint.write_summary(tmp_path / "a", {**summary, "errors": errors})
    assert "worse than always predicting the most frequent class (0.6000)" in sentences(groups_in(tmp_path))[0]


def test_no_change_is_the_baseline_of_a_table(tmp_path: Path) -> None:
    write(tmp_path / "a", small(task=Adding(T=6)), [(2, 1.0, 0.25)], mse_unchanged=0.3)
    assert "0.2500 on the test split, better than no change (0.3000)." in sentences(groups_in(tmp_path))[0]


def test_runs_without_a_result_are_said_to_have_none(runs: Path, tmp_path: Path) -> None:
    for name in ("sab-seed0", "sab-seed1"):
        (runs / "T10" / name / checkpoint.SUMMARY_NAME).unlink()
    (sentence,) = sentences(groups_in(runs))
    assert sentence.startswith("On copying T=4, lstm reaches an accuracy of 0.7000")
    assert sentence.endswith("; 1 of 2 methods has no result yet.")
    (runs / "T10" / "lstm-seed0" / checkpoint.SUMMARY_NAME).unlink()
    assert sentences(groups_in(runs)) == [
        "On copying T=4, no run has a test result yet; sab is best with an accuracy of 0.9000 on the validation "
        "split."
    ]
    diverged = tmp_path / "diverged"
    write(diverged / "a", small(), [(2, 1.0, float("nan"))])
    assert sentences(groups_in(diverged)) == ["On copying T=4, no run has a result yet."]


def test_settings_of_one_title_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "a", small(task=Copying(T=4)), [(2, 1.0, 0.5)])
    write(tmp_path / "b", small(task=Copying(T=4, symbols=2)), [(2, 1.0, 0.6)])
    assert [each.split(",")[0] for each in sentences(groups_in(tmp_path))] == [
        "On copying T=4",
        "On copying T=4",
    ]
    assert "symbols=2" in sentences(groups_in(tmp_path))[1]


def test_a_title_names_the_tasks_and_counts_the_rest(runs: Path) -> None:
    found = groups_in(runs)
    assert title_of(found, []) == "Results on copying T=4"
    others = [
        Group(f"t{i}", "m", [replace(found[0].runs[0], task=replace(found[0].task, title=f"t{i}"))]) for i in range(5)
    ]
    assert title_of(others[:2], []) == "Results on t0 and t1"
    assert title_of(others[:4], []) == "Results on t0, t1, t2 and t3"
    assert title_of(others, []) == "Results on t0, t1, t2 and 2 more tasks"
    assert title_of([], ["growth-T"]) == "Benchmark growth-T"


def test_page_text_and_terminal_open_with_the_sentences(runs: Path, tmp_path: Path) -> None:
    report = write_report([runs], tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    text = (tmp_path / "report" / "report.md").read_text()
    (sentence,) = report.sentences
    assert page.index("<h1>Results on copying T=4</h1>") < page.index(sentence) < page.index("<nav")
    assert text.startswith(f"# Results on copying T=4\n\n{sentence}\n")


def test_a_given_title_stays(runs: Path, tmp_path: Path) -> None:
    write_report([runs], tmp_path / "report", title="Mine")
    assert (tmp_path / "report" / "report.md").read_text().startswith("# Mine\n")
