"""Consistency of the record of a cell with itself and with its arrays."""

from __future__ import annotations

import datetime
import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.errors import RecordError
from benchmark.records.record import Counts, Record, cell_key, read_record
from benchmark.registry.catalogue import catalogue
from benchmark.threat.kinds import Goal, RegionKind

from ..cells.bounds import check_lists, check_numbers
from ..cells.cell import Cell
from ..cells.evidence import OUTCOMES
from ..cells.load import KEY, RECORD
from ..cells.texts import checked_json
from .check_outcomes import MOST_EXAMPLES
from .check_settings import check_settings
from .check_sites import SITES
from .check_text import check_names
from .check_trigger import Arrays

__all__ = ["check_record", "checked_record", "first_fault"]

FIRST_YEAR = 2020
UNTARGETED = ("untargeted", "top5", "vanishing", "mislabeling", "fabrication")
"""Goals without a target label."""


def checked_record(path: Path) -> Record:
    """Read the record at `path`, and check that it is strict JSON with valid text, types and numbers."""
    name = f"cells/{path.parent.name}/{RECORD}"
    if not path.is_file():
        raise RecordError(f"{name} is missing; expected one in every cell")
    checked_json(path.read_bytes(), name)
    try:
        record = read_record(path)
    except RecordError as error:
        raise RecordError(str(error).replace(str(path), name)) from error
    _check_types(path, name)
    check_lists(record, name)
    check_numbers(record, name)
    check_names(record)
    check_settings(record, name)
    for what, key in (("key", record.key), ("system.key", record.system.key)):
        if not KEY.fullmatch(key):
            raise RecordError(f"{name} has {what} {key[:40]!r}; expected 24 hexadecimal digits")
    if record.harness and cell_key(record) != record.key:
        raise RecordError(f"{name} has the key {record.key}, but its settings give {cell_key(record)}")
    if record.status != "complete":
        raise RecordError(f"{name} is {record.status}; only complete cells can be submitted")
    if record.counts is None or not 0 < record.counts.total <= MOST_EXAMPLES:
        raise RecordError(f"{name} counts no examples, or more than {MOST_EXAMPLES}")
    if record.cost is None:
        raise RecordError(f"{name} has no cost; expected the passes that the attack used")
    if record.official and not record.suite:
        raise RecordError(f"{name} calls itself official but names no suite")
    _check_threat(record, name)
    threat = record.threat
    if threat.targeted != (threat.goal not in UNTARGETED):
        raise RecordError(f"{name} has the goal {threat.goal!r}, but targeted is {threat.targeted}")
    _check_date(record.provenance.get("created"), name)
    overrides = record.provenance.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(word, str) for word in overrides):
        raise RecordError(f"{name} has provenance.overrides that is not a list of strings")
    return record


def _check_threat(record: Record, name: str) -> None:
    """Check that goal and region are among the known ones, and that surrogates and weights are named by digests."""
    kind, _, size = record.threat.region.partition(":")
    goals, regions = ([one.value for one in kinds] for kinds in (Goal, RegionKind))
    for what, said, known in (("threat.goal", record.threat.goal, goals), ("threat.region", kind, regions)):
        if said not in known:
            raise RecordError(f"{name} has {what} {said[:40]!r}; expected one of {', '.join(known)}")
    if not re.fullmatch(r"\d{0,6}" if kind != RegionKind.file.value else r"[0-9a-f]{1,64}", size):
        raise RecordError(f"{name} has threat.region {record.threat.region[:40]!r}; expected a size, or a digest")
    if record.threat.surrogate and not all(map(KEY.fullmatch, record.threat.surrogate.split(","))):
        raise RecordError(f"{name} has threat.surrogate {record.threat.surrogate[:60]!r}; expected keys of systems")
    if not re.fullmatch("[0-9a-f]{0,64}", record.weights_sha256):
        raise RecordError(f"{name} has weights_sha256 {record.weights_sha256[:80]!r}; expected hexadecimal digits")


def _check_types(path: Path, name: str) -> None:
    """Check the JSON types strictly, because a number in quotes or a word for a boolean is ambiguous."""
    try:
        Record.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise RecordError(f"{name} is not a record of the types of its schema: {first_fault(error)}") from error


def _check_date(said: Any, name: str) -> None:
    """Check the creation time of a record, which histories and feeds show."""
    if said is None:
        return
    try:
        made = datetime.datetime.strptime(str(said), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise RecordError(
            f"{name} was created {str(said)[:40]!r}; expected a date like 2026-01-31T12:00:00Z"
        ) from error
    if made.year < FIRST_YEAR:
        raise RecordError(f"{name} was created {said}, before the first such records")
    if made > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1):
        raise RecordError(f"{name} was created {said}, in the future")


