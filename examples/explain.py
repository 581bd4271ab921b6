"""Why that answer? Real handwritten digits, read pixel by pixel, and the memories that the network recalled.

A SAB layer reads the 64 pixels of an 8x8 digit (scikit-learn's, no download) one a step and names the digit at the
last. It stores one memory at the end of each row of pixels. You see a test digit, row by row, with three numbers: the
weight with which the last step recalled that row's memory, the credit the memory received from the answer, and, to
check, the change of the answer's log-probability when the row is blanked. The first two say which rows were recalled
and credited; only the third says which rows the answer needed. They need not agree: the last rows reach the answer
without a recall. The program writes two figures, recall.png and credit.png, to examples-explain/, in less than a
minute.

    python examples/explain.py
    python examples/explain.py --digit 7
    python examples/explain.py --quick

For a WAV, CSV or text file of your own, `reminding train stream --data FILE` and `reminding explain RUN --input FILE`
do the same without a program.

Shapes: B batch, T = 64 time, K recalled memories.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from reminding import SAB
from reminding.lab.show import plots

ROWS = COLUMNS = 8
HIDDEN, TRAINING = 64, 1500


class Reader(nn.Module):
    """Reads pixels and names a digit, from the state and the summary of the last step."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = SAB(1, HIDDEN, k_top=5, k_trunc=COLUMNS)
        self.out = nn.Linear(2 * HIDDEN, 10)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Any]:
        """(T, B, 1) to the log-probabilities of the digits (B, 10), and the recalls."""
        output, _, recall = self.recurrent(pixels, return_recall=True)
        return self.out(torch.cat([output[-1], recall.summary[-1]], dim=1)).log_softmax(1), recall


def load_digits() -> tuple[Tensor, Tensor]:
    """Pixels (T, N, 1) from 0 to 1, and the digits, (N,)."""
    from sklearn import datasets  # pyright: ignore[reportMissingTypeStubs]

    found = cast("Any", datasets).load_digits()
    return torch.tensor(found.data / 16, dtype=torch.float32).T.unsqueeze(2), torch.tensor(found.target)


def train(model: Reader, pixels: Tensor, digits: Tensor, updates: int) -> None:
    """Adam on random batches of the training digits."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for update in range(1, updates + 1):
        chosen = torch.randint(TRAINING, (32,))
        loss = nn.functional.nll_loss(model(pixels[:, chosen])[0], digits[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if update % max(updates // 5, 1) == 0:
            print(f"  update {update:4}: loss {loss.item():.3f}", flush=True)


def by_step(steps: Tensor, values: Tensor) -> dict[int, float]:
    """The value of each step, from (N,) and (N,)."""
    return {int(step): float(value) for step, value in zip(steps, values, strict=True)}


def explain(model: Reader, pixels: Tensor, out: Path) -> None:
    """Print a digit row by row, beside weight, credit and the effect of blanking the row, and draw both figures.

    Args:
        pixels: one digit, (T, 1, 1).
    """
    with model.recurrent.credit() as credit:
        scores, recall = model(pixels)
        answer = int(scores[0].argmax())
        scores[0, answer].backward()
    received = by_step(*credit.received())
    weights = by_step(recall.step[-1, 0], recall.weight[-1, 0])
    print(f"\n{'':10}weight   credit  blanked")
    for row in range(ROWS):
        part = slice(row * COLUMNS, (row + 1) * COLUMNS)
        blanked = pixels.clone()
        blanked[part] = 0
        with torch.no_grad():
            change = model(blanked)[0][0, answer] - scores[0, answer]
        shown = "".join(" .:oO#"[int(5 * value)] for value in pixels[part].flatten())
        step = part.stop  # the row's memory is stored at its last pixel
        print(f"{shown}  {weights.get(step, 0):6.2f}  {received.get(step, 0):7.3f}  {float(change):+7.2f}")
    draw(recall, credit, out)


def draw(recall: Any, credit: Any, out: Path) -> None:
    """Write figures of recall and credit."""
    out.mkdir(parents=True, exist_ok=True)
    plots.recall_map(recall.step[:, 0], recall.weight[:, 0], path=out / "recall.png")
    plots.credit_map(credit.step, credit.memory_step, credit.amount, steps=64, path=out / "credit.png")
    print(f"written: {out / 'recall.png'}, {out / 'credit.png'}")


def main(arguments: list[str] | None = None) -> None:
    """Train a reader, test it, and explain one answer."""
    parser = argparse.ArgumentParser(description="Explain what a network reads in a digit")
    parser.add_argument("--digit", type=int, choices=range(10), default=3, help="which digit to explain")
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("examples-explain"), help="folder for the figures")
    parser.add_argument("--quick", action="store_true", help="10 updates")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels, digits = load_digits()
    model = Reader()
    train(model, pixels, digits, 10 if options.quick else options.updates)
    with torch.no_grad():
        scores, _ = model(pixels[:, TRAINING:])
    right = (scores.argmax(1) == digits[TRAINING:]).float().mean()
    print(f"accuracy on {len(digits) - TRAINING} digits outside the training set: {right:.1%} (chance: 10%)")
    number = TRAINING + int((digits[TRAINING:] == options.digit).nonzero()[0])
    answer = int(scores[number - TRAINING].argmax())
    print(f"digit {number} is a {options.digit}; the network says {answer}")
    explain(model, pixels[:, number : number + 1], options.out)


if __name__ == "__main__":
    main()
