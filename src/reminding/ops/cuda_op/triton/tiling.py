"""Which pair of kernels runs a call: one row a program, or tiles of rows by slices of units; and how it is launched.

Shapes: T time, B batch, H hidden, D score width.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from reminding.ops.contract import CELLS, Past
from reminding.ops.cuda_op.packing import WARPS, Call, padded

ROWS = 16
"""Of a tile: the least that a tensor core multiplies."""
UNITS = 16
"""Of a slice. With 16 slices or more, H from 256 on, a program has one row's memories at most to score."""
ON_CHIP = 160 * 1024
"""Bytes of weights that a multiprocessor's 227 KB of shared memory hold beside what a step needs."""
INNER = 32
"""Of a product's inner size that a thread goes through: with twice as many, the registers spill at H = 512."""
AT_ONCE = 4096
"""Elements of the parts of a row's sum that are read at once: 16 a thread."""
LINE = 32
"""Counters of a tile's line, one of them used: `tiled.LINE`."""

CELLS_WIDE = 128
"""Units that a program takes which computes c alone: one a thread."""

ASKED = "REMINDING_TILES"
"""An environment variable."""

READ = 112e9
"""Bytes a second that one multiprocessor reads from L2: 64 a clock at 1.75 GHz."""
MULTIPLIED = 224e9
"""Products a second of one multiprocessor in float32: 128 a clock."""
MEETING = 1.5e-6
"""Seconds that a meeting of a tile's programs is taken to cost."""


