"""Cascade: any list of attacks, each on the survivors of the ones before.

Running a set of attacks and counting an example as broken by any of them is the worst case of Croce & Hein, ICML 2020,
arXiv:2003.01690, section 5; AutoAttack is one such list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Access,
    Attack,
    ConfigError,
    DataSpec,
    Norm,
    PreparedAttack,
    SampleRandom,
    Supports,
    Target,
    Threat,
    hookimpl,
    inner_list,
)

from ._base.survivors import reached
from ._base.vectors import columns

WEAKEST = (Access.transfer, Access.labels, Access.scores, Access.gradients)
"""Kinds of access, the weakest first."""


@dataclass(frozen=True)
class Cascade(Attack):
    """Runs its members one after the other, cheap ones first, each on the examples that are still classified correctly.

    After a member the system classifies each of its candidates, a randomised one by its votes. Members therefore use up
    the query budget in their order, plus one pass each. An attacker on another model than the judged one (transfer, or
    an unknown defense) drops the examples that this model misclassifies.

    It supports the norms and targets that all members support, needs the highest access that any member needs, and is
    bounded if all are. Candidates of minimal members count if they are in the ball.

    members: names of attacks or variants, optionally with settings: `[fgsm,{pgd:{steps:10}},square]`.
    """

    supports: ClassVar[Supports] = Supports(
        norms=frozenset({Norm.linf, Norm.l2, Norm.l1}), targeted=True, randomized=True
    )
    """Abilities of the default members; every cascade declares its own."""

    members: tuple[Attack, ...] = inner_list("fgsm", "pgd", "apgd", "square")

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        if not self.members:
            raise ConfigError("attack.members is empty; expected at least one attack")
        for member in self.members:
            if isinstance(member, PreparedAttack) or member.supports.trigger:
                raise ConfigError(
                    f"attack.members holds {type(member).__name__}, which is prepared once per cell; expected attacks "
                    "without preparation: run it as a separate attack"
                )
        object.__setattr__(self, "supports", joint(member.supports for member in self.members))

    def check(self, spec: DataSpec, threat: Threat) -> None:
        """Refuse everything that a member refuses."""
        for member in self.members:
            member.check(spec, threat)

    def perturb(self, target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom) -> Tensor:
        """Candidate of the first successful member, else that of the last one run.

        Cost: that of all members, and one pass after each (per vote, if randomised).
        """
        return cascade(self.members, target, x, y, threat=threat, rng=rng)


def joint(abilities: Iterable[Supports]) -> Supports:
    """Joint abilities of a list of attacks."""
    every = list(abilities)
    return Supports(
        norms=frozenset.intersection(*(can.norms for can in every)),
        access=max((can.access for can in every), key=WEAKEST.index),
        targeted=all(can.targeted for can in every),
        randomized=any(can.randomized for can in every),
        bounded=all(can.bounded for can in every),
    )


def cascade(
    members: tuple[Attack, ...], target: Target, x: Tensor, y: Tensor, *, threat: Threat, rng: SampleRandom
) -> Tensor:
    """Best candidates of all members, (B, *S); see :class:`Cascade`."""
    x_adv, left = x.clone(), torch.arange(len(y), device=y.device)
    ball = threat.around(x, rng)
    bounded = all(member.supports.bounded for member in members)
    for place, member in enumerate(members):
        rows = target.rows(left)
        found = member.perturb(rows, x[left], y[left], threat=threat, rng=rng.rows(left).child("cascade", place))
        found = ball.rows(left).quantise(found)
        audit = ball.rows(left).audit(found)
        allowed = audit.inside if bounded else audit.allowed
        moved = allowed & (found != x[left]).flatten(1).any(1)
        x_adv[left] = torch.where(columns(allowed, found), found, x_adv[left])
        rows.rows(moved.nonzero().squeeze(1)).credit(f"{place + 1} {type(member).__name__}")
        left = left[~reached(rows, found, y[left], moved, targeted=threat.targeted)]
        if len(left) == 0:
            break
    return x_adv


@hookimpl
def benchmark_component() -> type[Attack]:
    """The plugin."""
    return Cascade
