"""The device and the machine that a run is made on."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from reminding.lab.runs import machine


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        machine.choose_device("nonsense")


def _tiny() -> float:
    """The half of the least normal number of float32, as the processor computes it."""
    return (torch.tensor(1.2e-38) * 0.5).item()


def test_subnormal_numbers_are_flushed_within_and_not_after() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    torch.set_flush_denormal(False)
    assert _tiny() > 0
    with machine.subnormals_flushed():
        assert _tiny() == 0
        with machine.subnormals_flushed():
            assert _tiny() == 0
        assert _tiny() == 0
    assert _tiny() > 0


def test_an_error_ends_the_flushing_too() -> None:
    with pytest.raises(RuntimeError, match="lost"), machine.subnormals_flushed():
        raise RuntimeError("lost")
    assert _tiny() > 0


FAULTS = """
import resource
import torch
from reminding.lab.runs.machine import conditions_of_training, keep_freed_memory

torch.set_num_threads(1)
with conditions_of_training():
    for megabytes in (1, 40, 300):
        for _ in range(5):  # each is freed at once; the heap may still hold memory that nobody has written to
            torch.ones(megabytes << 20, dtype=torch.uint8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(megabytes << 20, dtype=torch.uint8)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(keep_freed_memory())
"""
GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


def _faults(**variables: str) -> tuple[bool, list[int]]:
    """Whether a process with these variables keeps what it frees, and the page faults of tensors of three sizes."""
    kept = {name: os.environ[name] for name in os.environ if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS]
    run = subprocess.run(command, env=kept | variables, check=True, capture_output=True, text=True)
    *faults, keeps = run.stdout.split()
    return keeps == "True", [int(each) for each in faults]


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_what_is_freed_is_taken_for_the_next_tensor() -> None:
    keeps, faults = _faults()
    assert keeps
    assert max(faults) < 32


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
@pytest.mark.parametrize(
    "variable", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_variables_of_glibc_have_the_last_word(variable: dict[str, str]) -> None:
    keeps, faults = _faults(**variable)
    assert not keeps
    assert max(faults) > 32
