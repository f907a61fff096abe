"""The table of defenses, written into defenses.md from the records of a store.

`python docs/defenses_table.py results`, after the suites defenses_digits, defenses_digits_oblivious,
defenses_digits_transfer and defenses_digits_l0, or any part of them: what was not run is left empty. The published
results are read by `python docs/defenses_table.py leaderboard/results`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark_leaderboard.board import Rate
from benchmark_leaderboard.cells.load import read
from benchmark_leaderboard.ranking.aggregate import aggregate
from benchmark_leaderboard.ranking.statistics import wilson
from benchmark_leaderboard.words.display import interval, percent
from marked import filled

from benchmark.errors import RecordError
from benchmark.records.record import Record

PAGE = Path(__file__).parent / "defenses.md"
AWARE, OBLIVIOUS, TRANSFER, FEW_PIXELS = (
    "defenses_digits", "defenses_digits_oblivious", "defenses_digits_transfer", "defenses_digits_l0",
)  # fmt: skip
MARK = "table: python docs/defenses_table.py STORE"

SUSPECT = 0.05
"""Share of examples by which a defense that is known to be broken may lie above the undefended system."""

BROKEN = frozenset({
    "bit_depth", "class_manifold", "defense_gan", "denoising_autoencoder", "detector_network",
    "diffusion_purification", "distillation", "energy", "feature_squeezing", "jpeg", "kernel_density",
    "local_intrinsic_dimensionality", "magnet", "mahalanobis", "max_softmax", "median_smoothing", "model_mutation",
    "mutation_testing", "non_local_means", "pixel_deflection", "random_resize_pad", "thermometer", "total_variation",
    "vae_purification",
})  # fmt: skip
"""Defenses whose robustness published adaptive attacks have taken away, and others of the same kind."""

Cells = dict[str, dict[str, list[Record]]]
"""Complete cells by the defenses of the system, then by suite."""
Worst = dict[str, Rate]
"""Robust accuracy by the defenses of the system: right, and broken by no candidate of any suite under this threat."""


def cells(store: Path) -> tuple[Cells, Worst]:
    """The official complete cells of the suites, and the worst case over them.

    Raises:
        RecordError: if the undefended system was not attacked: all is compared with it.
    """
    found: Cells = defaultdict(lambda: defaultdict(list))
    read_cells, _ = read([store / "cells" if (store / "cells").is_dir() else store])
    for cell in sorted(read_cells, key=lambda cell: cell.record.key):
        record = cell.record
        suite = (record.suite or "").partition("@")[0]
        if record.status == "complete" and record.official and suite in (AWARE, OBLIVIOUS, TRANSFER, FEW_PIXELS):
            found[" + ".join(record.system.defenses)][suite].append(record)
    if AWARE not in found.get("", {}):
        raise RecordError(f"{store} has no complete cell of {AWARE} without defenses; run benchmark run suite={AWARE}")
    boards = [b for b in aggregate(read_cells).boards if (b.protocol.conditions.suite or "").startswith(f"{AWARE}@")]
    return found, {" + ".join(row.system.defenses): row.robust for row in boards[0].rows}


def worst(records: Sequence[Record]) -> Record:
    """The cell in which the fewest examples stand; of equals the one of fewer passes."""
    return min(records, key=lambda r: (_right(r), r.cost.forwards if r.cost else 0))


def _right(record: Record) -> int:
    assert record.counts is not None
    return record.counts.robust_correct


def table(found: Cells, least: Worst) -> str:
    """The table in Markdown, in percent, the defense of the highest worst case first."""
    lines = [
        "| defense | clean | oblivious | transfer | aware | by | worst case | 95 % | JSMA, 10 pixels | attacks | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    attacked = {name: suites for name, suites in found.items() if AWARE in suites}
    for name, suites in sorted(attacked.items(), key=lambda item: (-least[item[0]].value, item[0])):
        hardest, whole = worst(suites[AWARE]), least[name]
        counts = hardest.counts
        assert counts is not None
        said = [_percent(suites.get(suite, ())) for suite in (OBLIVIOUS, AWARE, TRANSFER, FEW_PIXELS)]
        row = [
            name or "none", _share(counts.clean_correct, counts.total), said[0], said[2], said[1], hardest.attack.name,
            percent(whole.value, whole.low, whole.high), interval(whole.low, whole.high), said[3],
            str(len(suites[AWARE])), note(name, whole.value - least[""].value),
        ]  # fmt: skip
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def note(name: str, gain: float) -> str:
    """A warning where a defense that is known to be broken seems to hold: then the attack is suspect."""
    return f"suspect: {100 * gain:+.1f} points over none" if name in BROKEN and gain > SUSPECT else ""


def _percent(records: Sequence[Record]) -> str:
    if not records:
        return ""
    counts = worst(records).counts
    assert counts is not None
    return _share(counts.robust_correct, counts.total)


def _share(right: int, total: int) -> str:
    said: str = percent(right / total, *wilson(right, total))
    return said


def main(arguments: Iterable[str]) -> int:
    """Write the table of the store that is named into the page."""
    (store,) = arguments
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), {MARK: table(*cells(Path(store)))}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
