"""The tables of defenses, written into defenses.md from the records of a store.

`python docs/defenses_table.py results`, after the suites defenses_digits, defenses_digits_oblivious,
defenses_digits_transfer, defenses_digits_l0 and defenses_fashion, or any part of them: what was not run is left empty.
The published results are read by `python docs/defenses_table.py leaderboard/results`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
CLOTHES = "defenses_fashion"
SUITES = (AWARE, OBLIVIOUS, TRANSFER, FEW_PIXELS, CLOTHES)
MARK, DETECTORS, FASHION = (
    f"{name}: python docs/defenses_table.py STORE" for name in ("table", "detectors", "fashion")
)
SHOWN = ("fgsm", "pgd", "deepfool", "carlini_wagner", "square")
"""Attacks whose detection is shown."""

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
Worst = dict[str, dict[str, Rate]]
"""By suite, then by the defenses of the system: right, and broken by no candidate of any suite under this threat."""


def cells(store: Path) -> tuple[Cells, Worst]:
    """The official complete cells of the suites, and the worst cases over them.

    Raises:
        RecordError: if the undefended system was not attacked: all is compared with it.
    """
    found: Cells = defaultdict(lambda: defaultdict(list))
    read_cells, _ = read([store / "cells" if (store / "cells").is_dir() else store])
    for cell in sorted(read_cells, key=lambda cell: cell.record.key):
        record = cell.record
        suite = (record.suite or "").partition("@")[0]
        if record.status == "complete" and record.official and suite in SUITES:
            found[" + ".join(record.system.defenses)][suite].append(record)
    if AWARE not in found.get("", {}):
        raise RecordError(f"{store} has no complete cell of {AWARE} without defenses; run benchmark run suite={AWARE}")
    least: Worst = {}
    for board in aggregate(read_cells).boards:
        suite = (board.protocol.conditions.suite or "").partition("@")[0]
        least[suite] = {" + ".join(row.system.defenses): row.robust for row in board.rows}
    return found, least


def worst(records: Sequence[Record]) -> Record:
    """The cell in which the fewest examples stand; of equals the one of fewer passes."""
    return min(records, key=lambda r: (_right(r), r.cost.forwards if r.cost else 0))


def _right(record: Record) -> int:
    assert record.counts is not None
    return record.counts.robust_correct


def table(found: Cells, least: Mapping[str, Rate]) -> str:
    """Table of the digits in Markdown, in percent, the defense of the highest worst case first."""
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


def clothes(found: Cells, least: Mapping[str, Rate]) -> str:
    """The table of Fashion-MNIST in Markdown, in percent, the defense of the highest worst case first."""
    lines = [
        "| defense | clean | noise | FGSM | worst case | 95 % | attacks | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    attacked = {name: suites[CLOTHES] for name, suites in found.items() if CLOTHES in suites}
    for name, records in sorted(attacked.items(), key=lambda item: (-least[item[0]].value, item[0])):
        counts, whole = records[0].counts, least[name]
        assert counts is not None
        alone = [_percent([r for r in records if r.attack.name == attack]) for attack in ("noise", "fgsm")]
        row = [
            name or "none", _share(counts.clean_correct, counts.total), *alone,
            percent(whole.value, whole.low, whole.high), interval(whole.low, whole.high), str(len(records)),
            note(name, whole.value - least[""].value),
        ]  # fmt: skip
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def detectors(found: Cells) -> str:
    """Table of detectors in Markdown: AUROC, and rate of detection at 5 % false positives, of oblivious attacks."""
    lines = [
        "| detector | fitted on | refuses clean | " + " | ".join(SHOWN) + " |",
        "|---|---|---|" + "---|" * len(SHOWN),
    ]
    for name, suites in sorted(found.items()):
        records = {r.attack.name: r for r in suites.get(OBLIVIOUS, ()) if name in r.fitted_on}
        if not records:
            continue
        seen = next(iter(records.values())).fitted_on[name]
        values = {attack: _values(record) for attack, record in records.items()}
        row = [name, ", ".join(seen) or "clean inputs", f"{100 * next(iter(values.values()))['clean_refused']:.1f}"]
        for attack in SHOWN:
            of = values.get(attack, {})
            measured = "detection_auroc" in of
            said = f"{of['detection_auroc']:.2f}, {100 * of['detection_rate_at_5_percent']:.0f} %" if measured else ""
            row.append(f"{said} (seen)" if said and attack in seen else said)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in record.metrics if metric.value is not None}


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
    found, least = cells(Path(store))
    made = {MARK: table(found, least[AWARE]), DETECTORS: detectors(found)}
    if CLOTHES in least:
        made[FASHION] = clothes(found, least[CLOTHES])
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
