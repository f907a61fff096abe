"""Substitution: training images are replaced by their adversarial examples. Fowl et al., NeurIPS 2021,
arXiv:2106.10807, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import torch
from torch import Tensor, nn

from benchmark.api import (
    Attack,
    DataSpec,
    Examples,
    Model,
    Norm,
    Poison,
    SampleRandom,
    Target,
    Threat,
    derive_seed,
    hookimpl,
    inner,
    parse_eps,
    train_network,
)

from ._triggers.rows import check_rate, drawn

OWNER = "poison.substitution"
ROWS = 256


class Labels(Enum):
    """Labels of the substituted rows: the true ones (keep), or predictions of the attacker's network (predicted)."""

    keep = "keep"
    predicted = "predicted"


@dataclass(frozen=True)
class Substitution(Poison):
    """Replace random rows by adversarial examples against a network that the attacker trains on the clean rows.

    rate: share of all training rows. attack: any attack on inputs, untargeted. norm, eps: its ball, in units of the
    [0, 1] input range. labels: see :class:`Labels`. model, epochs: the attacker's network and its training.
    """

    rate: float = 0.1
    attack: Attack = inner("fgsm")
    norm: Norm = Norm.linf
    eps: str = "3/10"
    labels: Labels = Labels.keep
    model: Model = inner("mlp")
    epochs: int = 20

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        parse_eps(self.eps)

    @property
    def threat(self) -> Threat:
        """The ball around each row, as a white-box threat."""
        return Threat(norm=self.norm, eps=Fraction(parse_eps(self.eps)))

    def corrupt(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> tuple[Examples, Tensor]:
        """Train the attacker's network, then replace the chosen rows by the results of the attack."""
        self.attack.check(spec, self.threat)
        positions = drawn(rng, torch.ones(len(train), dtype=torch.bool), self.rate, OWNER)
        if not len(positions):
            return train, train.ids[positions]
        network = train_network(self.model, train, spec, epochs=self.epochs, seed=derive_seed(rng.seed, "network"))
        after = substituted(train, positions, network, self.attack, self.threat, spec.classes, rng)
        if self.labels is Labels.predicted:
            after = after.changed(positions, y=network(after.x(positions)).argmax(1))
        return after, train.ids[positions]


def substituted(
    train: Examples, positions: Tensor, network: nn.Module, attack: Attack, threat: Threat, classes: int,
    rng: SampleRandom,
) -> Examples:  # fmt: skip
    """The examples with adversarial inputs against `network` at `positions` (M,)."""
    made = []
    for at in positions.split(ROWS):
        rows, x, y = rng.rows(at), train.x(at), train.y[at]
        made.append(attack.perturb(Target(network, rng=rows, classes=classes), x, y, threat=threat, rng=rows).detach())
    return train.changed(positions, x=torch.cat(made).clamp(0.0, 1.0))


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return Substitution
