"""proof: is a record true of its data and of its system? One forward pass over all examples, and no attack.

Beyond :mod:`benchmark.stages.arithmetic`: the data are those that the record names, by revision, splits and labels; the
system is the one that it describes, by weights; every clean answer, every witness, the gallery and every finding that
follows from them are what the record says; certificates are proved again on a sample. :data:`OPEN` is what stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import RecordError
from benchmark.records.record import GIVEN, Finding, Record, SplitInfo
from benchmark.records.store import Store
from benchmark.stages.proof_sites import check_agreement, check_same, close_rows
from benchmark.stages.replay import (
    BATCH,
    Replay,
    backdoor_of,
    check_distances,
    checked_outcomes,
    judged,
    rebuilt,
    rows_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import Splits
    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import Answer

__all__ = ["OPEN", "Proof", "check_data", "prove"]

SAMPLE = 8
"""How many certificates are made again."""

CLOSE_CALL = 1e-4
"""Scores that differ by this share of their size may change places on another kind of processor."""

OPEN = (
    "that an example on which the attack failed has no adversarial candidate, and that the attack was run as the "
    "record says (--again makes a sample of it again)",
    "of examples on which the attack failed: which candidate it left, so also its confidence, an excess over the "
    "radius, the part of the threat that it left and, under a goal, its label",
    "passes per example, gradients that were zero or not finite, seconds, memory and the passes of what was prepared",
    "certified radii outside of the sample that is made again, and the suite in whose name the cell was run",
    "that no finding is missing about an attack that depends on its batch (--again makes that sample again too)",
    "that the weights came from the training that the card describes, and the history on the card",
    "provenance: when, where and by which code",
)
"""What no record proves by itself."""


@dataclass
class Proof:
    """The parts of a record that were proved.

    broken: witnesses that break their example. clean: clean answers that are as recorded. certified: certificates made
    again. attacked: examples attacked again. notes: what of this record in particular is not proved, and why.
    """

    key: str
    broken: int = 0
    claimed: int = 0
    clean: int = 0
    certified: int = 0
    attacked: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.broken} of {self.claimed} broken examples proved", f"{self.clean} clean answers"]
        parts += [f"{self.certified} certificates"] if self.certified else []
        parts += [f"{self.attacked} examples attacked again"] if self.attacked else []
        return ", ".join(parts) + "".join(f"; not proved: {note}" for note in self.notes)


def prove(
    folder: Path,
    record: Record,
    store: Store,
    data: Path,
    *,
    again: int = 0,
    seed: int = 0,
    places: Mapping[str, str] | None = None,
) -> Proof:
    """Prove a record from the files beside it, the data, and the system in the store.

    Args:
        again: number of examples to attack again. seed: draws those, and the certificates that are made again; one
            that the record's author did not know leaves him nothing to arrange. places: of inputs.

    Raises:
        RecordError: naming the first thing that is not as the record says. Unproved: if a part is missing here.
    """
    from benchmark.stages.again import attack_again, draw
    from benchmark.stages.recheck import DEPENDS

    outcomes = checked_outcomes(folder, record)
    cell = rebuilt(record, store, data, folder, places)
    proof = Proof(record.key, claimed=int(outcomes.broken.sum()), notes=_undated(record))
    check_data(record, cell.splits, data, places)
    if record.task != cell.system.spec.task.name:
        raise RecordError(f"the record is of {record.task}, and the dataset is for {cell.system.spec.task.name}")
    check_agreement(cell.system.spec.task, outcomes, cell.threat.goal.value)
    _check_survivors(folder, record, outcomes, store)
    _check_clean(cell, outcomes, proof)
    _check_witness(folder, cell, outcomes, proof)
    _check_gallery(folder, cell, outcomes, record)
    rest = _check_findings(record, cell, outcomes)
    _check_certificates(record, cell, outcomes, draw(record.key, seed, _certified(outcomes), SAMPLE), proof)
    if again:
        rest = _check_rechecked(record, cell, outcomes, rest, store, data)
        if any(finding.name == DEPENDS for finding in record.findings):
            proof.notes.append(
                "single examples attacked again, since the attack depends on its batch, as the record says"
            )
        else:
            rows = draw(record.key, seed, outcomes.attacked, again)
            attack_again(folder, record, cell, outcomes, rows, store, data)
            proof.attacked = len(rows)
    if rest:
        proof.notes.append(f"the finding {' and '.join(sorted(rest))}, which was made while the attack ran")
    return proof


def _check_survivors(folder: Path, record: Record, outcomes: Outcomes, store: Store) -> None:
    """The examples that the attack was not given are those that the cells which the record names broke.

    Raises:
        RecordError: if they are others. Unproved: if one of those cells is neither beside the record nor in the store.
    """
    import torch

    from benchmark.stages.survivors import broken_before, earlier_outcomes

    if not record.survivors_of:
        return
    before = earlier_outcomes(record, [folder.absolute().parent, store.root / "cells"])
    spared = outcomes.clean_correct & torch.isin(outcomes.ids, broken_before(before))
    wrong = outcomes.spared != spared
    if bool(wrong.any()):
        example = int(outcomes.ids[wrong][0])
        raise RecordError(
            f"example {example} was {'not given' if bool(outcomes.spared[wrong][0]) else 'given'} to the attack, and "
            f"the cells whose survivors it was to see say otherwise"
        )


def _undated(record: Record) -> list[str]:
    return [] if record.harness else ["the key and the metrics other than counts, which records of 0.1 do not pin down"]


def check_data(record: Record, splits: Splits, data: Path, places: Mapping[str, str] | None = None) -> None:
    """Check that the dataset is the one that the record names: its revision, labels and ids of every split.

    Raises:
        RecordError: if it is another one.
    """
    from benchmark.stages.rebuild import dataset_of
    from benchmark.stages.replay import places_of

    revision = dataset_of(record.system, {**places_of(record), **(places or {})}).revision(data)
    if revision != record.dataset_revision:
        raise RecordError(f"the data here have the revision {revision}, and the record names {record.dataset_revision}")
    for name, said in record.splits.items():
        part = getattr(splits, name, None)
        if part is None or SplitInfo(count=len(part), sha256=part.digest()) != said:
            raise RecordError(f"the {name} split here holds other examples than the record names")
    if {*record.splits} != {"train", "select", "test"}:
        raise RecordError(f"the record names the splits {sorted(record.splits)}; expected train, select and test")


# --- clean answers and witnesses ---


def _check_clean(cell: Replay, outcomes: Outcomes, proof: Proof) -> None:
    """One forward pass over all clean inputs: labels, best five, and confidence where no candidate counts."""
    import torch

    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.devices import exact_math
    from benchmark.stages.judge import answer

    unsure, backdoor = 0, backdoor_of(cell)
    if (backdoor is None) != (outcomes.aimed is None) or (backdoor is None) != (outcomes.triggered is None):
        raise RecordError("the outcomes have arrays of a trigger if the attack shows one, and only then")
    for at in torch.arange(len(outcomes)).split(BATCH):
        ids, y = cell.examples.ids[at], cell.examples.y[at]
        rng, x = SampleRandom(derive_seed(cell.seed, "cell"), ids), cell.examples.x(at)
        with exact_math():
            said = answer(cell.system, x, y, rng.child("clean"), cell.threat.goal)
            if backdoor is not None and outcomes.aimed is not None and outcomes.triggered is not None:
                marked = answer(cell.system, backdoor.trigger(x), y, rng.child("trigger")).label
                _check_labels("evokes", backdoor.aim(ids, y), outcomes.aimed[at], ids)
                _check_labels("gets with its trigger", marked, outcomes.triggered[at], ids)
        other = (said.label != outcomes.clean_label[at]) | (said.top5 != outcomes.clean_top5[at])
        sites = None if outcomes.clean_sites is None else outcomes.clean_sites[at]
        rounded = close_rows(cell.system.spec.task, said, sites, ids, CLOSE_CALL)
        close = other & (_close_call(said, outcomes.clean_label[at], y) if rounded is None else rounded)
        if bool((other & ~close).any()):
            row = int((other & ~close).nonzero()[0])
            raise RecordError(
                f"the system answers the clean example {int(ids[row])} with {int(said.label[row])}, and the outcomes "
                f"say {int(outcomes.clean_label[at][row])}, or disagree on its best five"
            )
        unsure += int(close.sum())
        if outcomes.confidence is not None:
            kept = ~outcomes.attacked[at] | ~outcomes.valid[at]
            _check_confidence(said.confidence[kept], outcomes.confidence[at][kept], ids[kept])
    proof.clean = len(outcomes) - unsure
    if unsure:
        proof.notes.append(f"{unsure} clean answers, whose scores are too close on this kind of processor")


def _check_labels(what: str, now: Tensor, said: Tensor, ids: Tensor) -> None:
    wrong = now != said
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise RecordError(
            f"what example {int(ids[row])} {what} is {int(now[row])}, and the outcomes say {int(said[row])}"
        )


def _check_confidence(now: Tensor, said: Tensor, ids: Tensor) -> None:
    wrong = (now - said).abs() > 1e-3
    if bool(wrong.any()):
        raise RecordError(f"the confidence of example {int(ids[wrong][0])} is not the one in the outcomes")


def _close_call(said: Answer, label: Tensor, y: Tensor) -> Tensor:
    """True where rounding decides between the recorded label and the present one, or on the best five, (b,) bool."""
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


def _check_witness(folder: Path, cell: Replay, outcomes: Outcomes, proof: Proof) -> None:
    """Every witness lies inside the threat, is answered wrongly, and is as far and as sure as the outcomes say."""
    import torch

    from benchmark.records.outcomes import WITNESS, Witness
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
            ("answered by another label than the outcomes say", verdict.label != outcomes.adv_label[at]),
            ("broken or not, other than the outcomes say", verdict.broken != outcomes.broken[at]),
            ("among the best five, or not, other than they say", top5 != outcomes.robust_top5[at]),
        ):
            if bool(now.any()):
                raise RecordError(f"the witness of example {int(ids[now][0])} is {name}")
        check_distances(verdict.distances, outcomes, at)
        check_same("witness", verdict.sites, None if outcomes.adv_sites is None else outcomes.adv_sites[at], ids)
        if not torch.allclose(verdict.excess, outcomes.excess[at], rtol=1e-4, atol=1e-6):
            raise RecordError("a witness is beyond the radius by another length than the outcomes say")
        if outcomes.confidence is not None:
            _check_confidence(verdict.confidence, outcomes.confidence[at], ids)
        proof.broken += int((verdict.broken & right(clean, cell.threat.goal)).sum())
    if proof.broken != proof.claimed:
        raise RecordError(f"the witness breaks {proof.broken} examples, and the record claims {proof.claimed}")


def _check_gallery(folder: Path, cell: Replay, outcomes: Outcomes, record: Record) -> None:
    """The images for the page of the system are those of the witness."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from benchmark.records.outcomes import GALLERY, WITNESS
    from benchmark.stages.keep import gallery_of

    if GALLERY not in [file.path for file in record.files]:
        return
    made = gallery_of(cell.examples, outcomes, folder / WITNESS)
    try:
        stored = load_file(folder / GALLERY)
    except SafetensorError as error:
        raise RecordError(f"{folder / GALLERY} cannot be read: {error}") from error
    expected = {} if made is None else vars(made)
    count = len(stored.get("ids", ()))
    if {*stored} != {*expected} or not all(torch.equal(stored[name], expected[name][:count]) for name in expected):
        raise RecordError("the gallery shows other images or labels than the witness and the data")


