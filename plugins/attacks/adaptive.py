"""Adaptive: automated search over losses, surrogates, draws, starts and transfers, as in a manual adaptive attack.

The list follows Tramer, Carlini, Brendel & Madry, NeurIPS 2020, arXiv:2002.08347: simple losses first, then smoother
versions of whatever masks the gradient, expectation over randomness (Athalye et al., ICML 2018, arXiv:1802.00420),
joint evasion of detector and classifier (Carlini & Wagner, AISec 2017, arXiv:1705.07263), and finally no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import Attack, Norm, SampleRandom, Supports, Target, Threat, hookimpl

from ._base.active import Active, may_settle
from ._base.best import Best
from ._base.budget import can_ask
from ._base.classes import top_rivals
from ._base.settings import check_at_least
from ._base.survivors import reached
from .apgd import APGDLoss, apgd, climb
from .square import Square, square

MORE = 4
"""Factor on the threat's number of EOT draws, for the member that averages over more of them."""

ROUNDS = 5
"""Number of weights tried by the bisection of the detectors' penalty."""

FIRST, FACTOR = 1.0, 10.0
"""Initial weight of the penalty, and its growth factor until the weight is bracketed."""

RIVALS = 3

Member = Callable[[Active, Best, SampleRandom], None]
"""Attack on the active examples that offers candidates."""


