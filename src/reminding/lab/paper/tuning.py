"""Tuning before a comparison: every method over the same grid, on validation data, before any fresh seed is run.

A comparison whose methods had unequal tuning says nothing about the methods. So each method of a setting with a grid
is trained with every learning rate and initialisation of the grid, on one seed that no later run has, and the runs
that count take the choice with the best validation result. A short run may prefer a rate at which a long one stalls,
so where tuning runs are short, the best of each method are trained in full length before the choice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard, cast

from reminding.disk.errors import DamagedFileError
from reminding.disk.records import read_json, write_json
from reminding.disk.writing import make_folder
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.records import Run
from reminding.lab.show.tables import Table

TUNING_SEED = 1000
"""Seed of all tuning runs; the runs that count have seeds 0, 1, ..."""
CHOICE_NAME = "tuning.json"
GATED = ("sab", "lstm", "tbptt", "attention")
"""The models that may have a forget gate."""


@dataclass(frozen=True)
class Start:
    """How a method begins: the value of the option of its model that says how long it remembers at first.

    Args:
        option: "forget_bias" or "min_radius".
        value: None: PyTorch's biases.
    """

    option: str = "forget_bias"
    value: float | str | None = None

    @property
    def name(self) -> str:
        """For a folder."""
        value = "default" if self.value is None else str(self.value).replace(":", "")
        return f"{'bias' if self.option == 'forget_bias' else 'radius'}-{value}"

    def told(self) -> str:
        """For a reader."""
        if self.value is None:
            return "PyTorch's biases"
        return f"{'forget bias' if self.option == 'forget_bias' else 'radius from'} {self.value}"


@dataclass(frozen=True)
class Grid:
    """What every method of a setting is tried with.

    Args:
        rates: Adam's learning rates.
        biases: initial biases of the forget gate (see `SAB`); None: PyTorch's. A model without such a gate has only
            the rates, or the radii.
        share: of the updates or of the time of a run, which a tuning run has.
        finalists: of each method, the points that are trained again in full length before one of them is chosen, each
            the best of its rate; 0: the short runs decide.
        radii: smallest moduli of an `RTU`'s eigenvalues at the beginning, which has no forget gate.
    """

    rates: Sequence[float]
    biases: Sequence[float | str | None] = (None,)
    share: float = 1.0
    finalists: int = 0
    radii: Sequence[float] = (0.0,)

    def starts(self, run: RunConfig) -> list[Start]:
        """What a run is begun with, at each rate."""
        if run.model.model == "rtu":
            return [Start("min_radius", radius) for radius in self.radii]
        gated = run.model.model in GATED and run.model.cell == "lstm"
        return [Start("forget_bias", bias) for bias in self.biases] if gated else [Start()]

    def has(self, run: RunConfig) -> bool:
        """Whether a run is begun with one of its starts: a choice made at another lag may have been told that lag."""
        return any(getattr(run.model, start.option) == start.value for start in self.starts(run))

    def variants(self, method: str, run: RunConfig) -> Iterator[Variant]:
        """A run for each point of the grid."""
        for lr, start in itertools.product(self.rates, self.starts(run)):
            config = tried(run, lr, start)
            train = replace(config.train, steps=max(1, round(self.share * config.train.steps)))
            if train.max_seconds is not None:
                train = replace(train, max_seconds=self.share * train.max_seconds)
            yield Variant(method, lr, start, replace(config, train=train))

    def finals(self, run: RunConfig, tuned: Sequence[Tuned], maximize: bool) -> list[Variant]:
        """The runs in full length of the best points of one method, none where the grid has no finalists.

        Raises:
            ValueError: as `chosen`.
        """
        ranked, left = list[Variant](), list(tuned)
        while len(ranked) < self.finalists and (not ranked or any(each.finite for each in left)):
            (best,) = chosen(left, maximize).values()
            ranked.append(replace(best, config=tried(run, best.lr, best.start), whole=True))
            left = [each for each in left if each.variant.lr != best.lr]
        return ranked


def tried(run: RunConfig, lr: float, start: Start) -> RunConfig:
    """A run with the rate and the start of a point of the grid, and the seed of the tuning."""
    train = replace(run.train, lr=lr, seed=TUNING_SEED, target=None)
    return replace(run, model=replace(run.model, **{start.option: start.value}), train=train)


@dataclass(frozen=True)
class Variant:
    """A point of the grid: a method with a learning rate and a start, and its run.

    Args:
        whole: whether the run has its full length, as a finalist's.
    """

    method: str
    lr: float
    start: Start
    config: RunConfig
    whole: bool = False

    @property
    def name(self) -> str:
        """For a folder."""
        return f"{self.method}-lr{self.lr:g}-{self.start.name}{'-whole' if self.whole else ''}"


@dataclass(frozen=True)
class Tuned:
    """A variant and its best validation result, NaN where it never had a finite one; None: not run to its end yet.

    Args:
        updates: that were made; None: unknown.
    """

    variant: Variant
    valid: float | None
    updates: int | None = None

    @property
    def finite(self) -> bool:
        """Whether there is a finite result."""
        return self.valid is not None and math.isfinite(self.valid)

    @staticmethod
    def read(variant: Variant, folder: Path) -> Tuned:
        """From the folder of the variant's run, which need not exist."""
        if not (folder / "summary.json").is_file():
            return Tuned(variant, None)
        run = Run.read(folder)
        return Tuned(variant, run.valid[-1].best if run.valid else math.nan, run.updates)


