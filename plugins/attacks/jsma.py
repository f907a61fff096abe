"""JSMA: the Jacobian-based saliency map attack. Papernot et al., EuroS&P 2016, arXiv:1511.07528, algorithm 3."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active
from ._base.best import Best
from ._base.losses import other_logits
from ._base.settings import check_at_least
from ._base.vectors import columns
from ._minimal.nearest import keep_nearest

SATURATED = 1e-12
"""Least derivative of the softmax that is used: saturated probabilities have the slopes of the log-odds."""


class Saliency(Enum):
    """Scores that the saliency map differentiates: softmax probabilities (the paper's), or logits less their mean.

    Either way the slopes of all classes add up to zero, so that the sum of the others is minus that of the wanted one.

    rounded: probabilities in single precision, as most toolkits compute them. Their slopes vanish where the softmax
    saturates, for example after defensive distillation; those of `probabilities` do not.
    """

    probabilities = "probabilities"
    logits = "logits"
    rounded = "rounded"


@dataclass(frozen=True)
class JSMA(Attack):
    """Moves the most salient pair of features by theta, again and again, until the example succeeds.

    A pair is salient where moving it raises the wanted class (alpha > 0) and lowers the sum of the others (beta < 0);
    the most salient has the greatest -alpha * beta. As beta is -alpha here, that is the pair of the steepest two
    features, which takes no comparison of all pairs. Features that have reached the end of the box are left out.

    Differences from the paper: untargeted, the roles change: alpha is the fall of the class to leave, and -beta the
    rise of the sum of the others (NT-JSMA: Wiyatno & Xu 2018, arXiv:1808.07945); features move up or down, as the slope
    has it, and a slope counts times the change that the box leaves of theta (`both`, as in their M-JSMA; False is the
    paper's); any number of features may change (`gamma`; the paper: 0.145); a success gives its features back, those of
    the least effect first, as far as it stays one (`search_steps`; 0 is the paper's), since not all of a pair need be
    of use.

    theta: change of a feature: upwards, or downwards if negative. gamma: the share of the features that may be
    changed, one pair at least. saliency: what the map is made of. both: features move either way by as much.
    search_steps: forward passes of the final search, one for each feature that is given back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l0}), targeted=True, minimal=True)

    theta: float = 1.0
    gamma: float = 1.0
    saliency: Saliency = Saliency.probabilities
    both: bool = True
    search_steps: int = 8

    def __post_init__(self) -> None:
        if not 0 < abs(self.theta) <= 1:
            raise ConfigError(f"attack.theta is {self.theta}; expected a change from -1 to 1 other than 0")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"attack.gamma is {self.gamma}; expected a share of the features, above 0 and at most 1")
        check_at_least(0, search_steps=self.search_steps)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The first success; the clean input where the map is empty or too many features would change.

        Cost per example and pair: one forward and one backward pass; the same once more at the end, and the search.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        best, effect = jsma(active, theta=self.theta, gamma=self.gamma, saliency=self.saliency, both=self.both)
        return give_back(active.keep(best.won)[0], best, effect, steps=self.search_steps)


