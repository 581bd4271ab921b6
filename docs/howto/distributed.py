"""Train a SAB layer in several processes with PyTorch's DistributedDataParallel; torchrun starts the processes.

torchrun --nproc_per_node 2 docs/howto/distributed.py
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from reminding import SAB

ROWS, CHUNK, CHUNKS = 8, 40, 3  # rows over all processes; steps of a chunk; chunks of the stream


class Model(nn.Module):
    """A layer and a readout; the state of the streams goes in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = SAB(4, 16, capacity=32, stored="proposal")
        self.out = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, state: object = None) -> tuple[torch.Tensor, object]:
        """(T, B, 4) to (T, B, 4)."""
        output, state = self.recurrent(x, state)
        return self.out(output), state


def main() -> None:
    """Train on this process's rows; gradients are averaged over the processes before each update."""
    dist.init_process_group("gloo")  # "nccl" on GPUs
    rank, processes = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    stream = torch.randn(CHUNKS, CHUNK, ROWS, 4)  # equal in every process; each takes its own rows
    mine = stream.chunk(processes, dim=2)[rank]
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.Adam(model.parameters())
    state = None
    for chunk in mine:
        output, state = model(chunk, state)  # each process keeps the state of its own streams
        nn.functional.mse_loss(output[:-1], chunk[1:]).backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.step()
        optimizer.zero_grad()
        if rank == 0:
            print(f"{processes} processes, gradient norm {norm:.6f}")
    dist.destroy_process_group()
    if processes > 1:  # in an ordinary exit, gloo's threads now and then abort a process as another one ends
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
