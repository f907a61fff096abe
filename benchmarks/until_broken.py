"""Passes of `until=broken` against those of the full matrix, and whether the worst case is the same.

`floor` is the share that no order of the attacks can go below: the passes that the full matrix spends on the examples
that no attack breaks, since each attack must fail on each of them.

Run a sweep into one store twice, with `until=broken` and without; then
`python -m benchmarks.until_broken STORE --out benchmarks/results/until_broken.md`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.records.summary import outcomes_of
from benchmarks.timing import machine, table, write

HEAD = (
    "system, threat",
    "attacks",
    "right",
    "left",
    "passes, all",
    "passes, until broken",
    "share",
    "floor",
    "same to the example",
)


def main() -> None:
    """Read both sweeps of a store and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    store = Store(options.store)
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in store.records():
        if record.status == "complete":
            groups[f"{record.system.name}, {record.threat.name}"].append(record)
    rows, sums = [], [0, 0, 0]
    for name, records in sorted(groups.items()):
        part = _chain(records)
        whole = [record for record in records if not record.survivors_of]
        if len(part) < len(whole):
            continue
        right, left = _left(store, whole)
        spent = [sum(r.cost.forwards for r in some if r.cost) for some in (whole, part)]
        floor = sum(int(outcomes_of(store.cell(r.key))["forwards"][left].sum()) for r in whole)
        sums = [one + other for one, other in zip(sums, (*spent, floor), strict=True)]
        same = bool((left == _left(store, part)[1]).all())
        share = f"{spent[1] / spent[0]:.2f}"
        rows.append(
            (name, str(len(whole)), str(int(right.sum())), str(int(left.sum())), *map(str, spent), share,
             f"{floor / spent[0]:.2f}", "yes" if same else "NO")
        )  # fmt: skip
    shares = [f"{some / sums[0]:.2f}" for some in sums[1:]]
    rows.append(("all", "", "", "", *map(str, sums[:2]), *shares, ""))
    write(options.out, f"# Until broken\n\n{__doc__}\n{machine('cpu')}\n\n{table(HEAD, rows)}\n")


def _chain(records: list[Record]) -> list[Record]:
    """The cells of `until=broken`: the one that names the most, and those that it names."""
    last = max(records, key=lambda record: len(record.survivors_of))
    return [last, *(record for record in records if record.key in last.survivors_of)]


def _left(store: Store, records: list[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Examples that are right, and that no attack broke and one at least was tried on, (N,) bool each."""
    found = [outcomes_of(store.cell(record.key)) for record in records]
    right = np.logical_and.reduce([of["clean_correct"] for of in found])
    tried = np.logical_or.reduce([of["valid"] for of in found])
    return right, right & tried & ~np.logical_or.reduce([of["broken"] for of in found])


if __name__ == "__main__":
    main()
