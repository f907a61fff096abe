"""Contradictions in a row of the outcomes, whatever the system: sentences of what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmark.errors import RecordError
from benchmark.records.record import Record

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.outcomes import Outcomes

__all__ = ["check_rows"]

TOP5 = "top5"
"""Goal under which an example is correct if its label is in the top five."""


def check_rows(record: Record, outcomes: Outcomes) -> None:
    """Refuse outcomes of which a row contradicts itself, naming the first (RecordError)."""
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
    yield from _detection_faults(o)


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

    from benchmark.records.outcomes import NORMS

    far = torch.stack([o.distances(norm) for norm in NORMS])
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


def _detection_faults(o: Outcomes) -> Iterator[tuple[str, Tensor]]:
    """Faults of the columns of systems with detectors."""
    import torch

    from benchmark.system.system import NO_ANSWER, REJECTED

    if o.clean_suspicion is None or o.adv_suspicion is None or o.clean_predicted is None or o.adv_predicted is None:
        return
    kept = ~o.attacked | ~o.valid
    for label, predicted, suspicion in (
        (o.clean_label, o.clean_predicted, o.clean_suspicion),
        (o.adv_label, o.adv_predicted, o.adv_suspicion),
    ):
        refused = (suspicion > 0) & (predicted != NO_ANSWER)
        yield "has a suspicion that is NaN", suspicion.isnan()
        yield "is refused or not, in contradiction to its suspicion", label != torch.where(refused, REJECTED, predicted)
    yield "has another suspicion without a valid candidate", kept & (o.adv_suspicion != o.clean_suspicion)
    yield "has another prediction without a valid candidate", kept & (o.adv_predicted != o.clean_predicted)


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
