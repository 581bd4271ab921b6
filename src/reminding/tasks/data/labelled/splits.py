"""Which labelled series are held out for validation and test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from reminding.tasks.data.labelled.files import One

Choose = Callable[[list[int], int], list[int]]
"""Chooses some of the places of a class, of which there are as many as the second argument says."""
HELD_OUT = 0.2
"""Share of each class, or of the groups, that is held out for validation, and for the test."""


def last_of_each(series: Sequence[One], path: Path) -> tuple[list[One], list[One]]:
    """The series without the last fifth of each class, at least one; and that fifth."""
    return _held(series, path, lambda members, count: members[-count:])


def spread_of_each(series: Sequence[One], path: Path) -> tuple[list[One], list[One]]:
    """The series without a fifth of each class, spread evenly over its files in their order; and that fifth."""
    return _held(series, path, lambda members, count: [members[-1 - i * len(members) // count] for i in range(count)])


def groups(series: Sequence[One], path: Path) -> tuple[list[One], list[One]]:
    """The series without those of the last fifth of the groups, at least one group; and those.

    Raises:
        ValueError: there is one group, or a class is in the held-out groups only.
    """
    names = sorted({one.group for one in series})
    held = set(names[-max(1, int(HELD_OUT * len(names))) :])
    kept = [one for one in series if one.group not in held]
    if lost := {one.label for one in series} - {one.label for one in kept}:
        raise ValueError(
            f"pattern: {path}: without the group {', '.join(sorted(held))}, which is held out, no series has the "
            f"label {', '.join(map(repr, sorted(lost)))}; give --valid and --test, or a pattern without groups"
        )
    return kept, [one for one in series if one.group in held]


def _held(series: Sequence[One], path: Path, choose: Choose) -> tuple[list[One], list[One]]:
    held: set[int] = set()
    for label in {one.label for one in series}:
        members = [number for number, one in enumerate(series) if one.label == label]
        if len(members) < 2:
            raise ValueError(
                f"data: {path} has too few series with the label {label!r} to hold some out; give "
                "files of your own by --valid and --test, or leave the label out"
            )
        held.update(choose(members, max(1, int(HELD_OUT * len(members)))))
    kept = [one for number, one in enumerate(series) if number not in held]
    return kept, [series[number] for number in sorted(held)]
