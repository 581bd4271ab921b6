"""The SAB layer with other settings: LSTMs trained by full and truncated BPTT, and one with full attention.

Nothing but the method differs from SAB.
"""

from __future__ import annotations

from typing import Any

from reminding.nn.layer.sab import SAB


def full_bptt(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> SAB:
    """A plain recurrent network trained by full backpropagation through time: exactly `nn.LSTM` by default.

    Args:
        input_size, hidden_size, num_layers: as of `nn.LSTM`.
        options: `SAB`'s own, such as cell, bias, batch_first, dropout; horizon is 0 unless given, since nobody
            can keep all of a stream.
    """
    options.setdefault("horizon", 0)
    return SAB(input_size, hidden_size, num_layers, k_top=0, k_trunc=None, **options)


def truncated_bptt(
    input_size: int, hidden_size: int, num_layers: int = 1, *, k_trunc: int | None = 10, **options: Any
) -> SAB:
    """The same network with its gradient cut every k_trunc steps.   [Williams and Peng 1990]

    Args:
        input_size, hidden_size, num_layers: as of `nn.LSTM`.
        k_trunc: steps that a gradient passes back through; None: all, as `full_bptt`.
        options: `SAB`'s own, such as cell, bias, batch_first, dropout.
    """
    return SAB(input_size, hidden_size, num_layers, k_top=0, k_trunc=k_trunc, **options)


def full_attention(input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> SAB:
    """An LSTM with softmax attention over all its past states and full BPTT, the paper's "LSTM + full attention".

    Time and memory grow with T². The attention is the layer's own (additive by default), dense instead of
    sparse: every state is stored, every stored state is read, nothing is cut.

    Args:
        input_size, hidden_size, num_layers: as of `nn.LSTM`.
        options: `SAB`'s own, such as score and normalizer.
    """
    options.setdefault("horizon", 0)
    options.setdefault("normalizer", "softmax")
    return SAB(input_size, hidden_size, num_layers, k_top=None, k_att=1, k_trunc=None, **options)