# --- findings and certificates ---


def _check_findings(record: Record, cell: Replay, outcomes: Outcomes) -> set[str]:
    """The findings that follow from system, data and outcomes are there, in the same words.

    Returns:
        The names of the others.
    """
    from benchmark.stages.devices import exact_math
    from benchmark.stages.findings import of_cell
    from benchmark.stages.load import leakage_of
    from benchmark.stages.probed import follows_gradients
    from benchmark.stages.probes import of_system

    with exact_math():
        about = of_system(cell.system, cell.examples, gradients=follows_gradients(cell.threat))
    now = of_cell(cell.threat, record.attack, cell.system, cell.card, outcomes, about)
    if record.attack.name == GIVEN:
        return set()  # such a cell has none of its own
    now += leakage_of(cell.splits) if record.harness else []
    _check_said(record, now)
    return {f.name for f in record.findings} - {f.name for f in now}


def _check_rechecked(
    record: Record, cell: Replay, outcomes: Outcomes, rest: set[str], store: Store, data: Path
) -> set[str]:
    """The finding about an attack whose results depend on the batch, by its own sample attacked once more.

    Returns:
        The names of the findings that are still not proved.
    """
    from benchmark.stages.again import recheck_again

    if record.attack.name == GIVEN:
        return rest
    found = recheck_again(record, cell, outcomes, store, data)
    if found is None:
        return rest
    _check_said(record, [found])
    return rest - {found.name}


