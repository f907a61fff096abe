"""AutoAttack: four parameter-free attacks, each on the survivors of the ones before. Croce & Hein, ICML 2020.

arXiv:2003.01690, section 5; the l1 form is Croce & Hein, ICML 2021, arXiv:2103.01208, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
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
from ._base.vectors import columns
from .apgd import APGDLoss, apgd
from .fab import FAB, fab
from .square import Square, square

TARGETS = 9
"""Number of target classes of APGD-T and FAB-T; APGD-T tries five under l1."""

Part = Callable[[Active], Best]
"""An attack on the active examples."""


class Version(Enum):
    """Composition of the ensemble.

    standard: APGD with cross-entropy, APGD-T, FAB-T, Square. plus: APGD with cross-entropy and with DLR and FAB, five
    starts each, then Square, APGD-T, FAB-T. rand, for randomised systems: APGD with cross-entropy and with DLR; the
    paper averages 20 draws, which is `threat.eot=20`.
    """

    standard = "standard"
    plus = "plus"
    rand = "rand"


@dataclass(frozen=True)
class AutoAttack(Attack):
    """Runs its attacks one after the other, each on the examples that are still classified correctly.

    Differences from the paper: those of the parts (:mod:`.apgd`, :mod:`.fab`, :mod:`.square`), of which the targeted
    ones process all classes of an example in one batch; FAB stops at a success within eps, since no nearer one is
    needed; two and three classes, data other than images, regions and targeted threats are supported (APGD-T and FAB-T
    then have the threat's target class only).

    version: see :class:`Version`. steps: iterations of APGD and FAB. queries: of Square. proposals: most windows that
    Square tries per pass; 1 is the paper's algorithm. edges: Square's windows reach the last row and column;
    the published standard is false, and `attack=autoattack_edges` is true.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, top5=True, randomized=True
    )

    version: Version = Version.standard
    steps: int = 100
    queries: int = 5000
    proposals: int = 16
    edges: bool = False

    def __post_init__(self) -> None:
        check_at_least(1, steps=self.steps, queries=self.queries, proposals=self.proposals)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """First success, else the point with the highest cross-entropy.

        Cost of an unbroken example in the standard version: 101 forward and backward passes for APGD, 909 for APGD-T,
        1800 forward and 900 backward for FAB-T, at most 5000 forward for Square, one to rank the classes.
        """
        active = Active.of(target, threat.around(x, rng), y, targeted=threat.targeted)
        x_adv, won = x, torch.zeros_like(y, dtype=torch.bool)
        for place, part in enumerate(self._parts(active, threat, rng)):
            if bool(won.all()):
                break
            found = part(active.keep(~won)[0])
            taken = found.won & ~won if place else found.value > -torch.inf
            x_adv = torch.where(columns(taken, x), found.x_adv, x_adv)
            won = won | found.won
        return x_adv.clone()

    def _parts(self, every: Active, threat: Threat, rng: SampleRandom) -> list[Part]:
        """Attacks of this version on some of the examples `every`, in order."""
        parts = _Parts(self, every, rng, settle=may_settle(every.target, threat), sparse=threat.norm is Norm.l1)
        starts = 5 if parts.sparse or self.version is Version.plus else 1
        ce = partial(parts.ascend, APGDLoss.ce, starts)
        dlr = partial(parts.ascend, APGDLoss.dlr, starts)
        apgd_t = partial(parts.ascend, APGDLoss.dlr_targeted, 1)
        fab_t = partial(parts.to_boundary, TARGETS, 1)
        if self.version is Version.rand:
            return [ce, dlr]
        if self.version is Version.plus:
            return [ce, dlr, partial(parts.to_boundary, 0, 5), parts.search, apgd_t, fab_t]
        return [ce, apgd_t, fab_t, parts.search]


@dataclass
class _Parts:
    """The parts of the ensemble on examples of `every`, with its settings.

    ranks: (B, C) int64, the classes to try; None before they are asked for.
    """

    of: AutoAttack
    every: Active
    rng: SampleRandom
    settle: bool
    sparse: bool
    ranks: Tensor | None = None

    def ascend(self, loss: APGDLoss, restarts: int, active: Active) -> Best:
        """APGD; with a loss towards one class each, APGD-T."""
        return apgd(
            active,
            Best(self.every.ball.x),
            loss=loss,
            rivals=self._rivals(active, 5 if self.sparse else TARGETS) if loss.one_class_each else None,
            steps=self.of.steps,
            restarts=restarts,
            settle=self.settle,
            rng=self.rng.child("autoattack", loss.value),
        )

    def to_boundary(self, classes: int, restarts: int, active: Active) -> Best:
        """FAB; with a number of classes to try, FAB-T."""
        default = FAB()
        return fab(
            active,
            Best(self.every.ball.x),
            rivals=self._rivals(active, classes) if classes else None,
            bounded=True,
            steps=self.of.steps,
            restarts=restarts,
            alpha_max=default.alpha_max,
            eta=default.eta,
            beta=default.beta,
            search_steps=default.search_steps,
            settle=self.settle,
            rng=self.rng.child("autoattack", "fab", classes),
        )

    def search(self, active: Active) -> Best:
        """Square."""
        return square(
            active,
            Best(self.every.ball.x),
            queries=self.of.queries,
            p_init=Square().p_init,
            edges=self.of.edges,
            proposals=self.of.proposals,
            settle=self.settle,
            rng=self.rng.child("autoattack", "square"),
        )

    def _rivals(self, active: Active, count: int) -> Tensor | None:
        """Classes to try, (B, count), from one pass over the examples that are active at the first call."""
        if active.targeted:
            return None
        if self.ranks is None:
            target, x, y = self.every.target, self.every.ball.x, self.every.y
            index = active.index[can_ask(active.target)]
            self.ranks = y[:, None].expand(-1, min(TARGETS, target.classes - 1)).clone()
            if len(index):
                self.ranks[index] = top_rivals(target.rows(index).logits(x[index]), y[index], TARGETS)
        return self.ranks[:, :count]


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return AutoAttack
