"""Square: random search with square windows, from scores alone. Andriushchenko et al., ECCV 2020, arXiv:1912.00049."""

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

from ._ascent.survivors import Best, Work
from ._base.losses import AttackLoss, row_loss, succeeded
from ._base.steps import at_least, may_settle
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
"""For how many passes ahead windows are drawn at once, and proposals remembered."""

PATIENCE = 50
"""After how many queries a pass takes one proposal more: the later, the rarer is one that is accepted."""


@dataclass(frozen=True)
class Square(Attack):
    """Changes one random window at a time and keeps the change if it raises the margin.

    Differences from the paper: every example has windows of its own, the first input counts as a query, and what is
    not an image (one, two or more than three dimensions) is a line of features with windows along it. Under linf what
    is known is not asked: proposals that change nothing, and most that failed on the same candidate, which on small
    images are nearly all; they count as tried. The l1 form is that of Croce & Hein, ICML 2021, arXiv:2103.01208: as l2,
    with the projection onto ball and box.

    queries: proposals per example, and so forward passes at most; the schedule of window sizes is stretched to them, or
        to `threat.queries` if those are fewer. p_init: the share of an image in the first windows.
    edges: whether windows reach the last row and column, which they do not in the authors' program.
    proposals: how many windows are tried in one pass at most; the best one counts. It begins with one, and with another
        one after every fifty queries, when few proposals are still accepted. 1 is the paper's algorithm.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), access=Access.scores, targeted=True, randomized=True
    )

    queries: int = 5000
    p_init: float = 0.8
    edges: bool = False
    proposals: int = 16

    def __post_init__(self) -> None:
        at_least(1, queries=self.queries, proposals=self.proposals)
        if not 0.0 < self.p_init <= 1.0:
            raise ConfigError(f"attack.p_init is {self.p_init}; expected a share of the image in (0, 1]")

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """The candidate of the highest margin that was asked about; `queries` forward passes per example at most."""
        return square(
            target,
            y,
            ball=threat.around(x, rng),
            queries=self.queries,
            p_init=self.p_init,
            edges=self.edges,
            proposals=self.proposals,
            targeted=threat.targeted,
            settle=may_settle(target, threat),
            those=torch.ones_like(y, dtype=torch.bool),
            rng=rng,
        ).x_adv


def square(
    target: Target,
    y: Tensor,
    *,
    ball: Ball,
    queries: int,
    p_init: float,
    edges: bool,
    proposals: int,
    targeted: bool,
    settle: bool,
    those: Tensor,
    rng: SampleRandom,
) -> Best:
    """The best candidate per example; see :class:`Square`.

    Args:
        settle: whether an example is left once it is broken. those: (B,) bool, the examples to attack.
    """
    best = Best(ball.x)
    left = target.remaining()
    limit = torch.full_like(y, queries) if left is None else left.clamp(0, queries)
    shape = as_image(tuple(ball.x.shape[1:]))
    work = Work.of(target, ball, y, None, those & (limit > 0))
    if len(work):
        _ask(work, work.ball.project(_first(work.ball, rng.rows(work.example), shape)), best, targeted=targeted)
    query = 1
    while True:
        work = work.keep((~(best.won & settle) & (limit > query))[work.example])
        if len(work) == 0:
            return best
        count = min(proposals, 1 + query // PATIENCE)
        drawn = _draw(work, rng, query, query + AHEAD * count, limit, shape, p_init, edges)
        left = torch.arange(query, query + AHEAD * count, device=y.device) < limit[work.example][:, None]
        _try(work, drawn, left, count, best, shape, targeted=targeted, settle=settle)
        query += AHEAD * count


def _ask(work: Work, x_adv: Tensor, best: Best, *, targeted: bool) -> Tensor:
    """(n,) int64: the examples for which a candidate is better than those before."""
    logits = work.logits(x_adv)
    value = row_loss(AttackLoss.margin, work.y, targeted=targeted)(logits)
    return best.offer(work.example, x_adv, succeeded(logits, work.y, targeted=targeted), value)


def _draw(
    work: Work, rng: SampleRandom, first: int, last: int, limit: Tensor, shape: Image, p_init: float, edges: bool
) -> Moves:
    """The moves of the queries from `first` to before `last`: each field (b, queries, ...)."""
    count = last - first
    example = work.example.repeat_interleave(count)
    queries = torch.arange(first, last, device=example.device).repeat(len(work))
    flat = moves(rng.rows(example), queries, limit[example], shape, p_init=p_init, norm=work.ball.norm, edges=edges)
    return Moves(**{name: value.reshape(len(work), count, *value.shape[1:]) for name, value in vars(flat).items()})


def _try(
    work: Work, move: Moves, left: Tensor, count: int, best: Best, shape: Image, *, targeted: bool, settle: bool
) -> None:
    """Ask about the proposals (b, Q, ...) where `left` (b, Q) bool is true, `count` per row and pass."""
    known = work.ball.norm is Norm.linf and work.target.certain
    ahead = _worth_asking(work, move, left, best, shape) if known else left
    while True:
        turn = ahead.cumsum(1)
        row, query = (ahead & (turn <= count)).nonzero(as_tuple=True)
        if len(row) == 0:
            return
        better = _ask_about(work.rows(row), move.at(row, query), best, shape, targeted=targeted)
        ahead = ahead & (turn > count)
        if settle:
            ahead = ahead & ~best.won[work.example][:, None]
        if known and len(better):  # of a new candidate nothing is known
            at = torch.searchsorted(work.example, better)
            last = torch.zeros_like(turn[:, 0]).scatter_reduce_(0, row, query, "amax")[at]
            later = left[at] & (torch.arange(left.shape[1], device=at.device) > last[:, None])
            if settle:
                later = later & ~best.won[better][:, None]
            ahead[at] = _worth_asking(work.rows(at), move.at(at), later, best, shape)


def _ask_about(work: Work, move: Moves, best: Best, shape: Image, *, targeted: bool) -> Tensor:
    """Ask about one proposal (b, ...) per row; (n,) int64, the examples that it changes."""
    current = best.x_adv[work.example].reshape(-1, *shape)
    if work.ball.norm is Norm.linf:
        proposal = current + 2.0 * work.ball.eps * change_linf(move, shape).to(current.dtype)
    else:
        x = work.ball.x.reshape(-1, *shape)
        proposal = x + _scaled(work.ball, change_mass(move, current - x, work.ball.norm, work.ball.eps), shape)
    return _ask(work, work.ball.project(proposal.reshape(work.ball.x.shape)), best, targeted=targeted)


def _worth_asking(work: Work, move: Moves, left: Tensor, best: Best, shape: Image) -> Tensor:
    """(b, Q) bool: of the proposals where `left` is true, those that change the candidate; of equal ones the first."""
    current = best.x_adv[work.example]
    rises, falls = (work.ball.project(current + by * work.ball.eps) != current for by in (2.0, -2.0))
    return worth_asking(move, left, rises.reshape(-1, *shape), falls.reshape(-1, *shape))


def _first(ball: Ball, rng: SampleRandom, shape: Image) -> Tensor:
    """(b, *S): the first candidate, before its projection."""
    if ball.norm is Norm.linf:
        delta = ball.eps * first_linf(rng, shape).to(ball.x.dtype)
    else:
        delta = _scaled(ball, first_mass(rng, shape, ball.norm).to(ball.x.dtype), shape)
    return ball.x + delta.reshape(ball.x.shape)


def _scaled(ball: Ball, delta: Tensor, shape: Image) -> Tensor:
    """(b, C, H, W): inside the region, and under l2 of length eps; under l1 the projection is left to cut it."""
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
