"""An endless stream: bounded memory, credit into earlier chunks, and a state that is saved and loaded.

A table of readings is read in chunks of twenty rows, sixteen parts of it side by side. The network predicts the
last column of the next row. If you give no file, the program writes a table: about every forty rows a *setting* of +1
or -1 shows for one row, thirty rows later a *request* shows, and the row after that has the setting as its
*reading*. No chunk holds a setting and its reading, so the gradient of one chunk alone cannot find the
connection. As the stream goes by, you see:

- the error where a reading was requested, which falls in the second half; predicting the mean gives 1;
- the size of the state, which stops growing;
- how much of the credit went to memories of earlier chunks.

Half-way the program saves the state, loads it, and continues from the loaded state. It takes about a minute on one
free core with the C++ op.

    python examples/stream.py
    python examples/stream.py --k-top 0             # without memory, which is truncated BPTT: the error stays
    python examples/stream.py --data sensors.csv    # columns of numbers, a header line; the last is predicted
    python examples/stream.py --quick

Shapes: N rows of the file, T time, B parts read side by side, C columns.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from reminding.lab.train.clip import GradientClipper

PARTS, CHUNK, HIDDEN, MEMORIES, DELAY = 16, 20, 64, 12, 30


def make_table(path: Path, rows: int) -> None:
    """Write a table in which a reading follows its setting after DELAY rows, when it is requested."""
    generator = random.Random(0)
    shown, due = 5, dict[int, int]()
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["setting", "request", "reading"])
        for row in range(rows):
            setting = 0
            if row == shown:
                setting = generator.choice([-1, 1])
                due[row + DELAY] = setting
                shown += DELAY + generator.randrange(6, 16)
            table.writerow([setting, int(row in due), due.get(row - 1, 0)])


def read_table(path: Path) -> Tensor:
    """The columns, each divided by its largest number, (N / B, B, C): B parts of the file side by side."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    numbers = torch.tensor([[float(cell) for cell in row] for row in rows])
    steps = len(numbers) // PARTS
    if steps <= 2 * CHUNK:
        raise SystemExit(f"--data: {path} has {len(numbers)} rows, expected at least {PARTS * (2 * CHUNK + 1)}")
    numbers = numbers / numbers.abs().amax(0).clamp(min=1e-6)
    return numbers[: steps * PARTS].view(PARTS, steps, -1).transpose(0, 1)


class Forecaster(nn.Module):
    """Predict the last column of the next row."""

    def __init__(self, columns: int, k_top: int) -> None:
        super().__init__()
        # An encoder inside the layer is replayed with the past, so it learns from later chunks as well.
        encoder = nn.Linear(columns, HIDDEN)
        self.recurrent = SAB(
            HIDDEN, HIDDEN, k_top=k_top, k_trunc=5, capacity=MEMORIES, recall_scale=0.5, encoder=encoder
        )
        self.out = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, state: SABState | None) -> tuple[Tensor, SABState]:
        """(T, B, C) to (T, B), and the state after it."""
        output, after = self.recurrent(x, state)
        return self.out(output).squeeze(2), after


def earlier_credit(model: Forecaster, x: Tensor, target: Tensor, state: SABState) -> float:
    """The share of the credit of one chunk's loss that goes to memories of earlier chunks."""
    with model.recurrent.credit() as credit:
        predicted, _ = model(x, state)
        nn.functional.mse_loss(predicted, target).backward()
    model.zero_grad()
    before = credit.memory_step <= state.step[credit.row]
    return float(credit.amount[before].sum() / credit.amount.sum().clamp(min=1e-12))


def save_and_load(state: SABState) -> SABState:
    """Write a state to a file and read it back, as another program could on another day."""
    with tempfile.TemporaryDirectory() as folder:
        state.save(Path(folder) / "state.safetensors")
        return SABState.load(Path(folder) / "state.safetensors")


def follow(table: Tensor, passes: int, k_top: int) -> None:
    """Read the table several times, with an update per chunk, and print the progress."""
    torch.manual_seed(0)
    model = Forecaster(table.shape[2], k_top)
    optimizer, clip = torch.optim.Adam(model.parameters(), lr=3e-3), GradientClipper(1.0)
    starts = list(range(0, len(table) - CHUNK, CHUNK)) * passes
    state: SABState | None = None
    errors: list[Tensor] = []  # at the readings, where the last column is not 0
    for number, start in enumerate(starts, 1):
        x, target = table[start : start + CHUNK], table[start + 1 : start + CHUNK + 1, :, -1]
        predicted, after = model(x, state)
        nn.functional.mse_loss(predicted, target).backward()
        clip(model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        errors.append((predicted - target).detach().square()[target != 0])
        if state is not None and number % max(len(starts) // 8, 1) == 0:
            share = earlier_credit(model, x, target, state)
            print(
                f"chunk {number:5,}: error {torch.cat(errors).mean():.2f}, state {state.nbytes:,} bytes, "
                f"{share:.0%} of the credit to earlier chunks",
                flush=True,
            )
            errors = []
        state = save_and_load(after) if number == len(starts) // 2 else after
        if number == len(starts) // 2:
            print("saved, loaded, and continued")


def main(arguments: list[str] | None = None) -> None:
    """Take the user's table, or write one, and train on it."""
    parser = argparse.ArgumentParser(description="Learn from a table of readings as a stream")
    parser.add_argument("--data", type=Path, help="a CSV file with a header line and columns of numbers")
    parser.add_argument("--k-top", type=int, default=5, help="memories a step may recall; 0: truncated BPTT")
    parser.add_argument("--passes", type=int, default=8, help="how often to read the table")
    parser.add_argument("--quick", action="store_true", help="a short table, read once")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = options.data or Path(folder) / "readings.csv"
        if options.data is None:
            make_table(path, 6_000 if options.quick else 40_000)
        follow(read_table(path), 1 if options.quick else options.passes, options.k_top)


if __name__ == "__main__":
    main()
