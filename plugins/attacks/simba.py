"""SimBA: random search along an orthonormal basis. Guo et al., ICML 2019, arXiv:1905.07121."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import may_settle
from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._base.vectors import columns
from ._blackbox.queries import Oracle


class Basis(Enum):
    """Basis of the steps: single features in random order, or cosine waves, the lowest frequency first."""

    pixel = "pixel"
    dct = "dct"


@dataclass(frozen=True)
class SimBA(Attack):
    """Goes through an orthonormal basis, tries each vector forwards and then backwards, and keeps improving steps.

    Differences from the paper: the margin replaces the probability; steps are projected into the ball; and all
    frequencies are used, in the order of their highest component (waves of one order at random).

    steps: most queries per example. step_size: length of a step. basis: see :class:`Basis`.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2}), access=Access.scores, targeted=True, randomized=True
    )

    steps: int = 10_000
    step_size: float = 0.2
    basis: Basis = Basis.pixel

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps)
        check_positive(step_size=self.step_size)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """One forward pass per step, and one for the clean input; an example ends at its first success."""
        return simba(
            Oracle(target, y, threat.targeted, may_settle(target, threat)),
            Best(x),
            ball=threat.around(x, rng),
            steps=self.steps,
            step_size=self.step_size,
            basis=self.basis,
            rng=rng,
        )


def simba(
    oracle: Oracle, best: Best, *, ball: Ball, steps: int, step_size: float, basis: Basis, rng: SampleRandom
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`SimBA`. Each example has its own order."""
    x, device = ball.x, ball.x.device
    index = oracle.visit(best, torch.arange(len(x), device=device), x)
    size = x[0].numel() if len(x) else 1
    place, sweep = torch.zeros(2, len(x), dtype=torch.int64, device=device)
    back = torch.zeros(len(x), dtype=torch.bool, device=device)
    order = _order(rng, x.shape[1:], basis, sweep)
    for _ in range(steps):
        index = oracle.todo(best, index)
        if len(index) == 0:
            break
        which = order[index].gather(1, place[index, None]).squeeze(1)
        step = torch.where(back[index], -step_size, step_size)
        wave = waves(which, x.shape[1:], basis, x.dtype).reshape(-1, *x.shape[1:])
        x_adv = ball.rows(index).project(best.x_adv[index] + columns(step, x) * wave)
        better = oracle.offer(best, index, x_adv)
        turn = ~better & ~back[index]
        back[index] = turn
        place[index] += (~turn).long()
        over = index[place[index] == size]
        if len(over):
            place[over] = 0
            sweep[over] += 1
            order[over] = _order(rng.rows(over), x.shape[1:], basis, sweep[over])
    return best.x_adv


def _order(rng: SampleRandom, shape: torch.Size, basis: Basis, sweep: Tensor) -> Tensor:
    """Order (B, D) int64 of the basis in each example's `sweep` (B,)."""
    order = rng.permutation(math.prod(shape), stream="simba/order", draw=sweep)
    if basis is Basis.pixel:
        return order
    place, highest = torch.arange(math.prod(shape), device=order.device), torch.zeros_like(order[0:1])
    for length in reversed(_grid(shape)):
        highest = torch.maximum(highest, place % length)
        place = place // length
    frequency = highest.expand_as(order).gather(1, order)
    return order.gather(1, frequency.argsort(dim=1, stable=True))


def _grid(shape: torch.Size) -> tuple[int, ...]:
    """Axes of one channel: all but the first of (C, H, W), or the only one of (D,)."""
    return tuple(shape[1:]) if len(shape) > 1 else tuple(shape)


def waves(which: Tensor, shape: torch.Size, basis: Basis, dtype: torch.dtype) -> Tensor:
    """Vectors number `which` (b,) of the orthonormal basis of inputs of that shape, (b, D).

    A vector of the cosine basis is in one channel, and is the product of one wave per axis.
    """
    size = math.prod(shape)
    if basis is Basis.pixel:
        return torch.nn.functional.one_hot(which, size).to(dtype)
    grid = _grid(shape)
    channel = torch.nn.functional.one_hot(which // math.prod(grid), size // math.prod(grid)).to(torch.float64)
    rest, product = which % math.prod(grid), torch.ones(len(which), 1, dtype=torch.float64, device=which.device)
    for length in reversed(grid):
        wave = _cosines(rest % length, length)
        product = (wave[:, :, None] * product[:, None]).flatten(1)
        rest = rest // length
    return (channel[:, :, None] * product[:, None]).flatten(1).to(dtype)


def _cosines(frequency: Tensor, length: int) -> Tensor:
    """Orthonormal cosine waves (DCT-II) of that `frequency` (b,), (b, length) float64."""
    at = (torch.arange(length, dtype=torch.float64, device=frequency.device) + 0.5) * (math.pi / length)
    wave = torch.cos(frequency[:, None] * at)
    return wave * torch.where(frequency == 0, math.sqrt(1.0 / length), math.sqrt(2.0 / length))[:, None]


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return SimBA
