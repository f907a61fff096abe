"""Small classifiers with analytically known answers, each with one difficulty."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark import sampling
from benchmark.system import straight_through

__all__ = ["Broken", "Constant", "Probabilities", "Quantised", "RandomisedLinear", "Scaled", "Sphere"]


class Sphere(nn.Module):
    """Two classes: 0 inside a sphere around `centre`, 1 outside; the l2 distance to the boundary is | ||x-c|| - r |.

    centre: (D,). radius: in input units.
    """

    def __init__(self, centre: Tensor, radius: float) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 2): 0, and the signed distance of `x` (B, *S) from the sphere."""
        outside = (x.flatten(1) - self.get_buffer("centre")).norm(dim=1) - self.radius
        return torch.stack([torch.zeros_like(outside), outside], 1)


class Constant(nn.Module):
    """The same logits (K,) for every input.

    connected: True if the logits depend on the input in the graph, with a gradient of zero; False for not at all.
    """

    def __init__(self, logits: Tensor, *, connected: bool = True) -> None:
        super().__init__()
        self.register_buffer("logits", logits)
        self.connected = connected

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits = self.get_buffer("logits").expand(len(x), -1)
        return logits + x.flatten(1).sum(1, keepdim=True) * 0.0 if self.connected else logits


class Broken(nn.Module):
    """A classifier with correct logits and NaN input gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.model(x)
        spoiled: Tensor = straight_through(logits, logits * torch.nan)
        return spoiled


class Quantised(nn.Module):
    """Rounds the input to `levels` + 1 values: its gradient is zero everywhere, unless a surrogate is declared.

    straight_through: skip the rounding in the backward pass (BPDA with the identity).
    """

    def __init__(self, model: nn.Module, levels: int, *, straight_through: bool = False) -> None:
        super().__init__()
        self.model, self.levels, self.straight_through = model, levels, straight_through

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        rounded = torch.round(x * self.levels) / self.levels
        if self.straight_through:
            rounded = straight_through(rounded, x)
        logits: Tensor = self.model(rounded)
        return logits


class Probabilities(nn.Module):
    """Returns the softmax where logits are expected."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities (B, K), whose rows sum to 1."""
        return torch.softmax(self.model(x), 1)


class Scaled(nn.Module):
    """scale * logits + shift: same labels, but a large scale saturates the softmax, a shift costs precision."""

    def __init__(self, model: nn.Module, *, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.model, self.scale, self.shift = model, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.model(x)
        return self.scale * logits + self.shift


class RandomisedLinear(nn.Module):
    """A linear classifier with Gaussian noise on its weights (K, D) for each row and pass; their mean is `weight`.

    spread: standard deviation of the noise.
    """

    def __init__(self, weight: Tensor, bias: Tensor, spread: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.spread = spread

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K); needs `benchmark.sampling.using` around the call."""
        weight = self.get_buffer("weight")
        noise = sampling.ambient().normal(*weight.shape, stream="weights")
        return torch.einsum("bkd,bd->bk", weight + self.spread * noise, x.flatten(1)) + self.get_buffer("bias")
