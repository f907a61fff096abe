"""DeepFool: the smallest step over the linearised boundaries. Moosavi-Dezfooli et al., CVPR 2016, arXiv:1511.04599."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, ConfigError, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active
from ._base.classes import top_rivals
from ._base.settings import check_at_least
from ._base.vectors import TINY, at_unit_slope, usable
from ._minimal.box_steps import step_to_hyperplanes
from ._minimal.line_search import line_search
from ._minimal.nearest_class import toward_class

BEYOND = 1e-4
"""Distance beyond a linearised boundary at which a step aims, in the norm; the authors' program does the same."""
STRAIGHT = 3
"""Number of steps that ignore the box; later steps are the smallest in the box."""

MOST_DOUBLED = 10
"""Steps by which the distance behind a boundary that is not crossed doubles."""

FOLLOWED, PATIENCE = 2, 10
"""Number of classes considered after the first step, those with the nearest boundaries, and the step that ends that."""

SLOPES, FEWEST = 8 << 20, 128
"""Bytes of the slopes towards all classes to keep at a time, and the number of rows to attack together in any case."""


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest linearised boundary until the label changes, then back to just behind the boundary.

    Differences from the paper: the first steps go half-way, since a curved boundary is not where the first slopes have
    it (`halved`; 0 is the paper's); the result is moved back towards the input as far as it stays misclassified
    (`search_steps`; 0 is the paper's, whose distances are 1 + overshoot times too large); which boundary is the nearest
    is decided in the box [0, 1] and in the threat's region, and after the first step between the two nearest; from the
    fourth on the steps are the smallest in the box, which cuts the others short.

    steps: iterations. overshoot: by how much the sum of the steps is exceeded. halved: how many steps go half-way.
    candidates: number of classes considered: the label and those with the next highest clean scores.
    search_steps: forward passes of the final line search.
    """

    supports: ClassVar[Supports] = Supports(norms=frozenset({Norm.l2, Norm.linf}), minimal=True)

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    halved: int = 2
    search_steps: int = 8

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_at_least(2, candidates=self.candidates)
        check_at_least(0, halved=self.halved, search_steps=self.search_steps)
        if not self.overshoot >= 0:
            raise ConfigError(f"attack.overshoot is {self.overshoot}; expected a share of at least 0, such as 0.02")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Misclassified inputs at a small distance, whatever it is; where none was found, the last iterate.

        Cost per example: a forward pass per iteration, another where it is not halved, and the search; `candidates` - 1
        backward passes for the first iteration, two for the next nine, and `candidates` - 1 for those after.
        """
        ball = threat.unbounded().around(x, rng)
        size = max(FEWEST, SLOPES // (4 * self.candidates * x.shape[1:].numel()))
        found = [
            deepfool(
                Active.of(target.rows(rows), ball.rows(rows), y[rows], targeted=False),
                steps=self.steps,
                overshoot=self.overshoot,
                candidates=self.candidates,
                halved=self.halved,
                search_steps=self.search_steps,
            )
            for rows in torch.arange(len(x), device=x.device).split(size)
        ]
        return torch.cat(found)


def deepfool(
    active: Active, *, steps: int, overshoot: float, candidates: int, halved: int, search_steps: int
) -> Tensor:
    """Misclassified inputs (B, *S) near the clean ones; see :class:`DeepFool`. active: in a ball without a limit."""
    every, x = active, active.ball.x
    result, total = x, torch.zeros_like(x)
    count = min(candidates, active.target.classes) - 1
    at_x, at_adv = torch.full((2, len(x)), torch.nan, device=x.device, dtype=x.dtype)
    rivals = torch.zeros(len(x), count, dtype=torch.int64, device=x.device)
    for step in range(steps):
        (active,) = active.keep(active.affordable())
        if len(active) == 0:
            break
        index, ball, x_adv = active.index, active.ball, result[active.index]
        logits, pull = active.target.pullback(x_adv)
        ahead, won = active.margin(logits), active.succeeded(x_adv, logits)
        if step == 0:
            at_x[index] = ahead
            rivals[index] = top_rivals(logits, active.y, count)
        at_adv[index] = ahead
        followed = min(count, FOLLOWED) if 0 < step < PATIENCE else count
        slope, offset = _boundaries(active, logits, pull, rivals[index, :followed])
        delta, size = _steps(slope, offset, x_adv.flatten(1), ball.norm, boxed=step >= STRAIGHT, beyond=farther(step))
        if step == 0:
            rivals[index] = rivals[index].gather(1, size.argsort(dim=1, stable=True))
        nearest = size.argmin(1)[:, None, None].expand(-1, 1, delta.shape[2])
        half = step < min(halved, steps - 1)
        total[index] += delta.gather(1, nearest).reshape(x_adv.shape) * (0.5 if half else 1.0)
        moved = ball.project(ball.x + (1.0 + overshoot) * total[index])
        # An input that is wrong stays; one without a slope (or with NaN for one) cannot be moved.
        going = ~won & (ahead <= 0) & slope.flatten(1).any(1)
        if step >= STRAIGHT:
            going &= (moved != x_adv).flatten(1).any(1)
        active, moved = active.keep(going, moved)
        result = result.index_copy(0, active.index, moved)
        if half:
            continue  # hardly any has crossed, and the next step asks anyway
        (active,) = active.keep(active.affordable())
        if len(active) == 0:
            break
        logits = active.target.logits(result[active.index])
        at_adv[active.index] = active.margin(logits)
        (active,) = active.keep(~active.succeeded(result[active.index], logits))
    found = (at_x < 0) & (at_adv > 0)
    if search_steps == 0 or not bool(found.any()):
        return result
    rows, x_adv, at_x, at_adv = every.keep(found, result, at_x, at_adv)
    nearer = line_search(rows, x_adv, at_x=at_x, at_adv=at_adv, steps=search_steps)
    return result.index_copy(0, rows.index, nearer)


def _boundaries(
    active: Active, logits: Tensor, pull: Callable[[Tensor], Tensor], rivals: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes (b, C, D) and offsets (b, C) of the linearised boundaries to the classes `rivals` (b, C) int64."""
    slopes, offsets = [], []
    for rival in rivals.unbind(1):
        cotangent = toward_class(logits, active.y, rival)
        slopes.append(usable(pull(cotangent), active.ball).flatten(1))
        offsets.append((logits * cotangent).sum(1).neg())
    return torch.stack(slopes, 1), torch.stack(offsets, 1).clamp_min(0.0)


def farther(step: int) -> float:
    """Distance behind a boundary at which a step ends that begins so near: rounded scores are equal around it."""
    return float(BEYOND * 2.0 ** min(step, MOST_DOUBLED))


def _steps(
    slope: Tensor, offset: Tensor, x: Tensor, norm: Norm, *, boxed: bool, beyond: float
) -> tuple[Tensor, Tensor]:
    """The steps just behind the boundaries slope (b, C, D) . delta = offset (b, C), and their lengths.

    Returns:
        delta (b, C, D): the smallest in the box around `x` (b, D) if `boxed`, else the smallest of all; and (b, C), the
        length of the smallest in the box, infinite where there is none.
    """
    slope, offset = at_unit_slope(slope, offset)
    dual = slope.abs().sum(2) if norm is Norm.linf else slope.square().sum(2).sqrt()
    far = offset / dual.clamp_min(TINY)
    behind = torch.where(far < beyond, beyond, BEYOND)
    delta, size = step_to_hyperplanes(slope, offset + behind * dual, x, norm)
    if boxed:
        return delta, size
    direction = slope.sign() if norm is Norm.linf else slope / dual.clamp_min(TINY)[:, :, None]
    return direction * (far + behind)[:, :, None], size


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return DeepFool
