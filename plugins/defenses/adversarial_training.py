"""Adversarial training on examples attacked on the fly. Madry et al., ICLR 2018, arXiv:1706.06083, section 2.1.

Also covers the mix of clean and adversarial examples of Goodfellow et al., ICLR 2015, arXiv:1412.6572, section 6, from
scratch or, with `system.init_from`, as fine-tuning of a trained system.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor, nn

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
    Target,
    Threat,
    hookimpl,
    inner,
    parse_eps,
)


@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """Replace a share of each batch by adversarial examples against the weights of the moment.

    attack: any attack plugin; run with the model in evaluation mode, so that batch statistics are those of training.
    norm, eps: the ball that is trained on, in units of the [0, 1] input range.
    ratio: weight of the adversarial loss; 1 is Madry et al., 0.5 the equal mix, 0 plain training.
    """

    attack: Attack = inner("pgd_training")
    norm: Norm = Norm.linf
    eps: str = "1/10"
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio <= 1.0:
            raise ConfigError(f"adversarial_training.ratio is {self.ratio}; expected a share between 0 and 1")
        parse_eps(self.eps)

    def training_threat(self) -> Threat:
        """The ball that is trained on, with gradients."""
        return Threat(norm=self.norm, eps=Fraction(parse_eps(self.eps)))

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """The examples as they are, if the attack can do something with them."""
        self.attack.check(spec, self.training_threat())
        return train

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """ratio * loss on adversarial examples + (1 - ratio) * loss on clean ones."""
        if self.ratio == 0.0:
            return inner(model, batch)
        x_adv = attacked(model, batch, self.attack, self.training_threat(), rng)
        hard = inner(model, replace(batch, x=x_adv))
        return hard if self.ratio == 1.0 else self.ratio * hard + (1.0 - self.ratio) * inner(model, batch)


def attacked(model: nn.Module, batch: Batch, attack: Attack, threat: Threat, rng: SampleRandom) -> Tensor:
    """(B, *S) adversarial examples of a batch against the model's weights of the moment, in evaluation mode."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            classes = model(batch.x[:1]).shape[1]
        target = Target(model, rng=rng, classes=classes)
        x_adv = attack.perturb(target, batch.x, batch.y, threat=threat, rng=rng)
    finally:
        model.train(training)
    return x_adv.detach()


@hookimpl
def benchmark_component() -> type[AdversarialTraining]:
    """Register the plugin."""
    return AdversarialTraining