def jsma(active: Active, *, theta: float, gamma: float, saliency: Saliency, both: bool) -> tuple[Best, Tensor]:
    """First successes, see :class:`JSMA`, and the effects (B, *S) that were expected of their changes."""
    best, x_adv, effects = Best(active.ball.x), active.ball.x, torch.zeros_like(active.ball.x)
    features = x_adv[0].numel() if len(x_adv) else 0
    most = max(gamma * features, min(2, features))  # one pair at least, or the only feature
    # Each pair may be moved until both features are at the end of the box.
    for _ in range(max(int(most / 2.0), 1) * math.ceil(1.0 / abs(theta)) + 1):
        active, x_adv = active.keep(active.affordable(), x_adv)
        if len(active) == 0:
            break
        ball = active.ball
        logits, rise = slopes(active.target, x_adv, active.y, saliency, targeted=active.targeted)
        won = keep_nearest(best, active, x_adv, logits)
        change = torch.full_like(x_adv, theta)
        if both:  # either way, but not back
            change = torch.where(rise > 0, (1.0 - x_adv).clamp_max(abs(theta)), -x_adv.clamp_max(abs(theta)))
            change = torch.where(change * (x_adv - ball.x) < 0, 0.0, change)
        movable = torch.where(change > 0, x_adv < 1.0, (change < 0) & (x_adv > 0.0))
        if ball.mask is not None:
            movable = movable & ball.mask
        effect = rise * (change if both else math.copysign(1.0, theta))
        pair, score = best_pair(effect.flatten(1), movable.flatten(1))
        moved = x_adv.flatten(1).scatter_add(1, pair, change.flatten(1).gather(1, pair))
        moved = ball.project(moved.reshape(x_adv.shape))
        changed = (moved != ball.x).flatten(1).sum(1)
        going = ~won & (score > 0) & (changed <= most)
        effects[active.index] += torch.where(columns(going, moved) & (moved != x_adv), effect, 0.0)
        active, x_adv = active.keep(going, moved)
    return best, effects


def give_back(active: Active, best: Best, effect: Tensor, *, steps: int) -> Tensor:
    """The successes (B, *S) after `steps` attempts to take a change back, in the order of their `effect` (B, *S).

    active: the rows that succeeded.
    """
    for _ in range(steps):
        (active,) = active.keep(active.affordable())
        x, x_adv = active.ball.x.flatten(1), best.x_adv[active.index].flatten(1)
        changed = (x_adv != x) & (effect[active.index].flatten(1) < torch.inf)
        active, x, x_adv, changed = active.keep(changed.any(1), x, x_adv, changed)
        if len(active) == 0:
            break
        least = torch.where(changed, effect[active.index].flatten(1), torch.inf).argmin(1, keepdim=True)
        effect.flatten(1)[active.index, least.squeeze(1)] = torch.inf  # each is tried once
        x_adv = x_adv.scatter(1, least, x.gather(1, least)).reshape(active.ball.x.shape)
        keep_nearest(best, active, x_adv, active.target.logits(x_adv))
    return best.x_adv


def slopes(target: Target, x_adv: Tensor, y: Tensor, saliency: Saliency, *, targeted: bool) -> tuple[Tensor, Tensor]:
    """The logits (b, K) at `x_adv` (b, *S), and the slope of the class to raise (b, *S), 0 where it is no number.

    Untargeted, it is minus that of `y`.
    """
    logits, pull = target.pullback(x_adv)
    own = torch.zeros_like(logits).scatter_(1, y[:, None], 1.0)
    if saliency is Saliency.probabilities:
        # p_y (own - p) = p_y (1 - p_y) (own - q), with q the probabilities of the others: nothing is lost at p_y = 1.
        others = other_logits(logits.double(), y)
        q = others.softmax(1)
        odds = (logits.double().gather(1, y[:, None]) - others.logsumexp(1, keepdim=True)).abs()
        weight = ((-odds).exp() / (1.0 + (-odds).exp()).square()).clamp_min(SATURATED)
        rise = pull((weight * (own - q)).to(logits.dtype))
    elif saliency is Saliency.rounded:
        p = logits.softmax(1)
        rise = pull(p.gather(1, y[:, None]) * (own - p))
    else:
        rise = pull(own - 1.0 / logits.shape[1])
    rise = rise.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return logits, rise if targeted else -rise


def best_pair(rise: Tensor, movable: Tensor) -> tuple[Tensor, Tensor]:
    """The most salient pair (b, 2) int64 of the features that are `movable` (b, D) bool, and its score (b,).

    The score is rise^2 of the pair's sum (-alpha * beta in the paper), and 0 where the map is empty. rise: (b, D).
    """
    steepest, pair = torch.where(movable, rise, -torch.inf).topk(min(2, rise.shape[1]), dim=1)
    total = steepest.nan_to_num(neginf=0.0).sum(1)  # a lone feature moves by itself
    return pair, torch.where(total > 0, total.square(), 0.0)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return JSMA
