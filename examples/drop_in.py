"""Replace nn.LSTM by SAB: the same data, the same loop, two lines changed.

The task is copying: five symbols, a blank of twenty steps, then say the symbols again. You see the loss and the
accuracy of both networks side by side (chance is 12.5%). The LSTM's gradient goes through every step; SAB's is cut
every five steps, and goes further only along recalls. The program takes about a minute on one free core with the C++
op, and two or three without. The LSTM has PyTorch's initial biases.

    python examples/drop_in.py
    python examples/drop_in.py --quick    # a few updates, to see that it runs

Shapes: B batch, T time, H hidden.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from reminding import SAB

SYMBOLS, COUNT, BLANK = 8, 5, 20
BATCH, EMBEDDING, HIDDEN = 32, 64, 128


def batch(rows: int) -> tuple[Tensor, Tensor]:
    """Tokens to read (T, B), and symbols to say (T, B): -100 where nothing is asked for."""
    symbols = torch.randint(SYMBOLS, (COUNT, rows))
    blank, ask = torch.full((BLANK, rows), SYMBOLS), torch.full((COUNT, rows), SYMBOLS + 1)
    silent = torch.full((COUNT + BLANK, rows), -100)
    return torch.cat([symbols, blank, ask]), torch.cat([silent, symbols])


class Copier(nn.Module):
    """Embed tokens, say a symbol at every step."""

    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(SYMBOLS + 2, EMBEDDING)
        self.recurrent = recurrent
        self.out = nn.Linear(HIDDEN, SYMBOLS)

    def forward(self, tokens: Tensor) -> Tensor:
        """(T, B) to (T, B, SYMBOLS)."""
        output, _ = self.recurrent(self.embed(tokens))
        return self.out(output)


def train(recurrent: nn.Module, updates: int) -> tuple[float, float]:
    """Loss in nats and accuracy, means over the last fiftieth of the updates; the same data for both networks."""
    torch.manual_seed(0)
    model = Copier(recurrent)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    recent: list[tuple[float, float]] = []
    for update in range(1, updates + 1):
        tokens, target = batch(BATCH)
        scores = model(tokens)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        right = (scores.argmax(2) == target)[target >= 0].float().mean()
        recent = [*recent, (loss.item(), right.item())][-max(updates // 50, 1) :]
        if update % max(updates // 8, 1) == 0:
            print(f"  update {update:5}: loss {mean(recent, 0):.3f}, accuracy {mean(recent, 1):.1%}", flush=True)
    return mean(recent, 0), mean(recent, 1)


def mean(pairs: list[tuple[float, float]], which: int) -> float:
    """The mean of the first or of the second numbers."""
    return sum(pair[which] for pair in pairs) / len(pairs)


def main(arguments: list[str] | None = None) -> None:
    """Train both networks, and print their results."""
    parser = argparse.ArgumentParser(description="SAB in the place of nn.LSTM, on copying")
    parser.add_argument("--updates", type=int, default=800)
    parser.add_argument("--quick", action="store_true", help="8 updates")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    layers: dict[str, Callable[[], nn.Module]] = {
        "nn.LSTM": lambda: nn.LSTM(EMBEDDING, HIDDEN),
        "SAB": lambda: SAB(EMBEDDING, HIDDEN, k_trunc=5),  # this line, and the import
    }
    found: dict[str, tuple[float, float]] = {}
    for name, make in layers.items():
        print(name)
        torch.manual_seed(0)
        found[name] = train(make(), 8 if options.quick else options.updates)
    print(f"{'':8}    loss  accuracy")
    for name, (loss, accuracy) in found.items():
        print(f"{name:8}  {loss:6.3f}  {accuracy:7.1%}")


if __name__ == "__main__":
    main()
