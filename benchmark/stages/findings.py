"""Standing checks of the evaluation itself.

Checks of one cell need only the cell, so that its record does not depend on other runs. Checks across cells are made
whenever records are read together: at the end of a sweep, by `benchmark status`, on the board.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.records.build import budget_of, unfound
from benchmark.records.card import Card
from benchmark.records.described import AttackInfo
from benchmark.records.findings import COLLAPSED, NO_ATTACK, ROUNDING
from benchmark.records.record import Finding
from benchmark.stages.probes import oddities_of
from benchmark.threat import Access, RegionKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmark.records.outcomes import Outcomes
    from benchmark.system import System
    from benchmark.threat import Norm, Threat

__all__ = ["of_cell"]


def of_cell(
    threat: Threat, attack: AttackInfo, system: System, card: Card, outcomes: Outcomes, probed: Sequence[Finding]
) -> list[Finding]:
    """Findings about one cell, from the cell alone.

    Args:
        probed: findings about its system, by the probes.
    """
    found = [
        _invalid(outcomes),
        _zero_gradients(outcomes),
        _bad_gradients(outcomes),
        _certified_yet_adversarial(outcomes, threat.norm),
        _no_answers(outcomes),
        _classes_given_up(threat, attack, outcomes),
        *probed,
        *oddities_of(system),
        None
        if threat.goal.about_objects
        else _contradicts_card(card, outcomes, system),  # right is another thing there
        *(_of_fitting(warning) for warning in card.warnings),
        _implausible_radius(threat),
        _surrogate_is_target(threat, card),
        _unreviewed(system),
    ]
    return [finding for finding in found if finding is not None]


def _of_fitting(warning: str) -> Finding:
    """Finding made from a warning on the system's card."""
    collapsed = warning.startswith(COLLAPSED)
    name = "catastrophic_overfitting" if collapsed else "fitted_with_a_warning"
    return Finding(name=name, severity="warning", evidence=warning)


def _invalid(outcomes: Outcomes) -> Finding | None:
    bad = outcomes.attacked & ~outcomes.valid
    if not bool(bad.any()):
        return None
    far = outcomes.excess[bad]
    finite = far[far.isfinite()]
    how = f", by up to {float(finite.max()):.3g} beyond the radius" if len(finite) and float(finite.max()) > 0 else ""
    return Finding(
        name="invalid_candidates",
        severity="error",
        evidence=f"{int(bad.sum())} of {int(outcomes.attacked.sum())} candidates lie outside the threat or are not "
        f"finite{how}; these examples are excluded, counted neither as broken nor as robust",
    )


def _no_answers(outcomes: Outcomes) -> Finding | None:
    """Non-finite scores, which are not an answer and never correct."""
    from benchmark.system import NO_ANSWER

    clean, attacked = (int((label == NO_ANSWER).sum()) for label in (outcomes.clean_label, outcomes.adv_label))
    attacked -= int(((outcomes.clean_label == NO_ANSWER) & (outcomes.adv_label == NO_ANSWER)).sum())
    if not clean + attacked:
        return None
    return Finding(
        name="no_answer",
        severity="error",
        evidence=f"the system's scores are not finite (NaN or infinity) for {clean} of {len(outcomes)} clean examples "
        f"and for {attacked} candidates: such an answer counts as wrong; mend the model",
    )


FEW_ROWS = 5
"""Number of attacked examples below which a label is too rare to speak of a whole class."""


EARLY = 20
"""Fraction of the budget: an attack that ends before it gave up; later, it may have tried everything."""


def _classes_given_up(threat: Threat, attack: AttackInfo, outcomes: Outcomes) -> Finding | None:
    """Classes in which the attack broke no example, and stopped with nearly all of its budget unspent.

    Among attacks with a budget, only those without gradients are considered, which spend nothing but queries. A minimal
    attack without a budget succeeds at some distance if it may change every feature and sees the evaluated system; if
    it does not, it is blind to the class.
    """
    budget = budget_of(attack, threat.queries)
    sees = threat.aware and threat.access is not Access.transfer and threat.region.kind is RegionKind.full
    if attack.name in NO_ATTACK or (budget is None and not sees):
        return None
    lost = unfound(outcomes, attack, budget)
    if budget is not None:
        lost = lost & (EARLY * outcomes.forwards <= budget) & (outcomes.backwards == 0)
    attacked = outcomes.y[outcomes.attacked].bincount()
    given = outcomes.y[lost].bincount(minlength=len(attacked))
    whole = ((attacked >= FEW_ROWS) & (given == attacked)).nonzero().flatten()
    if not len(whole):
        return None
    rows = lost & (outcomes.y[:, None] == whole).any(1)
    asked = int(outcomes.forwards[rows].sum())
    left = "at any distance" if budget is None else f"with {budget * int(rows.sum()) - asked} queries left"
    return Finding(
        name="classes_given_up",
        severity="warning",
        evidence=f"{attack.name} found nothing for any of the {int(rows.sum())} attacked examples of the classes "
        f"{', '.join(map(str, whole.tolist()))}, and ended after {asked} forward passes {left}: it may be blind there; "
        "compare with another attack",
    )


