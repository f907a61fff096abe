"""proof: check the system's answers to the clean examples and to the witnesses against the record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import RecordError
from benchmark.stages.proof_sites import check_same, close_rows
from benchmark.stages.proved import Proof
from benchmark.stages.replay import (
    BATCH,
    Replay,
    backdoor_of,
    check_distances,
    judged,
    rows_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import Answer, Verdict

__all__ = ["check_clean", "check_labels", "check_witness"]

CLOSE_CALL = 1e-4
"""Relative difference of scores whose order may change on another kind of processor."""


def check_clean(cell: Replay, outcomes: Outcomes, proof: Proof) -> None:
    """Check labels, top five and, where no candidate counts, confidence by one forward pass over all clean inputs."""
    import torch

    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.devices import exact_math
    from benchmark.stages.judge import answer

    unsure, backdoor = 0, backdoor_of(cell)
    if (backdoor is None) != (outcomes.aimed is None) or (backdoor is None) != (outcomes.triggered is None):
        raise RecordError("the outcomes must have arrays of a trigger if and only if the attack applies one")
    for at in torch.arange(len(outcomes)).split(BATCH):
        ids, y = cell.examples.ids[at], cell.examples.y[at]
        rng, x = SampleRandom(derive_seed(cell.seed, "cell"), ids), cell.examples.x(at)
        with exact_math():
            said = answer(cell.system, x, y, rng.child("clean"), cell.threat.goal)
            if backdoor is not None and outcomes.aimed is not None and outcomes.triggered is not None:
                marked = answer(cell.system, backdoor.trigger(x), y, rng.child("trigger")).label
                check_labels("evokes", backdoor.aim(ids, y), outcomes.aimed[at], ids)
                check_labels("gets with its trigger", marked, outcomes.triggered[at], ids)
        other = (said.label != outcomes.clean_label[at]) | (said.top5 != outcomes.clean_top5[at])
        sites = None if outcomes.clean_sites is None else outcomes.clean_sites[at]
        rounded = close_rows(cell.system.spec.task, said, sites, ids, CLOSE_CALL)
        close = other & (_close_call(said, outcomes.clean_label[at], y) if rounded is None else rounded)
        if bool((other & ~close).any()):
            row = int((other & ~close).nonzero()[0])
            raise RecordError(
                f"the system predicts {int(said.label[row])} for the clean example {int(ids[row])}, but the outcomes "
                f"have {int(outcomes.clean_label[at][row])}, or another top-5 result"
            )
        unsure += int(close.sum())
        _check_detection(said, outcomes.clean_predicted, outcomes.clean_suspicion, at, ids, sure=~close)
        kept = ~outcomes.attacked[at] | ~outcomes.valid[at]
        _check_detection(said, outcomes.adv_predicted, outcomes.adv_suspicion, at, ids, sure=~close & kept)
        if outcomes.confidence is not None:
            _check_confidence(said.confidence[kept], outcomes.confidence[at][kept], ids[kept])
    proof.clean = len(outcomes) - unsure
    if unsure:
        proof.notes.append(f"{unsure} clean answers, whose scores are too close on this kind of processor")


def check_labels(what: str, now: Tensor, said: Tensor, ids: Tensor) -> None:
    """Raise for the first example whose label `now` (B,) is not the recorded one.

    Raises:
        RecordError: with the example, and `what` as the name of the label.
    """
    wrong = now != said
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise RecordError(
            f"what example {int(ids[row])} {what} is {int(now[row])}, but {int(said[row])} in the outcomes"
        )


def _check_confidence(now: Tensor, said: Tensor, ids: Tensor) -> None:
    wrong = (now - said).abs() > 1e-3
    if bool(wrong.any()):
        raise RecordError(f"the confidence of example {int(ids[wrong][0])} is not the one in the outcomes")


def _check_detection(
    said: Answer | Verdict, predicted: Tensor | None, suspicion: Tensor | None, at: Tensor, ids: Tensor, *, sure: Tensor
) -> None:
    """Check what a system with detectors says without refusals, and its suspicion, in the rows `sure` (b,) bool."""
    if (said.suspicion is None) != (suspicion is None) or (suspicion is None) != (predicted is None):
        raise RecordError("the outcomes must have arrays of suspicion if and only if the system has a detector")
    if said.suspicion is None or suspicion is None or predicted is None:
        return
    check_labels("gets without refusals", said.predicted[sure], predicted[at][sure], ids[sure])
    off = sure & ~said.suspicion.isclose(suspicion[at], rtol=1e-3, atol=1e-3, equal_nan=True)
    if bool(off.any()):
        raise RecordError(f"the suspicion of example {int(ids[off][0])} is not the one in the outcomes")


def _close_call(said: Answer, label: Tensor, y: Tensor) -> Tensor:
    """True where rounding decides between the recorded label and the present one, or on the top five, (b,) bool."""
    import torch

    scores = said.logits.double()
    size = 1e-12 + scores.abs().amax(1)
    given = label.clamp(0, scores.shape[1] - 1)
    gap = scores.amax(1) - scores.gather(1, given[:, None]).squeeze(1)
    fifth = scores.topk(min(6, scores.shape[1]), dim=1).values
    own = scores.gather(1, y[:, None]).squeeze(1)
    edge = (own[:, None] - fifth[:, 4:]).abs().amin(1) if fifth.shape[1] > 5 else torch.full_like(own, torch.inf)
    same = (said.label == label) | ((label >= 0) & (said.label >= 0) & (gap <= CLOSE_CALL * size))
    return same & ((said.label != label) | (edge <= CLOSE_CALL * size))


def check_witness(folder: Path, cell: Replay, outcomes: Outcomes, proof: Proof) -> None:
    """Check that every witness is inside the threat and misclassified, with the recorded distances and scores."""
    import torch

    from benchmark.records.witness import WITNESS, Witness
    from benchmark.stages.judge import right

    witness = Witness.load(folder / WITNESS)
    rows = rows_of(witness.ids, outcomes)
    for start in range(0, len(rows), BATCH):
        at = rows[start : start + BATCH]
        aimed = None if outcomes.aimed is None else outcomes.aimed[at]
        clean, verdict = judged(cell, at, witness.x_adv[start : start + BATCH], aimed)
        ids, top5 = cell.examples.ids[at], verdict.top5 & clean.top5
        for name, now in (
            ("outside the threat", ~verdict.valid),
            ("not misclassified", ~verdict.adversarial),
            ("classified as another label than in the outcomes", verdict.label != outcomes.adv_label[at]),
            ("broken or not, in contradiction to the outcomes", verdict.broken != outcomes.broken[at]),
            ("in the top five or not, in contradiction to the outcomes", top5 != outcomes.robust_top5[at]),
        ):
            if bool(now.any()):
                raise RecordError(f"the witness of example {int(ids[now][0])} is {name}")
        check_distances(verdict.distances, outcomes, at)
        check_same("witness", verdict.sites, None if outcomes.adv_sites is None else outcomes.adv_sites[at], ids)
        everywhere = torch.ones_like(verdict.valid)
        _check_detection(verdict, outcomes.adv_predicted, outcomes.adv_suspicion, at, ids, sure=everywhere)
        if not torch.allclose(verdict.excess, outcomes.excess[at], rtol=1e-4, atol=1e-6):
            raise RecordError("a witness exceeds the radius by another distance than in the outcomes")
        if outcomes.confidence is not None:
            _check_confidence(verdict.confidence, outcomes.confidence[at], ids)
        proof.broken += int((verdict.broken & right(clean, cell.threat.goal)).sum())
    if proof.broken != proof.claimed:
        raise RecordError(f"the witness breaks {proof.broken} examples, but the record claims {proof.claimed}")
