"""arithmetic: check that a record agrees with itself and with its outcomes, without data and system.

The key follows from the settings; threat and attack are described as their plugins describe them; counts, metrics,
audit and cost follow from the outcomes; and no row of these contradicts itself (:mod:`.contradictions`).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config.describe import parsed_threat, threat_info
from benchmark.errors import RecordError, Refused
from benchmark.records.build import AuditCounts, audit_of, counts_of, given_up_of
from benchmark.records.document import system_key
from benchmark.records.durable import file_sha256
from benchmark.records.record import GIVEN, Record, cell_key
from benchmark.stages.contradictions import check_rows

if TYPE_CHECKING:
    from benchmark.records.outcomes import Outcomes

__all__ = ["checked_outcomes"]


CLOSE = 1e-6
"""Relative tolerance of recomputed numbers, for another order of summation."""


def checked_outcomes(folder: Path, record: Record) -> Outcomes:
    """Read the outcomes beside a record, and check that the two agree.

    Raises:
        RecordError: naming the first contradiction.
    """
    from safetensors import SafetensorError

    from benchmark.records.outcomes import OUTCOMES, WITNESS, Outcomes

    names = [file.path for file in record.files]
    if not {OUTCOMES, WITNESS} <= {*names} or len({*names}) != len(names):
        raise RecordError(f"the record names the files {sorted(names)}; expected {OUTCOMES} and {WITNESS}, each once")
    for file in record.files:
        path = folder / Path(file.path).name
        if not path.is_file() or file_sha256(path) != file.sha256 or path.stat().st_size != file.bytes:
            raise RecordError(f"{path} is missing or does not have the sha256 in the record")
    try:
        outcomes = Outcomes.load(folder / OUTCOMES)
    except (SafetensorError, TypeError) as error:
        raise RecordError(f"{folder / OUTCOMES} does not contain the arrays of outcomes: {error}") from error
    _check_shapes(record, outcomes)
    _check_description(record)
    _check_keys(record)
    check_rows(record, outcomes)
    _check_sums(record, outcomes)
    _check_metrics(record, outcomes)
    return outcomes


# --- the record by itself ---


def _check_description(record: Record) -> None:
    """Check that threat, attack and system are consistent in all their fields."""
    said, system = record.threat, record.system
    if threat_info(parsed_threat(said), by_content=False) != said:
        raise RecordError(f"the threat contradicts itself: {said.name}")
    config = system.config
    try:
        parts = [config["dataset"]["name"], config["model"]["name"]]
        lists = [[part["name"] for part in config[kind]] for kind in ("defenses", "poison")]
    except (KeyError, TypeError) as error:
        raise RecordError(f"system.config has no {error}, which is needed to build the system") from error
    if parts != [system.dataset, system.model] or lists != [system.defenses, system.poison]:
        raise RecordError(f"the system is called {system.name}, but its settings are those of another")
    if record.error is not None:
        raise RecordError("the record is complete, but has an error")
    if record.splits_disjoint is not True:
        raise RecordError("test inputs are also training or selection inputs: they say nothing about new ones")
    if record.attack.name != GIVEN:
        _check_attack(record)


def _check_attack(record: Record) -> None:
    from benchmark.config.check import check_attack
    from benchmark.config.describe import attack_info
    from benchmark.stages.rebuild import component

    said = record.attack
    attack = component("attack", {"name": said.name, "params": said.params})
    now = attack_info(attack)
    same = now.version == said.version and _versions(now.params) == _versions(said.params)
    fields = ["minimal", "randomized", "bounded", "distribution", *(["params"] if same else [])]
    for field in fields:
        if getattr(now, field) != getattr(said, field):
            raise RecordError(
                f"the record gives attack.{said.name} the {field} {getattr(said, field)!r}, but the installed one has "
                f"{getattr(now, field)!r}"
            )
    try:
        check_attack(attack, parsed_threat(record.threat))
    except Refused as error:
        raise RecordError(f"the harness refuses cells with these settings: {error}") from error


def _versions(params: object) -> list[object]:
    """Versions of the plugins inside a plugin, in the order of its settings."""
    if isinstance(params, dict):
        own = [params["version"]] if {"name", "version"} <= params.keys() else []
        return own + [version for key in sorted(params) for version in _versions(params[key])]
    return [version for one in params for version in _versions(one)] if isinstance(params, list) else []


def _check_keys(record: Record) -> None:
    """Check that keys follow from the settings; those of 0.1 do not follow from a record alone."""
    system = record.system
    if "harness" in system.config:
        expected = system_key(system.config, record.seed, record.dataset_revision)
        if system.key != expected:
            raise RecordError(f"the settings of the system give the key {expected}, but the record has {system.key}")
    if record.harness and cell_key(record) != record.key:
        raise RecordError(f"the settings of the cell give the key {cell_key(record)}, but the record has {record.key}")


# --- the record and its outcomes ---


def _check_shapes(record: Record, outcomes: Outcomes) -> None:
    import torch

    from benchmark.records.columns import COLUMN_TYPES
    from benchmark.records.outcomes import SITES

    kinds = {"I64": torch.int64, "BOOL": torch.bool, "F32": torch.float32}
    for name, values in outcomes.tensors().items():
        if name in SITES:
            continue
        kind = kinds[COLUMN_TYPES[name]]
        if values.dtype != kind or values.ndim != (2 if name == "reached" else 1) or len(values) != len(outcomes.ids):
            raise RecordError(f"{name} in the outcomes is {values.dtype} {list(values.shape)}; expected {kind}, one "
                              f"row for each of {len(outcomes.ids)} examples")  # fmt: skip
    _check_sites(outcomes)
    if (outcomes.reached is not None) != (record.threat.goal == "all"):
        raise RecordError("the outcomes must have an array `reached` if and only if the goal is all")
    if len(outcomes.ids.unique()) != len(outcomes.ids):
        raise RecordError("the outcomes contain an example twice")


def _check_sites(outcomes: Outcomes) -> None:
    """Check that labels and predictions per site are both present, of equal numbers of rows and sites."""
    import torch

    from benchmark.records.outcomes import SITES

    found = [getattr(outcomes, name) for name in SITES]
    if all(values is None for values in found):
        return
    if any(values is None for values in found) or len({tuple(values.shape[:2]) for values in found}) != 1:
        raise RecordError(f"the outcomes must have {', '.join(SITES)} together and of one size, or none of them")
    whole = found[0].dtype == torch.int16 and found[1].dtype == found[2].dtype
    if not whole or len(found[0]) != len(outcomes.ids) or found[1].dtype not in (torch.int16, torch.float32):
        raise RecordError("labels and predictions per site in the outcomes have unexpected dtypes")


def _check_sums(record: Record, outcomes: Outcomes) -> None:
    """Check counts, audit, cost and the list of examples."""
    said = counts_of(outcomes)
    if record.counts != said:
        raise RecordError(f"the record has {record.counts}, but its outcomes give {said}")
    audit, cost = record.audit, record.cost
    if audit is None or cost is None:
        raise RecordError("the record is complete, but has no audit or no cost")
    left = AuditCounts(audit.outside_ball, audit.outside_box, audit.outside_region, audit.non_finite)
    expected = audit_of(outcomes, record.threat.norm, left)
    if not (_same(audit.max_distance, expected.max_distance) and _same(audit.max_excess, expected.max_excess)):
        raise RecordError(f"the audit is {audit}, but the outcomes give {expected}")
    _check_left(record, outcomes, left)
    given_up = given_up_of(outcomes, record.attack, record.threat.queries)
    if record.given_up not in (None, given_up):  # records made before the field was there have none
        raise RecordError(f"the record says that the attack gave up on {record.given_up}, its outcomes give {given_up}")
    passes = int(outcomes.forwards.sum()), int(outcomes.backwards.sum())
    if (cost.forwards, cost.backwards) != passes:
        raise RecordError(
            f"the record counts {cost.forwards} forward and {cost.backwards} backward passes, but its outcomes give "
            f"{passes[0]} and {passes[1]}"
        )
    if min(cost.seconds, cost.peak_memory_bytes, cost.prepared_forwards, cost.prepared_backwards) < 0:
        raise RecordError("the record has a negative cost")
    sha = hashlib.sha256()
    for values in (outcomes.ids, outcomes.y if outcomes.sites is None else outcomes.sites):
        sha.update(values.numpy().astype("<i8").tobytes())
    if sha.hexdigest() != record.examples_sha256:
        raise RecordError("the example list of the outcomes is not the one in the record")


def _check_left(record: Record, outcomes: Outcomes, left: AuditCounts) -> None:
    """Check the numbers of candidates outside each part of the threat, as far as the rows show."""
    bad = outcomes.attacked & ~outcomes.valid
    invalid, numbers = int(bad.sum()), vars(left)
    if record.threat.goal == "all":  # of each example several candidates, of which the rows show one
        return
    infinite = int((bad & outcomes.excess.isinf()).sum())
    parts = [numbers[name] for name in numbers if name != "non_finite"]
    if min(numbers.values()) < 0 or max(parts) + infinite > invalid or left.non_finite != infinite:
        raise RecordError(f"the audit counts {numbers}, but {invalid} rows are invalid, {infinite} of them not finite")


def _check_metrics(record: Record, outcomes: Outcomes) -> None:
    """Check every metric with the plugins in the record; in records of 0.1, those that follow from the counts."""
    from benchmark.stages.measure import measure
    from benchmark.stages.rebuild import component

    if record.harness:
        expected = measure([component("metric", described) for described in record.measured_by], outcomes)
        if [m.name for m in expected] != [m.name for m in record.metrics]:
            raise RecordError("the record has other metrics than its metric plugins give")
        for said, now in zip(record.metrics, expected, strict=True):
            same = all(_same(getattr(said, part), getattr(now, part)) for part in ("value", "low", "high"))
            if not same or (said.unit, said.higher_is_better) != (now.unit, now.higher_is_better):
                raise RecordError(
                    f"the metric {now.name} is {said.value} in the record, but {now.value} by its outcomes"
                )
        return
    counts = counts_of(outcomes)
    counted = {
        "robust_accuracy": counts.robust_correct, "robust_top5_accuracy": counts.robust_top5,
        "clean_accuracy": counts.clean_correct, "clean_top5_accuracy": counts.clean_top5,
    }  # fmt: skip
    for metric in record.metrics:
        if metric.name in counted and not _same(metric.value, counted[metric.name] / max(1, counts.total)):
            raise RecordError(f"the metric {metric.name} is {metric.value}, but the counts give another value")


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
