"""Storages that sweeps leave for the next one: never shared by two tensors that live at once, and bounded."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from reminding.ops.cpu_op import missing, reuse
from reminding.ops.cpu_op.reuse import LEAST, MOST, reusable

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
LIKE = torch.zeros(0)
WIDTH = LEAST // 4  # numbers of the smallest tensor that is kept


@pytest.fixture(autouse=True)
def storages(monkeypatch: pytest.MonkeyPatch) -> reuse._Storages:  # pyright: ignore[reportPrivateUsage]
    fresh = reuse._Storages()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(reuse, "_STORAGES", fresh)
    return fresh


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_a_storage_serves_again_once_no_tensor_lies_in_it() -> None:
    first = reusable(LIKE, 3, WIDTH)
    at, view = place(first), first[1:]
    assert place(reusable(LIKE, 3, WIDTH)) != at
    del first
    assert place(reusable(LIKE, 3, WIDTH)) != at, "a view of it still lives"
    del view
    again = reusable(LIKE, 2, WIDTH)
    assert place(again) == at
    assert again.shape == (2, WIDTH) and again.is_contiguous() and again.dtype == LIKE.dtype


def test_a_storage_serves_no_tensor_that_is_larger_or_much_smaller() -> None:
    at = place(reusable(LIKE, 4, WIDTH))
    assert place(reusable(LIKE, 5, WIDTH)) != at
    assert place(reusable(LIKE, 1, WIDTH)) != at
    assert place(reusable(LIKE.double(), 2, WIDTH)) == at


def test_what_is_small_or_too_large_is_not_kept(storages: reuse._Storages) -> None:  # pyright: ignore
    reusable(LIKE, WIDTH - 1)
    reusable(LIKE, MOST // 4 + 1)
    assert storages._kept == []  # pyright: ignore[reportPrivateUsage]


def test_all_that_is_kept_stays_within_the_limit(storages: reuse._Storages) -> None:  # pyright: ignore
    sizes = [MOST // 2, MOST // 4, MOST // 2, MOST // 8, MOST, LEAST, MOST // 2]
    held = [reusable(LIKE, size // 4) for size in sizes]
    kept = storages._kept  # pyright: ignore[reportPrivateUsage]
    assert sum(storage.nbytes() for storage in kept) <= MOST
    assert place(held[-1]) in {storage.data_ptr() for storage in kept}


def test_threads_never_share_a_storage() -> None:
    def fill(number: int) -> bool:
        for _ in range(50):
            tensor = reusable(LIKE, 2, WIDTH).fill_(number)
            if not bool((tensor == number).all()):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fill, range(8)))


def test_with_deterministic_algorithms_every_tensor_is_filled() -> None:
    del_me = reusable(LIKE, 2, WIDTH).zero_()
    at = place(del_me)
    del del_me
    torch.use_deterministic_algorithms(True)
    try:
        filled = reusable(LIKE, 2, WIDTH)
    finally:
        torch.use_deterministic_algorithms(False)
    assert place(filled) != at
    assert bool(filled.isnan().all())


def test_without_a_count_of_tensors_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
    storages: reuse._Storages,  # pyright: ignore[reportPrivateUsage]
) -> None:
    monkeypatch.setattr(reuse, "COUNTED", False)
    assert reusable(LIKE, 3, WIDTH).shape == (3, WIDTH)
    assert not storages._kept  # pyright: ignore[reportPrivateUsage]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork in a process with threads
def test_a_process_forked_while_a_thread_takes_a_storage_does_not_wait_for_it(
    storages: reuse._Storages,  # pyright: ignore[reportPrivateUsage]
) -> None:
    with storages._lock:  # pyright: ignore[reportPrivateUsage]
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            reusable(LIKE, 3, WIDTH)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
