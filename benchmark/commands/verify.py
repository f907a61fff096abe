"""`benchmark verify PATH`: verify a record by one forward pass over its examples, without attacking.

What is proved is in :mod:`benchmark.stages.arithmetic` and :mod:`benchmark.stages.proof`; `--again K` also attacks K
examples again. Without the weights, `--distances` proves everything that needs no system.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config.describe import recorded_threat
from benchmark.errors import BenchmarkError, DataError, RecordError
from benchmark.records.content import PREFIX, content_sha256
from benchmark.records.record import Record, read_record
from benchmark.records.store import Store
from benchmark.stages.proof import check_data, prove
from benchmark.stages.proved import OPEN, Proof
from benchmark.stages.replay import BATCH, check_distances, checked_outcomes, example_list, places_of, rows_of

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.data import Examples
    from benchmark.records.outcomes import Outcomes
    from benchmark.threat import Threat

__all__ = ["main", "measure_witness", "verify_record"]


def main(
    paths: Sequence[str],
    store: str,
    data: str,
    *,
    distances: bool = False,
    again: int = 0,
    seed: int = 0,
    inputs: Sequence[Path] = (),
) -> int:
    """Verify every record under the paths, print a line each; returns 1 if any is not proved, 2 if there is none.

    A disproved record counts as failed; one for which a plugin, system or data are missing here, as unproved.

    Args:
        distances: check only what needs no system. again: examples of each record to attack again.
        seed: draws these examples, and the certificates to recompute. inputs: files and folders that records identify
            by content.
    """
    folders = sorted({p.parent for path in paths for p in _records_under(Path(path))})
    if not folders:
        raise RecordError(f"no record.json under {', '.join(paths)}; expected a cell's folder or a folder of cells")
    places = {PREFIX + content_sha256(path): str(path) for path in inputs}
    ended = {"skipped": 0, "measured": 0, "verified": 0, "FAILED": 0, "unproved": 0}

    def proved(folder: Path, record: Record) -> str:
        return str(verify_record(folder, record, Store(Path(store)), Path(data), again=again, seed=seed, places=places))

    def measured(folder: Path, record: Record) -> str:
        return f"{measure_witness(folder, record, Path(data), places)} candidates have the distances in the outcomes"

    for folder in folders:
        word, name, said = _verdict(folder, "measured" if distances else "verified", measured if distances else proved)
        ended[word] += 1
        sys.stdout.write(f"{word:8} {name}  {' '.join(said.split())}\n")
    if ended["verified"] or ended["measured"]:
        sys.stdout.write("what a record alone cannot prove: " + "; ".join(OPEN) + "\n")
    rest = f"{ended['skipped']} skipped"
    rest += f", {ended['unproved']} not proved because a part is missing" if ended["unproved"] else ""
    done = f"{ended['measured']} measured" if distances else f"{ended['verified']} verified"
    sys.stdout.write(f"{done}, {ended['FAILED']} failed, {rest}\n")
    return 1 if ended["FAILED"] or ended["unproved"] else 0


def _verdict(folder: Path, word: str, check: Callable[[Path, Record], str]) -> tuple[str, str, str]:
    """End of the check of a record, its key or folder, and a sentence; `word` is that of a check that it passes."""
    try:
        record = read_record(folder)
        if record.status != "complete":
            return "skipped", record.key, f"its status is {record.status}"
        return word, record.key, check(folder, record)
    except RecordError as error:
        return "FAILED", folder.name, str(error)
    except BenchmarkError as error:
        return "unproved", folder.name, str(error)
    except Exception as error:  # a plugin's own, or a record so wrong that nobody thought of it: the others go on
        return "FAILED", folder.name, f"it cannot be checked: {type(error).__name__}: {error}"


def _records_under(path: Path) -> list[Path]:
    return [path] if path.name == "record.json" else sorted(path.rglob("record.json"))


def verify_record(
    folder: Path,
    record: Record,
    store: Store,
    data: Path,
    *,
    again: int = 0,
    seed: int = 0,
    places: Mapping[str, str] | None = None,
) -> Proof:
    """Prove one record from the files beside it and the system in the store: :func:`benchmark.stages.proof.prove`.

    Raises:
        RecordError: naming the first contradiction. Unproved: if a part is missing here.
    """
    return prove(folder, record, store, data, again=again, seed=seed, places=places)


def measure_witness(folder: Path, record: Record, data: Path, places: Mapping[str, str] | None = None) -> int:
    """Prove everything that needs no system, and measure the candidates; returns their number.

    They have the distances in the outcomes and lie inside box and region; that the system misclassifies them is not
    proved.

    Raises:
        RecordError: naming the first contradiction. DataError: if the region is unknown here.
    """
    from benchmark.records.witness import WITNESS, Witness
    from benchmark.stages.rebuild import dataset_of
    from benchmark.threat import RegionKind

    outcomes = checked_outcomes(folder, record)
    threat = recorded_threat(record.threat, folder)
    if threat.region.kind is RegionKind.saliency:
        raise DataError(
            "its region depends on the system; verify it without --distances, where the system is available"
        )
    splits = dataset_of(record.system, {**places_of(record), **(places or {})}).load(data, offline=True)
    examples = example_list(record, splits)
    check_data(record, splits, data, places)
    witness = Witness.load(folder / WITNESS)
    rows = rows_of(witness.ids, outcomes)
    for start in range(0, len(rows), BATCH):
        at = rows[start : start + BATCH]
        _measure(record, threat, examples, witness.x_adv[start : start + BATCH], outcomes, at)
    return len(rows)


def _measure(record: Record, threat: Threat, examples: Examples, x_adv: Tensor, outcomes: Outcomes, at: Tensor) -> None:
    """Measure the candidates (b, *S) of the examples at positions `at` (b,)."""
    from benchmark.records.outcomes import NORMS
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.threat import Norm
    from benchmark.threat.ball import distance

    x, ids = examples.x(at), examples.ids[at]
    if x.shape != x_adv.shape:
        raise RecordError(f"the witness has inputs of shape {list(x_adv.shape[1:])}, the dataset {list(x.shape[1:])}")
    audit = threat.around(x, SampleRandom(derive_seed(record.seed, "cell"), ids)).audit(x_adv)
    within = (audit.excess <= 0) | (not record.attack.bounded)
    for name, wrong in (
        ("outside the threat", ~audit.allowed),
        ("beyond the radius", ~within & outcomes.broken[at]),
        ("within the radius and called unbroken", within & ~outcomes.broken[at]),
    ):
        if bool(wrong.any()):
            raise RecordError(f"the witness of example {int(ids[wrong][0])} is {name}")
    check_distances({n: distance(x_adv, x, Norm(n)).float() for n in NORMS}, outcomes, at)
