"""What to measure on a GPU: sizes, settings, contestants and limits, as the command line and measured.json have them.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from reminding.lab.bench.options import Size

GpuName = Literal["lstm", "sab-cuda", "sab-cuda-replay", "sab-reference"]
GPU_NAMES: tuple[GpuName, ...] = get_args(GpuName)


@dataclass(frozen=True)
class GpuOptions:
    """What to measure: every H at length T, then the further lengths at the first H.

    Args:
        T: length, steps.
        lengths: further lengths, steps, to see how the cost grows.
        B: batch size, sequences.
        H: hidden sizes, features.
        I: input size, features.
        k_top: memories a step may recall.
        k_att: a state is stored every k_att steps.
        k_trunc: the recurrent gradient is cut every k_trunc steps.
        score: of SAB.
        normalizer: scores to weights, of SAB.
        capacity: memories a row may hold; None: no limit.
        dtype: of parameters and input. The floor of SAB is that of its float32 arithmetic also in half precision.
        device: the CUDA device.
        models: contestants. lstm: nn.LSTM on cuDNN with full BPTT, always measured; sab-cuda: SAB on the Triton
            kernels, which keeps gates for the backward pass or, with -replay, recomputes them; sab-reference: SAB in
            plain PyTorch, segments run again in the backward pass.
        repetitions: of each figure of time; medians are reported.
        max_seconds: fewer repetitions where all together would take longer, and a contestant is left out of a size,
            and of larger ones, where it takes more than twice as long with all that comes before, seconds.
        seed: of parameters and input.
    """

    T: int = 1024
    lengths: tuple[int, ...] = (4096, 16_384, 65_536)
    B: int = 64
    H: tuple[int, ...] = (128, 256, 512)
    I: int = 128  # noqa: E741
    k_top: int = 5
    k_att: int = 4
    k_trunc: int = 16
    score: Literal["additive", "dot", "separable"] = "additive"
    normalizer: Literal["threshold", "softmax", "softmax1"] = "softmax"
    capacity: int | None = None
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    device: str = "cuda"
    models: tuple[GpuName, ...] = GPU_NAMES
    repetitions: int = 10
    max_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ValueError: names the option, what came and what was expected.
        """
        for name in ("T", "B", "I", "k_top", "k_att", "k_trunc", "repetitions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.H or min(self.H) < 1:
            raise ValueError(f"H must be numbers of at least 1, got {list(self.H)}")
        if self.lengths and min(self.lengths) < 1:
            raise ValueError(f"lengths must be at least 1, got {list(self.lengths)}")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, or None, got {self.capacity}")
        if self.max_seconds <= 0:
            raise ValueError(f"max_seconds must be above 0, got {self.max_seconds}")
        if unknown := [name for name in self.models if name not in GPU_NAMES]:
            raise ValueError(f"models must be of {list(GPU_NAMES)}, got {unknown}")
        if self.device != "cuda" and not self.device.startswith("cuda:"):
            raise ValueError(f"device must be 'cuda' or 'cuda:N', got {self.device!r}")

    @property
    def contestants(self) -> tuple[GpuName, ...]:
        """The chosen contestants in their standing order, and `lstm`, since all ratios need it."""
        return tuple(name for name in GPU_NAMES if name == "lstm" or name in self.models)

    def sizes(self) -> Iterator[Size]:
        """Every size to measure: the hidden sizes, then the further lengths."""
        for hidden in self.H:
            yield Size(self.T, self.B, self.I, hidden)
        for steps in self.lengths:
            if steps != self.T:
                yield Size(steps, self.B, self.I, self.H[0])
