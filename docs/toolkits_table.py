"""The table of toolkits, written into toolkits.md from a store: `python docs/toolkits_table.py results`.

After `benchmark run suite=toolkits_digits`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.record import Record, read_record

PAGE = Path(__file__).parent / "toolkits.md"
MARK = "table: python docs/toolkits_table.py STORE"

FAMILIES = {
    "FGSM": {"fgsm", "FGSM", "FastGradientMethod", "fast_gradient_method"},
    "PGD, 10 steps": {"pgd", "LinfPGD", "ProjectedGradientDescentPyTorch",
                      "projected_gradient_descent", "PGD", "pgd_linf"},
    "MI-FGSM, 10 steps": {"mi_fgsm", "LinfMomentumIterativeFastGradientMethod", "MomentumIterativeMethod", "MIFGSM"},
    "DeepFool": {"deepfool", "LinfDeepFoolAttack", "df"},
    "APGD, 20 steps": {"apgd", "AutoProjectedGradientDescent", "APGD", "apgd-ce"},
    "Square, 200 queries": {"square", "SquareAttack", "Square"},
}  # fmt: skip
"""The same attack under its names. pyautoattack's Square has the name of the native one."""

NATIVE = "native"


def rows(store: Path) -> dict[str, list[Record]]:
    """The complete cells of the suite by family, the native one first.

    Raises:
        RecordError: if there are none.
    """
    records = [read_record(path) for path in sorted((store / "cells").glob("*/record.json"))]
    of_suite = [r for r in records if (r.suite or "").startswith("toolkits_digits@") and r.status == "complete"]
    if not of_suite:
        raise RecordError(f"{store} has no complete cell of toolkits_digits; run benchmark run suite=toolkits_digits")
    found: dict[str, list[Record]] = {}
    for family, names in FAMILIES.items():
        members = [r for r in of_suite if str(r.attack.params.get("method", r.attack.name)) in names]
        found[family] = sorted(members, key=lambda r: ("method" in r.attack.params, r.attack.name))
    return found


def table(store: Path) -> str:
    """One row per cell."""
    lines = ["| attack | through | robust accuracy (95 %) | forward | backward | seconds | not allowed |"]
    lines.append("|---|---|---|---|---|---|---|")
    for family, members in rows(store).items():
        lines += [_row(family, record) for record in members]
    return "\n".join(lines) + "\n"


def _row(family: str, record: Record) -> str:
    assert record.counts is not None
    assert record.cost is not None
    version, counts, cost = record.attack.params.get("version"), record.counts, record.cost
    through = f"{record.attack.name} {version}" if version else NATIVE
    low, high = wilson(counts.robust_correct, counts.total)
    robust = f"{percent(counts.robust_correct / counts.total)} ({interval(low, high)})"
    each = [f"{passes / counts.clean_correct:.1f}" for passes in (cost.forwards, cost.backwards)]
    return f"| {family} | {through} | {robust} | {each[0]} | {each[1]} | {cost.seconds:.2g} | {counts.invalid} |"


def main(store: Path) -> int:
    """Write the table into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), {MARK: table(store)}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
