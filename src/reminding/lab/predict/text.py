"""Text sampled from a model of characters or bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream
from reminding.tasks.characters import CharacterStream


def is_text(task: Any) -> bool:
    """Whether a task's tokens are characters or bytes."""
    return isinstance(task, CharacterStream) or (isinstance(task, FileStream) and task.unit == "byte")


def symbols_of(task: Any) -> bytes:
    """The byte of each token."""
    return task.symbols if isinstance(task, CharacterStream) else bytes(range(256))


def tokens_of(task: Any, text: str | bytes, name: str) -> NDArray[np.int64]:
    """The tokens of a text, (n,); bytes of a command line that are no UTF-8 are read as they were typed.

    Args:
        name: of the argument that holds the text, for messages.

    Raises:
        ValueError: a character is not a symbol of the training text, or has no bytes in UTF-8.
    """
    try:
        raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} must be text that UTF-8 can write, got {text!r}") from error
    if isinstance(task, CharacterStream):
        return task.tokens_of(np.frombuffer(raw, np.uint8), Path(name)).astype(np.int64)
    return np.frombuffer(raw, np.uint8).astype(np.int64)


def sample_tokens(
    model: SequenceModel, prompt: NDArray[np.int64], length: int, temperature: float, seed: int
) -> NDArray[np.int64]:
    """Read a prompt, then draw tokens one by one, each from the model's distribution after the last.

    Args:
        prompt: at least one token.
        temperature: divides the logits; 0: the most probable token.

    Returns:
        the new tokens, (length,).
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    read, state, drawn = torch.as_tensor(prompt, device=device).unsqueeze(1), None, []
    with torch.no_grad():
        for _ in range(length):
            prediction, state, _ = model(read, state)
            logits = prediction[-1, 0].double().cpu()
            if temperature == 0:
                token = logits.argmax().view(1)
            else:
                shares = ((logits - logits.max()) / temperature).softmax(-1)  # however small the temperature is
                token = torch.multinomial(shares, 1, generator=generator)
            drawn.append(int(token))
            read = token.to(device).view(1, 1)
    return np.array(drawn, np.int64)
