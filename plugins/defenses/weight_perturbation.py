"""Adversarial weight perturbation (AWP). Wu, Xia & Wang, NeurIPS 2020, arXiv:2004.05884, section 4.2.

It applies to any loss below it in the stack: after `adversarial_training` it is AT-AWP, TRADES-AWP or another variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import Batch, ConfigError, Defense, Loss, SampleRandom, hookimpl

from ._training.passes import Undisturbed, reusing


@dataclass(frozen=True)
class WeightPerturbation(Defense):
    """Take the gradient of the loss at weights moved by one step of ascent, of a length relative to their norm.

    Difference from the paper's code: the weights are not modified and restored, which would lose their last bits; the
    step is added in the passes only. The adversarial examples of a batch are computed once, for the unperturbed
    weights.

    gamma: length of a tensor's step relative to its norm; in the paper 0.005 for TRADES and 0.01 for plain adversarial
    training. warm_up: epochs without perturbation.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"gamma": 0.0}

    gamma: float = 0.005
    warm_up: int = 0

    def __post_init__(self) -> None:
        if self.gamma < 0.0 or self.warm_up < 0:
            raise ConfigError(
                f"weight_perturbation has gamma {self.gamma} and warm_up {self.warm_up}; expected a share of the "
                "weights' norm and a number of epochs, at least 0 each"
            )

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """The defense of an epoch: no perturbation during warm-up."""
        return replace(self, gamma=0.0) if epoch < self.warm_up else self

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The loss of the stack at the perturbed weights; twice its passes, except those of the attack."""
        if self.gamma == 0.0:
            return inner(model, batch)
        with reusing():
            offsets = perturbation(model, batch, inner, self.gamma)
            return inner(Undisturbed(model, offsets, keeps=True), batch)


def perturbation(model: nn.Module, batch: Batch, inner: Loss, gamma: float) -> dict[str, Tensor]:
    """gamma ||W|| g / ||g|| for each weight tensor W of two or more dimensions, with g its gradient of the loss.

    Biases, normalisation scales and running statistics are not perturbed.
    """
    weights = {name: p for name, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    with torch.enable_grad():
        loss = inner(Undisturbed(model), batch)
    slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    offsets = {}
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        size = torch.zeros(()) if slope is None else slope.norm()
        if slope is not None and bool(size > 0) and bool(torch.isfinite(size)):
            offsets[name] = gamma * weight.detach().norm() * slope / size
    return offsets


@hookimpl
def benchmark_component() -> type[WeightPerturbation]:
    """Register the plugin."""
    return WeightPerturbation
