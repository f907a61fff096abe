"""Adversarial training on examples attacked on the fly. Madry et al., ICLR 2018, arXiv:1706.06083, section 2.1.

Loss and inner maximisation are settings. They include:

- the mix of clean and adversarial examples: Goodfellow et al., ICLR 2015, arXiv:1412.6572, section 6; from scratch or,
  with `system.init_from`, fine-tuning a trained system;
- TRADES: Zhang et al., ICML 2019, arXiv:1901.08573; MART: Wang et al., ICLR 2020; HAT: Rade & Moosavi-Dezfooli, ICLR
  2022; DKL and GKL: Cui et al., NeurIPS 2024, arXiv:2305.13948;
- fast training by RS-FGSM: Wong, Rice & Kolter, ICLR 2020, arXiv:2001.03994; N-FGSM: de Jorge et al., NeurIPS 2022,
  arXiv:2202.01181. Their early stopping is done by epoch selection, which keeps the last epoch before a collapse;
- unions of norms: Tramer & Boneh, NeurIPS 2019, arXiv:1904.13000, section 4;
- a radius that increases over the epochs (curriculum): Cai, Liu & Song, IJCAI 2018, arXiv:1805.04807.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.api import (
    EVERY_TASK,
    Attack,
    Batch,
    ConfigError,
    DataSpec,
    Defense,
    Examples,
    Loss,
    Norm,
    Refused,
    SampleRandom,
    Threat,
    added,
    hookimpl,
    inner,
    parse_eps,
)

from ._training.companions import Fit, fitted
from ._training.maximization import attacked, most_divergent, one_step, worst
from ._training.objectives import (
    decoupled_divergence,
    divergence,
    generalized_divergence,
    rival_penalty,
    true_probability,
)
from ._training.passes import Recorded, evaluating, made_once


class Objective(Enum):
    """The loss of a batch, with L the loss of the stack below, x' the adversarial inputs, p and p' the probabilities.

    ce: ratio L(x') + (1 - ratio) L(x). trades: L(x) + weight KL(p || p'). mart: L(x') - log(1 - max_{k != y} p'_k) +
    weight (1 - p'_y) KL(p || p'). dkl: TRADES with the decoupled divergence, which has the same gradients. gkl: dkl
    whose squared error moves both logits, weighted by class means. hat: TRADES + helper_weight
    L(x + helper_reach (x' - x), y'), where y' is the prediction for x' of a network trained without defense.
    """

    ce = "ce"
    trades = "trades"
    mart = "mart"
    dkl = "dkl"
    gkl = "gkl"
    hat = "hat"


class Maximization(Enum):
    """Method of the inner maximisation, the search for x'.

    attack: by the plugin in `attack`. divergence: by ascent on KL(p || p'). rs_fgsm: one step from a random start in
    the ball. n_fgsm: one step from stronger noise, not clipped to the ball. auto: attack for ce and mart, divergence
    otherwise.
    """

    auto = "auto"
    attack = "attack"
    divergence = "divergence"
    rs_fgsm = "rs_fgsm"
    n_fgsm = "n_fgsm"


class Union(Enum):
    """The loss under several threats: their mean, or the loss of the worst candidate per example."""

    average = "average"
    max = "max"


WEIGHTS = {Objective.trades: 6.0, Objective.mart: 5.0, Objective.dkl: 6.0, Objective.gkl: 6.0, Objective.hat: 2.5}
"""Weights of the divergence in the papers, for CIFAR-10; DKL has that of TRADES, as it has the same gradients."""


def _ball(text: str) -> Threat:
    """The threat given as norm:eps."""
    name, _, eps = text.partition(":")
    if name not in Norm.__members__ or not eps:
        raise ConfigError(
            f"adversarial_training.others has {text!r}; expected a norm and a radius, such as l2:1/2 "
            f"({', '.join(Norm.__members__)})"
        )
    return Threat(norm=Norm[name], eps=parse_eps(eps))


@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """Replace a share of each batch by adversarial examples against the current weights.

    They are computed in evaluation mode, so that batch statistics come from training only. At eps 0 it is plain
    training. Under segmentation and detection it is Madry et al.'s with the task's loss.

    attack: any attack plugin. norm, eps: the ball of training, in units of the [0, 1] input range.
    ratio: under `ce`, weight of the adversarial loss; 1 is Madry et al., 0.5 the equal mix, 0 plain training.
    objective, maximization: see :class:`Objective` and :class:`Maximization`. weight: of the divergence; None for that
    of the paper. steps, step_size: of `divergence`; None is 2.5 eps / steps. For `rs_fgsm` None is 1.25 eps, for
    `n_fgsm` eps.
    noise: largest noise of `n_fgsm`, in multiples of eps. others: further balls, such as [l2:1/2, l1:3].
    ramp: share of the epochs over which the radii increase linearly from 0. Epochs are selected under the full radius.
    helper_weight, helper_reach: of `hat`; the helper is trained first, without defense.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    neutral: ClassVar[Mapping[str, Any]] = {"eps": "0"}

    attack: Attack = inner("pgd_training")
    norm: Norm = Norm.linf
    eps: str = "1/10"
    ratio: float = 0.5
    objective: Objective = added(Objective.ce)
    maximization: Maximization = added(Maximization.auto)
    weight: float | None = added(None)
    steps: int = added(10)
    step_size: float | None = added(None)
    noise: float = added(2.0)
    others: tuple[str, ...] = added(())
    union: Union = added(Union.average)
    ramp: float = added(0.0)
    helper_weight: float = added(0.5)
    helper_reach: float = added(3.5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "others", tuple(self.others))
        if not 0.0 <= self.ratio <= 1.0:
            raise ConfigError(f"adversarial_training.ratio is {self.ratio}; expected a share between 0 and 1")
        if not 0.0 <= self.ramp <= 1.0:
            raise ConfigError(f"adversarial_training.ramp is {self.ramp}; expected a share of the epochs in [0, 1]")
        if self.steps < 1 or (self.step_size is not None and self.step_size <= 0):
            raise ConfigError(
                f"adversarial_training has {self.steps} steps of size {self.step_size}; expected at least 1 step of "
                "more than 0, in units of the [0, 1] input range"
            )
        fit = {Maximization.divergence: (Norm.linf, Norm.l2), Maximization.attack: tuple(Norm)}
        fitting = fit.get(self.chosen_maximization, (Norm.linf,))
        for threat in self.threats():  # reads every radius, too
            if threat.norm not in fitting:
                raise ConfigError(
                    f"adversarial_training.maximization is {self.chosen_maximization.value}, which works under "
                    f"{', '.join(n.value for n in fitting)}, but it trains on a ball in {threat.norm.value}; choose "
                    "maximization=attack with an attack of that norm"
                )

    # --- settings ---

    @property
    def chosen_maximization(self) -> Maximization:
        """The maximisation, with `auto` resolved."""
        if self.maximization is not Maximization.auto:
            return self.maximization
        by_attack = self.objective in (Objective.ce, Objective.mart)
        return Maximization.attack if by_attack else Maximization.divergence

    def training_threat(self) -> Threat:
        """The ball of training, as a white-box threat."""
        return Threat(norm=self.norm, eps=Fraction(parse_eps(self.eps)))

    def threats(self) -> list[Threat]:
        """All balls of training, beginning with the one under which epochs are selected."""
        return [self.training_threat(), *(_ball(text) for text in self.others)]

    # --- stages ---

    def check(self, spec: DataSpec) -> None:
        """Refuse losses of one label where examples have several sites, and inner attacks for other tasks."""
        task = spec.task
        by_attack = self.objective is Objective.ce and self.chosen_maximization is Maximization.attack
        if task.dense and (not by_attack or (self.union is Union.max and self.others)):
            raise Refused(
                f"defense.adversarial_training has objective={self.objective.value}, maximization="
                f"{self.chosen_maximization.value} and union={self.union.value}, but the data are for {task.name}; "
                "choose objective=ce, maximization=attack and union=average"
            )
        if task.name not in self.attack.tasks:
            raise Refused(
                f"defense.adversarial_training trains on an attack for {' and '.join(sorted(self.attack.tasks))}, and "
                f"the data are for {task.name}; choose an attack whose `tasks` name {task.name}"
            )

    def prepare(self, train: Examples, spec: DataSpec, rng: SampleRandom) -> Examples:
        """Check that the attack supports these examples, and return them unchanged."""
        for threat in self.threats():
            self.attack.check(spec, threat)
        return train

    def start(self, model: nn.Module, train: Examples, spec: DataSpec, fit: Fit) -> Defense:
        """Train the helper of `hat` on clean examples, from the same initial weights."""
        if self.objective is not Objective.hat:
            return self
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return _Helped(**settings, helper=fitted(model, train, fit))

    def at_epoch(self, epoch: int, epochs: int) -> Defense:
        """The defense with the radii of an epoch; the first epoch of a ramp is clean."""
        if self.ramp == 0.0:
            return self
        grown = min(Fraction(1), Fraction(epoch) / (Fraction(str(self.ramp)) * epochs))
        others = tuple(f"{t.norm.value}:{t.eps * grown}" for t in self.threats()[1:])
        return replace(self, eps=str(parse_eps(self.eps) * grown), others=others)

    def loss(self, model: nn.Module, batch: Batch, inner: Loss, rng: SampleRandom) -> Tensor:
        """The objective at the adversarial examples of each ball, or at the worst of them."""
        plain = self.objective is Objective.ce and self.ratio == 0.0
        if plain or all(threat.eps == 0 for threat in self.threats()):
            return inner(model, batch)
        candidates = []
        for place, threat in enumerate(self.threats()):
            own = rng.child(place) if place else rng
            make = partial(self._maximized, model, batch, threat, own)
            candidates.append(made_once((own.seed, self), make))
        if self.union is Union.max and len(candidates) > 1:
            candidates = [made_once((rng.seed, self, "worst"), partial(worst, model, batch, candidates))]
        recorded = Recorded(model)
        losses = [self.objective_at(recorded, batch, x_adv, inner) for x_adv in candidates]
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _maximized(self, model: nn.Module, batch: Batch, threat: Threat, rng: SampleRandom) -> Tensor:
        eps, how = threat.radius, self.chosen_maximization
        if how is Maximization.attack:
            return attacked(model, batch, self.attack, threat, rng)
        if how is Maximization.divergence:
            size = self.step_size or 2.5 * eps / self.steps
            return most_divergent(model, batch, threat, steps=self.steps, step_size=size, rng=rng)
        if how is Maximization.rs_fgsm:
            return one_step(model, batch, noise=eps, step_size=self.step_size or 1.25 * eps, bound=eps, rng=rng)
        return one_step(model, batch, noise=self.noise * eps, step_size=self.step_size or eps, bound=None, rng=rng)

    def objective_at(self, model: nn.Module, batch: Batch, x_adv: Tensor, inner: Loss) -> Tensor:
        """The objective at adversarial inputs x_adv (B, *S), a scalar; at most one pass over the clean inputs."""
        weight = WEIGHTS.get(self.objective, 0.0) if self.weight is None else self.weight
        if self.objective is Objective.ce:
            hard = inner(model, replace(batch, x=x_adv))
            return hard if self.ratio == 1.0 else self.ratio * hard + (1.0 - self.ratio) * inner(model, batch)
        if self.objective is Objective.mart:
            hard = inner(model, replace(batch, x=x_adv))
            logits, clean = model(x_adv), model(batch.x)
            doubt = 1.0 - true_probability(clean, batch.y)
            return hard + (rival_penalty(logits, batch.y) + weight * doubt * divergence(clean, logits)).mean()
        loss = inner(model, batch)
        if weight == 0.0:
            return loss
        measure = divergence
        if self.objective is Objective.dkl:
            measure = decoupled_divergence
        elif self.objective is Objective.gkl:
            measure = partial(generalized_divergence, y=batch.y)
        return loss + weight * measure(model(batch.x), model(x_adv)).mean()


@dataclass(frozen=True)
class _Helped(AdversarialTraining):
    """HAT with its helper, a network of the same architecture trained without defense."""

    helper: Any = field(default=None, compare=False, repr=False)

    def objective_at(self, model: nn.Module, batch: Batch, x_adv: Tensor, inner: Loss) -> Tensor:
        """TRADES plus the loss of the helper's label at a point beyond x_adv; that point is not clipped to the box."""
        loss = super().objective_at(model, batch, x_adv, inner)
        if self.helper_weight == 0.0:
            return loss
        helper: nn.Module = self.helper.to(x_adv.device)
        with torch.no_grad(), evaluating(helper):
            y = helper(x_adv).argmax(1)
        beyond = batch.x + self.helper_reach * (x_adv - batch.x)
        return loss + self.helper_weight * inner(model, replace(batch, x=beyond, y=y, soft=None))


@hookimpl
def benchmark_component() -> type[AdversarialTraining]:
    """Register the plugin."""
    return AdversarialTraining
