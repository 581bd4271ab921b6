"""A diagonal linear recurrence trained by exact online gradients, on streams without end.

Shapes: B batch, T time, I input, H hidden, N = H / 2 complex units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reminding.nn.baselines.carried import CarriedLayer, constant
from reminding.nn.baselines.scan import linear_scan


class _Dynamics(NamedTuple):
    """The eigenvalues and the input's scale, and their derivatives, (N,) each.

    decay: lambda = exp(-exp(nu) + i exp(theta)), complex. scale: sqrt(1 - |lambda|²), real.
    """

    decay: Tensor
    scale: Tensor
    decay_by_nu: Tensor
    decay_by_theta: Tensor
    scale_by_nu: Tensor


class RTU(CarriedLayer):
    """Linear recurrent trace units, trained by real-time recurrent learning.   [Elelimy et al. 2024]

    h_t = lambda h_{t-1} + sqrt(1 - r²) W x_t, elementwise, N complex units, where r is the modulus of lambda. The
    output is gelu(C [Re h_t; Im h_t] + D x_t + b), as in a linear recurrent unit trained online [Orvieto et al. 2023;
    Zucchet et al. 2023]. Since the recurrence is diagonal, the derivatives of h by its parameters, the traces, are a
    number per parameter and row; the state carries them.

    A call's gradient is exact over the whole past of the stream: within the call by backpropagation, before it by the
    traces, which are the derivatives of the state that the call began from. So chunks of any length have the gradient
    of full BPTT while the weights do not change; after an update the traces are those of the earlier weights, as
    always in online learning. Inputs of past calls get no gradient.

    Args:
        input_size, hidden_size, batch_first: as in `SAB`; hidden_size must be even.
        min_radius: smallest r at initialisation, from 0 to below 1; r² is uniform between its square and 1. Near 1,
            the memory is long.
        encoder: a module without parameters, such as one-hot vectors, applied to the input first. Parameters of an
            encoder would need traces of their own; W is an embedding already.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        min_radius: float = 0.0,
        batch_first: bool = False,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, batch_first, encoder)
        input_size, hidden_size = self.input_size, self.hidden_size
        if hidden_size % 2:
            raise ValueError(f"hidden_size must be even, two features per complex unit, got {hidden_size}")
        if not 0 <= min_radius < 1:
            raise ValueError(f"min_radius must be at least 0 and below 1, got {min_radius}")
        if encoder is not None and any(True for _ in encoder.parameters()):
            raise ValueError("encoder must have no parameters, whose gradient would end at the border of a call")
        units = hidden_size // 2
        square = min_radius**2 + torch.rand(units) * (1 - min_radius**2)
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(square.clamp(1e-6, 1 - 1e-6))))
        self.theta = nn.Parameter(torch.log(2 * math.pi * torch.rand(units).clamp(min=1e-4)))
        self.input_weight = nn.Parameter(torch.randn(2, units, input_size) / math.sqrt(2 * input_size))
        self.mix = nn.Linear(hidden_size, hidden_size)
        self.skip = nn.Linear(input_size, hidden_size, bias=False)

    def fresh(self, rows: int) -> dict[str, Tensor]:
        """Zeros: h (B, N, 2), and the traces of nu and theta (B, N, 2) and of W (B, N, I, 2); real and imaginary."""
        one = self.nu.new_zeros(rows, len(self.nu), 2)
        by_weight = self.nu.new_zeros(rows, len(self.nu), self.input_size, 2)
        return {"h": one, "by_nu": one, "by_theta": one, "by_weight": by_weight}

    def run(
        self, x: Tensor, begins: Tensor | None, carried: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run over a call's steps, then bring the traces from its beginning to its end.

        Args:
            x: (T, B, I).
            begins: the steps before which a row begins a new stream, (T, B) bool; None: nowhere.
            carried: h and the traces, see `fresh`.

        Returns:
            output (T, B, H), and h and the traces after the last step.

        Raises:
            ValueError: the parameters are neither float32 nor float64.
        """
        if self.nu.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be float32 or float64 for an RTU, got {self.nu.dtype}")
        past = {name: torch.view_as_complex(constant(tensor)) for name, tensor in carried.items()}
        parts = F.linear(x, self.input_weight.flatten(0, 1)).to(self.nu.dtype).view(*x.shape[:2], 2, len(self.nu))
        driven = torch.complex(parts[..., 0, :], parts[..., 1, :])  # W x, (T, B, N)
        dynamics = self._dynamics()
        keep = dynamics.decay.expand(driven.shape)
        if begins is not None:
            keep = keep.masked_fill(begins.unsqueeze(2), 0)
        h = linear_scan(keep, dynamics.scale * driven, self._entering(past))  # (T, B, N)
        y = F.gelu(self.mix(torch.cat([h.real, h.imag], dim=-1).to(x.dtype)) + self.skip(x))
        with torch.no_grad():
            after = self._traces(dynamics, begins, past, _Steps(x.to(self.nu.dtype), driven, h))
        return y, {name: torch.view_as_real(tensor) for name, tensor in after.items()}

    def _dynamics(self) -> _Dynamics:
        rate, angle = self.nu.exp(), self.theta.exp()
        decay = torch.polar(torch.exp(-rate), angle)
        square = torch.exp(-2 * rate)
        scale = torch.sqrt(-torch.expm1(-2 * rate))
        return _Dynamics(decay, scale, -rate * decay, 1j * angle * decay, rate * square / scale)

    def _entering(self, past: Mapping[str, Tensor]) -> Tensor:
        """The state that the call begins from, (B, N), with its derivatives by the parameters.

        Each factor in parentheses is 0, so that the value is that of h; its derivative by a parameter is the trace.
        """
        nu, theta = self.nu - self.nu.detach(), self.theta - self.theta.detach()
        real, imaginary = self.input_weight - self.input_weight.detach()  # (N, I) each
        weight = torch.complex(real, imaginary)
        by_weight = torch.einsum("bni,ni->bn", past["by_weight"], weight)
        return past["h"] + past["by_nu"] * nu + past["by_theta"] * theta + by_weight

    def _traces(
        self, dynamics: _Dynamics, begins: Tensor | None, past: Mapping[str, Tensor], steps: _Steps
    ) -> dict[str, Tensor]:
        """The state after the last step: e_T = lambda^T e_0 + sum over t of lambda^(T - t) (what step t adds)."""
        x, driven, h = steps
        before = torch.cat([past["h"].unsqueeze(0), h[:-1]])  # (T, B, N)
        alive = x.new_ones(len(x) + 1, x.shape[1])
        if begins is not None:
            before = before.masked_fill(begins.unsqueeze(2), 0)
            # A contribution lives on until its row begins anew; that of e_0 comes first, before step 1.
            anew = begins.flip(0).cumsum(0).flip(0)  # number of beginnings from this step on
            alive[:-1] = (anew == 0).to(x.dtype)
        power = dynamics.decay.expand(len(x), -1).cumprod(0).flip(0)  # lambda^T ... lambda^1
        kept = power[0] * alive[0].unsqueeze(1)  # of e_0, (B, N)
        later = torch.cat([power[1:], torch.ones_like(power[:1])]).unsqueeze(1) * alive[1:].unsqueeze(2)  # (T, B, N)
        by_nu = (later * (dynamics.decay_by_nu * before + dynamics.scale_by_nu * driven)).sum(0)
        by_theta = (later * dynamics.decay_by_theta * before).sum(0)
        shown = (later * dynamics.scale).permute(1, 2, 0) @ x.permute(1, 0, 2).to(later.dtype)  # (B, N, I)
        return {
            "h": h[-1].clone(),
            "by_nu": kept * past["by_nu"] + by_nu,
            "by_theta": kept * past["by_theta"] + by_theta,
            "by_weight": kept.unsqueeze(2) * past["by_weight"] + shown,
        }


class _Steps(NamedTuple):
    """The steps of a call: input x (T, B, I), W x (T, B, N), h (T, B, N)."""

    x: Tensor
    driven: Tensor
    h: Tensor
