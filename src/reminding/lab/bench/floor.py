"""The least that a training step could take: the work it cannot do without, over what the device was measured to do.

Counted is one step forward and backward, by the algorithm as it is run: the LSTM's weights stay on chip, while one
program a row reads SAB's again at each step. So a figure above its floor is a kernel's doing, and a floor above
nn.LSTM's is the algorithm's.

Shapes: B batch, T time, I input, H hidden; the score's width D is H; M memories that a step scores, on average.
"""

from __future__ import annotations

from dataclasses import dataclass

from reminding.lab.bench.options import GpuOptions, Size

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
GATES = 4
"""Of the LSTM, each H wide."""


@dataclass(frozen=True)
class Work:
    """What a training step does.

    Args:
        flops: a multiply-add is two; a tanh is one.
        kind: the type they are done in, as PyTorch names it.
        dram_bytes: inputs, outputs and what is kept for the backward pass, each written and read once.
        l2_bytes: weights and keys, as often as they are read; 0 where they stay on chip.
    """

    flops: float
    kind: str
    dram_bytes: float
    l2_bytes: float


@dataclass(frozen=True)
class Ceilings:
    """What the device was measured to do, a second.

    Args:
        flops: of a large product, by the type it is done in.
        dram_bytes: read and written by a large copy.
        l2_bytes: read from a buffer that fits L2 and no smaller cache, all multiprocessors together.
        multiprocessors: how many there are.
    """

    flops: dict[str, float]
    dram_bytes: float
    l2_bytes: float
    multiprocessors: int


@dataclass(frozen=True)
class Floor:
    """Milliseconds that each part of the work takes at its ceiling."""

    flops_ms: float
    dram_ms: float
    l2_ms: float

    @property
    def ms(self) -> float:
        """The slowest of them: at best all overlap."""
        return max(self.flops_ms, self.dram_ms, self.l2_ms)

    @property
    def bound(self) -> str:
        """Which one that is."""
        parts = {"flops": self.flops_ms, "DRAM": self.dram_ms, "L2": self.l2_ms}
        return max(parts, key=lambda name: parts[name])


def floor(work: Work, ceilings: Ceilings, rows: int) -> Floor:
    """The least time; of L2 a batch of fewer rows than multiprocessors gets its share, for a program runs one row."""
    share = min(1.0, rows / ceilings.multiprocessors)
    return Floor(
        flops_ms=1000 * work.flops / ceilings.flops[work.kind],
        dram_ms=1000 * work.dram_bytes / ceilings.dram_bytes,
        l2_ms=1000 * work.l2_bytes / (ceilings.l2_bytes * share),
    )


def memories_scored(steps: int, k_att: int, capacity: int | None) -> float:
    """Memories that a step scores on average over a stream's first steps."""
    most = steps if capacity is None else capacity
    return sum(min((step - 1) // k_att, most) for step in range(1, steps + 1)) / steps


def lstm_work(size: Size, dtype: str) -> Work:
    """nn.LSTM with full BPTT; its input needs no gradient."""
    each, H = size.T * size.B, size.H
    width = BYTES[dtype]
    kept = (1 + GATES + 1) * H  # output, gates, c
    return Work(
        flops=each * _cell_flops(size),
        kind=dtype,
        dram_bytes=each * width * (2 * size.I + 2 * kept + H),
        l2_bytes=0.0,
    )


def _cell_flops(size: Size) -> float:
    """A step forward; and back: to h, and to both weights."""
    both, recurrent = GATES * size.H * (size.I + size.H), GATES * size.H * size.H
    return 2 * (both + recurrent + both)


def sab_work(size: Size, options: GpuOptions) -> Work:
    """SAB as the Triton kernels run it, one program a row; score and state are float32 in half precision."""
    each, H, K = size.T * size.B, size.H, options.k_top
    D = 0 if options.score == "separable" else H
    scored = memories_scored(size.T, options.k_att, options.capacity)
    kind = "float64" if options.dtype == "float64" else "float32"
    state, weight = BYTES[kind], BYTES[options.dtype]
    projections = D * H * (1 + 1 / options.k_att)  # the query of each step, and the keys of those that store
    scoring = scored * {"additive": 4 * H, "dot": 2 * H, "separable": 3 * H}[options.score]
    recall = 3 * 2 * projections + scoring + 2 * K * H + K * (4 * H + 6 * max(D, 1))
    kept = (1 + 1 + 1 + GATES) * H + D + 2 * K  # output, summary, c, gates, query, slots and weights
    credit = GATES * H + D  # of gates and queries, for the products at the end
    matrices = GATES * H * H + projections  # once forward and once back
    return Work(
        flops=each * (_cell_flops(size) + recall),
        kind=kind,
        dram_bytes=each * (state * (2 * kept + 2 * credit + H) + weight * 2 * size.I),
        l2_bytes=each * (2 * weight * matrices + state * scored * H),
    )
