"""Pointwise: resets features of an adversarial input one by one. Schott et al., ICLR 2019, arXiv:1805.09190."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Access, Attack, Ball, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.best import Best
from ._base.settings import check_at_least
from ._blackbox.decisions import offer_nearer, only_clean, starts
from ._blackbox.queries import Oracle


@dataclass(frozen=True)
class Pointwise(Attack):
    """Starts from a random adversarial input and resets features to their clean values as long as it stays adversarial.

    Difference from the paper: features are first reset in groups, halved each time down to single ones; single features
    are tried in random order until none can be reset any more, as in the paper.

    restarts: number of random adversarial inputs to start from; 10 in the paper. tries: random inputs to find one.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.l0}), access=Access.labels, targeted=True, minimal=True, randomized=True
    )

    restarts: int = 10
    tries: int = 100

    def __post_init__(self) -> None:
        check_at_least(1, restarts=self.restarts)
        check_at_least(0, tries=self.tries)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Adversarial inputs with few changed features; the clean input where none was found.

        Cost per example and restart: at least two forward passes per feature.
        """
        ball = threat.unbounded().around(x, rng)
        return pointwise(
            Oracle(target, y, threat.targeted), ball=ball, restarts=self.restarts, tries=self.tries, rng=rng
        )


def pointwise(oracle: Oracle, *, ball: Ball, restarts: int, tries: int, rng: SampleRandom) -> Tensor:
    """Adversarial candidates (B, *S); see :class:`Pointwise`; `ball` has no limit on the distance."""
    nearest = only_clean(oracle, ball)
    index = (~nearest.won).nonzero().squeeze(1)
    for restart in range(restarts):
        index = oracle.todo(nearest, index)
        if len(index) == 0:
            break
        here, mine = ball.rows(index), rng.rows(index).child("pointwise", restart)
        x_adv, won = starts(oracle, index, here, mine, tries=tries, name="pointwise", first=restart)
        rows = won.nonzero().squeeze(1)
        offer_nearer(nearest, ball, index[rows], x_adv[rows])
        _put_back(oracle, nearest, ball, index[rows], x_adv[rows], mine.rows(rows))
    return nearest.x_adv


def _put_back(oracle: Oracle, nearest: Best, ball: Ball, index: Tensor, x_adv: Tensor, rng: SampleRandom) -> None:
    """Reset features of `x_adv` (b, *S), of the examples `index` (b,), and offer the result as the nearest.

    Each example has its own group size and its own position in its own order of features.
    """
    x = ball.x
    clean, now = x[index].flatten(1), x_adv.flatten(1)
    count, device = clean.shape[1], index.device
    todo = torch.arange(len(index), device=device)
    size = torch.full((len(index),), max(1, count // 2), device=device)
    place, sweep = torch.zeros(2, len(index), dtype=torch.int64, device=device)
    order = rng.permutation(count, stream="pointwise/order", draw=sweep)
    fell = torch.zeros(len(index), dtype=torch.bool, device=device)
    while len(todo := todo[oracle.can_ask(index[todo])]):
        # The next `size` changed features from `place` on, in this sweep's order.
        changed = (now[todo] != clean[todo]).gather(1, order[todo])
        changed &= torch.arange(count, device=device) >= place[todo, None]
        rank = changed.cumsum(1)
        chosen = changed & (rank <= size[todo, None])
        some = chosen.any(1)
        last = (chosen * torch.arange(1, count + 1, device=device)).amax(1)
        asked = todo[some]
        back = torch.zeros_like(chosen[some]).scatter_(1, order[asked], chosen[some])
        ahead = torch.where(back, clean[asked], now[asked])
        won = oracle.win(index[asked], ahead.reshape(-1, *x.shape[1:]))
        now[asked[won]] = ahead[won]
        fell[asked[won]] = True
        offer_nearer(nearest, ball, index[asked[won]], ahead[won].reshape(-1, *x.shape[1:]))
        place[todo] = torch.where(some, last, count)
        # At the end of a sweep: smaller groups, or single features again as long as that puts any back.
        over = todo[~some]
        if len(over) == 0:
            continue
        done = (size[over] == 1) & ~fell[over]
        size[over] = (size[over] // 2).clamp_min(1)
        sweep[over] += 1
        place[over], fell[over] = 0, False
        order[over] = rng.rows(over).permutation(count, stream="pointwise/order", draw=sweep[over])
        finished = torch.zeros(len(index), dtype=torch.bool, device=device)
        finished[over[done]] = True
        todo = todo[~finished[todo]]


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Pointwise
