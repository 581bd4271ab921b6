"""Drawn calls of a layer on every backend and engine, compared with the reference.

    python -m tests.reliability.shape_fuzz --draws 2000

A call may be refused with a `ValueError` if the reference refuses it too, or if the backend was asked for by name.
Else every result and every gradient must be the reference's: the same numbers, NaN where it has NaN, and a tensor
where it has one. A difference counts as rounding where the reference is about as far from itself when it runs on
inputs and weights that differ in their last bits, in double precision, or with additive scores as the ops round them.
An op computes W3 tanh(a) as W3 (1 - 2 / (1 + e^2a)), to the rounding unit of W3. Scores that differ by less are tied
there, and threshold weights, which are quotients of such differences, are 0 or depend on the rounding.
"""

from __future__ import annotations

import argparse
import math
import traceback
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.ops import reference
from reminding.ops.cpu_op import missing
from tests.reliability.draws import Draw, draw

WAYS: dict[str, dict[str, str]] = {
    "reference, replay": {"backend": "reference", "engine": "replay"},
    "auto": {"backend": "auto", "engine": "auto"},
    "auto, replay": {"backend": "auto", "engine": "replay"},
    **(
        {}
        if missing()
        else {"cpu": {"backend": "cpu", "engine": "autograd"}, "cpu, replay": {"backend": "cpu", "engine": "replay"}}
    ),
}
PLAIN = {"backend": "reference", "engine": "autograd"}
LIMIT = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Of a difference, relative to the largest number of the result."""
NUDGES = 8
"""How often the reference is run on inputs that differ in their last bits."""
WORSE = 30.0
"""How many times the reference's distance from itself a difference may be."""

WIDE = ("state", "recall")
"""Results that are as wide as the fullest row, which does not say how wide without rows."""

Results = dict[str, Tensor | None]
exact_scores = reference.additive_scores


@dataclass(frozen=True)
class Verdict:
    """How one way went: "right", "rounding", "refused" or "wrong", and what was wrong."""

    kind: str
    says: str = ""


def results_of(drawn: Draw, ways: dict[str, str], nudge: int = 0) -> Results:
    """Every result and gradient of a drawn stream by name; `nudge`: which change of the last bits, 0 for none."""
    layer = drawn.layer(ways)
    generator = torch.Generator().manual_seed(nudge)
    found: Results = {}
    inputs = [(_nudged(x, generator) if nudge else x).detach().requires_grad_() for x in drawn.x]
    if nudge:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(_nudged(parameter, generator))
    state = None if drawn.begun is None else _begun(layer, drawn)
    for call, x in enumerate(inputs):
        state = _call(layer, drawn, call, x, state, found)
    assert state is not None
    layer.settle(state)
    for number, part in enumerate(state.without_graph().layers):
        lost = ~part.h.isfinite().all(1)  # which memories such a row keeps is not defined
        value = part.memory.value.masked_fill(lost.view(-1, 1, 1), 0)
        step = part.memory.step.masked_fill(lost.view(-1, 1), 0)
        parts = [part.h, *part.cell_state, value, step, part.memory.count]
        found.update({f"state {number} {place}": tensor for place, tensor in enumerate(parts)})
    found["steps"] = state.step
    found.update({f"gradient of x {call}": x.grad for call, x in enumerate(inputs)})
    found.update({f"gradient of {name}": parameter.grad for name, parameter in layer.named_parameters()})
    return found


@contextmanager
def rounded_scores(seed: int) -> Generator[None]:
    """Let the reference compute additive scores by the ops' formula, for seed 0, or be off by the unit of W3."""
    generator = torch.Generator().manual_seed(seed)

    def rounded(keys: Tensor, query: Tensor, out: Tensor) -> Tensor:
        if seed == 0:
            return (1 - 2 / (1 + ((keys + query.unsqueeze(1)) * 2).exp())) @ out
        scores = exact_scores(keys, query, out)
        unit = torch.finfo(scores.dtype).eps * out.detach().abs().sum()
        return scores + unit * torch.randn(scores.shape, generator=generator, dtype=torch.float64).to(scores.dtype)

    with mock.patch.object(reference, "additive_scores", rounded):
        yield


