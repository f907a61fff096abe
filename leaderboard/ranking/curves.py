"""Robust accuracy as a function of the radius, from the smallest known distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..board import Curve
from .statistics import Floats, area_under_curve, dkw_half_width
from .worst_case import AttackedSystem

__all__ = ["curve", "half_held", "step_points"]

POINTS = 100


def curve(row: str, label: str, runs: Sequence[AttackedSystem], names: dict[str, str], eps0: float) -> Curve | None:
    """Curve of a row, the mean over its runs; None without a minimal attack.

    Every recorded candidate counts, not only those of minimal attacks, so that the curve passes through the worst case
    of each board.

    Args:
        names: of the attacks, by column. eps0: end of the curve.
    """
    minimal = any(trial.cell.record.attack.minimal for run in runs for trial in run.trials)
    if not minimal or eps0 <= 0:
        return None
    distances = np.stack([run.distance for run in runs])
    half = dkw_half_width(distances.shape[1])
    area, low, high = area_under_curve(np.minimum(distances, eps0).mean(axis=0), eps0)
    ordered = np.sort(distances, axis=None)
    trials = [trial for run in runs for trial in run.trials]
    return Curve(
        row=row,
        label=label,
        points=tuple(
            (eps, share, max(0.0, share - half), min(1.0, share + half)) for eps, share in step_points(ordered, eps0)
        ),
        area=area,
        area_low=low,
        area_high=high,
        half=half_held(ordered),
        attacks=tuple(sorted({names[trial.column] for trial in trials})),
        keys=tuple(sorted(trial.cell.record.key for trial in trials)),
    )


def step_points(ordered: Floats, eps0: float, limit: int = POINTS) -> list[tuple[float, float]]:
    """Steps (eps, share of distances above eps) of the curve from 0 to `eps0`, at most `limit` of them.

    Every point is on the exact curve; if there are more steps, those kept are evenly spaced by rank.

    Args:
        ordered: (N,) the distances, ascending.
    """
    steps = ordered[slice(*np.searchsorted(ordered, [0.0, eps0], side="right"))]
    steps = steps[np.flatnonzero(np.diff(steps, prepend=0.0))]
    if len(steps) > limit - 1:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, limit - 1).round().astype(np.int64))]
    radii = np.concatenate([[0.0], steps])
    above = len(ordered) - np.searchsorted(ordered, radii, side="right")
    return list(zip(radii.tolist(), (above / len(ordered)).tolist(), strict=True))


def half_held(ordered: Floats) -> float | None:
    """Smallest radius exceeded by fewer than half of the distances."""
    middle = float(ordered[len(ordered) // 2])
    return middle if np.isfinite(middle) else None
