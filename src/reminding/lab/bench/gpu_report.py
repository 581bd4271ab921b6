"""What was measured on a GPU: a table for each size, with floors beside the times."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from reminding.lab.bench.floor import Ceilings, Floor, floor
from reminding.lab.bench.gpu import Row, work_of
from reminding.lab.bench.measurement import Measurement, shown
from reminding.lab.bench.options import BASE, GpuName, GpuOptions, Size
from reminding.lab.bench.process import Refusal
from reminding.lab.show.tables import Table

LABELS: dict[GpuName, str] = {
    "lstm": "nn.LSTM",
    "sab-cuda": "SAB, Triton kernels",
    "sab-cuda-replay": "SAB, Triton kernels, replay",
    "sab-reference": "SAB, plain PyTorch, replay",
}
COLUMNS = (
    "",
    "forward, ms",
    "backward, ms",
    "both, ms",
    "ratio",
    "floor, ms",
    "bound by",
    "above floor",
    "memory, MB",
)


@dataclass(frozen=True)
class GpuMeasurement(Measurement):
    """The figures of one run on a GPU.

    Args:
        about: the device, see `gpu.about`.
        ceilings: of the device, or why they could not be measured.
    """

    heading: ClassVar[str] = "One training step on a GPU beside `nn.LSTM`"

    options: GpuOptions
    about: dict[str, Any]
    ceilings: Ceilings | Refusal
    rows: Sequence[Row]

    def floor(self, row: Row) -> Floor | None:
        """The least time that a row could take; None without ceilings."""
        if isinstance(self.ceilings, Refusal):
            return None
        return floor(work_of(row.name, row.size, self.options), self.ceilings, row.size.B)

    def setting(self) -> list[str]:
        """The device and what all figures have in common; then the ceilings."""
        options = self.options
        named = options.described(("B", "I", "k_top", "k_att", "k_trunc", "capacity"))
        kinds = [options.score, options.normalizer, options.dtype]
        medians = f"medians of up to {options.repetitions} repetitions"
        device = self.about.get("name", options.device)
        return [f"{device}: {', '.join([*named, *kinds, medians])}", self._ceilings_shown()]

    def _ceilings_shown(self) -> str:
        ceilings = self.ceilings
        if isinstance(ceilings, Refusal):
            return f"no ceilings, so no floors: {ceilings.reason}"
        flops = ", ".join(f"{kind} {value / 1e12:.1f} TFLOP/s" for kind, value in ceilings.flops.items())
        return (
            f"Ceilings, measured in the same run: {flops} (a product of large matrices), "
            f"DRAM {ceilings.dram_bytes / 1e9:,.0f} GB/s (a copy), L2 {ceilings.l2_bytes / 1e9:,.0f} GB/s "
            f"(1 MiB read repeatedly by all {ceilings.multiprocessors} multiprocessors)."
        )

    def tables(self) -> list[Table]:
        """One table per size: times, their ratio to nn.LSTM's, the floor and how far above it, and memory."""
        sizes = dict.fromkeys(row.size for row in self.rows)
        return [self._table(size, [row for row in self.rows if row.size == size]) for size in sizes]

    def _table(self, size: Size, rows: Sequence[Row]) -> Table:
        base = next((median_ms(row) for row in rows if row.name == BASE), None)
        notes = [f"{LABELS[row.name]}: {row.skipped}" for row in rows if row.skipped is not None]
        return Table(str(size), COLUMNS, [_cells(row, base, self.floor(row)) for row in rows], notes)

    def results(self) -> dict[str, Any]:
        """Each row with its work and its floor, the device and its ceilings."""
        ceilings = self.ceilings
        failed = isinstance(ceilings, Refusal)
        return {
            "kind": "gpu",
            "gpu": self.about,
            "ceilings": {"failed": ceilings.reason} if failed else dataclasses.asdict(ceilings),
            "rows": [self._row_record(row) for row in self.rows],
        }

    def _row_record(self, row: Row) -> dict[str, Any]:
        least = self.floor(row)
        bounds = None if least is None else {**dataclasses.asdict(least), "ms": least.ms, "bound": least.bound}
        work = dataclasses.asdict(work_of(row.name, row.size, self.options))
        return {**dataclasses.asdict(row), "ms": median_ms(row), "work": work, "floor": bounds}


def median_ms(row: Row) -> float | None:
    """Milliseconds of a training step, the median; None where it was not measured."""
    both = [a + b for a, b in zip(row.forward_ms, row.backward_ms, strict=True)]
    return statistics.median(both) if both else None


def _cells(row: Row, base: float | None, least: Floor | None) -> list[str]:
    both = median_ms(row)
    halves = [statistics.median(half) if half else None for half in (row.forward_ms, row.backward_ms)]
    ratio = both / base if both is not None and base else None
    above = both / least.ms if both is not None and least is not None and least.ms > 0 else None
    return [
        LABELS[row.name],
        *(_figure(value) for value in (*halves, both, ratio, None if least is None else least.ms)),
        "-" if least is None else least.bound,
        _figure(above),
        _figure(None if row.peak_bytes is None else row.peak_bytes / 1e6),
    ]


def _figure(value: float | None) -> str:
    return shown(value, finest=4)
