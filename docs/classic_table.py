"""The classic tables, written into classic-table.md from the records of a store.

`python docs/classic_table.py results`, after `benchmark run suite=classic_digits`, `suite=classic_fashion`,
`suite=googlenet_fashion` or `suite=classic_mnist_5k`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmark_leaderboard.literature.published_numbers import Number, load_published
from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.record import Record, read_record

PAGE = Path(__file__).parent / "classic-table.md"
SUITE, MODEL = "classic_digits", "lenet"
MARK = "table: python docs/classic_table.py STORE"
TABLES = {
    MARK: (SUITE, MODEL),
    "fashion lenet: python docs/classic_table.py STORE": ("classic_fashion", "lenet"),
    "fashion mlp: python docs/classic_table.py STORE": ("classic_fashion", "mlp"),
    "fashion googlenet: python docs/classic_table.py STORE": ("googlenet_fashion", "googlenet"),
    "mnist lenet: python docs/classic_table.py STORE": ("classic_mnist_5k", "lenet"),
    "mnist mlp: python docs/classic_table.py STORE": ("classic_mnist_5k", "mlp"),
}
"""Suite and network of each table, by its mark on the page."""

ROWS = {
    "none": ("clean", ""),
    "noise": ("noise, uniform in linf 0.3", "noise"),
    "negative": ("semantic: the negative", "semantic"),
    "fgsm": ("FGSM, 0.3", "fgsm"),
    "bim": ("BIM, 0.3", "bim"),
    "pgd": ("PGD, 10 steps of 0.05 to 0.3", "pgd"),
    "deepfool": ("DeepFool, overshoot 0.02, 50 steps", "deepfool"),
    "carlini_wagner": ("Carlini-Wagner, linf, 100 steps", "carlini_wagner"),
}
"""By plugin: what the row is called, and what the published table calls the attack."""

LEFT_OUT = {"googlenet_fashion": {"carlini_wagner"}}
"""Rows that a suite does not have."""

PUBLISHED = {"lenet": "scratchai", "googlenet": "googlenet_mnist"}
"""Source of the published figures, on MNIST, of each network that has any."""


def rows_of(suite: str) -> list[str]:
    """Attacks of the table of a suite."""
    return [name for name in ROWS if name not in LEFT_OUT.get(suite, ())]


def records(store: Path, suite: str = SUITE, model: str = MODEL) -> dict[str, Record]:
    """The official cells of a suite on one of its networks, by attack; none if there is no cell of the suite.

    store: a store, or the folder of published results.

    Raises:
        RecordError: if some are missing.
    """
    found = {}
    folder = store / "cells" if (store / "cells").is_dir() else store / f"{suite}-1"
    for path in sorted(folder.glob("*/record.json")):
        record = read_record(path)
        of_suite = (record.suite or "").partition("@")[0] == suite and record.official
        its_own = record.system.model == model and not (record.system.defenses or record.system.poison)
        if of_suite and its_own and record.status == "complete":
            found[record.attack.name] = record
    missing = [name for name in rows_of(suite) if name not in found]
    if missing and found:
        raise RecordError(f"{store} has no complete cell of {suite} for {', '.join(missing)}; run the suite first")
    return {name: found[name] for name in rows_of(suite) if found}


def published(model: str = MODEL) -> dict[tuple[str, int], Number]:
    """The figures for a network on MNIST, by attack and 1 or 5; none for one without a source."""
    entries = [entry for source in load_published() if source.key == PUBLISHED.get(model) for entry in source.entries]
    own = [entry for entry in entries if entry.system == model]
    if not own:
        return {}
    (entry,) = own
    return {(number.attack, 5 if "top5" in number.metric else 1): number for number in entry.numbers}


def table(cells: Mapping[str, Record]) -> str:
    """The table in Markdown, in percent; published figures beside those of the network that they are of."""
    known = published(cells["none"].system.model)
    lines = [
        "| attack | top-1 | 95 % | top-5 | 95 % | passes | published top-1 | published top-5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in cells.items():
        (title, called), counts, cost = ROWS[name], record.counts, record.cost
        assert counts is not None
        assert cost is not None
        measured = [_measured(right, counts.total) for right in (counts.robust_correct, counts.robust_top5)]
        passes = f"{(cost.forwards + cost.backwards) / max(1, counts.clean_correct):.4g}"
        cited = [_cited(known.get((called, top))) for top in (1, 5)]
        lines.append("| " + " | ".join([title, *measured[0], *measured[1], passes, *cited]) + " |")
    return "\n".join(lines) + "\n"


def _measured(right: int, total: int) -> tuple[str, str]:
    low, high = wilson(right, total)
    return percent(right / total, low, high), interval(low, high)


def _cited(number: Number | None) -> str:
    return "" if number is None else f"{100 * number.value:.4g}" + ("*" if number.evidence == "secondary" else "")


def main(arguments: Iterable[str]) -> int:
    """Write the tables of the suites in the store that is named into the page.

    Raises:
        RecordError: if the store has no cell of any of them.
    """
    (store,) = arguments
    found = {mark: records(Path(store), *of) for mark, of in TABLES.items()}
    made = {mark: table(cells) for mark, cells in found.items() if cells}
    if not made:
        suites = sorted({suite for suite, _ in TABLES.values()})
        raise RecordError(f"{store} has no complete cell of {' or '.join(suites)}; run one of these suites first")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
