"""Standing checks across cells: made whenever records are read together."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmark.records.record import Finding, Record

if TYPE_CHECKING:
    pass

__all__ = ["ROUNDING", "across", "sign_test"]

ROUNDING = 0.002
"""The share of examples on which two kinds of device may disagree."""


def across(records: Sequence[Record], broken: Callable[[Record], Sequence[bool] | None] | None = None) -> list[Finding]:
    """Findings about complete records that are seen together.

    broken: gives for the examples of a record, in order, which were broken; None where its outcomes are not at hand.
    """
    complete = [r for r in records if r.status == "complete" and r.counts is not None and r.counts.invalid == 0]
    paired = [] if broken is None else _aware_is_weaker(complete, broken)
    return [*_rises_with_eps(complete), *_noise_beats(complete), *_overfits_one_step(complete), *paired]


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


SURE = 0.01
"""Largest p-value of the paired test at which a finding fires."""


def _aware_is_weaker(records: Sequence[Record], broken: Callable[[Record], Sequence[bool] | None]) -> list[Finding]:
    """Attacks that break fewer examples with knowledge of the defense than without, by McNemar's exact test.

    The examples are the same, and so are the attack, its seed and the system. Where a defense does not change
    inference, both cells are the same, and nothing can fire.
    """
    groups: dict[tuple[object, ...], dict[bool, Record]] = defaultdict(dict)
    for record in records:
        alike = record.model_copy(update={"threat": record.threat.model_copy(update={"aware": True}), "suite": None})
        groups[_same_but(alike, attack=False, eps=False)][record.threat.aware] = record
    found = []
    for pair in groups.values():
        if len(pair) < 2:
            continue
        aware, oblivious = broken(pair[True]), broken(pair[False])
        if aware is None or oblivious is None or len(aware) != len(oblivious):
            continue
        more = sum(bool(o) and not a for a, o in zip(aware, oblivious, strict=True))
        fewer = sum(bool(a) and not o for a, o in zip(aware, oblivious, strict=True))
        if more > fewer and sign_test(more, fewer) < SURE:
            found.append(
                Finding(
                    name="aware_weaker_than_oblivious",
                    severity="warning",
                    evidence=f"{pair[True].attack.name} breaks {more} examples only without knowledge of the defense "
                    f"and {fewer} only with it (cells {pair[False].key} and {pair[True].key}): gradients through the "
                    "defense mislead it; count the oblivious candidates too, and try attack=adaptive",
                )
            )
    return found


def sign_test(more: int, fewer: int) -> float:
    """One-sided p-value of `more` or above out of more + fewer fair coins: McNemar's test, exact."""
    total = more + fewer
    return float(sum(math.comb(total, k) for k in range(more, total + 1)) / 2**total)
