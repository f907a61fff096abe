"""The parts of a record that follow from the outcomes of a cell and the files beside it."""

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
    """Numbers of candidates of attacked examples that left the threat, by the part of it that they left."""

    outside_ball: int = 0
    outside_box: int = 0
    outside_region: int = 0
    non_finite: int = 0

    def __add__(self, other: AuditCounts) -> AuditCounts:
        mine, theirs = vars(self), vars(other)
        return AuditCounts(**{name: mine[name] + theirs[name] for name in mine})


def counts_of(outcomes: Outcomes) -> Counts:
    """Count the examples that were right, stayed right, and could not be judged."""
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
    """The audit of a cell: how far broken examples lie, and how far invalid candidates were outside.

    Args:
        norm: of the threat. left: the candidates that left the threat.
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
    """Forward passes per example that an attack could make: those of the threat, or of its own setting `queries`."""
    own = attack.params.get("queries")
    known = [limit for limit in (own if isinstance(own, int) else None, queries) if limit is not None]
    return min(known) if known else None


def unfound(outcomes: Outcomes, attack: AttackInfo, budget: int | None) -> Tensor:
    """(N,) bool: examples that were attacked validly with nothing found, by an attack that could have gone on.

    With a budget, those of which queries are left; without one, all, if the attack looks for the smallest perturbation.
    """
    failed = outcomes.attacked & outcomes.valid & ~outcomes.adversarial
    if budget is None:
        return failed if attack.minimal else failed & False
    return failed & (outcomes.forwards < budget)


def given_up_of(outcomes: Outcomes, attack: AttackInfo, queries: int | None) -> GivenUp | None:
    """The examples that the attack gave up; None if there are none.

    Args:
        queries: that the threat allows per example.
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
