"""Tables over a share of the training images, written into defenses.md from the stores of their suites.

`python docs/shares_table.py results`, after `benchmark run suite=negatives_digits` and `benchmark run
suite=substitution_digits`. The column of fine-tuning needs `benchmark run suite=negatives_digits seed=0
system.init_from=results/systems/KEY/weights.safetensors`, where KEY is the system of that seed without negatives.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from marked import filled

from benchmark.errors import RecordError
from benchmark.records.record import Record
from benchmark.records.store import Store

PAGE = Path(__file__).parent / "defenses.md"
HOW = "python docs/shares_table.py STORE"


def by_share(
    store: Store, suite: str, kind: str, field: str, *, tuned: bool = False
) -> dict[float, dict[str, list[Record]]]:
    """Complete cells of a suite, by share and attack: those as in the suite, or those that fine-tune.

    Args:
        kind: of the plugin in the system's configuration, "defenses" or "poison". field: its share.

    Raises:
        RecordError: if there is none.
    """
    found: dict[float, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in store.records():
        started = bool(record.system.config.get("init_from"))
        if (record.suite or "").partition("@")[0] != suite or record.status != "complete" or started != tuned:
            continue
        if record.official or tuned:
            (part,) = record.system.config[kind]
            found[float(part["params"][field])][record.attack.name].append(record)
    if not found:
        raise RecordError(f"{store.root} has no cell of {suite}; run benchmark run suite={suite} first")
    return dict(sorted(found.items()))


def percent(counts: Iterable[tuple[int, int]]) -> str:
    """Mean share in percent, with the lowest and the highest of the runs; empty without one."""
    shares = [100 * count / total for count, total in counts]
    if not shares:
        return ""
    return f"{sum(shares) / len(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})"


def clean(records: Iterable[Record]) -> str:
    """Clean accuracy over the seeds."""
    return percent((r.counts.clean_correct, r.counts.total) for r in records if r.counts)


def robust(records: Iterable[Record]) -> str:
    """Robust accuracy over the seeds."""
    return percent((r.counts.robust_correct, r.counts.total) for r in records if r.counts)


def negatives(of: Mapping[float, Mapping[str, list[Record]]], tuned: Mapping[float, Mapping[str, list[Record]]]) -> str:
    """Table of training on negatives, from scratch and fine-tuned, in Markdown."""
    lines = [
        "| share of negatives added | clean | on negatives | clean, fine-tuned | on negatives, fine-tuned |",
        "|---|---|---|---|---|",
    ]
    for share, records in of.items():
        after = tuned.get(share, {}).get("negative", [])
        cells = [clean(records["negative"]), robust(records["negative"])]
        cells += [clean(after), robust(after)] if after else ["", ""]
        lines.append("| " + " | ".join([f"{share:g}", *cells]) + " |")
    return "\n".join(lines) + "\n"


def substitution(of: Mapping[float, Mapping[str, list[Record]]]) -> str:
    """Table of substituted training images, under true labels and under predicted ones, in Markdown."""
    lines = [
        "| share replaced | clean, true labels | PGD, true labels | clean, predicted labels | PGD, predicted labels |",
        "|---|---|---|---|---|",
    ]
    for share, records in of.items():
        cells = [f"{share:g}"]
        for labels in ("keep", "predicted"):
            cells.append(clean(r for r in records["none"] if _labels(r) == labels))
            cells.append(robust(r for r in records["pgd"] if _labels(r) == labels))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _labels(record: Record) -> str:
    (poison,) = record.system.config["poison"]
    return str(poison["params"]["labels"])


def main(arguments: Iterable[str]) -> int:
    """Write the tables of the store that is named into the page."""
    (root,) = arguments
    store = Store(Path(root))
    made = {
        f"negatives: {HOW}": negatives(
            by_share(store, "negatives_digits", "defenses", "share"),
            by_share(store, "negatives_digits", "defenses", "share", tuned=True),
        ),
        f"substitution: {HOW}": substitution(by_share(store, "substitution_digits", "poison", "rate")),
    }
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