def first_fault(error: ValidationError) -> str:
    """Location and text of the first validation error."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the document'}: {fault['msg']}"


@functools.cache
def _declared(attack: str) -> Mapping[str, bool]:
    """Declarations of an attack, by its name in the record; empty for one that is not installed."""
    known = [d.supports for d in catalogue("attack") if d.declared.name == attack and d.supports]
    kinds = {"bounded": True, "minimal": False, "randomized": False}
    return {kind: bool(known[0].get(kind, usual)) for kind, usual in kinds.items()} if known else {}


def check_record(cell: Cell, a: Arrays) -> None:
    """Check counts, costs, hashes and findings of the record against its arrays."""
    record = cell.record
    assert record.cost is not None
    others = {"members", "method"} & record.attack.params.keys()  # what they can do, where it is made of others
    declared = {} if others else _declared(record.attack.name)
    for kind, is_so in declared.items():
        if getattr(record.attack, kind) is not is_so:
            raise RecordError(
                f"{cell.place} has attack.{kind} {str(not is_so).lower()}, but attack.{record.attack.name} declares "
                f"{str(is_so).lower()}"
            )
    said = record.counts
    seen = Counts(
        total=len(a["ids"]),
        clean_correct=int(a["clean_correct"].sum()),
        robust_correct=int((a["clean_correct"] & a["valid"] & ~a["broken"]).sum()),
        clean_top5=int(a["clean_top5"].sum()),
        robust_top5=int((a["robust_top5"] & a["valid"]).sum()),
        invalid=int((a["attacked"] & ~a["valid"]).sum()),
        spared=int((~a["attacked"] & ~a["valid"]).sum()),
    )
    for name, value in seen:
        if getattr(said, name) != value:
            raise RecordError(f"{cell.place} counts {name} {getattr(said, name)}, but its {OUTCOMES} gives {value}")
    passes = (int(a["forwards"].sum()), int(a["backwards"].sum()))
    if (record.cost.forwards, record.cost.backwards) != passes:
        raise RecordError(
            f"{cell.place} counts {record.cost.forwards} forward and {record.cost.backwards} backward passes, but its "
            f"{OUTCOMES} gives {passes[0]} and {passes[1]}"
        )
    labels = a.get(SITES[0], a["y"])
    digest = hashlib.sha256(a["ids"].astype("<i8").tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    if digest != record.examples_sha256:
        raise RecordError(f"{cell.place} gives a hash of its example list that differs from that of its {OUTCOMES}")
    _check_metrics(cell, seen)
    named = [finding.name for finding in record.findings]
    if seen.invalid and "invalid_candidates" not in named:
        raise RecordError(f"{cell.place} has {seen.invalid} invalid candidates but no finding that says so")
    asked = a["attacked"] & (a["backwards"] > 0)
    blind = int((a["zero_gradient"] & asked).sum())
    if 10 * blind > int(asked.sum()) and "zero_gradients" not in named:
        raise RecordError(f"{cell.place} has {blind} first gradients that are zero but no finding that says so")
    errors = [finding.name for finding in record.findings if finding.severity == "error"]
    if errors:
        raise RecordError(f"{cell.place} has the finding {errors[0]}, an error of the evaluation; fix it and run again")
    if record.splits_disjoint is not True:
        raise RecordError(f"{cell.place} does not say that training and test examples are disjoint")


def _check_metrics(cell: Cell, seen: Counts) -> None:
    """Check metrics against the counts; each may occur once."""
    counted = {
        "robust_accuracy": seen.robust_correct,
        "robust_top5_accuracy": seen.robust_top5,
        "clean_accuracy": seen.clean_correct,
        "clean_top5_accuracy": seen.clean_top5,
    }
    names = [metric.name for metric in cell.record.metrics]
    for metric in cell.record.metrics:
        if names.count(metric.name) > 1:
            raise RecordError(f"{cell.place} has the metric {metric.name} twice; expected each once")
        value = metric.value
        if value is None or metric.name not in counted:
            continue
        if abs(value - counted[metric.name] / seen.total) > 1e-6:
            raise RecordError(f"{cell.place} has a {metric.name} of {value}, but its counts give another")
        low, high = (end if end is not None else value for end in (metric.low, metric.high))
        if not low <= value <= high:
            raise RecordError(f"{cell.place} has a {metric.name} of {value} outside its interval {low} to {high}")