def _zero_gradients(outcomes: Outcomes) -> Finding | None:
    asked = outcomes.attacked & (outcomes.backwards > 0)
    zero = int((outcomes.zero_gradient & asked).sum())
    total = int(asked.sum())
    if zero * 10 <= total:
        return None
    return Finding(
        name="zero_gradients",
        severity="warning",
        evidence=f"the first gradient is exactly zero for {zero} of {total} attacked examples: the gradient may be "
        "masked, and the attack blind; compare with a margin loss and with attacks that need no gradient",
    )


def _bad_gradients(outcomes: Outcomes) -> Finding | None:
    bad = int(outcomes.bad_gradient.sum())
    if not bad:
        return None
    return Finding(
        name="non_finite_gradients",
        severity="error",
        evidence=f"the first gradient is not finite for {bad} examples: what the attack does with them means nothing",
    )


def _certified_yet_adversarial(outcomes: Outcomes, norm: Norm) -> Finding | None:
    """Adversarial candidates inside a certified radius, which means that one of the two is wrong."""
    from benchmark.threat.ball import tolerance

    far, proved = outcomes.distances(norm.value).double(), outcomes.certified.double()
    crossed = int((outcomes.adversarial & (far * (1.0 + 1e-6) + tolerance(norm, 0.0) < proved)).sum())
    if not crossed:
        return None
    return Finding(
        name="certified_yet_adversarial",
        severity="error",
        evidence=f"{crossed} examples have an adversarial candidate nearer than their certified radius: the "
        "certificate or the verdict is wrong, and no certified number of this cell counts",
    )


def _contradicts_card(card: Card, outcomes: Outcomes, system: System) -> Finding | None:
    """Clean accuracy that contradicts the one measured after training."""
    right, total = int((outcomes.clean_label == outcomes.y).sum()), len(outcomes)
    if not card.test_total or not total:
        return None
    if total == card.test_total and not system.randomized:
        wrong = abs(right - card.test_correct) > ROUNDING * total
    else:
        from scipy.stats import binomtest  # which takes a second to import

        wrong = binomtest(right, total, card.test_correct / card.test_total).pvalue < 1e-4
    if not wrong:
        return None
    return Finding(
        name="contradicts_card",
        severity="error",
        evidence=f"the system is right on {right} of {total} clean examples, and its card says {card.test_correct} of "
        f"{card.test_total}: the system or the data is not what was trained",
    )


def _implausible_radius(threat: Threat) -> Finding | None:
    """A radius that erases the input; not where part of it is fixed, or features of a table keep rules."""
    kept = threat.region.kind is not RegionKind.full or threat.table is not None
    if threat.norm.value != "linf" or threat.radius < 0.5 or kept:
        return None
    return Finding(
        name="implausible_radius",
        severity="warning",
        evidence=f"under linf a radius of {threat.eps} turns every input grey: no system can resist",
    )


def _unreviewed(system: System) -> Finding | None:
    """The user's own code, which no installed plugin vouches for: only its outputs are known."""
    if not system.unreviewed:
        return None
    return Finding(
        name="own_code",
        severity="info",
        evidence=f"the model is {system.unreviewed}: code of the user's own, which nobody has reviewed and no check "
        "of a submission runs",
    )


def _surrogate_is_target(threat: Threat, card: Card) -> Finding | None:
    held = threat.surrogates
    if card.key not in held:
        return None
    alone = len(held) == 1
    whose, what = ("the surrogate is", "is") if alone else (f"one of the {len(held)} surrogates is", "is in part")
    return Finding(
        name="surrogate_is_target",
        severity="warning",
        evidence=f"{whose} the attacked system itself ({card.key}): this {what} a white-box attack by another name, "
        "and says nothing of transfer",
    )
