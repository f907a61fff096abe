"""proof: check a record against its data and its system, by one forward pass over all examples, without attacking.

In addition to :mod:`benchmark.stages.arithmetic`: the data match the record by revision, splits and labels; the system
matches its description, by its weights; every clean answer, every witness, the gallery and every derived finding match
the record; certificates are recomputed on a sample. :data:`OPEN` lists what remains unproved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import RecordError
from benchmark.records.record import Record, SplitInfo
from benchmark.records.store import Store
from benchmark.stages.proof_answers import check_clean, check_labels, check_witness
from benchmark.stages.proof_findings import check_findings, check_gallery, check_rechecked
from benchmark.stages.proof_sites import check_agreement
from benchmark.stages.proved import Proof
from benchmark.stages.replay import (
    Replay,
    checked_outcomes,
    rebuilt,
)

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import Splits
    from benchmark.records.outcomes import Outcomes

__all__ = ["check_data", "prove"]

SAMPLE = 8
"""Number of certificates to recompute."""


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
        again: number of examples to attack again. seed: draws these, and the certificates to recompute; if the record's
            author does not know it, the sample cannot be prepared for. places: of inputs.

    Raises:
        RecordError: naming the first contradiction. Unproved: if a part is missing here.
    """
    from benchmark.stages.again import attack_again, draw
    from benchmark.stages.recheck import DEPENDS

    outcomes = checked_outcomes(folder, record)
    cell = rebuilt(record, store, data, folder, places)
    proof = Proof(record.key, claimed=int(outcomes.broken.sum()), notes=_undated(record))
    check_data(record, cell.splits, data, places)
    if record.task != cell.system.spec.task.name:
        raise RecordError(f"the record is for {record.task}, but the dataset is for {cell.system.spec.task.name}")
    check_agreement(cell.system.spec.task, outcomes, cell.threat.goal.value)
    _check_survivors(folder, record, outcomes, store)
    check_clean(cell, outcomes, proof)
    check_witness(folder, cell, outcomes, proof)
    check_gallery(folder, cell, outcomes, record)
    rest = check_findings(record, cell, outcomes)
    _check_certificates(record, cell, outcomes, draw(record.key, seed, _certified(outcomes), SAMPLE), proof)
    if again:
        rest = check_rechecked(record, cell, outcomes, rest, store, data)
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
    """Check that the attack skipped exactly the examples broken by the cells in the record.

    Raises:
        RecordError: if it did not. Unproved: if one of those cells is neither beside the record nor in the store.
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
            f"example {example} was {'not given' if bool(outcomes.spared[wrong][0]) else 'given'} to the attack, in "
            f"contradiction to the cells whose survivors it was run on"
        )


def _undated(record: Record) -> list[str]:
    return [] if record.harness else ["the key and the metrics other than counts, which records of 0.1 do not pin down"]


def check_data(record: Record, splits: Splits, data: Path, places: Mapping[str, str] | None = None) -> None:
    """Check that the dataset is the recorded one: its revision, and the labels and ids of every split.

    Raises:
        RecordError: if it is not.
    """
    from benchmark.stages.rebuild import dataset_of
    from benchmark.stages.replay import places_of

    revision = dataset_of(record.system, {**places_of(record), **(places or {})}).revision(data)
    if revision != record.dataset_revision:
        raise RecordError(f"the data here have the revision {revision}, but the record has {record.dataset_revision}")
    for name, said in record.splits.items():
        part = getattr(splits, name, None)
        if part is None or SplitInfo(count=len(part), sha256=part.digest()) != said:
            raise RecordError(f"the {name} split here has other examples than the record")
    if {*record.splits} != {"train", "select", "test"}:
        raise RecordError(f"the record has the splits {sorted(record.splits)}; expected train, select and test")


def _certified(outcomes: Outcomes) -> Tensor:
    """Examples with a certificate, (N,) bool."""
    rows = outcomes.certified_rows
    return outcomes.certified > 0 if rows is None else (outcomes.certified > 0) | (rows > 0)


def _check_certificates(record: Record, cell: Replay, outcomes: Outcomes, rows: Tensor, proof: Proof) -> None:
    """Recompute the certified radii of a sample with the certifiers in the record."""
    import torch

    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.certify import certify, certify_rows
    from benchmark.stages.devices import exact_math
    from benchmark.stages.rebuild import component
    from benchmark.stages.settle import with_fixed_region

    if not record.certifiers:
        if bool((outcomes.certified > 0).any()) or outcomes.certified_rows is not None:
            if record.harness:
                raise RecordError("the outcomes have certificates, but there was no certifier")
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
        raise RecordError("the outcomes must have certified rows if and only if a certifier proves them")
    if lost is not None and outcomes.certified_rows is not None:
        check_labels("may lose of its training rows", lost, outcomes.certified_rows[at], ids)
    wrong = (now - outcomes.certified[at]).abs() > 1e-4 * (1e-3 + now)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise RecordError(
            f"the certified radius of example {int(ids[row])} is {float(now[row]):.6g}, but "
            f"{float(outcomes.certified[at][row]):.6g} in the outcomes"
        )
    proof.certified = len(at)
