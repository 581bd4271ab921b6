"""Train on an endless stream in chunks with Lightning, which removed truncated BPTT in its version 2.0.

python docs/howto/lightning_stream.py
"""

from __future__ import annotations

from collections.abc import Iterator

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from reminding import SAB, SABState

ROWS, CHUNK, PAIRS = 32, 20, 100  # streams side by side; steps of a chunk; pairs of chunks in an epoch


class Chunks(IterableDataset[tuple[Tensor, Tensor]]):
    """Streams in chunks, each a batch already: a bit is shown in one chunk and asked for in the next.

    Input (T, B, 2): the bit as -1 or 1, and whether it is asked for. Target (T, B): 0, 1, or -1 where no bit
    is asked for.
    """

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(PAIRS):
            seen, wanted = torch.zeros(2, CHUNK, ROWS, 2), torch.full((2, CHUNK, ROWS), -1)
            bit = torch.randint(2, (ROWS,), generator=generator)
            seen[0, 12, :, 0] = 2.0 * bit - 1.0
            seen[1, 9, :, 1] = 1.0
            wanted[1, 9] = bit
            yield from zip(seen, wanted, strict=True)


class Reader(lightning.LightningModule):
    """A layer, a readout, and the state of the streams, carried from chunk to chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = SAB(2, 32, k_top=2, k_trunc=5, capacity=8, stored="proposal")
        self.out = nn.Linear(32, 2)
        self.state: SABState | None = None

    def on_train_epoch_start(self) -> None:
        """Begin new streams."""
        self.state = None

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """One chunk, one update: no manual optimization, no detach, no retain_graph."""
        seen, wanted = batch
        output, self.state = self.recurrent(seen, self.state)
        said, wanted = self.out(output).flatten(0, 1), wanted.flatten()
        asked = wanted >= 0
        if bool(asked.any()):
            self.log("right", (said.argmax(1) == wanted)[asked].float().mean(), on_step=False, on_epoch=True)
        return nn.functional.cross_entropy(said, wanted, ignore_index=-1, reduction="sum") / ROWS

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main() -> None:
    """Train."""
    lightning.seed_everything(1)
    model = Reader()
    trainer = lightning.Trainer(
        max_epochs=5,
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(Chunks(), batch_size=None))  # None: the stream yields whole batches
    print(f"{float(trainer.callback_metrics['right']):.1%} right in the last epoch, 50% by guessing")


if __name__ == "__main__":
    main()
