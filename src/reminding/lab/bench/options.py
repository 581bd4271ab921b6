"""What to measure: sizes, settings, contestants and limits, as the command line and measured.json have them.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

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
BASE: Name = "lstm"
"""What every ratio is taken to."""

Loss = Literal["everywhere", "last"]
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
class BenchOptions:
    """What to measure. One of T, B and H may take several values: growth is measured along it.

    Args:
        T: lengths, steps.
        B: batch sizes, sequences.
        H: hidden sizes, features.
        I: input size, features.
        k_top: memories a step may recall.
        k_att: a state is stored every k_att steps.
        k_trunc: the recurrent gradient is cut every k_trunc steps, by SAB and truncated BPTT.
        normalizer: scores to weights, of SAB; threshold: the paper's rule.
        loss: everywhere: every step's output is in the loss; last: the last step's alone. With last, the backward
            pass is also compared with the same contestant's backward pass under a loss everywhere.
        dtype: of parameters and input.
        device: cpu; with --device cuda all other options are those of `reminding bench --device cuda --help`.
        models: contestants. lstm: nn.LSTM with full BPTT, always measured; sab-SCORE: SAB on the C++ CPU op, which
            keeps gates for the backward pass or, with -replay, recomputes them; sab-additive-reference: SAB in plain
            PyTorch; tbptt: truncated BPTT; attention: LSTM with full attention and full BPTT; transformer: causal.
        repetitions: of each figure of time; each runs every contestant once, and medians are reported.
        threads: CPU threads. Ratios are of CPU time with one thread, of wall time with more.
        max_seconds: a contestant is left out of a size where all its repetitions together would take longer, seconds.
        max_gigabytes: and where one training step would take more memory than this, gigabytes (1e9 bytes).
        seed: of parameters and input.
    """

    T: tuple[int, ...] = (100,)
    B: tuple[int, ...] = (64,)
    H: tuple[int, ...] = (128,)
    I: int = 128  # noqa: E741
    k_top: int = 5
    k_att: int = 2
    k_trunc: int = 5
    normalizer: Literal["threshold", "softmax", "softmax1"] = "threshold"
    loss: Loss = "everywhere"
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    models: tuple[Name, ...] = NAMES
    repetitions: int = 5
    threads: int = 1
    max_seconds: float = 60.0
    max_gigabytes: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ValueError: names the option, what came and what was expected.
        """
        several = [axis for axis in AXES if len(getattr(self, axis)) > 1]
        if len(several) > 1:
            raise ValueError(
                f"only one of T, B and H may take several values, got several for {' and '.join(several)}"
            )
        for axis in AXES:
            values = getattr(self, axis)
            if not values or min(values) < 1 or list(values) != sorted(set(values)):
                raise ValueError(f"{axis} must be numbers of at least 1 in growing order, got {list(values)}")
        for name in ("I", "k_top", "k_att", "k_trunc", "repetitions", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("max_seconds", "max_gigabytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if unknown := [name for name in self.models if name not in NAMES]:
            raise ValueError(f"models must be of {list(NAMES)}, got {unknown}")
        if self.device != "cpu":
            raise ValueError(f"device must be 'cpu', or 'cuda', which has options of its own; got {self.device!r}")

    @property
    def axis(self) -> str:
        """Along which growth is measured; T where nothing takes several values."""
        return next((axis for axis in AXES if len(getattr(self, axis)) > 1), "T")

    @property
    def contestants(self) -> tuple[Name, ...]:
        """The chosen contestants in their standing order, and `lstm`, since all ratios need it."""
        return tuple(name for name in NAMES if name == BASE or name in self.models)

    def sizes(self) -> Iterator[Size]:
        """Every size to measure, smallest first."""
        for steps in self.T:
            for rows in self.B:
                for hidden in self.H:
                    yield Size(steps, rows, self.I, hidden)
