"""`benchmark verify PATH`: prove a record again by one forward pass over its examples, without attacking.

What is proved is in :mod:`benchmark.stages.arithmetic` and :mod:`benchmark.stages.proof`; `--again K` also attacks K
examples again. Where the weights are not at hand, `--distances` proves all that needs no system.
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
    """Verify every record under the paths, print a line each; 1 if any is not proved, 2 if there is none.

    A record that is disproved has failed; one for which a plugin, a system or data are missing here is only unproved.

    Args:
        distances: only what needs no system. again: examples of each record that are attacked again.
        seed: draws those, and the certificates that are made again. inputs: files and folders that records name by
            their content.
    """
    folders = sorted({p.parent for path in paths for p in _records_under(Path(path))})
    if not folders:
        raise RecordError(f"no record.json lies under {', '.join(paths)}; give a cell's folder or a folder of cells")
    places = {PREFIX + content_sha256(path): str(path) for path in inputs}
    ended = {"skipped": 0, "measured": 0, "verified": 0, "FAILED": 0, "unproved": 0}

    def proved(folder: Path, record: Record) -> str:
        return str(verify_record(folder, record, Store(Path(store)), Path(data), again=again, seed=seed, places=places))

    def measured(folder: Path, record: Record) -> str:
        return f"{measure_witness(folder, record, Path(data), places)} candidates lie where the outcomes say"

    for folder in folders:
        word, name, said = _verdict(folder, "measured" if distances else "verified", measured if distances else proved)
        ended[word] += 1
        sys.stdout.write(f"{word:8} {name}  {' '.join(said.split())}\n")
    if ended["verified"] or ended["measured"]:
        sys.stdout.write("what no record proves by itself: " + "; ".join(OPEN) + "\n")
    rest = f"{ended['skipped']} skipped"
    rest += f", {ended['unproved']} not proved for want of a part" if ended["unproved"] else ""
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
        RecordError: naming the first thing that is not as the record says. Unproved: if a part is missing here.
    """
    return prove(folder, record, store, data, again=again, seed=seed, places=places)


def measure_witness(folder: Path, record: Record, data: Path, places: Mapping[str, str] | None = None) -> int:
    """Prove all that needs no system, and measure the candidates; returns how many there are.

    They are where the outcomes say, inside box and region; that the system answers wrongly is not proved.

    Raises:
        RecordError: naming the first thing that is not as the record says. DataError: if its region is not known here.
    """
    from benchmark.records.outcomes import WITNESS, Witness
    from benchmark.stages.rebuild import dataset_of
    from benchmark.threat import RegionKind

    outcomes = checked_outcomes(folder, record)
    threat = recorded_threat(record.threat, folder)
    if threat.region.kind is RegionKind.saliency:
        raise DataError("its region depends on the system; verify it where the system is, without --distances")
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
    """Measure the candidates (b, *S) of the examples at `at` (b,)."""
    from benchmark.records.outcomes import NORMS
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.threat import Norm
    from benchmark.threat.ball import distance

    x, ids = examples.x(at), examples.ids[at]
    if x.shape != x_adv.shape:
        raise RecordError(f"the witness has inputs {list(x_adv.shape[1:])}, and the dataset {list(x.shape[1:])}")
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
