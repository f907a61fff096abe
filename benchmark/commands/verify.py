"""`benchmark verify PATH`: prove a record again from its witness, by one forward pass and without attacking.

What is checked: the files are those that the record names; the counts are those of the outcomes; the system can be
rebuilt and has the weights that the record names; every witness lies inside the threat and is answered wrongly.
Where the weights are not at hand, the distances of the witness can still be measured: `--distances`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config.describe import recorded_threat
from benchmark.errors import BenchmarkError, DataError, RecordError
from benchmark.records.record import Record, read_record
from benchmark.records.store import Store
from benchmark.stages.replay import BATCH, check_distances, checked_outcomes, judged, rebuilt, rows_of

if TYPE_CHECKING:
    import torch

    from benchmark.records.outcomes import Outcomes, Witness
    from benchmark.stages.replay import Replay

__all__ = ["Proof", "main", "measure_witness", "verify_record"]


@dataclass(frozen=True)
class Proof:
    """The outcome of a verification: examples that the witness breaks, of those that the record claims broken."""

    key: str
    broken: int
    claimed: int


def main(paths: Sequence[str], store: str, data: str, *, distances: bool = False) -> int:
    """Verify every record under the paths, print a line each; 1 if any is not proved, 2 if there is none.

    A record that is disproved has failed; one for which a plugin or data are missing here is only unproved.

    Args:
        distances: only measure how far the candidates are, which needs the data and no system.
    """
    folders = sorted({p.parent for path in paths for p in _records_under(Path(path))})
    if not folders:
        raise RecordError(f"no record.json lies under {', '.join(paths)}; give a cell's folder or a folder of cells")
    failed = unproved = skipped = 0
    for folder in folders:
        try:
            record = read_record(folder)
            if record.status != "complete":
                skipped += 1
                sys.stdout.write(f"skipped  {record.key}  its status is {record.status}\n")
                continue
            if distances:
                count = measure_witness(folder, record, Path(data))
                sys.stdout.write(f"measured {record.key}  {count} candidates lie where the outcomes say\n")
                continue
            proof = verify_record(folder, record, Store(Path(store)), Path(data))
        except RecordError as error:
            failed += 1
            sys.stdout.write(f"FAILED   {folder.name}  {error}\n")
        except BenchmarkError as error:
            unproved += 1
            sys.stdout.write(f"unproved {folder.name}  {error}\n")
        else:
            sys.stdout.write(f"verified {proof.key}  {proof.broken} of {proof.claimed} broken examples proved\n")
    done = len(folders) - failed - unproved - skipped
    rest = f"{skipped} skipped" + (f", {unproved} not proved for want of a part" if unproved else "")
    sys.stdout.write(f"{done} {'measured' if distances else 'verified'}, {failed} failed, {rest}\n")
    return 1 if failed or unproved else 0


def _records_under(path: Path) -> list[Path]:
    return [path] if path.name == "record.json" else sorted(path.rglob("record.json"))


def verify_record(folder: Path, record: Record, store: Store, data: Path) -> Proof:
    """Prove one record from the files beside it and the system in the store.

    Raises:
        RecordError: naming the first thing that is not as the record says.
    """
    from benchmark.records.outcomes import WITNESS, Witness

    outcomes = checked_outcomes(folder, record)
    cell = rebuilt(record, store, data)
    if cell.examples.digest() != record.examples_sha256:
        raise RecordError("the dataset gives another example list than the record names")
    witness = Witness.load(folder / WITNESS)
    proved = 0
    rows = rows_of(witness.ids, outcomes)
    for start in range(0, len(rows), BATCH):
        proved += _prove(cell, outcomes, rows[start : start + BATCH], witness, start)
    claimed = int(outcomes.broken.sum())
    if proved != claimed:
        raise RecordError(f"the witness breaks {proved} examples, and the record claims {claimed}")
    return Proof(record.key, proved, claimed)


def measure_witness(folder: Path, record: Record, data: Path) -> int:
    """Measure the candidates of a record against the clean examples; returns how many there are.

    This proves that they are where the outcomes say, inside box and region, and not that the system answers wrongly.

    Raises:
        RecordError: naming the first thing that is not as the record says. DataError: if its region is not known here.
    """
    import torch

    from benchmark.records.outcomes import NORMS, WITNESS, Witness
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages import rebuild
    from benchmark.threat import Norm, RegionKind
    from benchmark.threat.ball import distance

    outcomes = checked_outcomes(folder, record)
    threat = recorded_threat(record.threat)
    if threat.region.kind is RegionKind.saliency:
        raise DataError("its region depends on the system; verify it where the system is, without --distances")
    splits = rebuild.component("dataset", record.system.config["dataset"]).load(data, offline=True)
    examples = splits.test.take(torch.arange(len(outcomes)))
    if examples.digest() != record.examples_sha256:
        raise RecordError("the dataset gives another example list than the record names")
    witness = Witness.load(folder / WITNESS)
    rows = rows_of(witness.ids, outcomes)
    for start in range(0, len(rows), BATCH):
        at = rows[start : start + BATCH]
        x, x_adv, ids = examples.x(at), witness.x_adv[start : start + BATCH], examples.ids[at]
        if x.shape != x_adv.shape:
            raise RecordError(f"the witness has inputs {list(x_adv.shape[1:])}, and the dataset {list(x.shape[1:])}")
        audit = threat.around(x, SampleRandom(derive_seed(record.seed, "cell"), ids)).audit(x_adv)
        if not bool(audit.allowed.all()):
            raise RecordError(f"the witness of example {int(ids[~audit.allowed][0])} is outside the threat")
        check_distances({n: distance(x_adv, x, Norm(n)).float() for n in NORMS}, outcomes, at)
    return len(rows)


def _prove(cell: Replay, outcomes: Outcomes, rows: torch.Tensor, witness: Witness, start: int) -> int:
    """Prove one block of the witness; how many of its examples are broken."""
    x_adv = witness.x_adv[start : start + len(rows)]
    aimed = None if outcomes.aimed is None else outcomes.aimed[rows]
    if cell.attack.supports.trigger and (aimed is None or not _aims(cell, rows, aimed)):
        raise RecordError("the outcomes name other labels to evoke than the system's poison is about")
    clean, verdict = judged(cell, rows, x_adv, aimed)
    ids = cell.examples.ids[rows]
    for name, now in (("outside the threat", ~verdict.valid), ("not misclassified", ~verdict.adversarial)):
        if bool(now.any()):
            raise RecordError(f"the witness of example {int(ids[now][0])} is {name}")
    check_distances(verdict.distances, outcomes, rows)
    return int((verdict.broken & (clean.label == cell.examples.y[rows])).sum())


def _aims(cell: Replay, rows: torch.Tensor, aimed: torch.Tensor) -> bool:
    """Check that a poison of the system is to evoke these labels (M,) in the examples at `rows` (M,)."""
    y = cell.examples.y[rows]
    return any(bool((poison.aim(y) == aimed).all()) for poison in cell.poisons if poison.evokes())