def perturbed(drawn: Draw) -> list[Results]:
    """The reference's results where numbers differ by what rounding may do."""
    found = [results_of(drawn, PLAIN, nudge) for nudge in range(1, NUDGES + 1)]
    found.append(results_of(drawn.in_float64(), PLAIN))
    if drawn.options["score"] == "additive":
        for seed in range(NUDGES // 2):
            with rounded_scores(seed):
                found.append(results_of(drawn, PLAIN))
    return found


def _call(layer: SAB, drawn: Draw, call: int, x: Tensor, state: SABState | None, found: Results) -> SABState:
    """One call with its backward pass; its results are added to those found."""
    given: Any = drawn.given(call, x)
    output, after, recall = layer(given, state, reset=drawn.reset_of(call), return_recall=True)
    output = output.data if drawn.form == "packed" else output
    found[f"output {call}"], found[f"summary {call}"] = output.detach(), recall.summary.detach()
    found[f"recalled steps {call}"], found[f"recall weights {call}"] = in_order(recall.step, recall.weight.detach())
    loss = _loss(drawn, output, recall.summary, after)
    found[f"no graph {call}"] = None if loss.requires_grad else output.detach()
    if loss.requires_grad:
        loss.backward()
    return after


def in_order(step: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A recall by step, (..., K) each: equal weights may come in any order, and the smallest ones may be left out."""
    nothing = weight.abs() <= LIMIT[weight.dtype]
    step, weight = step.masked_fill(nothing, 0), weight.masked_fill(nothing, 0)
    by_weight = weight.argsort(dim=-1, descending=True, stable=True)
    step, weight = step.gather(-1, by_weight), weight.gather(-1, by_weight)
    by_step = step.argsort(dim=-1, stable=True)
    return step.gather(-1, by_step), weight.gather(-1, by_step)


def _nudged(x: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return (x.double() * (1 + 4 * torch.finfo(x.dtype).eps * noise)).to(x.dtype)


def _begun(layer: SAB, drawn: Draw) -> SABState:
    """A state of streams that have done many steps."""
    axis = 0 if drawn.form == "batch_first" else 1
    rows = 1 if drawn.form == "unbatched" else drawn.x[0].shape[axis]
    state = layer.fresh(rows, drawn.form != "unbatched")
    state.step.fill_(drawn.begun or 0)
    return state


def _loss(drawn: Draw, output: Tensor, summary: Tensor, state: SABState) -> Tensor:
    if drawn.loss == "state":
        return sum((part.h.sum() + part.memory.value.pow(2).sum() for part in state.layers), output.new_zeros(()))
    if drawn.loss == "summary":
        return summary.sum() + output.sum()
    if drawn.loss == "row" and output.dim() == 3 and output.numel():
        output = output[0] if drawn.form == "batch_first" else output[:, 0]
    elif drawn.loss == "last" and output.numel():
        output = output[:, -1] if drawn.form == "batch_first" else output[-1]
    return (output * torch.arange(1, output.numel() + 1, dtype=output.dtype).view_as(output).cos()).sum()


def distance(one: Tensor, other: Tensor, least: float = 1e-6) -> Tensor:
    """How far numbers are apart, relative to the largest, or to `least`; infinite where one alone is not a number."""
    one, other = one.double(), other.double()
    unlike = (one.isnan() != other.isnan()) | ((one.isinf() | other.isinf()) & (one != other) & ~one.isnan())
    finite = other[other.isfinite()]
    scale = max(float(finite.abs().max()), least) if finite.numel() else 1.0
    return torch.where(unlike, torch.inf, ((one - other).abs() / scale).nan_to_num(0.0, 0.0, 0.0))


def differing(got: Results, want: Results, drawn: Draw) -> dict[str, float]:
    """By name, how far apart results are that differ; not a number where shapes differ or one is missing."""
    found: dict[str, float] = {}
    for name in [*want, *(name for name in got if name not in want)]:
        a, b = got.get(name), want.get(name)
        if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
            no_rows = a is not None and b is not None and name.startswith(WIDE) and not a.numel() + b.numel()
            if not no_rows and not (a is None and b is None):
                found[name] = math.nan
        elif a.numel():
            apart = float(distance(a, b, _least(drawn, name)).max())
            if apart > (LIMIT[drawn.options["dtype"]] if a.is_floating_point() else 0):
                found[name] = apart
    return found


def _least(drawn: Draw, name: str) -> float:
    return max(1e-6, drawn.underflow(name) / LIMIT[drawn.options["dtype"]])


def judge(drawn: Draw, ways: dict[str, str], want: Results | str, nudged: list[Results]) -> Verdict:
    """Run a drawn stream in one way and compare it with the reference's results, or its refusal.

    Args:
        nudged: the reference's results on nudged inputs so far; made when they are first needed.
    """
    try:
        got = results_of(drawn, ways)
    except ValueError as error:
        by_name = ways["backend"] not in ("auto", "reference")
        return Verdict("refused", str(error)) if by_name or isinstance(want, str) else Verdict("wrong", repr(error))
    except Exception:
        return Verdict("wrong", traceback.format_exc(limit=-3))
    if isinstance(want, str):
        return Verdict("wrong", f"runs where the reference refuses: {want}")
    apart = differing(got, want, drawn)
    if not apart:
        return Verdict("right")
    if all(name.startswith("recall") for name in apart) and drawn.options["dtype"] != torch.float64:
        return Verdict("rounding", "scores that are the same up to rounding: summaries and gradients agree")
    if not nudged:
        nudged += perturbed(drawn)
    for name, far in apart.items():
        right = want.get(name)
        if math.isnan(far) or right is None:
            return Verdict("wrong", f"{name}: {_shape(got.get(name))} for {_shape(right)}")
        own = max(_far(other.get(name), right, _least(drawn, name)) for other in nudged)
        if not (far <= WORSE * own and math.isfinite(far)) and not math.isinf(own):
            return Verdict("wrong", f"{name}: off by {far:.1e}, the reference by {own:.1e}")
    return Verdict("rounding", ", ".join(apart))


def _far(other: Tensor | None, right: Tensor, least: float) -> float:
    if other is None or other.shape != right.shape:
        return math.inf
    return float(distance(other, right, least).max()) if right.numel() else 0.0


def _shape(x: Tensor | None) -> str:
    return "None" if x is None else f"{x.dtype} {tuple(x.shape)}"


def run(seed: int, first: int, draws: int, longest: int, say: bool = True) -> Counter[str]:
    """Judge so many draws in every way; returns how often each verdict was given."""
    found: Counter[str] = Counter()
    for number in range(first, first + draws):
        drawn = draw(seed, number, longest)
        nudged: list[Results] = []
        try:
            want: Results | str = results_of(drawn, PLAIN)
        except ValueError as error:
            want = str(error)
        except Exception:
            found["wrong"] += 1
            if say:
                print(f"WRONG {number} reference: {traceback.format_exc(limit=-3)}\n  {drawn}", flush=True)
            continue
        for name, ways in WAYS.items():
            verdict = judge(drawn, ways, want, nudged)
            found["tried"] += 1
            found[verdict.kind] += 1
            if say and verdict.kind == "wrong":
                print(f"WRONG {number} {name}: {verdict.says}\n  {drawn}", flush=True)
    return found


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first draw")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--longest", type=int, default=24, help="steps of a call at most")
    options: Any = parser.parse_args()
    found = run(options.seed, options.first, options.draws, options.longest)
    print(" ".join(f"{name} {found[name]}" for name in ("tried", "right", "rounding", "refused", "wrong")))
    return int(found["wrong"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
