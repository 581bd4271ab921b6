"""What was measured on a GPU, for people and for programs: tables, measured.json and report.md."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reminding.lab.bench.floor import Ceilings, Floor, floor
from reminding.lab.bench.gpu import Row, work_of
from reminding.lab.bench.gpu_options import GpuName, GpuOptions
from reminding.lab.bench.options import Size
from reminding.lab.bench.process import Refusal
from reminding.lab.runs.config import plain
from reminding.lab.runs.machine import command_line, environment
from reminding.lab.show.tables import Table

FORMAT_VERSION = 1
RECORD_NAME = "measured.json"
PAGE_NAME = "report.md"
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
class GpuMeasured:
    """Everything of one run.

    Args:
        about: the device, see `gpu.about`.
        ceilings: of it, or why they could not be measured.
    """

    options: GpuOptions
    about: dict[str, Any]
    ceilings: Ceilings | Refusal
    rows: Sequence[Row]

    def floor(self, row: Row) -> Floor | None:
        """The least that a row could take; None without ceilings."""
        if isinstance(self.ceilings, Refusal):
            return None
        return floor(work_of(row.name, row.size, self.options), self.ceilings, row.size.B)


def median_ms(row: Row) -> float | None:
    """Of a training step; None where it was not measured."""
    both = [a + b for a, b in zip(row.forward_ms, row.backward_ms, strict=True)]
    return statistics.median(both) if both else None


def tables(measured: GpuMeasured) -> list[Table]:
    """A table a size: times, their ratio to nn.LSTM's, the floor and how far above it, and memory."""
    sizes = list(dict.fromkeys(row.size for row in measured.rows))
    return [_table(size, [row for row in measured.rows if row.size == size], measured) for size in sizes]


def _table(size: Size, rows: Sequence[Row], measured: GpuMeasured) -> Table:
    base = next((median_ms(row) for row in rows if row.name == "lstm"), None)
    notes = [f"{LABELS[row.name]}: {row.skipped}" for row in rows if row.skipped is not None]
    return Table(str(size), COLUMNS, [_cells(row, base, measured.floor(row)) for row in rows], notes)


def _cells(row: Row, base: float | None, least: Floor | None) -> list[str]:
    both = median_ms(row)
    halves = [statistics.median(half) if half else None for half in (row.forward_ms, row.backward_ms)]
    ratio = both / base if both is not None and base else None
    above = both / least.ms if both is not None and least is not None and least.ms > 0 else None
    return [
        LABELS[row.name],
        *(_figure(half) for half in halves),
        _figure(both),
        _figure(ratio),
        _figure(None if least is None else least.ms),
        "-" if least is None else least.bound,
        _figure(above),
        _figure(None if row.peak_bytes is None else row.peak_bytes / 1e6),
    ]


def _figure(value: float | None) -> str:
    """Three digits or more; - where there is none."""
    if value is None:
        return "-"
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
    return f"{value:,.{places}f}"


def setting(measured: GpuMeasured) -> str:
    """What all figures have in common, in a line."""
    options = measured.options
    named = [f"{key}={getattr(options, key)}" for key in ("B", "I", "k_top", "k_att", "k_trunc", "capacity")]
    kinds = [options.score, options.normalizer, options.dtype, f"medians of up to {options.repetitions} repetitions"]
    return f"{measured.about.get('name', options.device)}: " + ", ".join([*named, *kinds])


def ceiling_lines(measured: GpuMeasured) -> list[str]:
    """What the floors stand on, for people."""
    found = measured.ceilings
    if isinstance(found, Refusal):
        return [f"no ceilings, so no floors: {found.reason}"]
    flops = ", ".join(f"{kind} {value / 1e12:.1f} TFLOP/s" for kind, value in found.flops.items())
    return [
        f"Ceilings, measured in the same run: {flops} (a product of large matrices), "
        f"DRAM {found.dram_bytes / 1e9:,.0f} GB/s (a copy), L2 {found.l2_bytes / 1e9:,.0f} GB/s (1 MiB read again "
        f"and again by all {found.multiprocessors} multiprocessors)."
    ]


def record(measured: GpuMeasured) -> dict[str, Any]:
    """Everything, as JSON can hold it."""
    found = measured.ceilings
    rows: list[dict[str, Any]] = []
    for row in measured.rows:
        least = measured.floor(row)
        further = None if least is None else {**dataclasses.asdict(least), "ms": least.ms, "bound": least.bound}
        work = dataclasses.asdict(work_of(row.name, row.size, measured.options))
        rows.append({**dataclasses.asdict(row), "ms": median_ms(row), "work": work, "floor": further})
    return {
        "format": FORMAT_VERSION,
        "kind": "gpu",
        "command": command_line(),
        "options": plain(measured.options),
        "gpu": measured.about,
        "ceilings": {"failed": found.reason} if isinstance(found, Refusal) else dataclasses.asdict(found),
        "rows": rows,
        **environment(measured.options.device),
    }


def write(measured: GpuMeasured, out: Path) -> list[Path]:
    """Write measured.json and report.md, replacing what is there; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / RECORD_NAME, out / PAGE_NAME]
    files[0].write_text(json.dumps(record(measured), indent=2) + "\n")
    lines = ["# One training step on a GPU beside `nn.LSTM`", "", setting(measured), "", *ceiling_lines(measured), ""]
    for table in tables(measured):
        lines += [f"## {table.title}", "", table.markdown(), ""]
    files[1].write_text("\n".join([*lines, f"    {command_line()}", ""]))
    return files