def chosen(tuned: Sequence[Tuned], maximize: bool) -> dict[str, Variant]:
    """The best variant of each method; of equals the one with the smaller rate, which is the safer.

    Raises:
        ValueError: a variant has no result yet, or no variant of a method has a finite one; the message names it.
    """
    if missing := [each.variant.name for each in tuned if each.valid is None]:
        raise ValueError(f"tuning: no result yet of {', '.join(missing)}")
    best: dict[str, Variant] = {}
    for method in dict.fromkeys(each.variant.method for each in tuned):
        finite = [(each.valid, each.variant) for each in tuned if each.variant.method == method]
        finite = [(value, variant) for value, variant in finite if value is not None and math.isfinite(value)]
        if not finite:
            raise ValueError(f"tuning: no run of {method} has a finite validation result")
        sign = -1 if maximize else 1
        best[method] = min(finite, key=lambda each: (sign * each[0], each[1].lr))[1]
    return best


def tuned_runs(runs: Mapping[str, RunConfig], choice: Mapping[str, Variant]) -> dict[str, RunConfig]:
    """The runs that count, each with the rate and the start that its tuning chose."""
    return {method: with_point_of(run, choice[method].config) for method, run in runs.items()}


def with_point_of(run: RunConfig, other: RunConfig) -> RunConfig:
    """A run with the rate and the start of another."""
    model = replace(run.model, forget_bias=other.model.forget_bias, min_radius=other.model.min_radius)
    return replace(run, model=model, train=replace(run.train, lr=other.train.lr))


