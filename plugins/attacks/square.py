"""Square: random search with square windows, from scores alone. Andriushchenko et al., ECCV 2020, arXiv:1912.00049."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    EVERY_TASK,
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

from ._ascent.pairs import affordable, logits, offer
from ._base.active import Active, may_settle
from ._base.best import Best
from ._base.settings import check_at_least
from ._base.vectors import columns
from ._blackbox.squares import (
    Image,
    Moves,
    as_image,
    change_linf,
    change_mass,
    first_linf,
    first_mass,
    moves,
    worth_asking,
)

AHEAD = 64
"""Number of passes for which windows are drawn, and proposals cached, at once."""

QUERIES_PER_PROPOSAL = 50
"""Number of queries after which a pass tries one more proposal, since later ones are accepted less often."""


@dataclass(frozen=True)
class Square(Attack):
    """Changes one random window at a time and keeps the change if it increases the margin.

    Differences from the paper: every example has its own windows, the first input counts as a query, and data other
    than images (one, two or more than three dimensions) are a line of features with windows along it. Under linf,
    proposals that change nothing and most of those that failed on the same candidate are not queried, which on small
    images are nearly all; they count as tried. The l1 form is that of Croce & Hein, ICML 2021, arXiv:2103.01208: as l2,
    with the projection onto the intersection of ball and box.

    queries: proposals per example, and so most forward passes; the schedule of window sizes is stretched to this
    number, or
        to `threat.queries` if that is smaller. p_init: share of an image in the first windows.
    edges: windows reach the last row and column; false is the authors' code, whose windows never do.
    proposals: most windows tried in one pass, of which the best counts. It starts with one, and increases by one every
    fifty
        queries, as fewer proposals are accepted. 1 is the paper's algorithm.
    """

    tasks: ClassVar[frozenset[str]] = EVERY_TASK
    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), access=Access.scores, targeted=True, top5=True, randomized=True
    )

    queries: int = 5000
    p_init: float = 0.8
    edges: bool = True
    proposals: int = 16

    def __post_init__(self) -> None:
        check_at_least(1, queries=self.queries, proposals=self.proposals)
        if not 0.0 < self.p_init <= 1.0:
            raise ConfigError(f"attack.p_init is {self.p_init}; expected a share of the image in (0, 1]")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Candidate with the highest queried margin; at most `queries` forward passes per example."""
        return square(
            Active.of(target, threat.around(x, rng), y, targeted=threat.targeted),
            Best(x),
            queries=self.queries,
            p_init=self.p_init,
            edges=self.edges,
            proposals=self.proposals,
            settle=may_settle(target, threat),
            rng=rng,
        ).x_adv


