"""SuperDeepFool: DeepFool with projections onto the boundary found. Abdollahpoor et al., 2023, arXiv:2303.12481."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.active import Active, State
from ._base.best import Best
from ._base.classes import logit_difference
from ._base.settings import check_at_least
from ._base.vectors import TINY, at_unit_slope, columns, usable
from ._minimal.box_steps import step_to_hyperplanes
from ._minimal.nearest import SETTLED, finish, keep_nearest
from ._minimal.nearest_class import nearest_class, toward_class
from .deepfool import BEYOND, MOST_DOUBLED, PATIENCE

WHOLE = 2
"""Number of full steps from the clean input; later ones stop half-way to the crossing."""

MISSES = 2
"""Consecutive crossings without an improvement after which an example ends."""


@dataclass(frozen=True)
class SuperDeepFool(Attack):
    """Runs DeepFool to the boundary, then projects the clean input onto the linearised boundary there, and repeats.

    Ends when the projection crosses the boundary; algorithm 2 with m = infinity and n = 1.

    Differences from the paper: DeepFool approaches one class, at first that with the nearest linearised boundary in the
    box [0, 1] and in the threat's region, then the one that it reached; projections are those in the box, and after the
    first two they go half-way, which prevents cycles; two consecutive crossings without an improvement end the search;
    the final line search uses false position instead of bisection; the nearest crossing is kept.

    rounds: number of runs of DeepFool. steps, overshoot: of DeepFool.
    candidates: number of classes considered at the start: the label and those with the next highest scores.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), minimal=True)

    rounds: int = 10
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, rounds=self.rounds, steps=self.steps)
        check_at_least(2, candidates=self.candidates)
        check_at_least(0, search_steps=self.search_steps)
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Nearest success found, at any distance; the clean input where there is none.

        Cost per example: a forward and a backward pass for each step of DeepFool and each projection, `candidates` - 2
        more backward passes, and the line search.
        """
        active = Active.unbounded(target, x, y, threat, rng)
        best = superdeepfool(
            active, rounds=self.rounds, steps=self.steps, candidates=self.candidates, overshoot=self.overshoot
        )
        return finish(active, best, search_steps=self.search_steps)


@dataclass
class _Run(State):
    """Progress of each row, (b,) in each field.

    rival: int64, the class to reach. rounds, steps: int64, runs of DeepFool and steps of the present one. placed: bool,
    `x_adv` is a projection. missed: int64, consecutive crossings without an improvement.
    """

    rival: Tensor
    rounds: Tensor
    steps: Tensor
    placed: Tensor
    missed: Tensor


def superdeepfool(active: Active, *, rounds: int, steps: int, candidates: int, overshoot: float) -> Best:
    """Nearest successes; see :class:`SuperDeepFool`."""
    best, x_adv, first = Best(active.ball.x), active.ball.x, True
    zero = torch.zeros_like(active.y)
    state = _Run(active.y, zero, zero, zero.bool(), zero)
    while True:
        active, x_adv, state = active.keep(active.affordable(), x_adv, state)
        if len(active) == 0:
            return best
        ball, y, before = active.ball, active.y, -best.value[active.index]
        if first:
            active, slope, logits = nearest_class(active, candidates)
            rival = active.rival
        else:
            logits, pull = active.target.pullback(x_adv)
        delta = x_adv - ball.x
        won = keep_nearest(best, active, x_adv, logits)
        if not first:
            rival = torch.where(won, logits.argmax(1), state.rival)
            slope = usable(pull(toward_class(logits, y, rival)), ball)
        nearer = -best.value[active.index] <= (1.0 - SETTLED) * before
        missed = torch.where(won, torch.where(nearer, 0, state.missed + 1), state.missed)
        # The boundary as linearised here: slope . change = offset.
        flat, offset = at_unit_slope(slope.flatten(1), -logit_difference(logits, y, rival))
        slope = flat.reshape(x_adv.shape)
        onto, size = _onto(slope, offset + (slope * delta).flatten(1).sum(1), ball.x)
        onward = ~state.placed & (missed < MISSES) & torch.isfinite(size) & (size > 0) & (not first)
        going = torch.where(won, onward, state.steps < steps) & slope.flatten(1).any(1) & (state.rounds < rounds)
        step = _behind(slope, offset, x_adv, steps=state.steps)
        to = torch.where(columns(won, delta), ball.x + onto, x_adv + (1.0 + overshoot) * step)
        half = columns(won & (state.rounds >= WHOLE), delta)
        x_adv = ball.project(torch.where(half, (x_adv + to) / 2.0, to))
        state = _Run(rival, state.rounds + won.long(), torch.where(won, 0, state.steps + 1), won, missed)
        active, x_adv, state = active.keep(going, x_adv, state)
        first = False


def _onto(slope: Tensor, offset: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest changes (b, *S) in the box with slope . change >= offset (b,), and their lengths (b,)."""
    change, size = step_to_hyperplanes(slope.flatten(1)[:, None], offset.clamp_min(0.0)[:, None], x.flatten(1), Norm.l2)
    return change.reshape(x.shape), size[:, 0]


def _behind(slope: Tensor, offset: Tensor, x: Tensor, *, steps: Tensor) -> Tensor:
    """DeepFool's step, to just behind the boundary, (b, *S); in the box after `PATIENCE` of its `steps` (b,) int64."""
    dual, offset = rows_norm(slope, Norm.l2), offset.clamp_min(0.0)
    far = offset / dual.clamp_min(TINY)
    doubled = BEYOND * 2.0 ** steps.clamp_max(MOST_DOUBLED).to(far.dtype)
    behind = torch.where(far < doubled, doubled, BEYOND)
    plain = slope * columns((far + behind) / dual.clamp_min(TINY), slope)
    boxed = steps >= PATIENCE
    if not bool(boxed.any()):
        return plain
    return torch.where(columns(boxed, plain), _onto(slope, offset + behind * dual, x)[0], plain)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SuperDeepFool
