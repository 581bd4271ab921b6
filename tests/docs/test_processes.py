"""PyTorch's DistributedDataParallel works with the layer as documented."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "docs/howto/distributed.py"


def norms(printed: str) -> list[float]:
    return [float(line.split()[-1]) for line in printed.splitlines() if "gradient norm" in line]


def test_two_processes_give_the_gradients_of_one_chunk_after_chunk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
    alone = norms(capsys.readouterr().out)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert len(alone) == 3
    assert norms(ran.stdout) == pytest.approx(alone, abs=2e-6)
