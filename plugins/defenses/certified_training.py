"""Training for certificates by interval bounds. Gowal et al., ICCV 2019, arXiv:1810.12715.

Options: CROWN-IBP (Zhang et al., ICLR 2020, arXiv:1906.06316), SABR (Mueller et al., ICLR 2023,
arXiv:2210.04871) and MTL-IBP (De Palma et al., ICLR 2024, arXiv:2305.13991).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

import torch
from torch import Tensor, fx, nn

from benchmark.api import (
    Attack,
    Batch,
    ConfigError,
    DataSpec,
    Defense,
    Examples,
    Loss,
    Norm,
    SampleRandom,
    Threat,
    hookimpl,
    inner,
    parse_eps,
)

from ..certifiers._graph import boxes, relaxations
from ..certifiers._graph.balls import Around
from ..certifiers._graph.graph import Graph
from ..certifiers._graph.lowering import lower
from ..certifiers._graph.reading import differences
from ..certifiers._graph.tracing import trace
from ._training.maximization import attacked
from ._training.passes import Recorded

COUNTER = "certified_training_steps"
"""Model buffer that counts optimiser steps, so that the schedule survives an interruption."""


class Method(Enum):
    """The bound used in training; see :class:`CertifiedTraining`."""

    ibp = "ibp"
    crown_ibp = "crown_ibp"
    sabr = "sabr"
    mtl_ibp = "mtl_ibp"


@dataclass(frozen=True)
class CertifiedTraining(Defense):
    """kappa * clean loss + (1 - kappa) * cross-entropy of the worst-case scores in a box; linf.

    method: ibp, interval bounds; crown_ibp, linear relaxations, replaced by intervals as the ramp ends; sabr, interval
    bounds in a box of radius share * eps around an attacked point; mtl_ibp, share * intervals + (1 - share) * loss on
    attacked examples.
    eps: the radius, in units of the [0, 1] input range. kappa: weight of the clean loss at the end of the ramp (Gowal:
    0.5 for MNIST and CIFAR-10); it starts at 1. share: lambda of SABR, alpha of MTL-IBP; 1 is plain intervals for both.
    ramp: optimiser steps over which eps increases from 0 and kappa decreases from 1, linearly; 0 for none.
    attack: any attack plugin, for sabr and mtl_ibp.
    Bounds are those of the model in evaluation mode, in single precision.
    """

    method: Method = Method.ibp
    eps: str = "1/10"
    kappa: float = 0.5
    share: float = 0.4
    ramp: int = 500
    attack: Attack = inner("pgd_training")

    def __post_init__(self) -> None:
        if not 0.0 <= self.kappa <= 1.0 or not 0.0 <= self.share <= 1.0 or self.ramp < 0:
            raise ConfigError(
                f"certified_training.kappa is {self.kappa}, share {self.share} and ramp {self.ramp}; expected two "
                "numbers between 0 and 1, and 0 or more steps"
            )
        self.training_threat()

    def training_threat(self) -> Threat:
        """The ball of training at the end of the ramp, as a white-box threat."""
        return Threat(norm=Norm.linf, eps=Fraction(parse_eps(self.eps)))

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Check that the attack supports these examples, and return them unchanged."""
        if self.method in (Method.sabr, Method.mtl_ibp):
            self.attack.check(spec, self.training_threat())
        return train

    def build(self, model: nn.Module, spec: DataSpec) -> nn.Module:
        """Attach a step counter to the model."""
        model.register_buffer(COUNTER, torch.zeros((), dtype=torch.int64))
        return model

    def after_step(self, model: nn.Module) -> None:
        """Advance the ramp by one step."""
        model.get_buffer(COUNTER).add_(1)

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """Mean loss of the batch. Intervals cost about 2.5 passes, in addition to those of the attack."""
        itself = model.model if isinstance(model, Recorded) else model  # bounds are not passes that can be shared
        done = 1.0 if self.ramp == 0 else min(1.0, float(itself.get_buffer(COUNTER)) / self.ramp)
        eps, kappa = done * self.training_threat().radius, 1.0 - done * (1.0 - self.kappa)
        if eps == 0.0 or kappa == 1.0:
            return inner(model, batch)
        hard = self._worst(itself, batch, inner, rng, eps, done)
        return hard if kappa == 0.0 else kappa * inner(model, batch) + (1.0 - kappa) * hard

    def _worst(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom, eps: float, done: float) -> Tensor:
        if self.method is Method.sabr:
            return _bounded_loss(model, batch.y, *self._small_box(model, batch, rng, eps))
        low, high = (batch.x - eps).clamp_min(0.0), (batch.x + eps).clamp_max(1.0)
        if self.method is Method.mtl_ibp:
            parts = []
            if self.share > 0.0:
                parts.append(self.share * _bounded_loss(model, batch.y, low, high))
            if self.share < 1.0:
                threat = replace(self.training_threat(), eps=Fraction(eps))
                x_adv = attacked(model, batch, self.attack, threat, rng)
                parts.append((1.0 - self.share) * inner(model, replace(batch, x=x_adv)))
            return sum(parts[1:], parts[0])
        relaxed = 0.0 if self.method is Method.ibp else 1.0 - done if self.ramp else 1.0
        return _bounded_loss(model, batch.y, low, high, relaxed=relaxed)

    def _small_box(self, model: nn.Module, batch: Batch, rng: SampleRandom, eps: float) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds (B, *S) of a box of radius share * eps inside the ball, around an attacked point."""
        radius = self.share * eps
        middle = batch.x
        if self.share < 1.0:
            threat = replace(self.training_threat(), eps=Fraction(eps - radius))
            middle = attacked(model, batch, self.attack, threat, rng)
        return (middle - radius).clamp_min(0.0), (middle + radius).clamp_max(1.0)


_recorded: weakref.WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], fx.GraphModule]] = weakref.WeakKeyDictionary()


def _graph(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Graph:
    """The computation graph with the current weights and their gradients; a model is traced once."""
    if model not in _recorded or _recorded[model][0] != shape:
        _recorded[model] = shape, trace(model, shape, "defense.certified_training")
    with torch.device(next(model.parameters()).device):
        return lower(_recorded[model][1], shape, "defense.certified_training", dtype)


def _bounded_loss(model: nn.Module, y: Tensor, low: Tensor, high: Tensor, relaxed: float = 0.0) -> Tensor:
    """Cross-entropy of the worst-case scores between `low` and `high` (B, *S): the lower bounds of z_y - z_k.

    relaxed: weight of the bounds by relaxations (CROWN-IBP); the rest is on those by intervals.
    """
    graph = _graph(model, tuple(low.shape[1:]), low.dtype)
    chosen = differences(graph, y).to(low.dtype)
    found = boxes.last_intervals(graph, low, high)
    least = boxes.least_differences(graph, found, chosen)
    if relaxed > 0.0:
        around = Around((low + high) / 2, (high - low).flatten(1).amax(1) / 2, Norm.linf)
        kinks = relaxations.kinks(graph, around, backwards=False)
        backwards = relaxations.lower_bound(graph, {graph.logits: chosen}, kinks, around)
        least = relaxed * backwards + (1.0 - relaxed) * least
    return torch.logsumexp(torch.cat([torch.zeros_like(least[:, :1]), -least], 1), 1).mean()


@hookimpl
def benchmark_component() -> type[CertifiedTraining]:
    """Register the plugin."""
    return CertifiedTraining
