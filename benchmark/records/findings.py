"""Standing checks across cells, made whenever records are read together."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from benchmark.records import naming
from benchmark.records.record import Finding, Record

__all__ = ["COLLAPSED", "FINDINGS", "NO_ATTACK", "ROUNDING", "across", "sign_test"]

FINDINGS = frozenset({
    "accuracy_rises_with_eps", "aware_weaker_than_oblivious", "cast_at_the_border", "catastrophic_overfitting",
    "certified_yet_adversarial", "classes_given_up", "contradicts_card", "detector_gradient_masked",
    "gradient_misleads", "gradient_stops_at_bounds", "implausible_radius", "invalid_candidates", "no_answer",
    "noise_beats_attack", "non_finite_gradients", "oblivious_beats_aware", "optimizing_inference", "own_code",
    "probabilities_for_logits", "randomized_outputs", "rows_depend_on_each_other", "scores_lose_precision",
    "scores_nearly_equal", "surrogate_differs", "surrogate_is_target", "test_in_training",
    "transfer_beats_white_box", "undeclared_optimization", "undeclared_randomness", "zero_gradients",
})  # fmt: skip
"""Names of all findings that the harness makes."""

ROUNDING = 0.002
"""Fraction of examples on which two kinds of device may disagree."""


def across(records: Sequence[Record], broken: Callable[[Record], Sequence[bool] | None] | None = None) -> list[Finding]:
    """Findings across complete records whose attacks were given all examples.

    broken: maps a record to which of its examples were broken, in order; None if its outcomes are not available.
    """
    complete = [
        r
        for r in records
        if r.status == "complete" and r.counts is not None and r.counts.invalid == 0 and not r.survivors_of
    ]
    return [
        *_rises_with_eps(complete),
        *_noise_beats(complete),
        *_overfits_one_step(complete),
        *_blind_beats_white_box(complete),
        *_oblivious_beats_aware(complete),
        *([] if broken is None else _aware_is_weaker(complete, broken)),
    ]


def _same_but(record: Record, *, attack: bool, eps: bool) -> tuple[object, ...]:
    """Properties that two records must share to be compared, except for the attack or the radius."""
    threat = record.threat.model_dump(exclude={"eps", "eps_exact"} if eps else set())
    if attack:
        threat = {k: v for k, v in threat.items() if k not in ("access", "queries", "eot")}
    chosen = () if attack else (record.attack.name, str(sorted(naming.unversioned(record.attack.params).items())))
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
                        evidence=f"{large.attack.label} leaves {large.counts.robust_correct} of {large.counts.total} "
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
                    f"{record.attack.label} {record.counts.robust_correct} (cell {record.key}): the attack is weaker "
                    "than chance here",
                )
            )
    return found


def _overfits_one_step(records: Sequence[Record]) -> list[Finding]:
    """Catastrophic overfitting: adversarially trained, and robust to a single step only.

    Wong, Rice & Kolter, ICLR 2020, arXiv:2001.03994, section 4. Other systems may well resist one step and not several.
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


COLLAPSED = "catastrophic overfitting"
"""First words of a card's sentence about a robust accuracy that fell during training."""

NO_ATTACK = ("noise", "none")
"""Attacks that do not search, and so are no yardstick for others."""


def _blind_beats_white_box(records: Sequence[Record]) -> list[Finding]:
    """An attack without gradients breaks more than every attack with them: a sign of masked gradients.

    Carlini et al., 2019, arXiv:1902.06705, section 4.
    """
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.attack.name not in NO_ATTACK and record.attack.bounded and record.cost is not None:
            groups[_same_but(record, attack=True, eps=False)].append(record)
    found = []
    for group in groups.values():
        white = [r for r in group if r.cost is not None and r.cost.backwards > 0 and r.threat.access != "transfer"]
        blind = [r for r in group if r not in white]
        if not white or not blind:
            continue
        best, strongest = min(blind, key=_left), min(white, key=_left)
        if _left(best) < _left(strongest):
            transferred = best.threat.access == "transfer"
            how = "made on another system" if transferred else "without a gradient"
            found.append(
                Finding(
                    name="transfer_beats_white_box" if transferred else "black_box_beats_white_box",
                    severity="warning",
                    evidence=f"{best.attack.label} leaves {_left(best)} right {how} (cell {best.key}), and "
                    f"{strongest.attack.label}, the strongest attack with gradients, {_left(strongest)} (cell "
                    f"{strongest.key}): the gradients may be masked",
                )
            )
    return found


def _oblivious_beats_aware(records: Sequence[Record]) -> list[Finding]:
    """An attacker who ignores the defense breaks more than the defense-aware ones, which are then too weak."""
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.attack.name not in NO_ATTACK:
            threat = record.threat.model_copy(update={"aware": True, "access": "gradients", "surrogate": ""})
            groups[_same_but(record.model_copy(update={"threat": threat}), attack=True, eps=False)].append(record)
    found = []
    for group in groups.values():
        aware = [r for r in group if r.threat.aware and r.threat.access != "transfer"]
        blind = [r for r in group if not r.threat.aware]
        if aware and blind and _left(min(blind, key=_left)) < _left(min(aware, key=_left)):
            one, other = min(blind, key=_left), min(aware, key=_left)
            found.append(
                Finding(
                    name="oblivious_beats_aware",
                    severity="warning",
                    evidence=f"{one.attack.label} leaves {_left(one)} of {_total(one)} right without knowing the "
                    f"defense (cell {one.key}), and the strongest attack that knows it {_left(other)} (cell "
                    f"{other.key}): who knows a defense may ignore it, so the aware number is too high",
                )
            )
    return found


def _left(record: Record) -> int:
    """Number of examples that an attack leaves correct."""
    return 0 if record.counts is None else record.counts.robust_correct


def _total(record: Record) -> int:
    return 0 if record.counts is None else record.counts.total


SURE = 0.01
"""Largest p-value of the paired test at which a finding fires."""


def _aware_is_weaker(records: Sequence[Record], broken: Callable[[Record], Sequence[bool] | None]) -> list[Finding]:
    """Attacks that break fewer examples with knowledge of the defense than without, by McNemar's exact test.

    Examples, attack, seed and system are the same. If a defense does not change inference, both cells are identical,
    and the finding cannot fire.
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
                    evidence=f"{pair[True].attack.label} breaks {more} examples only without knowledge of the defense "
                    f"and {fewer} only with it (cells {pair[False].key} and {pair[True].key}): gradients through the "
                    "defense mislead it; count the oblivious candidates too, and try attack=adaptive",
                )
            )
    return found


def sign_test(more: int, fewer: int) -> float:
    """One-sided p-value of at least `more` heads in more + fewer fair coin tosses: McNemar's exact test."""
    total = more + fewer
    return float(sum(math.comb(total, k) for k in range(more, total + 1)) / 2**total)
