"""The parts of a record that follow from the outcomes of a cell and the files beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.records.record import Audit, Counts, FileInfo, file_sha256

if TYPE_CHECKING:
    from benchmark.records.outcomes import Outcomes

__all__ = ["AuditCounts", "audit_of", "counts_of", "files_in"]


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


def files_in(folder: Path, names: Iterable[str]) -> list[FileInfo]:
    """Size and checksum of the files of these names, as far as they are there."""
    paths = [folder / name for name in names]
    return [
        FileInfo(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in paths
        if path.is_file()
    ]
