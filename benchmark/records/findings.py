"""Standing checks across cells: made whenever records are read together."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.records.record import Finding, Record

if TYPE_CHECKING:
    pass

__all__ = ["ROUNDING", "across"]

ROUNDING = 0.002
"""The share of examples on which two kinds of device may disagree."""


def across(records: Sequence[Record]) -> list[Finding]:
    """Findings about complete records that are seen together."""
    complete = [r for r in records if r.status == "complete" and r.counts is not None and r.counts.invalid == 0]
    return [*_rises_with_eps(complete), *_noise_beats(complete), *_overfits_one_step(complete)]


def _same_but(record: Record, *, attack: bool, eps: bool) -> tuple[object, ...]:
    """The properties that two records must share to be compared, apart from the attack or the radius."""
    threat = record.threat.model_dump(exclude={"eps", "eps_exact"} if eps else set())
    if attack:
        threat = {k: v for k, v in threat.items() if k not in ("access", "queries", "eot")}
    chosen = () if attack else (record.attack.name, str(sorted(record.attack.params.items())))
    return (record.system.key, record.seed, record.suite, record.examples_sha256, str(sorted(threat.items())), *chosen)


def _rises_with_eps(records: Sequence[Record]) -> list[Finding]:
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[_same_but(record, attack=False, eps=True)].append(record)
    found = []
    for group in groups.values():
        ordered = sorted(group, key=lambda r: r.threat.eps)
        for small, large in itertools.pairwise(ordered):
            assert small.counts is not None
            assert large.counts is not None
            if large.threat.eps > small.threat.eps and large.counts.robust_correct > small.counts.robust_correct:
                found.append(
                    Finding(
                        name="accuracy_rises_with_eps",
                        severity="warning",
                        evidence=f"{large.attack.name} leaves {large.counts.robust_correct} of {large.counts.total} "
                        f"right at eps {large.threat.eps_exact} and {small.counts.robust_correct} at "
                        f"{small.threat.eps_exact} (cells {large.key} and {small.key}): a larger ball cannot be safer, "
                        "so the attack fails somewhere",
                    )
                )
    return found


def _noise_beats(records: Sequence[Record]) -> list[Finding]:
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[_same_but(record, attack=True, eps=False)].append(record)
    found = []
    for group in groups.values():
        noise = [r.counts.robust_correct for r in group if r.attack.name == "noise" and r.counts is not None]
        for record in group:
            assert record.counts is not None
            if record.attack.name in ("noise", "none") or not noise or record.counts.robust_correct <= min(noise):
                continue
            if not record.attack.bounded:
                continue  # noise in a ball says nothing of an attack that answers to none
            found.append(
                Finding(
                    name="noise_beats_attack",
                    severity="warning",
                    evidence=f"random noise leaves {min(noise)} of {record.counts.total} right and "
                    f"{record.attack.name} {record.counts.robust_correct} (cell {record.key}): the attack is weaker "
                    "than chance here",
                )
            )
    return found


def _overfits_one_step(records: Sequence[Record]) -> list[Finding]:
    """Catastrophic overfitting (Wong, Rice & Kolter, ICLR 2020, section 4): trained adversarially, robust to one step.

    Any other system may well resist one step and not several.
    """
    groups: dict[tuple[object, ...], dict[str, Record]] = defaultdict(dict)
    for record in records:
        if any(name.endswith("adversarial_training") for name in record.system.defenses):
            groups[_same_but(record, attack=True, eps=False)][record.attack.name] = record
    found = []
    for group in groups.values():
        one, several = (group[name].counts if name in group else None for name in ("fgsm", "pgd"))
        if one is not None and several is not None and 2 * several.robust_correct < one.robust_correct:
            found.append(
                Finding(
                    name="catastrophic_overfitting",
                    severity="warning",
                    evidence=f"fgsm leaves {one.robust_correct} of {one.total} right and pgd {several.robust_correct}, "
                    f"less than half (cells {group['fgsm'].key} and {group['pgd'].key}): the training taught the "
                    "system to resist a single step and no more",
                )
            )
    return found