def read_choice(path: Path, runs: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """Runs with the rate and the start that an earlier tuning chose, as `write_choice` recorded them.

    Raises:
        DamagedFileError: the file is missing or damaged.
        ValueError: it has no choice for a method, or one that the method cannot have; the message names both.
    """
    points = read_json(path).get("chosen")
    if not _is_object(points) or not points:
        raise ValueError(f"choices: {path} records no choice; is it a tuning.json?")
    known = ", ".join(sorted(points))
    if missing := [method for method in runs if method not in points]:
        raise ValueError(f"choices: {path} has no choice for {', '.join(missing)}; it has {known}")
    return {method: _with_point(method, run, points[method], path) for method, run in runs.items()}


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _with_point(method: str, run: RunConfig, point: Any, path: Path) -> RunConfig:
    """A run with a rate and a start as a file has them."""
    expected = {"lr", "min_radius" if run.model.model == "rtu" else "forget_bias"}
    if not _is_object(point) or {*point} != expected:
        raise ValueError(f"choices: {path} has {point!r} for {method}, expected {' and '.join(sorted(expected))}")
    (option,) = expected - {"lr"}
    try:
        model = replace(run.model, **{option: point[option]})
        return replace(run, model=model, train=replace(run.train, lr=point["lr"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"choices: {path}, {method}: {error}") from None


def write_choice(
    folder: Path, tuned: Sequence[Tuned], choice: Mapping[str, Variant], finals: Sequence[Tuned] = ()
) -> None:
    """Record the grid, its results, the finals and the choice in tuning.json; those of other methods stay there."""
    make_folder(folder)
    before = read_record(folder)
    content = {
        "seed": TUNING_SEED,
        "grid": _of_others(before.grid, choice) + [_recorded(each) for each in tuned],
        "finals": _of_others(before.finals, choice) + [_recorded(each) for each in finals],
        "chosen": {**before.chosen, **{method: _point(each) for method, each in choice.items()}},
    }
    write_json(folder / CHOICE_NAME, {name: part for name, part in content.items() if part})


@dataclass(frozen=True)
class Recorded:
    """What a tuning.json holds: points of the grid and of the finals, each with its "method", and the choices."""

    grid: Sequence[Mapping[str, Any]] = ()
    finals: Sequence[Mapping[str, Any]] = ()
    chosen: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_record(folder: Path) -> Recorded:
    """The tuning.json in a folder; an empty record where there is none.

    Raises:
        DamagedFileError: it is damaged, or holds something else.
    """
    path = folder / CHOICE_NAME
    if not path.is_file():
        return Recorded()
    content = read_json(path)
    chosen: Any = content.get("chosen", {})
    if not _is_object(chosen):
        raise DamagedFileError(path, f"it must be an object, got {chosen!r:.40}", "chosen")
    return Recorded(_points(path, content, "grid"), _points(path, content, "finals"), chosen)


def _points(path: Path, content: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    points: Any = content.get(part, [])
    if not isinstance(points, list) or not all(_is_point(each) for each in cast("list[Any]", points)):
        raise DamagedFileError(path, f"it must be a list of objects with a method, got {points!r:.40}", part)
    return cast("list[dict[str, Any]]", points)


def _is_point(value: Any) -> bool:
    return _is_object(value) and isinstance(value.get("method"), str)


def _of_others(points: Sequence[Mapping[str, Any]], methods: Collection[str]) -> list[Mapping[str, Any]]:
    """The points of the methods that are not being tuned."""
    return [each for each in points if each["method"] not in methods]


def _point(variant: Variant) -> dict[str, Any]:
    return {"lr": variant.lr, variant.start.option: variant.start.value}


def _recorded(each: Tuned) -> dict[str, Any]:
    return {
        "method": each.variant.method,
        **_point(each.variant),
        "updates": each.updates,
        "valid": each.valid if each.finite else None,
    }


def table(setting: str, tuned: Sequence[Tuned], choice: Mapping[str, Variant], stage: str = "Tuning") -> Table:
    """The grid of a setting: a row for each method and start, a column for each rate; the choice is marked.

    Args:
        stage: for the title.
    """
    rates = list(dict.fromkeys(each.variant.lr for each in tuned))
    found = {(each.variant.method, each.variant.start, each.variant.lr): each for each in tuned}
    rows: list[list[str]] = []
    for method, start in dict.fromkeys((each.variant.method, each.variant.start) for each in tuned):
        cells = [_cell(found.get((method, start, lr)), choice.get(method)) for lr in rates]
        rows.append([method, start.told(), *cells])
    columns = ["method", "begun with", *(f"rate {lr:g}" for lr in rates)]
    return Table(f"{stage} of {setting}: best validation result of one run each (* chosen)", columns, rows)


def _cell(each: Tuned | None, choice: Variant | None) -> str:
    if each is None or each.valid is None:
        return "-"
    taken = choice is not None and (each.variant.lr, each.variant.start) == (choice.lr, choice.start)
    return f"{each.valid:.4f}{' *' if taken else ''}"
