"""The verb `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reminding.cli.parsing import known_name, parse, values_of, without


def bench(arguments: list[str]) -> None:
    """Measure time and memory of a training step: reminding bench [--kind serve | --kind stream | --device cuda]."""
    kinds = {"step": _bench_step, "serve": _bench_serve, "stream": _bench_stream}
    given = values_of("--kind", arguments)
    kind = known_name("kind", given[-1], kinds) if given else "step"
    kinds[kind](without("--kind", arguments) if given else arguments)


def _bench_step(arguments: list[str]) -> None:
    if any(device.startswith("cuda") for device in values_of("--device", arguments)):
        _bench_gpu(arguments)
    else:
        _bench_cpu(arguments)


def _bench_cpu(arguments: list[str]) -> None:
    from reminding.lab.bench.options import BenchOptions
    from reminding.lab.verbs import measuring

    def run(*, bench: Any, out: Path = Path("runs/bench")) -> None:
        """Measure the time and the peak memory of one training step, beside nn.LSTM with full BPTT.

        The contestants take turns in every repetition, so that other load on the machine falls on all of them. The
        report gives the median, over repetitions, of the ratio within a repetition. Memory is measured in a fresh
        process per contestant: the rise of its resident set during one training step. Give one of --T, --B and --H
        several values, in growing order, to see how the cost grows. A contestant that would exceed a limit is left
        out of that size, and the report gives the reason.

        Args:
            bench: the sizes, the settings and the limits.
            out: folder for measured.json, report.md and growth.png; old ones are replaced.
        """
        measuring.bench(bench, out)

    parse(run, arguments, "bench", bench=BenchOptions())


def _bench_serve(arguments: list[str]) -> None:
    from reminding.lab.bench.kinds.serve import ServeOptions
    from reminding.lab.verbs import measuring

    def run(*, bench: Any, out: Path = Path("runs/bench-serve")) -> None:
        """Measure the time of one step a call, without gradient, beside nn.LSTM called the same way.

        Every stream holds as many memories as it may. The contestants take turns, a lap of calls each; the report
        gives the median, over repetitions, of the ratio within a repetition.

        Args:
            bench: the sizes and the settings.
            out: folder for measured.json and report.md; old ones are replaced.
        """
        measuring.bench_serve(bench, out)

    parse(run, arguments, "bench", bench=ServeOptions())


def _bench_gpu(arguments: list[str]) -> None:
    from reminding.lab.bench.options import GpuOptions
    from reminding.lab.verbs import measuring

    def run(*, bench: Any, out: Path = Path("runs/bench-gpu")) -> None:
        """Measure the time and the peak memory of one training step on a GPU, beside nn.LSTM on cuDNN.

        Each time is shown beside its floor: the arithmetic and the bytes of the step, over the rates that the device
        reached in the same run. Each contestant runs in a process of its own at each size, so that a failure costs
        one row of the table; the report gives the reason.

        Args:
            bench: the sizes, the settings and the limits.
            out: folder for measured.json and report.md, rewritten after each row; old ones are replaced.
        """
        measuring.bench_gpu(bench, out)

    parse(run, arguments, "bench", bench=GpuOptions())


def _bench_stream(arguments: list[str]) -> None:
    from reminding.lab.bench.kinds.stream import StreamOptions
    from reminding.lab.verbs import measuring

    def run(*, bench: Any, out: Path = Path("runs/bench-stream")) -> None:
        """Measure the time of training on a stream, chunk by chunk, beside nn.LSTM doing the same.

        The state goes from chunk to chunk. The contestants take turns, and the report gives the median of the ratio
        within a repetition.

        Args:
            bench: the sizes, the settings and the limits.
            out: folder for measured.json and report.md; old ones are replaced.
        """
        measuring.bench_stream(bench, out)

    parse(run, arguments, "bench", bench=StreamOptions())
