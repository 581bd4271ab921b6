"""The options of a benchmark: sizes, settings, contestants and limits, as typed and as measured.json has them.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args

from reminding import checks
from reminding.checks import above_zero, at_least, at_least_or_none, each_at_least, each_one_of, require

Name = Literal[
    "lstm",
    "sab-additive",
    "sab-additive-replay",
    "sab-additive-reference",
    "sab-dot",
    "sab-dot-replay",
    "sab-separable",
    "sab-separable-replay",
    "tbptt",
    "attention",
    "transformer",
]
NAMES: tuple[Name, ...] = get_args(Name)
GpuName = Literal["lstm", "sab-cuda", "sab-cuda-replay", "sab-reference"]
GPU_NAMES: tuple[GpuName, ...] = get_args(GpuName)
AnyName = TypeVar("AnyName", bound=str)
PACKING: tuple[Name, ...] = tuple(name for name in NAMES if name == "lstm" or name.startswith("sab"))
"""The contestants that take packed sequences."""
BASE: Literal["lstm"] = "lstm"
"""The contestant that every ratio is relative to."""

Loss = Literal["everywhere", "last"]
Normalizer = Literal["threshold", "softmax", "softmax1"]
AXES = ("T", "B", "H")


@dataclass(frozen=True)
class Size:
    """The size of one problem: T steps, B rows, I input features, H hidden units."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int

    def __str__(self) -> str:
        return f"T={self.T}, B={self.B}, I={self.I}, H={self.H}"