def _check_said(record: Record, now: Sequence[Finding]) -> None:
    """The record has these findings, in the same words."""
    said = {(f.name, f.severity): f.evidence for f in record.findings}
    for finding in now:
        if (finding.name, finding.severity) not in said:
            raise RecordError(f"the finding {finding.name} ({finding.severity}) is missing: {finding.evidence}")
        if record.harness and said[finding.name, finding.severity] != finding.evidence:
            raise RecordError(f"the finding {finding.name} says other than the outcomes: {finding.evidence}")


def _certified(outcomes: Outcomes) -> Tensor:
    """Examples about which something is certified, (N,) bool."""
    rows = outcomes.certified_rows
    return outcomes.certified > 0 if rows is None else (outcomes.certified > 0) | (rows > 0)


def _check_certificates(record: Record, cell: Replay, outcomes: Outcomes, rows: Tensor, proof: Proof) -> None:
    """The certified radii of a sample, made again by the certifiers that the record names."""
    import torch

    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.certify import certify, certify_rows
    from benchmark.stages.devices import exact_math
    from benchmark.stages.rebuild import component
    from benchmark.stages.settle import with_fixed_region

    if not record.certifiers:
        if bool((outcomes.certified > 0).any()) or outcomes.certified_rows is not None:
            if record.harness:
                raise RecordError("the outcomes have certificates, and nothing certified them")
            proof.notes.append("certified radii, since records of 0.1 do not name their certifiers")
        return
    certifiers = [component("certifier", described) for described in record.certifiers]
    zero = (outcomes.clean_correct & ~_certified(outcomes)).nonzero().flatten()[:1]
    at = torch.cat([rows, zero]) if len(rows) < SAMPLE else rows
    x, y, ids = cell.examples.x(at), cell.examples.y[at], cell.examples.ids[at]
    rng = SampleRandom(derive_seed(cell.seed, "cell"), ids)
    with exact_math():
        threat = with_fixed_region(cell.threat, cell.system, x, y, rng)
        right = torch.ones(len(at), dtype=torch.bool)
        now = certify(certifiers, cell.system, x, y, right, threat=threat, rng=rng.child("certify"))
        lost = certify_rows(certifiers, cell.system, x, y, right, rng=rng.child("certify"))
    if (lost is None) != (outcomes.certified_rows is None):
        raise RecordError("the outcomes have certified rows if a certifier proves something of them, and only then")
    if lost is not None and outcomes.certified_rows is not None:
        _check_labels("may lose of its training rows", lost, outcomes.certified_rows[at], ids)
    wrong = (now - outcomes.certified[at]).abs() > 1e-4 * (1e-3 + now)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise RecordError(
            f"the certified radius of example {int(ids[row])} is {float(now[row]):.6g}, and the outcomes say "
            f"{float(outcomes.certified[at][row]):.6g}"
        )
    proof.certified = len(at)
