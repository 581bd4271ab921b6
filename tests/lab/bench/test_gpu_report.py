"""The tables and files of the benchmark for a GPU."""

from __future__ import annotations

import json
from pathlib import Path

from reminding.lab.bench.gpu_report import GpuMeasurement, median_ms
from reminding.lab.bench.process import Refusal
from tests.lab.bench.gpu_sizes import ABOUT, CEILINGS, SMALL, rows


def test_a_table_has_the_floor_beside_each_figure_and_tells_what_is_missing() -> None:
    measured = GpuMeasurement(SMALL, ABOUT, CEILINGS, rows("it was | late"))
    (table,) = measured.tables()
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
        GpuMeasurement(SMALL, ABOUT, ceilings, rows("late")).write(tmp_path / "new")
        content = json.loads((tmp_path / "new" / "measured.json").read_text())
        assert {"format", "kind", "command", "options", "gpu", "ceilings", "rows", "torch"} <= set(content)
        assert [row["ms"] for row in content["rows"]] == [3.0, 6.0, None]
        assert (content["rows"][1]["floor"] is None) == isinstance(ceilings, Refusal)
        assert content["rows"][1]["work"]["flops"] > 0
        page = (tmp_path / "new" / "report.md").read_text()
        assert "late" in page
        assert ("no memory" in page) == isinstance(ceilings, Refusal)
    assert median_ms(rows("")[2]) is None
    json.dumps(GpuMeasurement(SMALL, ABOUT, CEILINGS, []).record())
