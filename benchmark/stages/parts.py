"""Finished batches of a cell on disk: listing, gaps and joining."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.errors import StoreError
from benchmark.records.build import AuditCounts
from benchmark.records.durable import checked_tensors, save_checked, set_aside
from benchmark.records.outcomes import Outcomes
from benchmark.records.witness import WITNESS, join_witnesses
from benchmark.stages.batch import Attacked
from benchmark.stages.job import Job

__all__ = ["batches_of", "finished_parts", "gaps", "join_parts", "save_part", "set_broken_aside"]


def finished_parts(folder: Path) -> list[tuple[int, int, Path]]:
    """Finished batches, in order: first position, position after the last, file."""
    found = []
    for path in folder.glob("part-*-*.safetensors"):
        _, start, stop = path.stem.split("-")
        found.append((int(start), int(stop), path))
    return sorted(found)


def gaps(parts: Sequence[tuple[int, int, Path]], total: int) -> list[tuple[int, int]]:
    """Ranges of positions that no part covers."""
    gaps, at = [], 0
    for start, stop, _ in parts:
        if start > at:
            gaps.append((at, start))
        at = max(at, stop)
    return [*gaps, (at, total)] if at < total else gaps


WIDEST = 4
"""Most positions of a batch for each example that it could attack: also the others have a clean pass."""


def batches_of(
    ranges: Sequence[tuple[int, int]], size: int, spared: Sequence[bool] | None = None
) -> list[tuple[int, int]]:
    """Split ranges into batches of at most `size` examples to attack, so that few survivors fill their passes.

    Args:
        spared: for each position, whether its example is not attacked; None if all are.
    """
    batches = []
    for start, stop in ranges:
        first, count = start, 0
        for at in range(start, stop):
            count += spared is None or not spared[at]
            if count == size or at + 1 - first == WIDEST * size:
                batches.append((first, at + 1))
                first, count = at + 1, 0
        if first < stop:
            batches.append((first, stop))
    return batches


def save_part(part: Attacked, path: Path) -> None:
    """Write a finished batch, atomically and with a checksum."""
    tensors = {f"outcomes.{k}": v.cpu().contiguous().clone() for k, v in part.outcomes.tensors().items()}
    assert part.witness is not None
    tensors |= {"witness.ids": part.witness.ids.contiguous(), "witness.x_adv": part.witness.x_adv.contiguous()}
    tensors["audit"] = torch.tensor(list(vars(part.audit).values()))
    tensors["cost"] = torch.tensor([part.seconds, float(part.peak_memory_bytes)], dtype=torch.float64)
    save_checked(tensors, path, {"path": json.dumps(part.path)})


def set_broken_aside(folder: Path) -> bool:
    """Set aside every broken batch; True if there was any."""
    found = False
    for _, _, path in finished_parts(folder):
        try:
            checked_tensors(path)
        except StoreError as error:
            found = True
            set_aside(path, str(error).removeprefix(f"{path} "))
    return found


def join_parts(job: Job) -> Attacked:
    """Join all parts in the order of the examples; the witness is copied on disk, without passing through memory."""
    from safetensors import safe_open

    outcomes, audit, seconds, peak = [], AuditCounts(), 0.0, 0.0
    path: Counter[str] = Counter()
    paths = [file for _, _, file in finished_parts(job.folder)]
    for file in paths:
        with safe_open(str(file), "pt") as part:
            path.update(json.loads((part.metadata() or {}).get("path", "{}")))
            names = [name for name in part.keys() if name.startswith("outcomes.")]  # noqa: SIM118 - it is no dict
            outcomes.append(Outcomes(**{n.removeprefix("outcomes."): part.get_tensor(n) for n in names}))
            audit += AuditCounts(*(int(v) for v in part.get_tensor("audit")))
            cost = part.get_tensor("cost")
        seconds += float(cost[0])
        peak = max(peak, float(cost[1]))
    join_witnesses(paths, job.folder / WITNESS, job.threat.levels)
    return Attacked(Outcomes.join(outcomes), audit, seconds, int(peak), path=dict(sorted(path.items())))
