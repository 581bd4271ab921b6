"""Calls the C++ op's operators with one damaged argument each. A call must be refused, or return the same numbers.

A missing check may crash the process, so the calls run in another one, `python -m tests.ops.cpu_op.direct_calls`. It
prints a line before each call, so that after a crash the last line names the call, and WRONG after a call that
returned other numbers without an error.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from tests.ops.cpu_op.damage import damages
from tests.ops.cpu_op.recorded_calls import CASES, Call, copied, equal, recorded, tensors


def outcome(call: Call, arguments: list[Any]) -> list[Tensor] | None:
    """What a call writes and returns, or None if it is refused."""
    try:
        return call.run(arguments)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None


def run_each(calls: list[Call], first: int, stride: int) -> Counter[str]:
    """Make every n-th of all possible damaged calls; returns how they ended: right, refused, or wrong."""
    right: dict[int, list[Tensor]] = {}
    found: Counter[str] = Counter()
    every = [(at, damage) for at, call in enumerate(calls) for damage in damages(call)]
    for number in range(first, len(every), stride):
        at, damage = every[number]
        call = calls[at]
        right[at] = right.get(at) or call.run(call.arguments)
        print(number, call.name, damage.says, flush=True)
        results = outcome(call, damage.of(call.arguments))
        wrong = not damage.other and results is not None and not equal(results, right[at])
        kind = "refused" if results is None else "wrong" if wrong else "right"
        found[kind] += 1
        print("WRONG" if wrong else "=", kind, number, call.name, damage.says)
    return found


def run_pairs(calls: list[Call], seed: int, size: int) -> int:
    """Make calls with two damages, or with random integers. Only a crash is a failure."""
    choose = random.Random(seed)
    # PyTorch's own messages print tensors, which fails for one without memory.
    every = [[damage for damage in damages(call) if "without memory" not in damage.says] for call in calls]
    for number in range(size):
        at = choose.randrange(len(calls))
        arguments, says = copied(calls[at].arguments), [calls[at].name]
        first, second = choose.choice(every[at]), choose.choice(every[at])
        for damage in (first, second) if first.place != second.place else (first,):
            try:
                arguments = damage.of(arguments)
            except (IndexError, TypeError):  # the first damage has left nothing to damage
                continue
            says.append(damage.says)
        for tensor in tensors(arguments) if number % 2 else ():
            _scatter(tensor, choose)
        print(*says, seed, number, flush=True)
        outcome(calls[at], arguments)
    return size


def _scatter(tensor: Tensor, choose: random.Random) -> None:
    if tensor.dtype not in (torch.int32, torch.int64) or tensor.device.type != "cpu" or tensor.is_sparse:
        return
    if not tensor.numel() or not tensor.is_contiguous() or not tensor.untyped_storage().nbytes():
        return
    most = torch.iinfo(tensor.dtype).max
    for _ in range(choose.randrange(3)):
        value = choose.choice([choose.randint(-3, 8), choose.randint(-most, most)])
        tensor.view(-1)[choose.randrange(tensor.numel())] = value


def main() -> None:
    """Run damaged calls of some cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--first", type=int, default=0, help="the first damage to run")
    parser.add_argument("--stride", type=int, default=1, help="and every so many-th from there")
    parser.add_argument("--pairs", type=int, default=0, help="so many calls with two damages instead")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory, so that it can be compared
    for case in options.cases:
        calls = recorded(case)
        if options.pairs:
            made = run_pairs(calls, options.seed, options.pairs)
        else:
            made = run_each(calls, options.first, options.stride).total()
        print("made", made)


if __name__ == "__main__":
    main()
