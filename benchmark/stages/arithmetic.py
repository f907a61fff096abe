"""arithmetic: check that a record agrees with itself and with its outcomes, without data and system.

The key must follow from the settings; threat and attack must match their plugins' declarations; counts, metrics, audit
and cost must follow from the outcomes; and no row of the outcomes may contradict itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config.describe import parsed_threat, threat_info
from benchmark.errors import RecordError, Refused
from benchmark.records.build import AuditCounts, audit_of, counts_of, given_up_of
from benchmark.records.document import system_key
from benchmark.records.durable import file_sha256
from benchmark.records.record import GIVEN, Record, cell_key
from benchmark.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.outcomes import Outcomes

__all__ = ["checked_outcomes"]

TOP5 = "top5"
"""Goal under which an example is correct if its label is in the top five."""

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
    _check_rows(record, outcomes)
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

    from benchmark.records.outcomes import SITES

    whole = {"ids", "y", "clean_label", "adv_label", "forwards", "backwards", "certified_rows", "triggered", "aimed"}
    single = {*(norm.value for norm in Norm), "excess", "certified", "confidence"}
    for name, values in outcomes.tensors().items():
        if name in SITES:
            continue
        kind = torch.int64 if name in whole else torch.float32 if name in single else torch.bool
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


# --- the rows of the outcomes ---


def _check_rows(record: Record, outcomes: Outcomes) -> None:
    """Check that no row contradicts itself, for any system."""
    for fault, wrong in _faults(record, outcomes):
        if bool(wrong.any()):
            raise RecordError(f"example {int(outcomes.ids[wrong][0])} {fault}")


def _faults(record: Record, o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Pairs of a predicate for an error sentence and the rows where it holds, (N,) bool."""
    yield from _clean_faults(record, o)
    yield from _distance_faults(record, o)
    yield from _attack_faults(record, o)
    yield from _answer_faults(record, o)
    yield from _certificate_faults(record, o)


def _clean_faults(record: Record, o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Faults of clean answers and of rows without an attack."""
    right = o.clean_top5 if record.threat.goal == TOP5 else o.clean_label == o.y
    still, invalid = ~o.attacked, o.attacked & ~o.valid
    meant = o.clean_correct if o.aimed is None else o.clean_correct & (o.aimed >= 0)
    spared = meant & o.spared & bool(record.survivors_of)
    used = (o.forwards != 0) | (o.backwards != 0) | o.zero_gradient | o.bad_gradient | (o.excess != 0)
    yield "is marked correct on the clean input, but has another label", o.clean_correct != right
    yield "was attacked although misclassified, or skipped although correct", o.attacked != meant & ~spared
    yield "is adversarial without a valid candidate", o.adversarial & ~(o.attacked & o.valid)
    yield "is broken but not adversarial", o.broken & ~o.adversarial
    yield "is invalid although it was not attacked", ~o.valid & still & ~spared
    yield "has another label without a valid candidate", (still | invalid) & (o.adv_label != o.clean_label)
    yield "has another top-5 result without an attack", still & (o.robust_top5 != o.clean_top5)
    yield "has passes, gradients or an excess, but was not attacked", still & used


def _distance_faults(record: Record, o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Faults of witness distances and of excess over the radius."""
    import torch

    far = torch.stack([o.l0, o.l1, o.l2, o.linf])
    yield "has a distance without a witness, or a witness without a distance", far.isfinite().all(0) != o.adversarial
    yield "has a distance without a witness", (far != torch.inf).any(0) & ~o.adversarial
    yield "has a distance that is NaN or negative", ~(far >= 0).all(0)
    yield "has distances that contradict each other", o.adversarial & ~_ordered(o)
    yield "has an excess that is NaN or negative", ~(o.excess >= 0)
    if record.attack.bounded and not record.attack.minimal:
        yield "is marked valid beyond the radius", o.valid & (o.excess != 0)


def _attack_faults(record: Record, o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Faults of passes and gradients against the threat's access and budget."""
    blind = (o.zero_gradient | o.bad_gradient) & (o.backwards == 0)
    yield "has a negative number of passes", (o.forwards < 0) | (o.backwards < 0)
    yield "has a zero or non-finite gradient, but no backward pass", blind
    if record.threat.queries is not None:
        yield "used more queries than the threat allows", o.forwards > record.threat.queries
    if record.threat.access in ("scores", "labels"):
        yield "has backward passes, which the threat does not grant", o.backwards > 0


def _answer_faults(record: Record, o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Faults of predictions on candidates."""
    yield "is broken, but the prediction is correct", o.adversarial & (o.adv_label == o.y)
    drawn = {"randomized_outputs", "undeclared_randomness"} & {finding.name for finding in record.findings}
    if record.threat.goal == TOP5:
        lost = o.attacked & o.valid & (o.adv_label != -1) & ~o.robust_top5
        yield "is adversarial, but the top five contradict that", (o.adversarial != lost) & (not drawn)
    elif not (record.threat.targeted or drawn or o.aimed is not None):  # there a wrong answer may count for nothing
        failed = o.attacked & o.valid & ~o.adversarial
        right = o.adv_label == o.y
        yield "was attacked without success, but has a wrong label", failed & ~right & (o.adv_label != -1)
        yield (
            "was attacked without success, but the top five contradict that",
            failed & (o.robust_top5 != (right & o.clean_top5)),
        )
    if o.aimed is not None:
        yield "is broken, but does not have the poison's target label", o.adversarial & (o.adv_label != o.aimed)
    if o.confidence is not None:
        yield "has a confidence that is not a probability", ~((o.confidence >= 0) & (o.confidence <= 1 + 1e-5))
    if o.reached is not None:
        yield "is broken without a reached label, or unbroken with one", o.reached.any(1) != o.broken
        column = (o.adv_label - o.y - 1) % (o.reached.shape[1] + 1)
        shown = o.reached.gather(1, column.clamp_max(o.reached.shape[1] - 1)[:, None]).squeeze(1)
        yield "is broken, but its witness reached another label", o.broken & ~shown


def _certificate_faults(record: Record, o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Faults of certified radii and rows."""
    near = o.distances(record.threat.norm)
    yield "has a certified radius that is NaN or negative", ~(o.certified >= 0)
    yield "has a certified radius around a misclassified input", (o.certified != 0) & ~o.clean_correct
    if record.harness and not record.certifiers:
        yield "has a certified radius, but there was no certifier", o.certified != 0
    named = "certified_yet_adversarial" in [finding.name for finding in record.findings]
    crossed = o.adversarial & (near * (1 + 1e-5) + 1e-6 < o.certified)
    yield "has a witness within its certified radius, but no finding says so", crossed & (not named)
    if o.certified_rows is not None:
        wrong = (o.certified_rows < 0) | ((o.certified_rows != 0) & ~o.clean_correct)
        yield "has a negative number of certified rows, or some for a misclassified input", wrong


def _ordered(o: Outcomes) -> Tensor:
    """True where linf <= l2 <= l1 <= l0 up to rounding, which holds as no feature changes by more than 1, (N,) bool."""
    more = 1 + 1e-4
    return (o.linf <= o.l2 * more) & (o.l2 <= o.l1 * more + 1e-12) & (o.l1 <= o.l0 * more)
