"""A backend is an entry in a table; the layer names none."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reminding import SAB
from reminding.ops import backends, cpu_op
from reminding.ops.backends import BACKENDS, Backend, Op
from reminding.ops.contract import Demand

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))


class Counted(Backend):
    """The C++ op under another name, with its calls counted."""

    @functools.cached_property
    def op(self) -> Any:
        """The op's functions, each of which records its calls."""

        def noting(name: str) -> Any:
            def noted(*arguments: Any, **options: Any) -> Any:
                COUNTED.append(name)
                return getattr(cpu_op, name)(*arguments, **options)

            return noted

        return SimpleNamespace(**{name: noting(name) for name in cpu_op.__all__})


COUNTED: list[str] = []


def gradient(backend: str) -> list[torch.Tensor]:
    """The results of two chunks, the second of which sends credit into the first."""
    torch.manual_seed(0)
    layer = SAB(3, 4, k_top=2, k_att=2, k_trunc=3, backend=backend, dtype=torch.float64)
    x = torch.randn(12, 2, 3, dtype=torch.float64)
    first, state = layer(x[:6])
    second, _ = layer(x[6:], state)
    return list(torch.autograd.grad(first.pow(2).sum() + second.pow(2).sum(), list(layer.parameters())))


def test_a_new_entry_serves_a_layer_and_credit_into_its_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "counted", Counted("counted", "cpu_op"))
    COUNTED.clear()
    found, wanted = gradient("counted"), gradient("cpu")
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert {"obstacle", "layer", "reach_past", "differentiate_past"} <= set(COUNTED)


def test_auto_takes_the_first_entry_that_can_and_says_why_not_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def on_tuesdays(demand: Demand) -> str:
        return "it is Tuesday"

    monkeypatch.setattr(cpu_op, "obstacle", on_tuesdays)
    backends._log_choice.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with caplog.at_level("INFO", logger="reminding"):
        plan = SAB(3, 4).plan(10)
    assert plan.backend == "reference"
    assert "cpu: it is Tuesday" in plan.why
    assert "cpu: it is Tuesday" in caplog.text


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_every_backend_offers_all_that_is_asked_of_one(name: str) -> None:
    asked = {each for each in vars(Op) if not each.startswith("_")}
    assert len(asked) > 9
    assert asked <= set(dir(BACKENDS[name].op))
