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
from ._minimal.nearest import keep_nearest

SATURATED = 1e-12
"""Least derivative of the softmax that is used: saturated probabilities have the slopes of the log-odds."""


class Saliency(Enum):
    """Scores that the saliency map differentiates: softmax probabilities (the paper's), or logits less their mean.

    Either way the slopes of all classes add up to zero, so that the sum of the others is minus that of the wanted one.
    """

    probabilities = "probabilities"
    logits = "logits"


@dataclass(frozen=True)
class JSMA(Attack):
    """Moves the most salient pair of features by theta, again and again, until the example succeeds.

    A pair is salient where moving it raises the wanted class (alpha > 0) and lowers the sum of the others (beta < 0);
    the most salient has the greatest -alpha * beta. As beta is -alpha here, that is the pair of the steepest two
    features, which takes no comparison of all pairs. Features that have reached the end of the box are left out.

    Difference from the paper: untargeted, the roles change: alpha is the fall of the class to leave, and -beta the rise
    of the sum of the others (NT-JSMA: Wiyatno & Xu 2018, arXiv:1808.07945).

    theta: change of a feature: upwards, or downwards if negative. gamma: the share of the features that may be
    changed, one pair at least. saliency: what the map is made of.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l0}), targeted=True, minimal=True)

    theta: float = 1.0
    gamma: float = 0.145
    saliency: Saliency = Saliency.probabilities

    def __post_init__(self) -> None:
        if not 0 < abs(self.theta) <= 1:
            raise ConfigError(f"attack.theta is {self.theta}; expected a change from -1 to 1 other than 0")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"attack.gamma is {self.gamma}; expected a share of the features, above 0 and at most 1")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The first success; the clean input where the map is empty or too many features would change.

        Cost per example and pair: one forward and one backward pass; the same once more at the end.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        return jsma(active, theta=self.theta, gamma=self.gamma, saliency=self.saliency).x_adv


def jsma(active: Active, *, theta: float, gamma: float, saliency: Saliency) -> Best:
    """First successes; see :class:`JSMA`."""
    best, x_adv = Best(active.ball.x), active.ball.x
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
        movable = (x_adv < 1.0) if theta > 0 else (x_adv > 0.0)
        if ball.mask is not None:
            movable = movable & ball.mask
        pair, score = best_pair(rise.flatten(1) * (1.0 if theta > 0 else -1.0), movable.flatten(1))
        moved = x_adv.flatten(1).scatter_add(1, pair, torch.full_like(pair, theta, dtype=x_adv.dtype))
        moved = ball.project(moved.reshape(x_adv.shape))
        changed = (moved != ball.x).flatten(1).sum(1)
        active, x_adv = active.keep(~won & (score > 0) & (changed <= most), moved)
    return best


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
