"""The command `reminding bench --device cuda`, with and without a device."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.cli import main
from reminding.lab.bench import gpu
from reminding.lab.bench.gpu import measure_row
from reminding.lab.bench.measurement import RECORD_NAME
from reminding.lab.bench.options import GpuOptions
from reminding.lab.verbs import measuring
from tests.lab.bench.gpu_sizes import ABOUT, CEILINGS, CPU, SMALL

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def test_the_command_measures_shows_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_cpu(action: Callable[[], Any], seconds: float) -> Any:
        arguments: Any = getattr(action, "args", ())
        return measure_row(*arguments, device=CPU) if len(arguments) == 3 else CEILINGS

    def about(device: torch.device) -> dict[str, str]:
        return ABOUT

    def there(options: GpuOptions) -> None:
        """Pretend that there is a device."""

    monkeypatch.setattr(gpu, "require_device", there)
    monkeypatch.setattr(gpu, "about", about)
    monkeypatch.setattr(gpu, "in_own_process", on_the_cpu)
    measuring.bench_gpu(replace(SMALL, models=("sab-reference",)), tmp_path)
    shown = capsys.readouterr().out
    assert "a GPU" in shown
    assert "SAB, plain PyTorch" in shown
    content = json.loads((tmp_path / RECORD_NAME).read_text())
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
