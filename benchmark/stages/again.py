"""again: attack a sample of the examples of a recorded cell again; the results must be identical bit for bit."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmark.api import PreparedAttack
from benchmark.config.schema import StoreConfig, Trainer
from benchmark.errors import RecordError, Unproved
from benchmark.records.outcomes import NORMS, Outcomes
from benchmark.records.record import GIVEN, Finding, Record
from benchmark.records.witness import WITNESS, Witness
from benchmark.sampling import derive_seed
from benchmark.stages.batch import attack_batch
from benchmark.stages.devices import exact_math
from benchmark.stages.job import Job
from benchmark.stages.prepare import PREPARED, prepare
from benchmark.stages.rebuild import component
from benchmark.stages.recheck import UNRELIABLE, recheck
from benchmark.stages.replay import backdoor_of
from benchmark.stages.surrogate import surrogate
from benchmark.system.references import References
from benchmark.threat import Access

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.records.store import Store
    from benchmark.stages.replay import Replay
    from benchmark.system import System

__all__ = ["attack_again", "draw", "recheck_again"]

LOOSE = ("confidence", "certified", "excess", *(norm for norm in NORMS if norm not in ("l0", "linf")))
"""Columns that may differ by rounding: sums over the features among them."""


def draw(key: str, seed: int, among: Tensor, count: int) -> Tensor:
    """Draw at most `count` of the rows where `among` (N,) bool is true: their positions, (M,) int64, ascending."""
    generator = torch.Generator().manual_seed(derive_seed(seed, key) % 2**63)
    rows = among.nonzero().flatten()
    return rows[torch.randperm(len(rows), generator=generator)[:count]].sort().values


def attack_again(
    folder: Path, record: Record, cell: Replay, outcomes: Outcomes, rows: Tensor, store: Store, data: Path
) -> None:
    """Attack the examples at `rows` again, as the run did.

    Raises:
        RecordError: naming the first example with another result. Unproved: if the candidates came from a file.
    """
    if record.attack.name == GIVEN:
        raise Unproved("its candidates were added from a file, and no attack can recompute them")
    with tempfile.TemporaryDirectory() as scratch:
        job = _job(record, cell, store, data, Path(scratch))
        with exact_math():
            if isinstance(cell.attack, PreparedAttack):
                job = dataclasses.replace(job, prepared=prepare(job, torch.device("cpu")))
                _check_prepared(folder, job.prepared or {})
            x, y, ids = cell.examples.x(rows), cell.examples.y[rows], cell.examples.ids[rows]
            made = attack_batch(job, x, y, ids)
    _compare(made.outcomes, outcomes, rows)
    assert made.witness is not None
    stored = Witness.load(folder / WITNESS)
    place = {int(example): at for at, example in enumerate(stored.ids.tolist())}
    for at, example in enumerate(made.witness.ids.tolist()):
        if not torch.equal(made.witness.x_adv[at], stored.x_adv[place[example]]):
            raise RecordError(f"attacked again, example {example} gives another candidate than its witness")


def recheck_again(record: Record, cell: Replay, outcomes: Outcomes, store: Store, data: Path) -> Finding | None:
    """Finding about an attack that depends on its batch, recomputed as in the run; None if there is none."""
    if {finding.name for finding in record.findings} & UNRELIABLE:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return recheck(_job(record, cell, store, data, Path(scratch)), Trainer(), outcomes)


def _job(record: Record, cell: Replay, store: Store, data: Path, scratch: Path) -> Job:
    return Job(
        attack=cell.attack,
        threat=cell.threat,
        system=cell.system,
        attacker_view=_attacker_view(cell, store, data),
        examples=cell.examples,
        seed=cell.seed,
        batch_size=1,
        folder=scratch,
        certifiers=tuple(component("certifier", described) for described in record.certifiers),
        owned=References.of(cell.splits.train, cell.splits.spec.classes),
        backdoor=backdoor_of(cell),
    )


def _attacker_view(cell: Replay, store: Store, data: Path) -> System:
    threat, system = cell.threat, cell.system
    if threat.access is Access.transfer:
        config = StoreConfig(root=str(store.root), data=str(data), offline=True)
        return surrogate(threat, component("dataset", cell.card.system.config["dataset"]), system.spec, store, config)
    return system if threat.aware or not system.defended_at_inference else system.undefended()


def _check_prepared(folder: Path, made: dict[str, Tensor]) -> None:
    from safetensors.torch import load_file

    path = folder / PREPARED
    stored = load_file(path) if path.is_file() else {}
    if {*stored} != {*made} or not all(torch.equal(stored[name], made[name]) for name in made):
        raise RecordError(f"run again, the attack prepares other tensors than those in {path}")


def _compare(now: Outcomes, said: Outcomes, rows: Tensor) -> None:
    """Compare the rows of a repeated attack with those of the record, column by column."""
    mine, theirs = now.tensors(), said.tensors()
    for name in theirs:
        new, old = mine[name], theirs[name][rows]
        if new.shape != old.shape:
            raise RecordError(
                f"attacked again, {name} has the shape {list(new.shape)}, in the outcomes {list(old.shape)}"
            )
        same = torch.isclose(new, old, rtol=1e-4, atol=1e-6) if name in LOOSE else new == old
        wrong = ~(same if same.ndim == 1 else same.all(1))
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            raise RecordError(
                f"attacked again, example {int(now.ids[at])} has {name} {new[at].tolist()}, but {old[at].tolist()} in "
                f"the outcomes"
            )
