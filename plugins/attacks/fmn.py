"""FMN: the fast minimum-norm attack. Pintor et al., NeurIPS 2021, arXiv:2102.12827, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.steps import at_least, positive
from ._base.vectors import annealed, unit, within
from ._minimal.minimal import Asked, Nearest, Rows, descend, lead_over, patient


@dataclass(frozen=True)
class FMN(Attack):
    """Gradient steps in a ball that shrinks after every success and grows after every failure, in any of four norms.

    Differences from the paper: there is no ball until the first success, where the paper guesses one from the slope and
    may stall in it when many features are at the end of the box; up to then an untargeted attack makes for the class
    whose linearised boundary is nearest, not for the one with the highest score (`candidates`; 1 is the paper's); under
    l0 the changes that are kept are those with the largest effect on the scores, slope times change, and not the
    largest; the nearest success is moved back towards the input as far as it stays one (`search_steps`, not under l0);
    an example that has settled is left (`patience`; 1 is the paper's).

    steps: iterations. step_size, last_step_size: of the first and the last step, in l2, along a cosine.
    gamma, last_gamma: by which share the ball shrinks and grows, first and last.
    candidates: how many classes are considered at the start: the present one and those with the next highest scores.
    patience: an example is left whose nearest success has not come nearer by a hundredth in that share of the steps; 1
    leaves none.
    search_steps: forward passes for the way back.
    """

    supports: ClassVar[Supports] = Supports(targeted=True, minimal=True)

    steps: int = 100
    step_size: float = 1.0
    last_step_size: float = 0.01
    gamma: float = 0.05
    last_gamma: float = 0.001
    candidates: int = 10
    patience: float = 0.15
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, candidates=self.candidates)
        patient(self.patience)
        at_least(0, search_steps=self.search_steps)
        positive(step_size=self.step_size, last_step_size=self.last_step_size)
        if not 0 < self.last_gamma <= self.gamma < 1:
            raise ConfigError(
                f"attack.gamma is {self.gamma} and attack.last_gamma {self.last_gamma}; expected shares between 0 and "
                "1, the last one not above the first, such as 0.05 and 0.001"
            )

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The nearest success found, at whatever distance; the clean input where there is none.

        Cost per example: at most `steps` forward and backward passes, `candidates` - 2 more backward, and the search.
        """
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=threat.targeted)
        fmn(
            target,
            nearest,
            steps=self.steps,
            step_size=(self.step_size, self.last_step_size),
            gamma=(self.gamma, self.last_gamma),
            candidates=self.candidates,
            patience=self.patience,
        )
        return nearest.found(target, search_steps=self.search_steps)


@dataclass
class _InBall(Rows):
    """radius: (b,), infinite before the first success."""

    radius: Tensor


def fmn(
    target: Target,
    nearest: Nearest,
    *,
    steps: int,
    step_size: tuple[float, float],
    gamma: tuple[float, float],
    candidates: int,
    patience: float,
) -> None:
    """See :class:`FMN`; what is found goes to `nearest`."""
    norm = nearest.ball.norm

    def move(rows: _InBall, asked: Asked, step: int) -> _InBall:
        share, length = annealed(*gamma, step, steps), annealed(*step_size, step, steps)
        limit = asked.nearest.size
        shrunk, grown = torch.minimum(rows.radius * (1.0 - share), limit), rows.radius * (1.0 + share)
        if norm is Norm.l0:  # whole features, and one at least
            shrunk, grown = (
                torch.minimum(shrunk.floor(), limit - 1.0),
                torch.maximum(grown.floor(), rows.radius + 1.0),
            )
        radius = torch.where(asked.won, shrunk, grown)
        delta = asked.delta + length * unit(asked.gradient)
        if norm is Norm.l0:
            delta = asked.ball.project(asked.ball.x + delta) - asked.ball.x
            effect = within(delta * asked.gradient, radius, norm)
            delta = torch.where(effect != 0, delta, 0.0)
        else:
            delta = within(delta, radius, norm)
        return _InBall(rows.index, asked.ball.project(asked.ball.x + delta), radius)

    x = nearest.ball.x
    index = torch.arange(len(x), device=x.device)
    radius = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    loss = partial(lead_over, targeted=nearest.targeted)
    descend(
        target,
        _InBall(index, x, radius),
        nearest,
        steps=steps,
        candidates=candidates,
        patience=patience,
        loss=lambda _: loss,
        move=move,
    )


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return FMN