def square(
    active: Active,
    best: Best,
    *,
    queries: int,
    p_init: float,
    edges: bool,
    proposals: int,
    settle: bool,
    rng: SampleRandom,
) -> Best:
    """Best candidate per example: `best`, updated. settle: stop an example at its first success."""
    left = active.target.remaining()
    limit = torch.full_like(best.won, queries, dtype=torch.int64)
    limit[active.index] = queries if left is None else left.clamp(0, queries)
    shape, known = as_image(tuple(best.x_adv.shape[1:])), active.ball.norm is Norm.linf and active.target.certain
    (active,) = active.keep(limit[active.index] > 0)
    if len(active):
        _ask(active, active.ball.project(_first(active.ball, rng.rows(active.index), shape)), best)
    query = 1
    while True:
        (active,) = active.keep((~(best.won & settle) & (limit > query))[active.index])
        if len(active) == 0:
            return best
        # Windows of many queries are drawn at once; a pass takes `count` proposals of each example.
        count = min(proposals, 1 + query // QUERIES_PER_PROPOSAL)
        last = query + AHEAD * count
        move = _draw(active, rng, query, last, limit, shape, p_init, edges)
        within = torch.arange(query, last, device=limit.device) < limit[active.index][:, None]
        ahead = _worth_asking(active, move, within, best, shape) if known else within
        while bool(ahead.any()):
            turn = ahead.cumsum(1)
            row, at = (ahead & (turn <= count)).nonzero(as_tuple=True)
            rows = active.rows(row)
            better = _ask(rows, _proposal(rows, move.at(row, at), best, shape), best)
            ahead = ahead & (turn > count)
            if known and len(better):  # of a new candidate nothing is known
                new = torch.searchsorted(active.index, better)
                asked = torch.zeros_like(turn[:, 0]).scatter_reduce_(0, row, at, "amax")[new]
                later = within[new] & (torch.arange(within.shape[1], device=new.device) > asked[:, None])
                ahead[new] = _worth_asking(active.rows(new), move.at(new), later, best, shape)
            if settle:
                ahead = ahead & ~best.won[active.index][:, None]
        query = last


def _ask(active: Active, x_adv: Tensor, best: Best) -> Tensor:
    """Offer the candidates `x_adv` (b, *S) by their margins; returns the improved examples, (n,) int64."""
    (active, x_adv) = active.keep(affordable(active) if active.target.detected else None, x_adv)
    if len(active) == 0:  # what a detector may refuse costs a further query
        return active.index
    scores = logits(active, x_adv)
    return offer(best, active.index, x_adv, active.succeeded(x_adv, scores), active.margin(scores))


def _draw(
    active: Active, rng: SampleRandom, first: int, last: int, limit: Tensor, shape: Image, p_init: float, edges: bool
) -> Moves:
    """Moves of the queries from `first` to before `last`: each field (b, queries, ...)."""
    count = last - first
    example = active.index.repeat_interleave(count)
    queries = torch.arange(first, last, device=example.device).repeat(len(active))
    flat = moves(rng.rows(example), queries, limit[example], shape, p_init=p_init, norm=active.ball.norm, edges=edges)
    return Moves(**{name: value.reshape(len(active), count, *value.shape[1:]) for name, value in vars(flat).items()})


def _proposal(active: Active, move: Moves, best: Best, shape: Image) -> Tensor:
    """Candidate of each row after its move (b, ...), in the ball, (b, *S)."""
    ball = active.ball
    current = best.x_adv[active.index].reshape(-1, *shape)
    if ball.norm is Norm.linf:
        proposal = current + 2.0 * ball.eps * change_linf(move, shape).to(current.dtype)
    else:
        x = ball.x.reshape(-1, *shape)
        proposal = x + _scaled(ball, change_mass(move, current - x, ball.norm, ball.eps), shape)
    return ball.project(proposal.reshape(ball.x.shape))


def _worth_asking(active: Active, move: Moves, left: Tensor, best: Best, shape: Image) -> Tensor:
    """Proposals where `left` is true that change the candidate, (b, Q) bool; of equal ones the first."""
    current = best.x_adv[active.index]
    rises, falls = (active.ball.project(current + by * active.ball.eps) != current for by in (2.0, -2.0))
    return worth_asking(move, left, rises.reshape(-1, *shape), falls.reshape(-1, *shape))


def _first(ball: Ball, rng: SampleRandom, shape: Image) -> Tensor:
    """First candidate, before its projection, (b, *S)."""
    if ball.norm is Norm.linf:
        delta = ball.eps * first_linf(rng, shape).to(ball.x.dtype)
    else:
        delta = _scaled(ball, first_mass(rng, shape, ball.norm).to(ball.x.dtype), shape)
    return ball.x + delta.reshape(ball.x.shape)


def _scaled(ball: Ball, delta: Tensor, shape: Image) -> Tensor:
    """`delta` (b, C, H, W) inside the region, scaled to length eps under l2; under l1 the projection limits it."""
    if ball.mask is not None:
        mask = ball.mask.reshape(-1, *shape)
        delta = torch.where(mask, delta, 0.0)
    if ball.norm is Norm.l2:
        delta = delta * columns(ball.eps / rows_norm(delta, Norm.l2).clamp_min(1e-12), delta)
    return delta


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Square
