"""A call without PyTorch's dispatcher gives the same numbers as the operators, which a mode still sees.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reminding import SAB
from reminding.ops.cpu_op import missing
from reminding.ops.cpu_op.eager import is_eager


class _Seen(TorchDispatchMode):
    """Notes the operators of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "reminding":
            self.names.append(func._schema.name.split("::")[1])
        return func(*args, **(kwargs or {}))


def _trained(engine: str, recurrent_dropout: float, watched: bool) -> tuple[list[Tensor], list[str]]:
    torch.manual_seed(0)
    options: dict[str, Any] = {"normalizer": "softmax1", "null_score": 0.1, "recurrent_dropout": recurrent_dropout}
    layer = SAB(3, 4, k_top=2, k_att=2, k_trunc=3, backend="cpu", engine=engine, **options)
    x = torch.randn(9, 2, 3, requires_grad=True)
    seen = _Seen()
    with seen if watched else nullcontext():
        output, state = layer(x)
        (output.square().sum() + state.c.sum() + state.memory.sum()).backward()
    gradients = [parameter.grad for parameter in (x, *layer.parameters())]
    return [output, state.h, state.memory, *(g for g in gradients if g is not None)], seen.names


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.5])
def test_a_watched_call_runs_the_operators_and_gives_the_same(engine: str, recurrent_dropout: float) -> None:
    alone, nothing = _trained(engine, recurrent_dropout, watched=False)
    watched, names = _trained(engine, recurrent_dropout, watched=True)
    assert nothing == []
    assert names == ["sab_forward", "sab_backward"]
    for one, other in zip(alone, watched, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_subclass_of_tensor_is_no_eager_argument() -> None:
    class Noting(Tensor):
        """A tensor that watches what is done with it."""

    plain = torch.zeros(2)
    assert is_eager([plain, None, torch.nn.Parameter(plain), 3])
    assert not is_eager([plain, plain.as_subclass(Noting)])


def test_a_transform_makes_no_call_eager() -> None:
    asked: list[bool] = []

    def noting(x: Tensor) -> Tensor:
        asked.append(is_eager([x]))
        return x.sum()

    torch.func.grad(noting)(torch.zeros(2))
    with torch.autograd.forward_ad.dual_level():
        noting(torch.zeros(2))
    noting(torch.zeros(2))
    assert asked == [False, False, True]
