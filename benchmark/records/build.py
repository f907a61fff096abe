"""Parts of a record computed from the outcomes of a cell and the files beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.records.described import AttackInfo
from benchmark.records.durable import file_sha256
from benchmark.records.record import Audit, Counts, FileInfo, GivenUp

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.outcomes import Outcomes

__all__ = ["AuditCounts", "audit_of", "budget_of", "counts_of", "files_in", "given_up_of", "unfound"]


@dataclass(frozen=True)
class AuditCounts:
    """Number of candidates of attacked examples outside the threat, by the constraint violated."""

    outside_ball: int = 0
    outside_box: int = 0
    outside_region: int = 0
    non_finite: int = 0

    def __add__(self, other: AuditCounts) -> AuditCounts:
        mine, theirs = vars(self), vars(other)
        return AuditCounts(**{name: mine[name] + theirs[name] for name in mine})


def counts_of(outcomes: Outcomes) -> Counts:
    """Count the examples that are correct, stay correct, or could not be judged."""
    return Counts(
        total=len(outcomes),
        clean_correct=int(outcomes.clean_correct.sum()),
        robust_correct=int(outcomes.robust.sum()),
        clean_top5=int(outcomes.clean_top5.sum()),
        robust_top5=int((outcomes.robust_top5 & outcomes.valid).sum()),
        invalid=int((outcomes.attacked & ~outcomes.valid).sum()),
        spared=int(outcomes.spared.sum()),
    )


def audit_of(outcomes: Outcomes, norm: str, left: AuditCounts) -> Audit:
    """Audit of a cell: distances of the broken examples, and excess of the invalid candidates.

    Args:
        norm: of the threat. left: number of candidates outside the threat.
    """
    broken = outcomes.distances(norm)[outcomes.broken]
    excess = outcomes.excess[outcomes.attacked & ~outcomes.valid]
    finite = excess[excess.isfinite()]
    return Audit(
        max_distance=float(broken.max()) if len(broken) else 0.0,
        max_excess=float(finite.max()) if len(finite) else None,
        **vars(left),
    )


def budget_of(attack: AttackInfo, queries: int | None) -> int | None:
    """Most forward passes per example: the threat's query budget, or the attack's own setting `queries`."""
    own = attack.params.get("queries")
    known = [limit for limit in (own if isinstance(own, int) else None, queries) if limit is not None]
    return min(known) if known else None


def unfound(outcomes: Outcomes, attack: AttackInfo, budget: int | None) -> Tensor:
    """Validly attacked examples without an adversarial example, by an attack that could have continued, (N,) bool.

    With a budget, those with queries left; without one, all, if the attack is minimal.
    """
    failed = outcomes.attacked & outcomes.valid & ~outcomes.adversarial
    if budget is None:
        return failed if attack.minimal else failed & False
    return failed & (outcomes.forwards < budget)


def given_up_of(outcomes: Outcomes, attack: AttackInfo, queries: int | None) -> GivenUp | None:
    """Examples on which the attack gave up; None if there are none.

    Args:
        queries: the threat's query budget per example.
    """
    budget = budget_of(attack, queries)
    rows = unfound(outcomes, attack, budget)
    asked = outcomes.forwards[rows]
    if not len(asked):
        return None
    return GivenUp(
        examples=len(asked), asked=int(asked.sum()), left=None if budget is None else int((budget - asked).sum())
    )


def files_in(folder: Path, names: Iterable[str]) -> list[FileInfo]:
    """Size and checksum of each of the named files that exists."""
    paths = [folder / name for name in names]
    return [
        FileInfo(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in paths
        if path.is_file()
    ]
