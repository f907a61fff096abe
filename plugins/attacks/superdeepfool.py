"""SuperDeepFool: DeepFool, then straight onto the boundary it found. Abdollahpoor et al., 2023, arXiv:2303.12481."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl, rows_norm

from ._base.losses import gap
from ._base.steps import at_least, can_ask
from ._base.vectors import TINY, columns
from ._minimal.boundary import look_round, step_to_planes, towards, usable
from ._minimal.minimal import SETTLED, Nearest, Rows, only
from .deepfool import BEYOND, PATIENCE

WHOLE = 2
"""Of the steps from the clean input, how many go all the way; the others stop half-way from the crossing."""

MISSES = 2
"""An example is left after so many crossings in a row that were no nearer."""


@dataclass(frozen=True)
class SuperDeepFool(Attack):
    """Runs DeepFool to the boundary, then steps from the clean input onto the boundary as linearised there, and so on
    until that step crosses it; algorithm 2 with m = infinity and n = 1.

    Differences from the paper: DeepFool makes for one class, at first for that whose linearised boundary is nearest in
    the box [0, 1] and in the threat's region, then for the one that it reached; the steps from the clean input are
    those in the box, and after the first two they go half-way, which keeps them from going round in circles; two
    crossings in a row that are no nearer end the search; the search back is that of false position, not bisection; the
    nearest crossing is kept.

    rounds: how often DeepFool is run. steps, overshoot: of DeepFool.
    candidates: how many classes are considered at the start: the present one and those with the next highest scores.
    search_steps: forward passes for the way back.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2}), minimal=True)

    rounds: int = 10
    steps: int = 50
    candidates: int = 10
    overshoot: float = 0.02
    search_steps: int = 8

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds, steps=self.steps)
        at_least(2, candidates=self.candidates)
        at_least(0, search_steps=self.search_steps)
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The nearest success found, at whatever distance; the clean input where there is none.

        Cost per example: a forward and a backward pass for each step of DeepFool and each step from the clean input,
        `candidates` - 2 more backward passes, and the search.
        """
        nearest = Nearest(threat.unbounded().around(x, rng), y, targeted=False)
        superdeepfool(
            target,
            nearest,
            rounds=self.rounds,
            steps=self.steps,
            candidates=self.candidates,
            overshoot=self.overshoot,
        )
        return nearest.found(target, search_steps=self.search_steps)


@dataclass
class _OnTheWay(Rows):
    """rival: (b,) int64, the class to reach. rounds, steps: (b,) int64, runs of DeepFool and steps of this one.

    placed: (b,) bool, whether `x_adv` is the end of a step from the clean input. missed: (b,) int64, how many crossings
    in a row were no nearer.
    """

    rival: Tensor
    rounds: Tensor
    steps: Tensor
    placed: Tensor
    missed: Tensor


def superdeepfool(
    target: Target, nearest: Nearest, *, rounds: int, steps: int, candidates: int, overshoot: float
) -> None:
    """See :class:`SuperDeepFool`; what is found goes to `nearest`."""
    zero = torch.zeros_like(nearest.y)
    index = torch.arange(len(zero), device=zero.device)
    rows = _OnTheWay(index, nearest.ball.x, nearest.y, zero, zero, zero.bool(), zero)
    view, part, first = target, nearest, True
    while True:
        able = can_ask(view)
        if not bool(able.all()):
            rows, view, part = only(able, rows, target, nearest, part)
        if len(rows.index) == 0:
            break
        ball, y, least = part.ball, part.y, part.size
        if first:
            logits, rival, slope = look_round(view, ball, y, candidates)
        else:
            logits, pull = view.pullback(rows.x_adv)
        delta = rows.x_adv - ball.x
        won = part.see(rows.x_adv, delta, logits, clean=first)
        if not first:
            rival = torch.where(won, logits.argmax(1), rows.rival)
            slope = usable(pull(towards(logits, y, rival)), ball)
        missed = torch.where(won, torch.where(part.size <= (1.0 - SETTLED) * least, 0, rows.missed + 1), rows.missed)
        # The boundary as linearised here: slope . change = need.
        need = -gap(logits, y, rival)
        onto, size = _onto(slope, need + (slope * delta).flatten(1).sum(1), ball.x)
        onward = ~rows.placed & (missed < MISSES) & torch.isfinite(size) & (size > 0) & (not first)
        going = torch.where(won, onward, rows.steps < steps) & slope.flatten(1).any(1) & (rows.rounds < rounds)
        step = _behind(slope, need, rows.x_adv, boxed=rows.steps >= PATIENCE)
        to = torch.where(columns(won, delta), ball.x + onto, rows.x_adv + (1.0 + overshoot) * step)
        half = columns(won & (rows.rounds >= WHOLE), delta)
        rows = _OnTheWay(
            rows.index,
            ball.project(torch.where(half, (rows.x_adv + to) / 2.0, to)),
            rival,
            rows.rounds + won.long(),
            torch.where(won, 0, rows.steps + 1),
            won,
            missed,
        )
        first = False
        if not bool(going.all()):
            rows, view, part = only(going, rows, target, nearest, part)
    if part is not nearest:
        nearest.put(rows.index, part)


def _onto(slope: Tensor, need: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest changes (b, *S) in the box with slope . change >= need (b,), and their lengths (b,)."""
    change, size = step_to_planes(slope.flatten(1)[:, None], need.clamp_min(0.0)[:, None], x.flatten(1), Norm.l2)
    return change.reshape(x.shape), size[:, 0]


def _behind(slope: Tensor, need: Tensor, x: Tensor, *, boxed: Tensor) -> Tensor:
    """(b, *S): DeepFool's step, just behind the boundary; in the box where `boxed` (b,) bool."""
    dual = rows_norm(slope, Norm.l2)
    plain = slope * columns((need.clamp_min(0.0) / dual.clamp_min(TINY) + BEYOND) / dual.clamp_min(TINY), slope)
    if not bool(boxed.any()):
        return plain
    return torch.where(columns(boxed, plain), _onto(slope, need.clamp_min(0.0) + BEYOND * dual, x)[0], plain)


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SuperDeepFool
