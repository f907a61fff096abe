"""Substitute: a network trained on the system's labels, with Jacobian-based augmentation. Papernot et al., 2017.

AsiaCCS 2017, arXiv:1602.02697, algorithm 1 and section 4. Candidates are made on the substitute, and transferred.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import (
    Access,
    Attack,
    Ball,
    ConfigError,
    DataSpec,
    Examples,
    Model,
    Norm,
    PreparedAttack,
    Refused,
    SampleRandom,
    Supports,
    System,
    Target,
    Threat,
    derive_seed,
    hookimpl,
    inner,
    train_network,
)

from ._base.settings import check_at_least, check_positive

ROWS = 512
"""Number of points asked, or differentiated, at once."""


@dataclass(frozen=True)
class Substitute(PreparedAttack):
    """Trains a substitute on labels that the system gives, and runs an attack with gradients on it.

    Each round labels the new points, trains the substitute anew, and adds x + lambda * sign(J_c(x)) for each point x,
    where J_c is the substitute's gradient of the probability of the label c that the system gave. The true labels are
    not used. Differences from the paper: Adam instead of gradient descent with momentum; new points obey the threat's
    region and the rules of a table; a refused input is in no training, and steps along the substitute's own label.

    examples: initial points, balanced over the labels. rounds: augmentations (rho); each doubles the points.
    step_size: lambda, a change per feature. period: rounds after which the sign of lambda alternates (tau), as in
    Papernot, McDaniel & Goodfellow, 2016, arXiv:1605.07277; None for never, as in algorithm 1.
    model, epochs, learning_rate: the substitute, and its training in each round.
    attack: makes the candidates on the substitute, with full access to it.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2}), access=Access.labels, targeted=True, randomized=True
    )
    """Abilities with the default attack; every instance declares its own."""

    examples: int = 150
    rounds: int = 6
    step_size: float = 0.1
    period: int | None = 3
    model: Model = inner("mlp")
    epochs: int = 20
    learning_rate: float = 0.01
    attack: Attack = inner("mi_fgsm")

    def __post_init__(self) -> None:
        check_at_least(1, examples=self.examples, epochs=self.epochs)
        check_at_least(0, rounds=self.rounds)
        check_positive(step_size=self.step_size, learning_rate=self.learning_rate)
        if self.period is not None:
            check_at_least(1, period=self.period)
        if self.model.learns() or not self.model.access.grants(Access.gradients):
            raise ConfigError(
                f"attack.model is {type(self.model).__name__}, which has no gradients; expected a network, whose "
                "Jacobian tells where to ask next, such as mlp: train another system as threat.surrogate"
            )
        if isinstance(self.attack, PreparedAttack) or self.attack.supports.trigger:
            raise ConfigError(
                f"attack.attack is {type(self.attack).__name__}, which is prepared once per cell; expected an attack "
                "without preparation, such as mi_fgsm"
            )
        if self.attack.supports.minimal or not self.attack.supports.bounded:
            raise ConfigError(
                f"attack.attack is {type(self.attack).__name__}, which does not keep to the threat's ball; expected an "
                "attack that uses all of it, such as mi_fgsm, since what just fools the substitute hardly transfers"
            )
        can = replace(self.attack.supports, access=Access.labels, top5=False, randomized=True)
        object.__setattr__(self, "supports", can)

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse everything that the inner attack refuses, and a model that is not trained."""
        self.attack.check(spec, threat)
        if self.model.pretrained(spec) is not None:
            raise Refused(
                f"attack.model is {type(self.model).__name__} with given weights, but a substitute learns from the "
                "system's labels; choose a model without weights, such as mlp"
            )

    def prepare(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> dict[str, Tensor]:
        """2^rounds queries per initial point: one per point of the last round. Fewer rounds if the budget ends."""
        ball = threat.unbounded().around(x, rng)
        spec = DataSpec(tuple(x.shape[1:]), target.classes)
        known = ask(target, Points.initial(x)) if affordable(target) else Points.initial(x)
        network = self._trained(known, spec, rng)
        for place in range(rounds_within(target, self.rounds)):
            flipped = self.period is not None and place // self.period % 2 == 1
            step = -self.step_size if flipped else self.step_size
            known = ask(target, augmented(network, known, ball, step))
            network = self._trained(known, spec, rng)
        return dict(network.state_dict())

    def _trained(self, known: Points, spec: DataSpec, rng: SampleRandom) -> nn.Module:
        """Substitute trained on the points that the system has labelled, on their device."""
        at = (known.labels >= 0).nonzero().squeeze(1)
        train = Examples.of(torch.arange(len(at)), known.x[at].float().cpu(), known.labels[at].cpu())
        seed = derive_seed(rng.seed, "substitute")
        with torch.enable_grad():
            made = train_network(
                self.model, train, spec, epochs=self.epochs, seed=seed, learning_rate=self.learning_rate
            )
        return made.to(known.x.device)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Candidates of the inner attack on the substitute. No pass through the system."""
        spec = DataSpec(tuple(x.shape[1:]), target.classes)
        with torch.random.fork_rng():
            network = self.model.build(spec)
        network.load_state_dict(target.prepared)
        own = Target(
            System(network.to(x), spec),
            rng=rng.child("substitute"),
            classes=spec.classes,
            access=Access.transfer,
            ball=threat.around(x, rng),
        )
        known = replace(threat, access=Access.transfer, surrogate="substitute", queries=None)
        return self.attack.perturb(own, x, y, threat=known, rng=rng)


