"""Ensemble adversarial training. Tramer et al., ICLR 2018, arXiv:1705.07204, section 4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, ClassVar

from torch import Tensor, nn

from benchmark.api import (
    Attack,
    Batch,
    ConfigError,
    DataSpec,
    Defense,
    Examples,
    Loss,
    Model,
    Norm,
    SampleRandom,
    Threat,
    hookimpl,
    inner,
    parse_eps,
)

from ._training.companions import Fit, fitted
from ._training.maximization import attacked


@dataclass(frozen=True)
class EnsembleAdversarialTraining(Defense):
    """Train on examples computed against other, fixed networks or against the current weights.

    The source of a batch's examples is drawn uniformly from the count + 1 networks.

    source: architecture of the other networks, trained first by the run's recipe without defense, from different
    initial weights. count: their number; with 0 it is `adversarial_training` with the same attack.
    attack: any attack plugin. norm, eps: the ball, in units of the [0, 1] input range. ratio: weight of the adversarial
    loss against the clean one; 0.5 in the paper.
    """

    neutral: ClassVar[Mapping[str, Any]] = {"ratio": 0.0}

    source: Model = inner("mlp")
    attack: Attack = inner("fgsm")
    count: int = 3
    norm: Norm = Norm.linf
    eps: str = "1/10"
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 0 or not 0.0 <= self.ratio <= 1.0:
            raise ConfigError(
                f"ensemble_adversarial_training has count {self.count} and ratio {self.ratio}; expected at least 0 "
                "other networks and a share between 0 and 1"
            )
        self.training_threat()

    def training_threat(self) -> Threat:
        """The ball of training, as a white-box threat."""
        return Threat(norm=self.norm, eps=Fraction(parse_eps(self.eps)))

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Check that the attack supports these examples, and return them unchanged."""
        self.attack.check(spec, self.training_threat())
        return train

    def start(self, model: nn.Module, train: Examples, spec: DataSpec, fit: Fit) -> Defense:
        """Train the other networks."""
        if self.ratio == 0.0 or self.count == 0:
            return self
        settings = {f.name: getattr(self, f.name) for f in fields(EnsembleAdversarialTraining)}
        nets = tuple(fitted(self.source.build(spec), train, fit) for _ in range(self.count))
        return _Ensemble(**settings, nets=nets)

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """ratio * loss on adversarial examples + (1 - ratio) * loss on clean ones."""
        if self.ratio == 0.0 or self.training_threat().eps == 0:
            return inner(model, batch)
        x_adv = attacked(self.attacked_net(model, rng), batch, self.attack, self.training_threat(), rng)
        hard = inner(model, replace(batch, x=x_adv))
        return hard if self.ratio == 1.0 else self.ratio * hard + (1.0 - self.ratio) * inner(model, batch)

    def attacked_net(self, model: nn.Module, rng: SampleRandom) -> nn.Module:
        """The network that a batch's examples are computed against: the one in training, while there are no others."""
        return model


@dataclass(frozen=True)
class _Ensemble(EnsembleAdversarialTraining):
    """Ensemble adversarial training with the other networks trained."""

    nets: tuple[nn.Module, ...] = field(default=(), compare=False, repr=False)

    def attacked_net(self, model: nn.Module, rng: SampleRandom) -> nn.Module:
        """One of the networks, drawn by the id of the first example of the batch."""
        drawn = int(rng.integers(len(self.nets) + 1, stream="ensemble_adversarial_training/source")[0])
        return model if drawn == len(self.nets) else self.nets[drawn].to(rng.ids.device)


@hookimpl
def benchmark_component() -> type[EnsembleAdversarialTraining]:
    """Register the plugin."""
    return EnsembleAdversarialTraining
