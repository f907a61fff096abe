"""`benchmark add-examples CELL --examples FILE`: judge candidates made elsewhere like those of a run.

Breaking examples of a published system takes neither a plugin nor a run: the candidates are enough. They become a
cell of their own with the system, threat and examples of the cell that they are added to, and lower its worst case.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import __version__, registry
from benchmark.config.describe import MASK
from benchmark.errors import RecordError
from benchmark.records.build import AuditCounts, audit_of, counts_of, files_in
from benchmark.records.described import AttackInfo
from benchmark.records.durable import file_sha256
from benchmark.records.provenance import provenance
from benchmark.records.record import GIVEN, Cost, Record, cell_key, read_record
from benchmark.records.store import Store
from benchmark.stages.replay import BATCH, checked_outcomes, judged, places_of, rebuilt

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import Verdict

__all__ = ["main", "record_given"]

NAMED = 8
"""Number of examples that an error lists."""


def main(cell: Path, examples: Path, store: Path, data: Path) -> int:
    """Judge and record the candidates, and print a summary; returns the exit code 0."""
    from benchmark.records.outcomes import OUTCOMES, Outcomes

    record = record_given(cell, examples, Store(store), data)
    counts = record.counts
    assert counts is not None
    before = Outcomes.load(cell / OUTCOMES)
    new = int((Outcomes.load(Store(store).cell(record.key) / OUTCOMES).broken & ~before.broken).sum())
    sys.stdout.write(
        f"{Store(store).cell(record.key)}: {counts.clean_correct - counts.robust_correct} examples broken, {new} of "
        "them not broken by the original cell\n"
    )
    return 0


def record_given(cell: Path, file: Path, store: Store, data: Path) -> Record:
    """Store the given candidates as a cell.

    Args:
        cell: folder of the cell that they are added to; its system must be in the store.
        file: safetensors with `ids` (M,) int64 and `x_adv` (M, *S) float32 in [0, 1].

    Raises:
        RecordError: if a candidate is not valid under the threat, breaks nothing, or belongs to no example.
    """
    from benchmark.records.outcomes import OUTCOMES
    from benchmark.records.witness import WITNESS, Witness

    base = read_record(cell)
    if base.status != "complete":
        raise RecordError(f"{cell} is {base.status}; expected a complete cell to add candidates to")
    before = checked_outcomes(cell, base)
    ids, x_adv = _candidates(file)
    outcomes = _judged(cell, base, before, ids, x_adv, store, data)
    order = outcomes.ids[outcomes.adversarial]
    place = {int(example): at for at, example in enumerate(ids.tolist())}
    described = _described(base, file)
    key = cell_key(described)
    work = store.scratch(key, {"kind": "cell", "key": key, "name": f"{GIVEN} against {base.key}", "overrides": []})
    outcomes.save(work / OUTCOMES)
    if (cell / MASK).is_file():
        shutil.copyfile(cell / MASK, work / MASK)
    rows = [place[int(example)] for example in order.tolist()]
    Witness(order, x_adv[rows]).save(work / WITNESS, base.threat.levels)
    (work / "plan.json").unlink()
    record = described.model_copy(
        update={
            "key": key,
            "counts": counts_of(outcomes),
            "metrics": [],
            "cost": Cost(forwards=0, backwards=0, seconds=0.0, peak_memory_bytes=0),
            "audit": audit_of(outcomes, base.threat.norm, AuditCounts()),
            "findings": [],
            "files": files_in(work, (OUTCOMES, WITNESS, MASK)),
            "provenance": provenance(against=base.key, inputs=places_of(base)),
        }
    )
    store.put_record(record, work)
    return record


def _described(base: Record, file: Path) -> Record:
    """Record of a cell of given candidates: that of `base`, without certifiers and metrics."""
    attack = AttackInfo(
        name=GIVEN,
        params={"sha256": file_sha256(file)},
        distribution=registry.DISTRIBUTION,
        version=__version__,
        minimal=False,
        randomized=False,
    )
    harness = registry.harness_version("cell")
    return base.model_copy(update={"attack": attack, "certifiers": [], "measured_by": [], "harness": harness})


def _candidates(file: Path) -> tuple[Tensor, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from benchmark.records.witness import decoded

    try:
        found = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{file} cannot be read as safetensors: {error}") from error
    kinds = {name: tensor.dtype for name, tensor in found.items()}
    if kinds not in ({"ids": torch.int64, "x_adv": dtype} for dtype in (torch.float32, torch.uint8)):
        raise RecordError(f"{file} holds {sorted(found)}; expected ids (int64) and x_adv (float32), or x_adv in bytes")
    ids, x_adv = found["ids"], decoded(found["x_adv"])
    if ids.ndim != 1 or not len(ids) or len(ids) != len(x_adv) or len(ids.unique()) != len(ids):
        raise RecordError(
            f"{file} holds {list(ids.shape)} ids and {list(x_adv.shape)} candidates; expected one for each"
        )
    return ids, x_adv


def _judged(
    cell: Path, base: Record, before: Outcomes, ids: Tensor, x_adv: Tensor, store: Store, data: Path
) -> Outcomes:
    """Outcomes of a cell that consists of these candidates."""
    import torch

    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import right

    given = base.model_copy(update={"attack": base.attack.model_copy(update={"name": GIVEN})})
    replay = rebuilt(given, store, data, cell)
    order = before.ids.argsort()
    rows = order[torch.searchsorted(before.ids[order], ids).clamp_max(len(order) - 1)]
    if not torch.equal(before.ids[rows], ids):
        raise RecordError(f"example {int(ids[before.ids[rows] != ids][0])} is not in the cell's example list")
    if tuple(x_adv.shape[1:]) != tuple(replay.examples.x(rows[:1]).shape[1:]):
        raise RecordError(f"the candidates have the shape {list(x_adv.shape[1:])}, which is not that of the examples")
    outcomes = Outcomes.untouched(
        before.ids,
        before.y,
        before.clean_label,
        before.clean_top5,
        predicted=before.clean_predicted,
        suspicion=before.clean_suspicion,
        goals=1 if before.reached is None else before.reached.shape[1],
    )
    everybody = torch.arange(len(before))
    outcomes = outcomes.updated(everybody, clean_correct=before.clean_correct, attacked=before.clean_correct)
    for start in range(0, len(ids), BATCH):
        at = rows[start : start + BATCH]
        clean, verdict = judged(replay, at, x_adv[start : start + BATCH])
        _check_breaking(before.ids[at], right(clean, replay.threat.goal), verdict)
        outcomes = outcomes.updated(
            at,
            adv_label=verdict.label,
            robust_top5=verdict.top5 & clean.top5,
            adversarial=verdict.adversarial,
            broken=verdict.broken,
            adv_predicted=verdict.predicted,
            adv_suspicion=verdict.suspicion,
            **verdict.distances,
        )
        if outcomes.reached is not None:
            goals = outcomes.reached.shape[1]
            outcomes.reached[at, (verdict.label - replay.examples.y[at] - 1) % (goals + 1)] = True
    return outcomes


def _check_breaking(ids: Tensor, right: Tensor, verdict: Verdict) -> None:
    """Refuse candidates of which one breaks nothing that was `right` (b,) bool before (RecordError)."""
    for name, now in (
        ("was misclassified already", ~right),
        ("is outside the threat", ~verdict.valid),
        ("breaks nothing", ~verdict.broken),
    ):
        if bool(now.any()):
            raise RecordError(f"{_named(ids[now].tolist())} {name}; leave it out")


def _named(ids: list[int]) -> str:
    """Subject of an error sentence about the candidates of these examples."""
    if len(ids) == 1:
        return f"the candidate of example {ids[0]}"
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"each candidate of the examples {', '.join(map(str, ids[:NAMED]))}{more}"