class Tiling(NamedTuple):
    """How tiles of rows are laid over a GPU."""

    rows: int  # a tile
    units: int  # a slice
    slices: int  # a tile, each a program
    together: int  # tiles of a launch, all of whose programs run at once
    holds: bool  # on chip the score's weights too, not only the cell's

    def tiles(self, call: Call) -> int:
        """Of the whole batch."""
        return -(-call.B // self.rows)

    def features(self, call: Call) -> int:
        """Of the score, in a slice; the last slices may have none."""
        return max(padded(-(-call.D // self.slices)), self.units)

    def shapes(self, call: Call) -> dict[str, Any]:
        """Further constants for which these kernels are compiled."""
        HP, DP = padded(call.H), padded(call.D)
        return {
            "RECURRENT": call.recurrent,
            "R": self.rows,
            "U": self.units,
            "F": self.features(call),
            "N": min(INNER, HP),
            "L": min(INNER, DP),
            "AT_ONCE": max(min(AT_ONCE // max(HP, DP), padded(self.slices)), 1),
            "HOLDS": self.holds,
            "PRECISION": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
        }


def tiling(call: Call, weights: tuple[torch.dtype, torch.dtype], state: torch.dtype, processors: int) -> Tiling | str:
    """How to tile a call, or why one row a program is better.

    Args:
        weights: the types of the cell's and of the score's.
        processors: multiprocessors that can run programs which wait for each other.
    """
    slices = -(-call.H // UNITS)
    if processors < slices:
        return f"a tile takes {slices} multiprocessors at once, and there are {processors}"
    if call.rule.cell == CELLS["gru"]:
        return "a GRU's backward pass spills registers in tiles"
    if call.T == 0 or slices < ROWS:
        return f"with a hidden_size under {ROWS * UNITS} a program would score memories of several rows"
    plan = Tiling(ROWS, UNITS, slices, processors // slices, holds=False)
    cell, score = (2 if kind == torch.bfloat16 else state.itemsize for kind in weights)
    cell *= call.gates * UNITS * padded(call.H)
    score *= plan.features(call) * padded(call.H) + UNITS * padded(call.D)
    if cell > ON_CHIP:
        return f"a slice's weights are {cell} bytes, of which {ON_CHIP} stay on chip"
    waves, rows = -(-plan.tiles(call) // plan.together), -(-call.B // processors)
    if waves * _tile_seconds(plan, call, state) >= rows * _row_seconds(call, weights[0]):
        return f"{waves} launches, one after the other, would take longer than {rows} rows a multiprocessor"
    return plan._replace(holds=call.rule.has_keys and cell + score <= ON_CHIP)


def _tile_seconds(plan: Tiling, call: Call, state: torch.dtype) -> float:
    """Of a step of a tile by estimate, but for its memories: meetings, products, and the parts of rows' sums."""
    products = plan.rows * (call.gates * plan.units * call.H + 2 * plan.units * call.D)
    parts = (plan.slices + plan.rows) * max(call.H, call.D) * state.itemsize
    return 2 * MEETING + products / MULTIPLIED + parts / READ


def _row_seconds(call: Call, weights: torch.dtype) -> float:
    """Of a step of a row by estimate, but for its memories: its weights from L2."""
    return call.H * (call.recurrent * call.H + (1 + 1 / call.rule.k_att) * call.D) * weights.itemsize / READ


@functools.cache
def processors_of(device: torch.device) -> int:
    """Multiprocessors of a device whose programs can wait for each other; none of a CPU, not even interpreted."""
    if device.type != "cuda":
        return 0
    return int(cast("Any", torch.cuda).get_device_properties(device).multi_processor_count)


def chosen(call: Call, weight_hh: Tensor, w1: Tensor | None, state: Tensor) -> Tiling | str:
    """`tiling` of a call with these tensors; not without being asked, while no GPU has run tiles."""
    if os.environ.get(ASKED) != "1":
        return f"{ASKED}=1 asks for tiles"
    kinds = weight_hh.dtype, weight_hh.dtype if w1 is None else w1.dtype
    return tiling(call, kinds, state.dtype, processors_of(state.device))


def kernels() -> Any:
    """The module of the kernels of one row a program, which needs Triton."""
    return importlib.import_module("reminding.ops.cuda_op.triton.kernels")


def tiled() -> Any:
    """The module of the kernels of tiles, which needs Triton."""
    return importlib.import_module("reminding.ops.cuda_op.triton.tiled")


def launch_forward(call: Call, tensors: tuple[Tensor | None, ...]) -> None:
    """Run all steps; tensors as `forward_kernel` takes them."""
    numbers = {**call.numbers, **call.shapes, **call.choosing}
    if not _launch_tiles("forward_tiles", call, tensors, numbers, call.D):
        with _device_of(tensors):
            kernels().forward_kernel[(call.B,)](*tensors, **numbers, num_warps=WARPS)


def launch_backward(call: Call, tensors: tuple[Tensor | None, ...], past: Past | None = None) -> None:
    """Run all steps back; tensors as `backward_kernel` takes them, but for those of past calls, which run in rows."""
    numbers = {**call.numbers, **call.shapes, **call.sweeping, "RECURRENT": call.recurrent}
    if past is not None or not _launch_tiles("backward_tiles", call, tensors, numbers, call.H):
        steps = (None, None, None) if past is None else (past.entry, past.stored, past.cut.to(torch.int8))
        with _device_of(tensors):
            kernels().backward_kernel[(call.B,)](*tensors, *steps, **numbers, PAST=past is not None, num_warps=WARPS)


def launch_cells(gates: Tensor, cells: Tensor, c0: Tensor, entry: Tensor) -> None:
    """Compute c after each step of past calls; tensors as `cells_kernel` takes them."""
    T, B, H = cells.shape
    if cells.numel() > 0:
        with _device_of((cells,)):
            kernels().cells_kernel[(B, -(-H // CELLS_WIDE))](gates, cells, c0, entry, T, B, H, CELLS_WIDE)


def _launch_tiles(
    name: str, call: Call, tensors: tuple[Tensor | None, ...], numbers: dict[str, Any], width: int
) -> bool:
    """Launch a kernel of tiles, and more where not all run at once; False where one row a program should run.

    Args:
        width: of the sums that slices have parts of.
    """
    weight_hh, w1, _, _, h0 = tensors[:5]
    assert weight_hh is not None and h0 is not None
    plan = chosen(call, weight_hh, w1, h0)
    if isinstance(plan, str):
        return False
    tiles = plan.tiles(call)
    parts = h0.new_empty(min(tiles, plan.together), plan.slices, plan.rows, width)
    arrivals = torch.zeros(tiles, LINE, dtype=torch.int32, device=h0.device)
    scratch = (parts, arrivals) if name == "forward_tiles" else (torch.empty_like(h0), parts, arrivals)
    settings = {**numbers, **plan.shapes(call), "num_warps": WARPS, "launch_cooperative_grid": True}
    for first in range(0, tiles, plan.together):
        grid = min(plan.together, tiles - first), plan.slices
        try:
            with _device_of(tensors):
                getattr(tiled(), name)[grid](*tensors, *scratch, first, **settings)
        except RuntimeError as error:  # what a device refuses to launch has not begun
            if first > 0 or "Triton Error [CUDA]" not in str(error):
                raise
            logging.getLogger(__name__).warning("tiles of rows cannot be launched, one row a program runs: %s", error)
            return False
    return True


def _device_of(tensors: tuple[Tensor | None, ...]) -> Any:
    return torch.cuda.device_of(tensors[0])
