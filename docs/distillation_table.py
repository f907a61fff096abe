"""The table of distillation over its temperature, written into defenses.md from the store of its suite.

`python docs/distillation_table.py results`, after `benchmark run suite=distillation_digits`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.record import Record
from benchmark.records.store import Store
from benchmark.stages.replay import rebuilt

PAGE = Path(__file__).parent / "defenses.md"
MARK = "distillation: python docs/distillation_table.py STORE"
SUITE = "distillation_digits"
COLUMNS = ("jsma rounded", "jsma probabilities", "carlini_wagner")


def cells(store: Store) -> dict[float, dict[str, Record]]:
    """Official complete cells of the suite, by temperature and column.

    Raises:
        RecordError: if one is missing.
    """
    found: dict[float, dict[str, Record]] = {}
    for record in store.records():
        if (record.suite or "").partition("@")[0] == SUITE and record.official and record.status == "complete":
            (defense,) = record.system.config["defenses"]
            name = f"{record.attack.name} {record.attack.params.get('saliency', '')}".strip()
            found.setdefault(float(defense["params"]["temperature"]), {})[name] = record
    if not found or any(set(of) != set(COLUMNS) for of in found.values()):
        raise RecordError(f"{store.root} lacks cells of {SUITE}; run benchmark run suite={SUITE} first")
    return dict(sorted(found.items()))


def gradients(record: Record, store: Store) -> tuple[float, float]:
    """Median l1 norm of the cross-entropy's gradient at correct clean inputs, and the share that is exactly zero."""
    cell = rebuilt(record, store, Path("data"))
    x, y = cell.examples.x().requires_grad_(), cell.examples.y
    logits = cell.system.protected(x)
    (slope,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x)
    size = slope[logits.argmax(1) == y].abs().flatten(1).sum(1)
    return float(size.median()), float((size == 0).double().mean())


def table(found: Mapping[float, Mapping[str, Record]], store: Store) -> str:
    """The table in Markdown: shares in percent, of the inputs that are right without an attack."""
    lines = [
        "| temperature | clean | JSMA of 2016 | JSMA | Carlini-Wagner | gradient, median l1 | exactly zero |",
        "|---|---|---|---|---|---|---|",
    ]
    for temperature, records in found.items():
        counts = records[COLUMNS[0]].counts
        assert counts is not None
        broken = [_success(records[name]) for name in COLUMNS]
        size, zero = gradients(records[COLUMNS[0]], store)
        clean = f"{100 * counts.clean_correct / counts.total:.1f}"
        row = [f"{temperature:g}", clean, *broken, f"{size:.1g}", f"{100 * zero:.0f} %"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _success(record: Record) -> str:
    (found,) = [metric.value for metric in record.metrics if metric.name == "attack_success_rate"]
    assert found is not None
    return f"{100 * found:.1f}"


def main(arguments: Iterable[str]) -> int:
    """Write the table of the store that is named into the page."""
    (root,) = arguments
    store = Store(Path(root))
    made = {MARK: table(cells(store), store)}
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