@dataclass(frozen=True)
class Adaptive(Attack):
    """Runs members one after the other on the surviving examples, with an equal share of the passes each.

    Members: APGD on the cross-entropy and on the margin; for each smoother setting of the defenses, and for the
    undefended model, APGD on that system, transferred and continued on the system itself; APGD towards the most likely
    classes; for randomised systems, APGD over four times as many draws; for detectors, joint evasion with the weight of
    the penalty by bisection, per example; Square with the remaining passes. Candidates are judged as by the core,
    including the declared votes of a randomised system. Without knowledge of the defenses, only members that do not
    need it are run.

    passes: most forward passes per example; each gradient takes one backward pass in addition.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, randomized=True
    )

    passes: int = 1000

    def __post_init__(self) -> None:
        check_at_least(1, passes=self.passes)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """First success, else the candidate with the largest margin; at most `passes` forward passes."""
        active = Active.of(target.tuned(passes=self.passes), threat.around(x, rng), y, targeted=threat.targeted)
        return adaptive(active, passes=self.passes, settle=may_settle(target, threat), rng=rng)


def adaptive(every: Active, *, passes: int, settle: bool, rng: SampleRandom) -> Tensor:
    """Best candidates of all members, (B, *S); see :class:`Adaptive`. settle: the scores determine the verdict."""
    target, x = every.target, every.ball.x
    best = Best(x)
    members = _members(target, passes, every, settle)
    for place, (name, member) in enumerate(members):
        (active,) = every.keep(~best.won)
        (active,) = active.keep(can_ask(active.target))
        if len(active) == 0:
            break
        found = Best(x)
        last = place == len(members) - 1
        share = active.target if last else active.target.tuned(passes=max(1, passes // len(members)))
        member(replace(active, target=share), found, rng.child("adaptive", place))
        _offer(active, found.x_adv[active.index], best, f"{place + 1} {name}")
    return best.x_adv.clone()


def _offer(active: Active, x_adv: Tensor, best: Best, name: str) -> None:
    """Judge the candidates `x_adv` (b, *S) of a member and keep those that are better."""
    moved = (x_adv != active.ball.x).flatten(1).any(1)
    active, x_adv = active.keep(moved & can_ask(active.target), x_adv)
    if len(active) == 0:
        return
    logits = active.target.logits(x_adv)
    value = active.margin(logits).nan_to_num(nan=-torch.inf)
    won = active.fooled(logits)
    if not active.target.certain:
        won = reached(active.target, x_adv, active.y, torch.ones_like(won), targeted=active.targeted)
    better = best.offer(active.index, x_adv, won, value)
    active.target.rows(better.nonzero().squeeze(1)).credit(name)


def _members(target: Target, passes: int, every: Active, settle: bool) -> list[tuple[str, Member]]:
    """Members that apply to the system, by name, in order."""
    smoother = target.smoother
    kinds: list[tuple[str, Callable[[int], Member]]] = [
        ("apgd ce", lambda share: _ascent(APGDLoss.ce, share, settle)),
        ("apgd margin", lambda share: _ascent(APGDLoss.margin, share, settle)),
    ]
    for place, view in enumerate(smoother):
        name = "undefended" if place == len(smoother) - 1 else f"smoother {place + 1}"
        kinds.append((f"through {name}", partial(_transfer, view)))
    if every.target.classes > 2 and not every.targeted:
        kinds.append(("apgd towards classes", lambda share: _ascent(APGDLoss.margin_targeted, share, settle)))
    if target.randomized:
        kinds.append(("apgd more draws", lambda share: _ascent(APGDLoss.margin, share, settle, more=MORE)))
    if target.detected:
        kinds.append(("apgd jointly", _bisection))
    kinds.append(("square", lambda share: _search(settle)))
    share = max(1, passes // len(kinds))
    return [(name, make(share)) for name, make in kinds]


def _steps(active: Active, share: int, climbs: int = 1) -> int:
    """Number of steps of a climb that costs at most `share` passes per example."""
    left = active.target.tuned(passes=share).remaining()
    assert left is not None
    return max(1, (int(left.max()) if len(left) else 1) // climbs - 1)


def _ascent(loss: APGDLoss, share: int, settle: bool, *, more: int = 1) -> Member:
    def member(active: Active, best: Best, rng: SampleRandom) -> None:
        target = active.target
        if more > 1:
            target = target.tuned(draws=more * target.draws)
            active = replace(active, target=target)
            (active,) = active.keep(can_ask(target))
        if len(active) == 0:
            return
        rivals = None
        if loss.one_class_each:
            count = min(RIVALS, target.classes - 1)
            rivals = best.x_adv.new_zeros(len(best.won), count, dtype=torch.int64)
            rivals[active.index] = top_rivals(active.target.logits(active.ball.x), active.y, RIVALS)
        climbs = 1 if rivals is None else rivals.shape[1]
        steps = _steps(active, share, climbs)
        apgd(active, best, loss=loss, rivals=rivals, steps=steps, restarts=1, settle=settle, rng=rng)

    return member


def _transfer(view: Target, share: int) -> Member:
    """Run APGD on another system with three quarters of the passes, then from its result on the system itself."""

    def member(active: Active, best: Best, rng: SampleRandom) -> None:
        most = max(1, 3 * share // 4)
        other = replace(active, target=view.rows(active.index).tuned(passes=most))
        (other,) = other.keep(can_ask(other.target))
        found = Best(best.x_adv)
        if len(other):
            steps = _steps(other, most)
            apgd(other, found, loss=APGDLoss.margin, rivals=None, steps=steps, restarts=1, settle=False, rng=rng)
        start = found.x_adv[active.index]
        (active, start) = active.keep(can_ask(active.target), start)
        if len(active) == 0:
            best.offer(other.index, found.x_adv[other.index], found.won[other.index], found.value[other.index])
            return
        loss = APGDLoss.margin.of_rows(targeted=active.targeted)
        steps = _steps(active, share - most)
        climb(active, start, best, loss=loss, steps=steps, settle=active.target.certain)

    return member


def _bisection(share: int) -> Member:
    """Ascend the margin minus the weighted excess of the detectors, and bisect the weight.

    The weight increases if the input is refused, and decreases if it is still classified correctly.
    """

    def member(active: Active, best: Best, rng: SampleRandom) -> None:
        low = torch.zeros_like(active.y, dtype=torch.float32)
        high = torch.full_like(low, torch.inf)
        weight = torch.full_like(low, FIRST)
        for turn in range(ROUNDS):
            (active, low, high, weight) = active.keep(~best.won[active.index], low, high, weight)
            (active, low, high, weight) = active.keep(can_ask(active.target), low, high, weight)
            if len(active) == 0:
                return
            weighted = replace(active, target=active.target.tuned(penalty=weight))
            found = Best(best.x_adv)
            steps = _steps(active, max(2, share // ROUNDS - active.target.votes - 1))
            apgd(
                weighted, found, loss=APGDLoss.margin, rivals=None, steps=steps, restarts=1, settle=False,
                rng=rng.child("bisection", turn),
            )  # fmt: skip
            x_adv, won = found.x_adv[active.index], found.won[active.index]
            best.offer(active.index, x_adv, won, found.value[active.index])
            (active, low, high, weight, x_adv) = active.keep(~won & can_ask(active.target), low, high, weight, x_adv)
            if len(active) == 0:
                return
            fooled = active.fooled(active.target.logits(x_adv))  # and refused
            low, high = torch.where(fooled, weight, low), torch.where(fooled, high, weight)
            weight = torch.where(high.isinf(), weight * FACTOR, (low + high) / 2.0)

    return member


def _search(settle: bool) -> Member:
    def member(active: Active, best: Best, rng: SampleRandom) -> None:
        default = Square()
        square(
            active, best, queries=default.queries, p_init=default.p_init, edges=False, proposals=default.proposals,
            settle=settle, rng=rng,
        )  # fmt: skip

    return member


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Adaptive
