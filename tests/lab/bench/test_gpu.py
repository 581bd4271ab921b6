"""The benchmark for a GPU, as far as it goes without one: its arithmetic, its limits, its report, and its refusal."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.cli import main
from reminding.lab import commands
from reminding.lab.bench import gpu, gpu_report, process
from reminding.lab.bench.ceilings import measure_ceilings
from reminding.lab.bench.floor import Ceilings, Work, floor, lstm_work, memories_scored, sab_work
from reminding.lab.bench.gpu import Row, measure, measure_row
from reminding.lab.bench.gpu_options import GPU_NAMES, GpuOptions
from reminding.lab.bench.gpu_report import GpuMeasured, median_ms, record, tables, write
from reminding.lab.bench.options import Size
from reminding.lab.bench.process import Refusal, in_own_process
from reminding.ops import cuda_op

SMALL = GpuOptions(T=6, lengths=(9,), B=2, H=(4,), I=3, k_top=2, k_att=2, k_trunc=3, repetitions=2)
SIZE = Size(T=6, B=2, I=3, H=4)
CEILINGS = Ceilings({"float32": 1e12, "bfloat16": 1e13}, dram_bytes=1e11, l2_bytes=1e12, multiprocessors=132)
CPU = torch.device("cpu")
ABOUT = {"name": "a GPU"}
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def quiet(text: str) -> None:
    """Nobody watches."""


def test_the_defaults_are_the_sizes_that_matter() -> None:
    sizes = [(size.T, size.H) for size in GpuOptions().sizes()]
    assert sizes == [(1024, 128), (1024, 256), (1024, 512), (4096, 128), (16_384, 128), (65_536, 128)]
    assert {(size.B, size.I) for size in GpuOptions().sizes()} == {(64, 128)}


@pytest.mark.parametrize("capacity", [None, 3])
def test_memories_are_those_stored_before_a_step(capacity: int | None) -> None:
    stored, seen = 0, 0
    for step in range(1, 30):
        seen += stored
        stored = min(stored + (step % 4 == 0), capacity or 99)
    assert memories_scored(29, 4, capacity) == pytest.approx(seen / 29)


@pytest.mark.parametrize(("H", "kilobytes"), [(128, 344 + 344), (256, 1376 + 1376), (512, 5505 + 5505)])
def test_weights_are_read_as_often_as_the_documentation_says(H: int, kilobytes: int) -> None:
    """docs/cuda.md: W_hh, W2 and W1 at every fourth step, forward and back; and the keys of 128 memories forward."""
    size, options = Size(1024, 64, 128, H), GpuOptions()
    keys = 4 * H * memories_scored(1024, 4, None)
    assert keys == pytest.approx(4 * H * 128, rel=0.01)
    read = sab_work(size, options).l2_bytes / (1024 * 64)
    assert (read - keys) / 1000 == pytest.approx(kilobytes, rel=0.001)
    half = sab_work(size, replace(options, dtype="bfloat16")).l2_bytes / (1024 * 64)
    assert (half - keys) / 1000 == pytest.approx(kilobytes / 2, rel=0.001)


def test_the_work_of_nn_lstm_is_its_products() -> None:
    work = lstm_work(Size(T=3, B=2, I=5, H=7), "float16")
    forward = 2 * 4 * 7 * (5 + 7)
    assert work.flops == 3 * 2 * (2 * forward + 2 * 4 * 7 * 7)
    assert (work.kind, work.l2_bytes) == ("float16", 0)
    assert work.dram_bytes == 3 * 2 * 2 * (2 * 5 + 2 * 6 * 7 + 7)


def test_a_bounded_memory_makes_the_work_grow_with_the_length_alone() -> None:
    bounded = replace(GpuOptions(), capacity=16)
    short, long = (sab_work(Size(T, 64, 128, 128), bounded) for T in (4096, 65_536))
    assert long.flops / short.flops == pytest.approx(16, rel=0.001)
    free = [sab_work(Size(T, 64, 128, 128), GpuOptions()) for T in (4096, 65_536)]
    assert free[1].flops / free[0].flops > 50


def test_the_floor_is_the_slowest_part_and_few_rows_get_their_share_of_l2() -> None:
    work = Work(flops=1e9, kind="float32", dram_bytes=5e8, l2_bytes=8e9)
    least = floor(work, CEILINGS, rows=66)
    assert (least.flops_ms, least.dram_ms, least.l2_ms) == (1.0, 5.0, 16.0)
    assert (least.ms, least.bound) == (16.0, "L2")
    assert floor(work, CEILINGS, rows=1000).l2_ms == 8.0


def test_ceilings_are_what_was_moved_and_done_in_a_second() -> None:
    found = measure_ceilings(CPU, "bfloat16", scale=0.005)
    assert set(found.flops) == {"bfloat16", "float32"}
    assert min(*found.flops.values(), found.dram_bytes, found.l2_bytes) > 0


@pytest.mark.parametrize("name", GPU_NAMES)
def test_every_contestant_is_timed(name: Any) -> None:
    if name.startswith("sab-cuda") and cuda_op.missing() is not None:
        with pytest.raises(ValueError, match="backend='cuda' cannot run"):
            measure_row(name, SIZE, SMALL, CPU)
        return
    row = measure_row(name, SIZE, SMALL, CPU)
    assert (row.name, row.size, row.peak_bytes, row.skipped) == (name, SIZE, None, None)
    assert len(row.forward_ms) == len(row.backward_ms) == SMALL.repetitions
    assert min(*row.forward_ms, *row.backward_ms) > 0


def test_there_are_no_more_repetitions_than_time_for_them() -> None:
    assert len(measure_row("lstm", SIZE, replace(SMALL, max_seconds=1e-9), CPU).forward_ms) == 1


def fails() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")


def dies() -> None:
    os._exit(7)


def sleeps() -> None:
    time.sleep(60)


def seven() -> int:
    return 7


def test_what_fails_dies_or_hangs_costs_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_own_process(seven, 60) == 7
    failed = "it failed: RuntimeError: CUDA error: an illegal memory access was encountered"
    assert in_own_process(fails, 60) == Refusal(failed)
    assert in_own_process(dies, 60) == Refusal("its process died with exit code 7, of too little memory perhaps")
    monkeypatch.setattr(process, "START_UP_SECONDS", 0.0)
    assert in_own_process(sleeps, 0.01) == Refusal("stopped: it took more than 0.01 s")


def test_what_a_size_was_too_large_for_is_not_asked_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"sab-reference": "stopped: too slow", "sab-cuda": "it failed: RuntimeError: today"}
    asked: list[tuple[str, int]] = []

    def answer(action: Any, seconds: float) -> Row | Refusal:
        name, size, _ = action.args
        asked.append((name, size.T))
        return Refusal(reasons[name]) if name in reasons else Row(name, size, (1.0,), (2.0,), 1000)

    monkeypatch.setattr(gpu, "in_own_process", answer)
    rows = list(measure(SMALL, quiet))
    assert len(rows) == 2 * len(GPU_NAMES)
    assert [row.skipped for row in rows if row.name == "sab-reference"] == [
        "stopped: too slow",
        f"left out, as at {SIZE}",
    ]
    assert [T for name, T in asked if name == "sab-cuda"] == [6, 9]


def rows(skipped: str) -> list[Row]:
    return [
        Row("lstm", SIZE, (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), 2_000_000),
        Row("sab-cuda", SIZE, (2.0, 2.0, 2.0), (4.0, 4.0, 4.0), 3_000_000),
        Row("sab-reference", SIZE, skipped=skipped),
    ]


def test_a_table_has_the_floor_beside_each_figure_and_tells_what_is_missing() -> None:
    measured = GpuMeasured(SMALL, ABOUT, CEILINGS, rows("it was | late"))
    (table,) = tables(measured)
    assert table.title == "T=6, B=2, I=3, H=4"
    assert table.rows[0][:5] == ["nn.LSTM", "2.00", "1.00", "3.00", "1.00"]
    assert table.rows[1][:5] == ["SAB, Triton kernels", "2.00", "4.00", "6.00", "2.00"]
    assert table.rows[1][-1] == "3.00"
    least = measured.floor(measured.rows[1])
    assert least is not None and least.bound in ("flops", "DRAM", "L2")
    assert table.rows[1][6] == least.bound
    assert table.rows[2][1:5] == ["-"] * 4
    assert table.notes == ["SAB, plain PyTorch, replay: it was | late"]


def test_all_is_written_also_where_there_are_no_ceilings(tmp_path: Path) -> None:
    for ceilings in (CEILINGS, Refusal("no memory")):
        write(GpuMeasured(SMALL, ABOUT, ceilings, rows("late")), tmp_path / "new")
        content = json.loads((tmp_path / "new" / "measured.json").read_text())
        assert {"format", "kind", "command", "options", "gpu", "ceilings", "rows", "torch"} <= set(content)
        assert [row["ms"] for row in content["rows"]] == [3.0, 6.0, None]
        assert (content["rows"][1]["floor"] is None) == isinstance(ceilings, Refusal)
        assert content["rows"][1]["work"]["flops"] > 0
        page = (tmp_path / "new" / "report.md").read_text()
        assert "late" in page
        assert ("no memory" in page) == isinstance(ceilings, Refusal)
    assert median_ms(rows("")[2]) is None
    json.dumps(record(GpuMeasured(SMALL, ABOUT, CEILINGS, [])))


def test_the_command_measures_shows_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_cpu(action: Callable[[], Any], seconds: float) -> Any:
        arguments: Any = getattr(action, "args", ())
        return measure_row(*arguments, device=CPU) if len(arguments) == 3 else CEILINGS

    def about(device: torch.device) -> dict[str, str]:
        return ABOUT

    def there(options: GpuOptions) -> None:
        """As if there were one."""

    monkeypatch.setattr(gpu, "require_device", there)
    monkeypatch.setattr(gpu, "about", about)
    monkeypatch.setattr(gpu, "in_own_process", on_the_cpu)
    commands.bench_gpu(replace(SMALL, models=("sab-reference",)), tmp_path)
    shown = capsys.readouterr().out
    assert "a GPU" in shown
    assert "SAB, plain PyTorch" in shown
    content = json.loads((tmp_path / gpu_report.RECORD_NAME).read_text())
    assert [row["name"] for row in content["rows"]] == ["lstm", "sab-reference"] * 2


@NO_GPU
@pytest.mark.parametrize("words", [["--device", "cuda"], ["--device=cuda:1"]])
def test_without_a_device_it_says_so_and_measures_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *words, "--out", str(tmp_path / "none")])
    told = f"{stopped.value}{capsys.readouterr().err}"
    assert f"--device {words[-1].removeprefix('--device=')} needs a CUDA device" in told
    assert "--device cpu measures on the CPU" in told
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"H": ()}, "H must be numbers of at least 1, got []"),
        ({"lengths": (0,)}, "lengths must be at least 1, got [0]"),
        ({"k_att": 0}, "k_att must be at least 1, got 0"),
        ({"capacity": 0}, "capacity must be at least 1, or None, got 0"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0, got 0.0"),
        ({"models": ("gru",)}, "got ['gru']"),
        ({"device": "cudax"}, "device must be 'cuda' or 'cuda:N', got 'cudax'"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        GpuOptions(**options)
