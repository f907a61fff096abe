"""The table of attacks on R-Net, written into faces.md from a store: `python docs/faces_table.py results`.

After `benchmark run suite=faces model.weights=WHEEL`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.record import Record
from benchmark.records.store import Store

PAGE = Path(__file__).parent / "faces.md"
MARK = "table: python docs/faces_table.py STORE"


def table(store: Store) -> str:
    """Robust accuracy and cost by attack and radius, in Markdown.

    Raises:
        RecordError: if there are no cells of the suite.
    """
    records = [r for r in store.records() if (r.suite or "").startswith("faces@") and r.status == "complete"]
    if not records:
        raise RecordError(f"{store.root} has no complete cell of faces; run benchmark run suite=faces")
    lines = [
        "| attack | linf | robust accuracy (95 %) | passes per patch | passes beforehand |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(record) for record in sorted(records, key=lambda r: (r.attack.name, r.threat.eps))]
    return "\n".join(lines) + "\n"


def _row(record: Record) -> str:
    assert record.counts is not None
    assert record.cost is not None
    counts, cost = record.counts, record.cost
    robust = percent(counts.robust_correct / counts.total)
    around = interval(*wilson(counts.robust_correct, counts.total))
    each = f"{(cost.forwards + cost.backwards) / counts.clean_correct:.1f}"
    before = cost.prepared_forwards + cost.prepared_backwards
    return f"| {record.attack.name} | {record.threat.eps_exact} | {robust} ({around}) | {each} | {before or ''} |"


def main(arguments: list[str]) -> int:
    """Write the table of a store into the page."""
    made = {MARK: table(Store(Path(arguments[0])))}
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
