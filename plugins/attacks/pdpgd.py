"""PDPGD: primal-dual proximal gradient descent. Matyasko & Chau, 2021, arXiv:2106.01538, section 3."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active
from ._base.best import Best
from ._base.classes import margin_to_rival, next_rivals
from ._base.projections import within
from ._base.settings import check_at_least, check_positive, check_share
from ._base.vectors import columns, unit, usable
from ._minimal.nearest import Patience, finish, keep_nearest
from ._minimal.nearest_class import nearest_class

_LAST_STEP, LAST_DUAL_STEP = 0.1, 0.01
"""The last steps as shares of the first; they fall exponentially in between."""
AVERAGE = 0.9
"""Decay of the moving average of the dual variable, which is the weight of the primal step."""

FEATURES = 64
"""linf: the number of features up to which a step has the length that is configured."""


@dataclass(frozen=True)
class PDPGD(Attack):
    """Descends distance + weight * objective: a gradient step on the objective, a proximal step on the distance.

    The weight, the dual variable, grows in the logarithm while the example does not succeed, and falls while it does.

    Differences from the paper: the gradient is normalised, and the objective is the margin; under linf the steps grow
    with the root of the number of features from 64 on, as in l2 they would change each feature by ever less; up to the
    first success an untargeted attack aims at the class whose linearised boundary is nearest (`candidates`; 1 leaves
    that out); the nearest success is moved straight back towards the input as far as it stays one (`search_steps`); an
    example that has settled is left (`patience`; 1 is the paper's).

    steps: iterations. step_size: of the first primal step, in l2; under linf that on up to 64 features.
    dual_step_size: of the first dual step.
    initial_weight: the dual variable at the start, as a multiple of the least one at which a first step would leave the
    input.
    candidates: number of classes considered at the start: the label and those with the next highest scores.
    patience: share of the steps after which an example ends whose nearest success came no nearer by 1 %; 1 ends none.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l1, Norm.l2, Norm.linf}), targeted=True, minimal=True)

    steps: int = 500
    step_size: float = 1.0
    dual_step_size: float = 0.05
    initial_weight: float = 1.0
    candidates: int = 10
    patience: float = 0.4
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, candidates=self.candidates)
        check_share(patience=self.patience)
        check_at_least(0, search_steps=self.search_steps)
        check_positive(step_size=self.step_size, dual_step_size=self.dual_step_size, initial_weight=self.initial_weight)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, `candidates` - 2 more backward, and the search.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        best = pdpgd(
            active,
            steps=self.steps,
            step_size=self.step_size,
            dual_step_size=self.dual_step_size,
            initial_weight=self.initial_weight,
            candidates=self.candidates,
            patience=self.patience,
        )
        return finish(active, best, search_steps=self.search_steps)


def nearer(delta: Tensor, amount: Tensor, norm: Norm) -> Tensor:
    """The proximal map of `amount` (b,) times the norm: the change (b, *S) that is left of `delta` (b, *S).

    l1: each change shrinks by `amount`. l2: the length does. linf: what exceeds a limit is cut off, `amount` in all
    (Moreau: `delta` less its projection onto the dual ball).
    """
    if norm is Norm.l1:
        limit = columns(amount, delta)
        return delta - delta.clamp(-limit, limit)
    return delta - within(delta, amount, Norm.l1 if norm is Norm.linf else Norm.l2)


def slope_norm(gradient: Tensor, norm: Norm) -> Tensor:
    """Dual norm (b,) of `gradient` (b, *S): the gain of a step of unit `norm`; 1 where it is zero."""
    dual = {Norm.linf: Norm.l1, Norm.l1: Norm.linf}.get(norm, norm)
    size = rows_norm(gradient, dual)
    return torch.where(size > 0, size, 1.0)


def pdpgd(
    active: Active,
    *,
    steps: int,
    step_size: float,
    dual_step_size: float,
    initial_weight: float,
    candidates: int,
    patience: float,
) -> Best:
    """Nearest successes; see :class:`PDPGD`. weight, average: (b,), logarithm of the dual variable and its average."""
    best, x_adv, norm = Best(active.ball.x), active.ball.x, active.ball.norm
    patient = Patience(patience, steps, best)
    if norm is Norm.linf and len(x_adv):
        step_size *= math.sqrt(max(x_adv[0].numel() / FEATURES, 1.0))
    weight = average = torch.full_like(best.value, initial_weight).log()
    for step in range(steps):
        active, x_adv, weight, average = active.keep(active.affordable(), x_adv, weight, average)
        if len(active) == 0:
            break
        if step == 0 and candidates > 2 and not active.targeted:
            active, gradient, logits = nearest_class(active, candidates)
        else:
            gradient, _, logits = active.gradient(x_adv, margin_to_rival)
        gradient = usable(gradient, active.ball)
        ball, direction = active.ball, unit(gradient)
        won = keep_nearest(best, active, x_adv, logits)
        if step == 0:
            weight = average = weight - slope_norm(direction, norm).log()
        done = step / max(steps - 1, 1)
        length, dual_length = step_size * _LAST_STEP**done, dual_step_size * LAST_DUAL_STEP**done
        # On the simplex of (distance, objective) with the dual variable as their ratio.
        share = 1.0 / (1.0 + (-average).exp())
        delta = x_adv - ball.x + columns(length * share, x_adv) * direction
        delta = ball.project(ball.x + delta) - ball.x
        x_adv = ball.project(ball.x + nearer(delta, length * (1.0 - share), norm))
        weight = weight + dual_length * torch.where(won, -1.0, 1.0)
        average = AVERAGE * average + (1.0 - AVERAGE) * weight
        going = patient.going(step, active, best)
        active, x_adv, weight, average = next_rivals(active, won, logits, gradient).keep(going, x_adv, weight, average)
    return best


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return PDPGD
