"""ZOO: Carlini-Wagner by coordinate descent on finite differences. Chen et al., AISec 2017, arXiv:1708.03999."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.best import Best
from ._base.settings import check_at_least, check_positive
from ._blackbox.decisions import offer_nearer
from ._blackbox.estimates import finite, visited
from ._blackbox.queries import Oracle


class Solver(Enum):
    """Update of a coordinate: gradient descent, Adam with its own step count, or Newton's method."""

    sgd = "sgd"
    adam = "adam"
    newton = "newton"


@dataclass(frozen=True)
class ZOO(Attack):
    """Minimises ||x_adv - x||^2 + c max(-margin, 0) over random coordinates, and bisects c for each example.

    Differences from the paper: the distance, which the attacker knows, is differentiated analytically and only the
    margin by queries; differences are wider, since single precision hides those of 1e-4; coordinates are visited in
    random order without importance sampling, and there is no hierarchy of sizes. All examples share the passes.

    steps: iterations per constant. coordinates: number per iteration. difference: half the distance of the two queries.
    solver: see :class:`Solver`. step_size: Adam's step size, or the factor of the other solvers; None for 0.01 with
    Adam and
        SGD, 1 with Newton. constant: initial c. search_steps: number of c to try.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l2}), access=Access.scores, targeted=True, minimal=True, randomized=True
    )

    steps: int = 1000
    coordinates: int = 128
    difference: float = 1e-2
    solver: Solver = Solver.adam
    step_size: float | None = None
    constant: float = 0.5
    search_steps: int = 5

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, coordinates=self.coordinates, search_steps=self.search_steps)
        check_positive(difference=self.difference, step_size=self.step_size, constant=self.constant)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs at a small distance; the clean input where none was found.

        Cost per example: 2 `coordinates` + 1 forward passes per step, including Newton's.
        """
        size = self.step_size or (1.0 if self.solver is Solver.newton else 0.01)
        return zoo(
            Oracle(target, y, threat.targeted),
            ball=threat.unbounded().around(x, rng),
            steps=self.steps,
            coordinates=self.coordinates,
            difference=self.difference,
            solver=self.solver,
            step_size=size,
            constant=self.constant,
            search_steps=self.search_steps,
            rng=rng,
        )


def zoo(
    oracle: Oracle,
    *,
    ball: Ball,
    steps: int,
    coordinates: int,
    difference: float,
    solver: Solver,
    step_size: float,
    constant: float,
    search_steps: int,
    rng: SampleRandom,
) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`ZOO`; `ball` has no limit on the distance."""
    x, nearest = ball.x, Best(ball.x, dtype=torch.float64)
    size = x[0].numel() if len(x) else 1
    weight = torch.full((len(x),), constant, dtype=x.dtype, device=x.device)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for search in range(search_steps):
        x_adv, state = x, Steps(solver, step_size, x.flatten(1))
        succeeds = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        index = (nearest.value < 0).nonzero().squeeze(1)  # where it is 0, the clean input is misclassified
        for step in range(steps):
            index = oracle.todo(nearest, index)
            if len(index) == 0:
                break
            value, won = oracle.value(index, x_adv[index])
            offer_nearer(nearest, ball, index[won], x_adv[index[won]])
            succeeds[index[won]] = True
            goes_on = nearest.value[index] < 0
            index, value = index[goes_on], value[goes_on]
            here, now = ball.rows(index), x_adv[index].flatten(1)
            chosen = visited(rng.rows(index), size, coordinates, step, stream=f"zoo/{search}")
            plus, minus = _around(oracle, index, x_adv[index], chosen, difference)
            slope, curvature = differences(plus, minus, shortfall(value)[:, None], difference)
            ahead = 2.0 * (now - here.x.flatten(1)).gather(1, chosen)
            slope = ahead + weight[index, None] * finite(slope)
            change = state.change(index, chosen, slope, 2.0 + weight[index, None] * finite(curvature))
            moved = now.scatter_add(1, chosen, change).reshape(here.x.shape)
            x_adv = x_adv.index_copy(0, index, here.project(moved))
        low, high = torch.where(succeeds, low, weight), torch.where(succeeds, weight, high)
        weight = torch.where(torch.isinf(high), weight * 10.0, (low + high) / 2.0)
    return nearest.x_adv


def shortfall(value: Tensor) -> Tensor:
    """Hinge loss of the signed margins `value`: 0 where the attack succeeds."""
    return (-value).clamp_min(0.0)


def differences(plus: Tensor, minus: Tensor, middle: Tensor, difference: float) -> tuple[Tensor, Tensor]:
    """Slope and curvature from values at x + h e_i, x - h e_i and x (equations 6 and 7)."""
    return (plus - minus) / (2.0 * difference), (plus + minus - 2.0 * middle) / difference**2


def _around(oracle: Oracle, index: Tensor, x_adv: Tensor, chosen: Tensor, difference: float) -> tuple[Tensor, Tensor]:
    """Hinge loss at x + h e_i and x - h e_i for the coordinates `chosen` (b, n), (b, n) each.

    NaN where the budget does not suffice for both queries.
    """
    flat, (b, n) = x_adv.flatten(1), chosen.shape
    size = max(1, oracle.group(b, flat.shape[1]) // 2)
    values = []
    for part in chosen.split(size, dim=1):
        change = torch.zeros(b, part.shape[1], flat.shape[1], dtype=flat.dtype, device=flat.device)
        change.scatter_(2, part[:, :, None], difference)
        both = torch.stack([flat[:, None] + change, flat[:, None] - change], 2)
        value, _, answered = oracle.values(index, both.reshape(b, 2 * part.shape[1], *x_adv.shape[1:]))
        values.append(torch.where(answered, shortfall(value), torch.nan))
    pairs = torch.cat(values, 1).reshape(b, n, 2)
    return pairs[:, :, 0], pairs[:, :, 1]


class Steps:
    """State of a solver for each coordinate (B, D), and its updates.

    Adam's decay rates are .9 and .999; each coordinate counts its own steps (algorithm 2). Newton replaces a negative
    curvature by 1 and one below .1 by .1, as in the authors' code (algorithm 3).
    """

    def __init__(self, solver: Solver, step_size: float, like: Tensor) -> None:
        self._solver, self._size = solver, step_size
        self._first, self._second, self._count = torch.zeros(3, *like.shape, dtype=like.dtype, device=like.device)

    def change(self, index: Tensor, chosen: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
        """Changes of the coordinates `chosen` (b, n) of the examples `index` (b,), (b, n)."""
        if self._solver is Solver.sgd:
            return -self._size * slope
        if self._solver is Solver.newton:
            return -self._size * slope / torch.where(curvature < 0, 1.0, curvature.clamp_min(0.1))
        at = (index[:, None], chosen)
        self._count[at] += 1.0
        self._first[at] = 0.9 * self._first[at] + 0.1 * slope
        self._second[at] = 0.999 * self._second[at] + 0.001 * slope.square()
        mean = self._first[at] / (1.0 - 0.9 ** self._count[at])
        spread = self._second[at] / (1.0 - 0.999 ** self._count[at])
        change: Tensor = -self._size * mean / (spread.sqrt() + 1e-8)
        return change


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return ZOO
