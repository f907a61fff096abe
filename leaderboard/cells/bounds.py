"""Allowed ranges of a record's numbers, so that no sum overflows and no page shows impossible values."""

from __future__ import annotations

from collections.abc import Iterator, Sized

from benchmark.errors import RecordError
from benchmark.records.card import Card
from benchmark.records.record import Record

__all__ = ["LONGEST_LISTS", "check_card_bounds", "check_lists", "check_numbers"]

MOST_EXAMPLES_COUNTED = 10_000_000
MOST_PASSES_OF_A_CELL = 10**15
MOST_SECONDS = 1e10
"""Longest accepted computing time: three hundred years, in seconds."""
MOST_BYTES = 1 << 50
AMOUNT = 1e15
"""Largest accepted magnitude of a metric."""
EOT = 1_000_000
QUERIES = 10**12
MOST_WARNINGS = 100
LARGEST_SEED = (1 << 63) - 1

LONGEST_LISTS = {"metrics": 500, "findings": 100, "files": 16, "splits": 16, "defenses": 16, "poison": 16,
                 "certifiers": 16, "measured_by": 200, "survivors_of": 1000, "path": 200, "fitted_on": 16}  # fmt: skip
LONGEST_EVIDENCE = 1000
LONGEST_UNIT = 40
"""Largest number of entries of each list."""

Range = tuple[str, float | None, float, float]


def check_numbers(record: Record, place: str) -> None:
    """Check every number of a record against its range; errors call the record `place`.

    Raises:
        RecordError: naming the first number out of range.
    """
    _check(_numbers(record), place)


def check_lists(record: Record, place: str) -> None:
    """Check the lengths of the lists of a record, and of the texts that boards show.

    Raises:
        RecordError: naming the first one that is too long.
    """
    lists: dict[str, Sized] = {
        "metrics": record.metrics, "findings": record.findings, "files": record.files, "splits": record.splits,
        "defenses": record.system.defenses, "poison": record.system.poison, "certifiers": record.certifiers,
        "measured_by": record.measured_by, "survivors_of": record.survivors_of, "path": record.path,
        "fitted_on": record.fitted_on,
    }  # fmt: skip
    for name, entries in lists.items():
        if len(entries) > LONGEST_LISTS[name]:
            raise RecordError(f"{place} has {len(entries)} {name}; expected at most {LONGEST_LISTS[name]}")
    texts = [(f"evidence of {finding.name}", finding.evidence, LONGEST_EVIDENCE) for finding in record.findings]
    texts += [(f"unit of {metric.name}", metric.unit, LONGEST_UNIT) for metric in record.metrics]
    for name, text, most in texts:
        if len(text) > most:
            raise RecordError(f"{place} has {len(text)} characters in the {name[:60]}; expected at most {most}")


def check_card_bounds(card: Card, place: str) -> None:
    """Check the numbers of a card against their ranges.

    Raises:
        RecordError: naming the first number out of range.
    """
    counts = ("train_examples", "poisoned_examples", "select_correct", "select_total", "test_correct", "test_total")
    if len(card.warnings) > MOST_WARNINGS:
        raise RecordError(f"{place} has {len(card.warnings)} warnings; expected at most {MOST_WARNINGS}")
    _check(
        [
            ("seed", card.seed, 0, LARGEST_SEED),
            ("parameters", card.parameters, 0, 10**13),
            ("seconds", card.seconds, 0, MOST_SECONDS),
            ("epochs_run", card.epochs_run, 0, 10**9),
            ("selected_epoch", card.selected_epoch, 0, 10**9),
            ("robust_selection", card.robust_selection, 0, 1),
            *((name, getattr(card, name), 0, 10 * MOST_EXAMPLES_COUNTED) for name in counts),
        ],
        place,
    )


def _check(numbers: Iterator[Range] | list[Range], place: str) -> None:
    for name, value, low, high in numbers:
        if value is not None and not low <= value <= high:
            raise RecordError(f"{place} has {name} {value!r}; expected {low:g} to {high:g}")


def _numbers(record: Record) -> Iterator[Range]:
    threat, cost, audit = record.threat, record.cost, record.audit
    yield "seed", record.seed, 0, LARGEST_SEED
    yield "threat.eps", threat.eps, 0, 1e12
    yield "threat.eot", threat.eot, 1, EOT
    yield "threat.queries", threat.queries, 1, QUERIES
    yield "threat.levels", threat.levels, 2, 65536
    for name, count in record.counts or ():
        yield f"counts.{name}", count, 0, MOST_EXAMPLES_COUNTED
    if cost is not None:
        yield "cost.seconds", cost.seconds, 0, MOST_SECONDS
        yield "cost.peak_memory_bytes", cost.peak_memory_bytes, 0, MOST_BYTES
        for name in ("forwards", "backwards", "prepared_forwards", "prepared_backwards"):
            yield f"cost.{name}", getattr(cost, name), 0, MOST_PASSES_OF_A_CELL
    if audit is not None:
        for name in ("outside_ball", "outside_box", "outside_region", "non_finite"):
            yield f"audit.{name}", getattr(audit, name), 0, MOST_EXAMPLES_COUNTED
        yield "audit.max_distance", audit.max_distance, 0, AMOUNT
        yield "audit.max_excess", audit.max_excess, 0, AMOUNT
    for metric in record.metrics:
        for part in ("value", "low", "high"):
            yield f"the {part} of the metric {metric.name}", getattr(metric, part), -AMOUNT, AMOUNT
    yield "examples", record.examples, 1, MOST_EXAMPLES_COUNTED
    for name, broken in record.path.items():
        yield f"path.{name}", broken, 0, MOST_EXAMPLES_COUNTED
    for name, count in record.given_up or ():
        yield f"given_up.{name}", count, 0, MOST_PASSES_OF_A_CELL
    for name, split in record.splits.items():
        yield f"splits.{name}.count", split.count, 0, 10**12
    for file in record.files:
        yield f"the bytes of {file.path}", file.bytes, 0, MOST_BYTES
