"""Rows of a table from records: accuracies with their intervals, cost and settings. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.errors import RecordError
from benchmark.records import naming
from benchmark.records.record import Record
from benchmark.records.statistics import wilson

__all__ = [
    "Interval",
    "clean_of",
    "figures_of",
    "in_order",
    "labelled",
    "named_in_order",
    "named_rows",
    "outcomes_of",
    "plain_rows",
    "proportion",
    "robust_of",
    "shown_rows",
]


class Interval(NamedTuple):
    """A proportion in [0, 1] with its 95 % interval (Wilson)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


def proportion(count: int, total: int) -> Interval | None:
    """`count` of `total` with its interval; None if the total is 0."""
    return Interval(count / total, *wilson(count, total)) if total else None


def robust_of(record: Record) -> Interval | None:
    """Robust accuracy of a complete cell, over all examples."""
    return None if record.counts is None else proportion(record.counts.robust_correct, record.counts.total)


def clean_of(record: Record) -> Interval | None:
    """Clean accuracy of a complete cell."""
    return None if record.counts is None else proportion(record.counts.clean_correct, record.counts.total)


class Labels(NamedTuple):
    """Display names of a cell's system, attack and threat, distinct from those of other cells."""

    system: str
    attack: str
    threat: str


def labelled(records: Sequence[Record]) -> list[Labels]:
    """Display names of each record, which differ wherever the settings do."""
    systems = naming.apart([r.system.name for r in records], [r.system.config for r in records])
    attacks = naming.apart([r.attack.label for r in records], [r.attack.params for r in records])
    told = [r.threat.model_dump(exclude={"eps", "eps_exact"}) for r in records]
    threats = naming.apart([r.threat.name for r in records], told)
    return [Labels(*names) for names in zip(systems, attacks, threats, strict=True)]


def in_order(records: Sequence[Record]) -> list[Record]:
    """Sort records by system, norm, radius, attack and seed; numbers in names count by their values."""
    return [record for record, _ in named_in_order(records)]


def named_in_order(records: Sequence[Record]) -> list[tuple[Record, Labels]]:
    """Records in the order of :func:`in_order`, with their display names, which are slow to find for thousands."""

    def place(named: tuple[Record, Labels]) -> tuple[Any, ...]:
        record, names = named
        system, threat, attack = (naming.natural(name) for name in names)
        return system, record.threat.norm, record.threat.eps, threat, attack, record.seed, record.key

    return sorted(zip(records, labelled(records), strict=True), key=place)


COLUMNS = ("system", "threat", "attack", "seed", "robust accuracy", "clean accuracy", "passes", "seconds", "status")


def shown_rows(records: Sequence[Record]) -> list[list[str]]:
    """Displayed rows under :data:`COLUMNS`, in the order of the records."""
    return named_rows(list(zip(records, labelled(records), strict=True)))


def named_rows(named: Sequence[tuple[Record, Labels]]) -> list[list[str]]:
    """Displayed rows under :data:`COLUMNS` of records with their display names."""
    rows = []
    for record, names in named:
        attacked = record.counts.clean_correct - record.counts.spared if record.counts else 0
        passes = f"{record.cost.forwards / attacked:.4g}" if record.cost and attacked else ""
        seconds = f"{record.cost.seconds:.1f}" if record.cost else ""
        values = [str(found) if (found := of(record)) else "" for of in (robust_of, clean_of)]
        status = record.status if not record.error else f"{record.status}: {record.error}"
        rows.append([names.system, names.threat, names.attack, str(record.seed), *values, passes, seconds, status])
    return rows


def plain_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One flat dictionary per record, for data frames. Metrics are under their names, with _low and _high."""
    rows = []
    for record, names in zip(records, labelled(records), strict=True):
        robust, clean = robust_of(record), clean_of(record)
        row: dict[str, Any] = {
            "key": record.key,
            "status": record.status,
            "system": names.system,
            "dataset": record.system.name.partition("/")[0],
            "model": record.system.name.partition("/")[2].partition("+")[0],
            "defenses": "+".join(record.system.defenses),
            "poison": "+".join(record.system.poison),
            "attack": names.attack,
            "norm": record.threat.norm,
            "eps": record.threat.eps,
            "threat": names.threat,
            "access": record.threat.access,
            "goal": record.threat.goal,
            "seed": record.seed,
            "suite": record.suite,
            "official": record.official,
            "examples": record.counts.total if record.counts else None,
            "invalid": record.counts.invalid if record.counts else None,
            "spared": record.counts.spared if record.counts else None,
            "forwards": record.cost.forwards if record.cost else None,
            "backwards": record.cost.backwards if record.cost else None,
            "seconds": record.cost.seconds if record.cost else None,
            "findings": ", ".join(finding.name for finding in record.findings),
            "error": record.error,
        }
        for metric in record.metrics:
            row |= {metric.name: metric.value, f"{metric.name}_low": metric.low, f"{metric.name}_high": metric.high}
        for name, found in (("clean_accuracy", clean), ("robust_accuracy", robust)):
            if found is not None:
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return rows


def outcomes_of(folder: Path) -> dict[str, Any]:
    """Arrays of `outcomes.safetensors` beside a record, as NumPy arrays.

    Raises:
        RecordError: if they cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / "outcomes.safetensors"
    try:
        return dict(load_file(str(path)))
    except (OSError, SafetensorError) as error:
        raise RecordError(f"the outcomes of a cell cannot be read at {path}: {error}") from error


def figures_of(record: Record, folder: Path) -> list[str]:
    """Figures of the certifiers and detectors of a complete cell, in a few words each; empty if it has neither.

    The certified accuracy is the fraction that is correct and certified up to the threat's radius. A refusal counts
    against clean accuracy and for robust accuracy.
    """
    if record.status != "complete" or not (record.certifiers or record.fitted_on):
        return []
    outcomes, said = outcomes_of(folder), []
    total = len(outcomes["ids"])
    if record.certifiers and total:
        held = outcomes["clean_correct"] & (outcomes["certified"] >= record.threat.eps * (1 - 1e-6))
        said.append(f"certified {proportion(int(held.sum()), total)}")
        if "certified_rows" in outcomes:
            said.append(f"median certified rows {int(sorted(outcomes['certified_rows'])[total // 2])}")
    if record.fitted_on and total:
        clean, attacked = (int((outcomes[name] == REFUSED).sum()) for name in ("clean_label", "adv_label"))
        said.append(f"refused {100 * clean / total:.1f} % clean, {100 * attacked / total:.1f} % attacked")
    return said


REFUSED = -1
"""Label of an input that a detector refused."""