@dataclass(frozen=True)
class Points:
    """Inputs of the substitute's training set, and the system's labels of them.

    x: (n, *S). owners: (n,) int64, the initial point that each comes from. labels: (m,) int64 of the first m <= n
    inputs, which the system has been asked about; negative where it gives none.
    """

    x: Tensor
    owners: Tensor
    labels: Tensor

    @classmethod
    def initial(cls, x: Tensor) -> Points:
        """Initial points, not yet asked about."""
        owners = torch.arange(len(x), device=x.device)
        return cls(x, owners, owners[:0])


def affordable(target: Target) -> bool:
    """True if every initial point may be asked about once more."""
    left = target.remaining()
    return left is None or int(left.min()) >= 1


def rounds_within(target: Target, rounds: int) -> int:
    """Number of augmentations that the rest of the budget allows, at most `rounds`: 2^r - 1 queries for r of them."""
    left = target.remaining()
    return rounds if left is None else min(rounds, (int(left.min()) + 1).bit_length() - 1)


def ask(target: Target, points: Points) -> Points:
    """Points with labels for those that have none; one query each."""
    new = torch.arange(len(points.labels), len(points.x), device=points.x.device).split(ROWS)
    labels = [target.rows(points.owners[at]).labels(points.x[at]) for at in new]
    return replace(points, labels=torch.cat([points.labels, *labels]))


def augmented(network: nn.Module, points: Points, ball: Ball, step: float) -> Points:
    """Points, and for each another one at x + step * sign(J_c(x)), in box and region (algorithm 1, line 6).

    points: labelled. ball: around the initial points, without a limit on the distance.
    """
    made = []
    for at in torch.arange(len(points.x), device=points.x.device).split(ROWS):
        here = ball.rows(points.owners[at])
        made.append(here.quantise(here.project(points.x[at] + step * signs(network, points.x[at], points.labels[at]))))
    return Points(torch.cat([points.x, *made]), points.owners.repeat(2), points.labels)


def signs(network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Sign of the gradient of the probability of each label (b,) at `x` (b, *S); of the predicted one if negative.

    Taken from the log-probability, whose gradient has the same sign and does not vanish where the network is certain.
    """
    leaf = x.float().detach().requires_grad_(True)
    with torch.enable_grad():
        scores = network(leaf).log_softmax(1)
        chosen = torch.where(labels >= 0, labels, scores.detach().argmax(1))
        (slope,) = torch.autograd.grad(scores.gather(1, chosen[:, None]).sum(), leaf)
    return slope.sign().to(x)


@hookimpl
def benchmark_component() -> type[PreparedAttack]:
    """The plugin."""
    return Substitute
