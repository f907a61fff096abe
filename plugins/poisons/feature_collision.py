"""Poison Frogs: rows with unchanged label and appearance, and the features of a victim. Shafahi et al., NeurIPS 2018,
arXiv:1804.00792, section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import (
    ConfigError,
    DataSpec,
    Examples,
    InstancePoison,
    Model,
    Poison,
    SampleRandom,
    derive_seed,
    features,
    hookimpl,
    inner,
    train_network,
)

from ._triggers.rows import check_label, check_rate, drawn

OWNER = "poison.feature_collision"


@dataclass(frozen=True)
class FeatureCollision(InstancePoison):
    """Move rows of the target class, with their labels, to the features of the victims in an attacker's network.

    Minimises |f(x) - f(t)|^2 + beta |x - b|^2 from the base row b by forward-backward splitting, where t is a victim;
    rows are assigned to the victims in turn. f is the input of the last linear layer of the attacker's network, which
    is trained on the clean rows. Differences from the paper: the result is clipped to the box, and the backward step is
    exact for any step size.

    rate: share of all training rows. target, victims: see benchmark.api.InstancePoison. beta: weight of the distance to
    the base, which the paper scales by the number of features over that of inputs. steps, step_size: of the descent.
    model, epochs: the attacker's network and its training.
    """

    rate: float = 0.01
    beta: float = 0.1
    steps: int = 100
    step_size: float = 0.05
    model: Model = inner("mlp")
    epochs: int = 20

    def __post_init__(self) -> None:
        check_rate(OWNER, self.rate)
        if self.beta < 0.0 or self.steps < 1 or not self.step_size > 0.0:
            raise ConfigError(
                f"{OWNER} has beta {self.beta}, steps {self.steps} and step_size {self.step_size}; expected a "
                "weight of at least 0, at least 1 step and a positive step"
            )

    def corrupt_for(
        self, train: Examples, victims: Examples, spec: DataSpec, rng: SampleRandom
    ) -> tuple[Examples, Tensor]:
        """Train the attacker's network on the clean rows, then move random rows of the target class."""
        check_label(OWNER, spec, target=self.target)
        positions = drawn(rng, train.y == self.target, self.rate, OWNER, "of the target class")
        if not len(positions):
            return train, train.ids[positions]
        network = train_network(self.model, train, spec, epochs=self.epochs, seed=derive_seed(rng.seed, "network"))
        wanted = features(network, victims.x())[torch.arange(len(positions)) % len(victims)]
        x = collided(
            lambda inputs: features(network, inputs), train.x(positions), wanted,
            beta=self.beta, steps=self.steps, step_size=self.step_size,
        )  # fmt: skip
        return train.changed(positions, x=x), train.ids[positions]


def collided(
    f: Callable[[Tensor], Tensor], base: Tensor, wanted: Tensor, *, beta: float, steps: int, step_size: float
) -> Tensor:
    """Inputs (M, *S) that minimise |f(x) - wanted|^2 + beta |x - base|^2 per row, starting at `base` (M, *S).

    Each step: x' = x - s grad |f(x) - wanted|^2, then the proximal point (x' + 2 s beta base) / (1 + 2 s beta), then
    clipping to the box. One forward and one backward pass of f per step.

    Args:
        f: differentiable, (M, *S) to (M, D).
        wanted: (M, D).
    """
    x = base.clone()
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad((f(leaf) - wanted).square().sum(), leaf)
        x = (x - step_size * gradient + 2.0 * step_size * beta * base) / (1.0 + 2.0 * step_size * beta)
        x = x.clamp(0.0, 1.0)
    return x.detach()


@hookimpl
def benchmark_component() -> type[Poison]:
    """Register the plugin."""
    return FeatureCollision
