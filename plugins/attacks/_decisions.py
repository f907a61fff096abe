"""What the decision-based attacks share: a first adversarial input, and the way from it back towards the clean one."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.ball import Ball, distance, rows_norm
from benchmark.sampling import SampleRandom
from benchmark.threat import Norm

from ._queries import Oracle, columns

__all__ = ["Nearest", "bisect", "blend", "first_wins", "only_clean", "random_wins"]


class Nearest:
    """Per example the nearest input that was seen to succeed. x_adv: (B, *S), the clean input where there is none.

    far: (B,) float64, its distance in the ball's norm; infinite where there is none.
    """

    def __init__(self, ball: Ball) -> None:
        self._ball = ball
        self.x_adv = ball.x
        self.far = torch.full((len(ball.x),), torch.inf, dtype=torch.float64, device=ball.x.device)

    def offer(self, index: Tensor, x_adv: Tensor) -> Tensor:
        """Take over those of `x_adv` (b, *S), all seen to succeed, that are nearer; (b,) bool says which."""
        far = distance(x_adv, self._ball.x[index], self._ball.norm)
        nearer = far < self.far[index]
        rows = index[nearer]
        self.x_adv = self.x_adv.index_copy(0, rows, x_adv[nearer])
        self.far[rows] = far[nearer]
        return nearer

    @property
    def found(self) -> Tensor:
        """(n,) int64: the examples for which something was found that is not the clean input itself."""
        return (torch.isfinite(self.far) & (self.far > 0)).nonzero().squeeze(1)


def first_wins(oracle: Oracle, ball: Ball, rng: SampleRandom, *, tries: int, name: str) -> Nearest:
    """Look for any adversarial input: the clean one, then the first of :func:`random_wins`.

    At most `tries` + 2 queries per example.
    """
    nearest = only_clean(oracle, ball)
    index = torch.isinf(nearest.far).nonzero().squeeze(1)
    x_adv, won = random_wins(oracle, index, ball.rows(index), rng.rows(index), tries=tries, name=name)
    nearest.offer(index[won], x_adv[won])
    return nearest


def only_clean(oracle: Oracle, ball: Ball) -> Nearest:
    """Ask about the clean inputs, which need no attack where they are misclassified; one query per example."""
    nearest = Nearest(ball)
    index = torch.arange(len(ball.x), device=ball.x.device)
    won = oracle.win(index, ball.x)
    nearest.offer(index[won], ball.x[won])
    return nearest


def random_wins(
    oracle: Oracle, index: Tensor, ball: Ball, rng: SampleRandom, *, tries: int, name: str
) -> tuple[Tensor, Tensor]:
    """Look for an adversarial input anywhere in the box: the negative of the clean one, then `tries` random ones.

    Random inputs are by turns black and white dots of a random density, which classifiers put into different classes,
    and uniform noise. ball, rng: of the examples `index` (b,).

    Returns:
        (b, *S), and (b,) bool: whether it was seen to succeed. At most `tries` + 1 queries per example.
    """
    found, won = ball.x, torch.zeros(len(index), dtype=torch.bool, device=index.device)
    todo = torch.arange(len(index), device=index.device)
    shape = ball.x.shape[1:]
    for attempt in range(tries + 1):
        todo = todo[oracle.can_ask(index[todo])]
        if len(todo) == 0:
            break
        here, mine = ball.rows(todo), rng.rows(todo)
        noise = mine.uniform(*shape, stream=f"{name}/start", draw=attempt).to(here.x.dtype)
        if attempt == 0:
            noise = 1.0 - here.x
        elif attempt % 2 == 1:
            density = columns(mine.uniform(1, stream=f"{name}/density", draw=attempt).squeeze(1), noise)
            noise = (noise < density).to(here.x.dtype)
        x_adv = here.project(noise)
        here_won = oracle.win(index[todo], x_adv)
        found = found.index_copy(0, todo[here_won], x_adv[here_won])
        won[todo[here_won]] = True
        todo = todo[~here_won]
    return found, won


def blend(ball: Ball, x_adv: Tensor, share: Tensor) -> Tensor:
    """(b, *S): `x_adv` (b, *S) moved towards the clean inputs until `share` (b,) of the distance is left.

    On the segment under l2; under linf every change is cut at that length, which keeps the smaller ones.
    """
    delta = x_adv - ball.x
    if ball.norm is Norm.linf:
        limit = columns(share * rows_norm(delta, Norm.linf), delta)
        return ball.project(ball.x + delta.clamp(-limit, limit))
    return ball.project(ball.x + columns(share, delta) * delta)


def bisect(oracle: Oracle, index: Tensor, ball: Ball, x_adv: Tensor, *, steps: int) -> Tensor:
    """(b, *S): adversarial inputs on the way from the clean ones to `x_adv` (b, *S), which is adversarial.

    After `steps` queries the boundary is known to 2^-steps of the distance. ball: of the examples `index` (b,).
    """
    low, high = torch.zeros(2, len(index), dtype=x_adv.dtype, device=x_adv.device)
    high, near = high + 1.0, x_adv
    for _ in range(steps):
        middle = (low + high) / 2.0
        between = blend(ball, x_adv, middle)
        won = oracle.win(index, between)
        near = torch.where(columns(won, near), between, near)
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return near
