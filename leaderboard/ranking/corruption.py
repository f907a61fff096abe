"""Mean corruption errors of a board whose attacks are corruptions. Hendrycks & Dietterich, ICLR 2019, section 3.

Corruptions differ in difficulty, so each family's error is divided by that of a baseline system before families are
averaged (arXiv:1903.12261).

Difference from the paper: an example that is misclassified without corruption counts as an error, since only correct
ones are given to an attack. So no corruption error is below the clean error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from ..board import Board, Rate, Row
from ..words.display import count, interval, percent
from ..words.downloads import DownloadTable
from ..words.wording import words
from .statistics import wilson

__all__ = [
    "FAMILIES",
    "Corrupted",
    "CorruptionErrors",
    "corruption_errors",
    "corruption_table",
    "mean_corruption_error",
    "relative_mean_corruption_error",
]

FAMILIES = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)
Errors = Mapping[str, Sequence[float]]
"""Error at each severity, as a share, by family."""


def mean_corruption_error(errors: Errors, baseline: Errors) -> float | None:
    """Mean over families of the sum of errors divided by the baseline's (mCE); 1 is as good as the baseline.

    None if the baseline makes no error in a family.
    """
    return _mean_ratio({f: fsum(e) for f, e in errors.items()}, {f: fsum(baseline[f]) for f in errors})


def relative_mean_corruption_error(
    errors: Errors, clean: float, baseline: Errors, baseline_clean: float
) -> float | None:
    """Mean over families of added error over the baseline's (relative mCE); below 1 loses less than the baseline.

    None if the baseline loses nothing in a family.
    """
    return _mean_ratio(
        {f: fsum(e) - len(e) * clean for f, e in errors.items()},
        {f: fsum(baseline[f]) - len(baseline[f]) * baseline_clean for f in errors},
    )


def _mean_ratio(errors: Mapping[str, float], baseline: Mapping[str, float]) -> float | None:
    if not errors or any(baseline[family] <= 1e-12 for family in errors):
        return None
    return fsum(error / baseline[family] for family, error in errors.items()) / len(errors)


@dataclass(frozen=True)
class Corrupted:
    """A system under corruptions. clean: its clean error, a share with its interval.

    families: error per family, the mean over the severities with the interval of a single one; None if a severity was
    not run. mean: over the families, None unless all were run. mce, relative: see the functions above.
    """

    row: Row
    clean: Rate
    families: tuple[Rate | None, ...]
    mean: Rate | None
    mce: float | None
    relative: float | None


@dataclass(frozen=True)
class CorruptionErrors:
    """Corruption errors of the systems of a board, the smallest mean first.

    baseline: the undefended system with the smallest clean error, by which all are divided; None if there is none.
    families: those with all severities for some system. complete: these are all families of the benchmark.
    """

    baseline: Row | None
    families: tuple[str, ...]
    lines: tuple[Corrupted, ...]

    @property
    def complete(self) -> bool:
        """True if these are all families of the benchmark."""
        return len(self.families) == len(FAMILIES)


def corruption_errors(board: Board) -> CorruptionErrors | None:
    """Corruption errors of a board; None if no family was run at every severity."""
    errors = {row.key: _errors(board, row) for row in board.rows}
    families = tuple(family for family in FAMILIES if any(family in found for found in errors.values()))
    if not families:
        return None
    plain = [row for row in board.rows if not (row.system.defenses or row.system.poison)]
    plain = [row for row in plain if len(errors[row.key]) == len(families)]
    baseline = min(plain, key=lambda row: (-row.clean.value, row.key), default=None)
    lines = [_line(row, errors[row.key], families, baseline, errors) for row in board.rows]
    lines.sort(
        key=lambda line: (line.mce is None, line.mce or 0.0, line.mean.value if line.mean else 1.0, line.row.key)
    )
    return CorruptionErrors(baseline, families, tuple(lines))


def _errors(board: Board, row: Row) -> dict[str, list[float]]:
    """Errors of a row by family, for families with every severity."""
    found: dict[tuple[str, int], float] = {}
    for column, score in zip(board.columns, row.scores, strict=True):
        kind, severity = column.params.get("kind"), column.params.get("severity")
        usual = column.params.get("amount") is None and column.params.get("draws", 1) == 1
        if column.name == "corruption" and usual and score is not None and kind in FAMILIES and severity in SEVERITIES:
            found[str(kind), int(severity)] = 1.0 - score.robust.value
    whole = [family for family in FAMILIES if all((family, severity) in found for severity in SEVERITIES)]
    return {family: [found[family, severity] for severity in SEVERITIES] for family in whole}


def _line(
    row: Row, errors: Errors, families: Sequence[str], baseline: Row | None, everyone: Mapping[str, Errors]
) -> Corrupted:
    clean, total = 1.0 - row.clean.value, row.clean.total
    shares = {family: fsum(errors[family]) / len(SEVERITIES) for family in errors}
    whole = len(errors) == len(families)
    mce = relative = None
    if whole and baseline is not None:
        reference = everyone[baseline.key]
        mce = mean_corruption_error(errors, reference)
        relative = relative_mean_corruption_error(errors, clean, reference, 1.0 - baseline.clean.value)
    return Corrupted(
        row=row,
        clean=_rate(clean, total),
        families=tuple(_rate(shares[family], total) if family in shares else None for family in families),
        mean=_rate(fsum(shares.values()) / len(shares), total) if whole else None,
        mce=mce,
        relative=relative,
    )


def _rate(share: float, total: int) -> Rate:
    """Share with its interval; severities share their examples, so they do not add to `total`."""
    wrong = min(max(share, 0.0), 1.0) * total
    return Rate(wrong, total, share, *wilson(wrong, total))


def corruption_table(board: Board, found: CorruptionErrors) -> DownloadTable:
    """Download table with one line per system."""
    against = found.baseline.label if found.baseline else "none"
    of = board.protocol.conditions
    return DownloadTable(
        f"Corruption errors on {count(of.total)} {words(of.dataset)} examples, means over five "
        f"severities, in percent with 95 % Wilson intervals; mean corruption errors against {against}.",
        [
            {
                "system": line.row.label,
                "baseline": against,
                "mce": line.mce,
                "relative_mce": line.relative,
                "clean_error": line.clean.value,
                "mean_error": line.mean.value if line.mean else None,
                **{f: rate.value if rate else None for f, rate in zip(found.families, line.families, strict=True)},
            }
            for line in found.lines
        ],
        ("System", "mCE", "Relative mCE", "Clean error", "95 %", "Mean error", "95 %", *found.families),
        [
            (
                line.row.label,
                percent(line.mce),
                percent(line.relative),
                *_both(line.clean),
                *_both(line.mean),
                *(_both(rate)[0] for rate in line.families),
            )
            for line in found.lines
        ],
        {"protocol": board.protocol.document, "baseline": against},
    )


def _both(rate: Rate | None) -> tuple[str, str]:
    if rate is None:
        return percent(None), ""
    return percent(rate.value, rate.low, rate.high), interval(rate.low, rate.high)
