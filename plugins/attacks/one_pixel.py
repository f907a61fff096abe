"""One-pixel attack: differential evolution over a few pixels. Su et al., IEEE TEVC 2019, arXiv:1710.08864."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, Refused, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import may_settle
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._blackbox.estimates import offer_all
from ._blackbox.queries import Oracle, inside


@dataclass(frozen=True)
class OnePixel(Attack):
    """Evolves sets of eps / channels pixels, each with position and values; a better child replaces its parent.

    Differences from the paper: the margin replaces the probability, and the first generation covers all positions
    equally.

    steps: generations. population: candidates per generation. weight: of the difference of two candidates that is
    added to a third. spread: standard deviation of the first generation's values around 1/2 (the paper: 127/255).
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l0}), access=Access.scores, targeted=True, randomized=True
    )

    steps: int = 100
    population: int = 400
    weight: float = 0.5
    spread: float = 0.5

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_at_least(4, population=self.population)
        check_positive(weight=self.weight, spread=self.spread)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """`population` forward passes per generation, including the first; an example ends at its first success.

        Raises:
            Refused: if eps allows fewer features than one pixel has channels.
        """
        channels = x.shape[1] if x.ndim > 2 else 1
        if 0 < threat.radius < channels:
            raise Refused(
                f"attack.one_pixel changes pixels of {channels} features, but threat.eps is {threat.eps}; choose at "
                f"least {channels}"
            )
        return one_pixel(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            pixels=min(int(threat.radius) // channels, x[0].numel() // channels if len(x) else 0),
            steps=self.steps,
            population=self.population,
            weight=self.weight,
            spread=self.spread,
            rng=rng,
        )


def one_pixel(
    oracle: Oracle,
    best: Best,
    *,
    ball: Ball,
    pixels: int,
    steps: int,
    population: int,
    weight: float,
    spread: float,
    rng: SampleRandom,
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`OnePixel`. Each example has its own population."""
    x, device = ball.x, ball.x.device
    if pixels == 0 or len(x) == 0:
        return x
    members = _first_generation(rng, x.shape[1:], pixels, population, spread).to(x.dtype)
    fitness = torch.full((len(x), population), -torch.inf, dtype=x.dtype, device=device)
    index = torch.arange(len(x), device=device)
    for step in range(steps):
        index = oracle.todo(best, index)
        if len(index) == 0:
            break
        parents = members[index]
        children = parents if step == 0 else _children(rng.rows(index), parents, weight, step)
        value = _assess(oracle, best, index, ball, children)
        better = value >= fitness[index]
        members[index] = torch.where(better[:, :, None, None], children, parents)
        fitness[index] = torch.where(better, value, fitness[index])
    return best.x_adv


def _first_generation(rng: SampleRandom, shape: torch.Size, pixels: int, population: int, spread: float) -> Tensor:
    """Positions along the A axes as shares of their lengths, then values, (B, P, pixels, A + C) in [0, 1]."""
    grid, channels = _grid(shape)
    places = grid.numel()
    count = population * pixels
    visits = -(-count // places)
    order = [rng.permutation(places, stream="one_pixel/place", draw=visit) for visit in range(visits)]
    place = torch.cat(order, 1)[:, :count].reshape(len(rng), population, pixels)
    axes = []
    for length in reversed(grid):
        axes.append((place % length + 0.5) / length)
        place = place // length
    values = 0.5 + spread * rng.normal(population, pixels, channels, stream="one_pixel/value")
    return torch.cat([torch.stack(axes[::-1], 3), values.clamp(0.0, 1.0)], 3)


def _grid(shape: torch.Size) -> tuple[torch.Size, int]:
    """Axes of one channel, and the number of channels; tabular data have one channel."""
    return (shape[1:], shape[0]) if len(shape) > 1 else (shape, 1)


def _children(rng: SampleRandom, parents: Tensor, weight: float, step: int) -> Tensor:
    """Children one + weight * (two - three) of three random candidates other than the parent, (b, P, pixels, A + C)."""
    count, device = parents.shape[1], parents.device
    drawn = rng.uniform(3, count, stream="one_pixel/mates", draw=step)
    # Three different offsets in 1 .. P-1: each is moved past those before it.
    first = 1 + (drawn[:, 0] * (count - 1)).long()
    second = 1 + (drawn[:, 1] * (count - 2)).long()
    second += (second >= first).long()
    third = 1 + (drawn[:, 2] * (count - 3)).long()
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    third += (third >= low).long()
    third += (third >= high).long()
    own, row = torch.arange(count, device=device), torch.arange(len(parents), device=device)[:, None]
    one, two, three = (parents[row, (own + offset) % count] for offset in (first, second, third))
    return (one + weight * (two - three)).clamp(0.0, 1.0)


def _assess(oracle: Oracle, best: Best, index: Tensor, ball: Ball, members: Tensor) -> Tensor:
    """Margin of each candidate, (b, P); the best ones are offered."""
    here, value = ball.rows(index), torch.full(members.shape[:2], -torch.inf, device=members.device)
    size = oracle.group(len(index), here.x[0].numel())
    for first in range(0, members.shape[1], size):
        part = slice(first, first + size)
        proposals = inside(here, painted(here.x, members[:, part]))
        value[:, part], won, _ = oracle.values(index, proposals)
        offer_all(best, index, proposals, value[:, part], won)
    return value


def painted(x: Tensor, members: Tensor) -> Tensor:
    """`x` (b, *S) with the pixels of the candidates `members` (b, n, pixels, A + C) painted over, (b, n, *S)."""
    grid, channels = _grid(x.shape[1:])
    place = torch.zeros(members.shape[:3], dtype=torch.int64, device=x.device)
    for axis, length in enumerate(grid):
        place = place * length + (members[..., axis] * length).long().clamp_max(length - 1)
    flat = x.reshape(len(x), 1, channels, -1).expand(-1, members.shape[1], -1, -1).clone()
    values = members[..., len(grid) :].transpose(2, 3)
    for rank in range(members.shape[2]):  # one after the other: of two at one place the last one counts
        at = place[:, :, None, rank : rank + 1].expand(-1, -1, channels, -1)
        flat.scatter_(3, at, values[..., rank : rank + 1])
    return flat.reshape(len(x), members.shape[1], *x.shape[1:])


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return OnePixel
