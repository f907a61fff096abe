"""The table of the transfer study, written into transfer-study.md from the store of its suite.

`python docs/transfer_table.py results`, after `benchmark run suite=transfer_digits` and `benchmark transfer`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from marked import filled

from benchmark.errors import RecordError
from benchmark.records.arrivals import FOLDER, read_arrivals
from benchmark.records.store import Store
from benchmark.records.summary import labelled

PAGE = Path(__file__).parent / "transfer-study.md"
MARK = "table: python docs/transfer_table.py STORE"


def table(store: Store) -> str:
    """Rates of transfer in percent by architecture, sources down and targets across, in Markdown.

    Raises:
        RecordError: if no transfer was measured.
    """
    records = [record for record in store.records() if record.status == "complete"]
    labels = [one.system.partition("/")[2] for one in labelled(records)]
    names = dict(zip((record.system.key for record in records), labels, strict=True))
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for path in sorted((store.root / FOLDER).glob("*.json")):
        arrivals = read_arrivals(path)
        if arrivals is not None:
            for pair in arrivals.pairs:
                count = counts[names[pair.source], names[arrivals.target]]
                count[0] += pair.transferred
                count[1] += pair.tried
    if not counts:
        raise RecordError(f"{store.root} has no measured transfer; run benchmark transfer --store {store.root}")
    order = sorted({name for pair in counts for name in pair})
    lines = ["| made on | " + " | ".join(order) + " |", "|---|" + "---|" * len(order)]
    for source in order:
        cells = [_rate(*counts[source, target]) if (source, target) in counts else "" for target in order]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _rate(transferred: int, tried: int) -> str:
    return f"{100 * transferred / tried:.0f} of {tried}" if tried else ""


def main(arguments: list[str]) -> int:
    """Write the table of a store into the page."""
    made = table(Store(Path(arguments[0])))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), {MARK: made}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