@dataclass(frozen=True)
class StepOptions:
    """The options that all benchmarks have.

    Args:
        B: batch size, sequences.
        H: hidden size, features.
        I: input size, features.
        k_top: memories that a step may recall.
        k_att: a state is stored every k_att steps.
        k_trunc: the recurrent gradient is cut every k_trunc steps.
        normalizer: how SAB turns scores into weights; threshold: the paper's rule.
        dtype: of parameters and input.
        device: where the steps run.
        models: the contestants; lstm is always measured.
        repetitions: of each time; medians are reported.
        seed: of parameters and input.
    """

    names: ClassVar[tuple[str, ...]]
    """Every contestant, in the order of the tables."""
    counts: ClassVar[tuple[str, ...]] = ("I", "k_top", "k_att", "k_trunc", "repetitions")
    """The options that are integers of at least 1; "threads" has an upper bound, too."""

    B: int | tuple[int, ...] = 64
    H: int | tuple[int, ...] = 128
    I: int = 128  # noqa: E741
    k_top: int = 5
    k_att: int = 2
    k_trunc: int = 5
    normalizer: Normalizer = "threshold"
    dtype: str = "float32"
    device: str = "cpu"
    models: tuple[str, ...] = ()
    repetitions: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse options that cannot be measured.

        Raises:
            ValueError: names the option, what came and what was expected.
        """
        for name in self.counts:
            at_least(name, getattr(self, name), 1, checks.MOST_THREADS if name == "threads" else checks.MOST)
        checks.seed("seed", self.seed)
        each_one_of("models", self.models, self.names)

    def described(self, names: Sequence[str]) -> list[str]:
        """Some options as NAME=VALUE."""
        return [f"{name}={getattr(self, name)}" for name in names]


def in_order(names: Sequence[AnyName], models: Sequence[AnyName]) -> tuple[AnyName, ...]:
    """The chosen contestants in the order of the tables, with `lstm`, which all ratios need."""
    return tuple(name for name in names if name == BASE or name in models)


@dataclass(frozen=True)
class BenchOptions(StepOptions):
    """What to measure. One of T, B and H may take several values: the growth of the cost is measured along it.

    --kind stream measures training on a stream; its own options: --kind stream --help.

    Args:
        kind: step: one training step; serve: one step a call; stream: training on a stream. The latter two have
            options of their own, see `reminding bench --kind serve --help`.
        T: lengths, steps.
        B: batch sizes, sequences.
        H: hidden sizes, features.
        device: cpu; --device cuda has options of its own, see `reminding bench --device cuda --help`.
        models: contestants. lstm: nn.LSTM with full BPTT, always measured; sab-SCORE: SAB on the C++ CPU op, which
            keeps gates for the backward pass or, with -replay, recomputes them; sab-additive-reference: SAB in plain
            PyTorch; tbptt: truncated BPTT; attention: LSTM with full attention and full BPTT; transformer: causal.
        repetitions: of each time; each repetition runs every contestant once, and medians are reported.
        max_seconds: a contestant is left out of a size where all its repetitions would take longer, seconds.
        loss: everywhere: every step's output is in the loss; last: the last step's alone. With last, the backward
            pass is also compared with the same contestant's backward pass under a loss everywhere.
        resets: share of the steps at which a row of SAB begins a new stream; nn.LSTM has none.
        packed: sequences of all lengths from 1 to T alike, as a PackedSequence.
        recurrent_dropout: of SAB alone: probability of dropping a feature of h on its way into the cell.
        threads: CPU threads. Ratios are of CPU time with one thread, of wall time with more.
        max_gigabytes: a contestant is left out of a size where one training step would take more memory, gigabytes of
            a billion bytes.
    """

    names: ClassVar[tuple[str, ...]] = NAMES
    counts: ClassVar[tuple[str, ...]] = (*StepOptions.counts, "threads")

    kind: Literal["step"] = "step"
    T: tuple[int, ...] = (100,)
    B: tuple[int, ...] = (64,)
    H: tuple[int, ...] = (128,)
    dtype: Literal["float32", "float64"] = "float32"
    models: tuple[Name, ...] = NAMES
    loss: Loss = "everywhere"
    resets: float = 0.0
    packed: bool = False
    recurrent_dropout: float = 0.0
    threads: int = 1
    max_seconds: float = 60.0
    max_gigabytes: float = 4.0

    def __post_init__(self) -> None:
        """Refuse options that cannot be measured; see `StepOptions`."""
        super().__post_init__()
        above_zero("max_seconds", self.max_seconds, math.inf)
        above_zero("max_gigabytes", self.max_gigabytes, math.inf)
        for share in ("resets", "recurrent_dropout"):
            require(0 <= getattr(self, share) <= 1, share, "be from 0 to 1", getattr(self, share))
        if self.packed:
            require(self.loss == "everywhere", "loss", "be 'everywhere' with packed", self.loss)
            packs = [name for name in self.models if name not in PACKING]
            require(not packs, "models", f"be of {', '.join(PACKING)} with packed", packs)
        several = [axis for axis in AXES if len(getattr(self, axis)) > 1]
        if len(several) > 1:
            raise ValueError(f"T, B, H: only one of them may take several values, got {' and '.join(several)}")
        for axis in AXES:
            values = cast("tuple[Any, ...]", getattr(self, axis))
            each_at_least(axis, values, 1)
            growing = bool(values) and list(values) == sorted(set(values))
            require(growing, axis, "be one or more numbers in growing order", list(values))
        require(self.device == "cpu", "device", "be 'cpu' or 'cuda'", self.device)

    @property
    def axis(self) -> str:
        """The size that varies; T if none does."""
        return next((axis for axis in AXES if len(getattr(self, axis)) > 1), "T")

    @property
    def contestants(self) -> tuple[Name, ...]:
        """The chosen contestants and `lstm`."""
        return in_order(NAMES, self.models)

    def sizes(self) -> Iterator[Size]:
        """Every size to measure, smallest first."""
        for steps in self.T:
            for rows in self.B:
                for hidden in self.H:
                    yield Size(steps, rows, self.I, hidden)


@dataclass(frozen=True)
class GpuOptions(StepOptions):
    """What to measure on a GPU: every H at length T, then the further lengths at the first H.

    Args:
        T: length, steps.
        H: hidden sizes, features.
        dtype: of parameters and input. SAB's floor is that of its float32 arithmetic, in half precision too.
        device: the CUDA device.
        models: contestants. lstm: nn.LSTM on cuDNN with full BPTT, always measured; sab-cuda: SAB on the Triton
            kernels, which keeps gates for the backward pass or, with -replay, recomputes them; sab-reference: SAB in
            plain PyTorch, which recomputes segments in the backward pass.
        max_seconds: limit on all repetitions, seconds: there are fewer where they would take longer. A contestant
            that takes more than twice as long in all is left out of the size, and of larger ones.
        lengths: further lengths, steps, to see how the cost grows.
        score: SAB's score.
        capacity: memories per row; None: no limit.
    """

    names: ClassVar[tuple[str, ...]] = GPU_NAMES
    counts: ClassVar[tuple[str, ...]] = ("T", "B", *StepOptions.counts)

    T: int = 1024
    B: int = 64
    H: tuple[int, ...] = (128, 256, 512)
    k_att: int = 4
    k_trunc: int = 16
    normalizer: Normalizer = "softmax"
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    device: str = "cuda"
    models: tuple[GpuName, ...] = GPU_NAMES
    repetitions: int = 10
    max_seconds: float = 60.0
    lengths: tuple[int, ...] = (4096, 16_384, 65_536)
    score: Literal["additive", "dot", "separable"] = "additive"
    capacity: int | None = None

    def __post_init__(self) -> None:
        """Refuse options that cannot be measured; see `StepOptions`."""
        super().__post_init__()
        above_zero("max_seconds", self.max_seconds, math.inf)
        checks.one_or_more("H", self.H)
        each_at_least("lengths", self.lengths, 1)
        at_least_or_none("capacity", self.capacity, 1)
        is_cuda = self.device == "cuda" or self.device.startswith("cuda:")
        require(is_cuda, "device", "be 'cuda' or 'cuda:N'", self.device)

    @property
    def contestants(self) -> tuple[GpuName, ...]:
        """The chosen contestants and `lstm`."""
        return in_order(GPU_NAMES, self.models)

    def sizes(self) -> Iterator[Size]:
        """Every size to measure: the hidden sizes, then the further lengths."""
        for hidden in self.H:
            yield Size(self.T, self.B, self.I, hidden)
        for steps in self.lengths:
            if steps != self.T:
                yield Size(steps, self.B, self.I, self.H[0])
