"""GeoDA: hyperplane approximation of the boundary from labels. Rahmati et al., CVPR 2020, arXiv:2003.06468."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Access,
    Attack,
    Ball,
    ConfigError,
    Norm,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
    rows_norm,
)

from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns
from ._blackbox.decisions import TreeSum, bisect, drawn_at_once, first_wins, found, offer_nearer
from ._blackbox.queries import Oracle, gaussian

DOUBLINGS = 10
"""Number of doublings of the distance along the normal before the normal is given up."""


@dataclass(frozen=True)
class GeoDA(Attack):
    """Estimates the normal of the boundary at a boundary point, and searches along it from the clean input.

    Differences from the paper: noise is drawn over all features instead of a low-frequency subspace; the distance along
    the normal is found by doubling and bisection; the nearest adversarial input is returned instead of the last.

    steps: number of estimates of the normal. probes: total queries for these estimates.
    growth: ratio of the probes of one estimate to those of the one before, to the power 2/3 (the paper's 1/lambda).
    noise: standard deviation of the noise per feature. search_steps: bisections per boundary point.
    tries: random inputs to start from.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2, Norm.linf}), access=Access.labels, minimal=True, randomized=True
    )

    steps: int = 10
    probes: int = 4000
    growth: float = 1.0 / 0.6
    noise: float = 2e-3
    search_steps: int = 15
    tries: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, search_steps=self.search_steps)
        check_at_least(0, tries=self.tries)
        check_positive(noise=self.noise)
        if self.probes < self.steps:
            raise ConfigError(f"attack.probes is {self.probes}; expected one per step at least, here {self.steps}")
        if not self.growth >= 1:
            raise ConfigError(f"attack.growth is {self.growth}; expected at least 1")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs at a small distance; the clean input where none was found.

        Cost per example: `probes` forward passes, and slightly more than `search_steps` per step. A smaller query
        budget replaces `probes`.
        """
        allowed = self.probes if threat.queries is None else min(self.probes, threat.queries // threat.eot)
        return geoda(
            Oracle(target, y),
            ball=threat.unbounded().around(x, rng),
            counts=shares(allowed, self.steps, self.growth),
            noise=self.noise,
            search_steps=self.search_steps,
            tries=self.tries,
            rng=rng,
        )


def shares(probes: int, steps: int, growth: float) -> list[int]:
    """Number of probes of each step, in proportion to growth^(2 t / 3), at least one (section 3.3)."""
    weights = [growth ** (2.0 * step / 3.0) for step in range(steps)]
    return [max(1, int(probes * weight / sum(weights))) for weight in weights]


def geoda(
    oracle: Oracle, *, ball: Ball, counts: list[int], noise: float, search_steps: int, tries: int, rng: SampleRandom
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`GeoDA`; `ball` has no limit on the distance."""
    nearest = first_wins(oracle, ball, rng, tries=tries, name="geoda")
    index = found(nearest)
    offer_nearer(
        nearest, ball, index, bisect(oracle, index, ball.rows(index), nearest.x_adv[index], steps=search_steps)
    )
    for step, count in enumerate(counts):
        index = oracle.todo(nearest, index)
        if len(index) == 0:
            break
        here, start = ball.rows(index), nearest.x_adv[index]
        normal = _normal(oracle, index, here, start, count=count, noise=noise, step=step, rng=rng)
        direction = here.steepest(normal)
        length = rows_norm(start - here.x, ball.norm)
        todo = torch.arange(len(index), device=index.device)
        reached, ends = torch.zeros_like(todo, dtype=torch.bool), start
        for _ in range(DOUBLINGS):
            ahead = here.rows(todo).project(here.x[todo] + columns(length[todo], start[todo]) * direction[todo])
            won = oracle.win(index[todo], ahead)
            ends = ends.index_copy(0, todo[won], ahead[won])
            reached[todo[won]] = True
            todo = todo[~won]
            if len(todo) == 0:
                break
            length = length.index_copy(0, todo, length[todo] * 2.0)
        rows = reached.nonzero().squeeze(1)
        near = bisect(oracle, index[rows], here.rows(rows), ends[rows], steps=search_steps)
        offer_nearer(nearest, ball, index[rows], near)
    return nearest.x_adv


def _normal(
    oracle: Oracle, index: Tensor, ball: Ball, x_adv: Tensor, *, count: int, noise: float, step: int, rng: SampleRandom
) -> Tensor:
    """Mean of the noise, signed by the side of the boundary that it led to (equation 10), (b, *S)."""
    total = TreeSum()
    size = drawn_at_once(oracle, len(index), x_adv[0].numel())
    for first in range(0, count, size):
        group = min(size, count - first)
        made = gaussian(rng.rows(index), x_adv.shape[1:], group, stream=f"geoda/probe/{step}", first=first)
        if ball.mask is not None:
            made = torch.where(ball.mask[:, None], made, 0.0)
        won, answered = oracle.wins(index, (x_adv[:, None] + noise * made).clamp(0.0, 1.0))
        total.add(columns(torch.where(answered, 2.0 * won - 1.0, 0.0), made) * made)
        if not bool(answered.any()):
            break
    return total.total()


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return GeoDA
