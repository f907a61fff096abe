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
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchmarkError, DataError, RecordError
from benchmark.record import Record, file_sha256, read_record
from benchmark.store import Store

if TYPE_CHECKING:
    import torch

    from benchmark.config import RunConfig
    from benchmark.outcomes import Outcomes
    from benchmark.system import System
    from benchmark.threat import Threat
    from benchmark.verify import Answer, Verdict

__all__ = ["GIVEN", "Proof", "checked_outcomes", "judged", "main", "measure_witness", "rebuilt", "verify_record"]

BATCH = 256
GIVEN = "given_examples"
"""The name of the attack in a record of candidates that somebody gave (`benchmark.given`): there is no such plugin."""


@dataclass(frozen=True)
class Proof:
    """What was proved: how many examples the witness breaks, of how many that the record says are broken."""

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
    from benchmark.outcomes import WITNESS, Witness

    outcomes = checked_outcomes(folder, record)
    config, system, examples = rebuilt(record, store, data)
    if examples.digest() != record.examples_sha256:
        raise RecordError("the dataset gives another example list than the record names")
    witness = Witness.load(folder / WITNESS)
    proved = 0
    rows = rows_of(witness.ids, outcomes)
    for start in range(0, len(rows), BATCH):
        proved += _prove(config, system, examples, outcomes, rows[start : start + BATCH], witness, start)
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

    from benchmark import rebuild
    from benchmark.ball import distance
    from benchmark.outcomes import NORMS, WITNESS, Witness
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.threat import Norm, RegionKind

    outcomes = checked_outcomes(folder, record)
    threat = _threat(record)
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
        _distances_agree({n: distance(x_adv, x, Norm(n)).float() for n in NORMS}, outcomes, at)
    return len(rows)


def checked_outcomes(folder: Path, record: Record) -> Outcomes:
    """The outcomes beside a record, which must name its files and count what they hold."""
    from benchmark.outcomes import OUTCOMES, Outcomes

    for file in record.files:
        path = folder / Path(file.path).name
        if not path.is_file() or file_sha256(path) != file.sha256:
            raise RecordError(f"{path} is missing or has another sha256 than the record names")
    outcomes = Outcomes.load(folder / OUTCOMES)
    _counts_agree(record, outcomes)
    return outcomes


def _counts_agree(record: Record, outcomes: Outcomes) -> None:
    from benchmark.measure import counts

    said = counts(outcomes)
    if record.counts != said:
        raise RecordError(f"the record counts {record.counts}, and its outcomes give {said}")


def rebuilt(record: Record, store: Store, data: Path) -> tuple[RunConfig, System, Any]:
    """Configuration, system and example list that the record describes."""
    import torch

    from benchmark import rebuild
    from benchmark.config import RunConfig, StoreConfig

    card = store.card(record.system.key)
    if card is None:
        raise RecordError(
            f"the system {record.system.key} is not in {store.root}/systems, and without it nothing can be proved; "
            "name the store that has it with --store"
        )
    if card.weights_sha256 != record.weights_sha256:
        raise RecordError("the system in the store has other weights than the record names")
    made = RunConfig(
        dataset=rebuild.component("dataset", record.system.config["dataset"]),
        model=rebuild.component("model", record.system.config["model"]),
        attack=_attack(record),
        threat=_threat(record),
        store=StoreConfig(root=str(store.root), data=str(data), offline=True),
    )
    config = rebuild.configuration(record.system, record.seed, like=made)
    splits = config.dataset.load(data, offline=True)
    system = rebuild.stored_system(config, card, store, splits.spec)
    assert record.counts is not None
    return config, system, splits.test.take(torch.arange(record.counts.total))


def _attack(record: Record) -> Any:
    """The attack that the record names; for given candidates one that has none of its own."""
    from benchmark import rebuild

    given = record.attack.name == GIVEN
    described = {"name": "none", "params": {}} if given else record.attack.model_dump(include={"name", "params"})
    return rebuild.component("attack", described)


def _threat(record: Record) -> Threat:
    """The threat that a record describes.

    Raises:
        RecordError: if its region is a mask file.
    """
    from benchmark.threat import Access, Goal, Norm, Region, RegionKind, Threat, parse_eps

    threat = record.threat
    kind, _, size = threat.region.partition(":")
    if kind == RegionKind.file.value:
        raise RecordError("its region is a mask file, which a record does not hold; verify it where it was run")
    return Threat(
        norm=Norm(threat.norm),
        eps=parse_eps(threat.eps_exact),
        goal=Goal(threat.goal),
        access=Access(threat.access),
        aware=threat.aware,
        region=Region(RegionKind(kind), int(size or 0)),
        queries=threat.queries,
        eot=threat.eot,
        surrogate=threat.surrogate,
        levels=threat.levels,
    )


def rows_of(ids: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
    """(M,) int64: where the witness's examples stand in the outcomes."""
    import torch

    order = outcomes.ids.argsort()
    at = torch.searchsorted(outcomes.ids[order], ids).clamp_max(len(order) - 1)
    rows = order[at]
    if not torch.equal(outcomes.ids[rows], ids) or len(ids.unique()) != len(ids):
        raise RecordError("the witness holds examples that are not in the outcomes, or holds one twice")
    if not bool(outcomes.adversarial[rows].all()) or int(outcomes.adversarial.sum()) != len(ids):
        raise RecordError("the witness is not made of just the examples that the outcomes call adversarial")
    return rows


def _prove(
    config: RunConfig, system: System, examples: Any, outcomes: Outcomes, rows: torch.Tensor, witness: Any, start: int
) -> int:
    """Prove one block of the witness; how many of its examples are broken."""
    x_adv = witness.x_adv[start : start + len(rows)]
    clean, verdict = judged(config, system, examples, rows, x_adv)
    ids = examples.ids[rows]
    for name, now in (("outside the threat", ~verdict.valid), ("not misclassified", ~verdict.adversarial)):
        if bool(now.any()):
            raise RecordError(f"the witness of example {int(ids[now][0])} is {name}")
    _distances_agree(verdict.distances, outcomes, rows)
    return int((verdict.broken & (clean.label == examples.y[rows])).sum())


def judged(
    config: RunConfig, system: System, examples: Any, rows: torch.Tensor, x_adv: torch.Tensor
) -> tuple[Answer, Verdict]:
    """What the run would say of these candidates for the examples at `rows`: of the clean inputs, and of them."""
    from benchmark.batch import goals
    from benchmark.devices import exact_math
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.verify import answer, judge

    x, y, ids = examples.x(rows), examples.y[rows], examples.ids[rows]
    rng = SampleRandom(derive_seed(config.seed, "cell"), ids)
    can = config.attack.supports
    with exact_math():
        clean = answer(system, x, y, rng.child("clean"))
        wanted = goals(config.threat.goal, y, clean.logits, rng)
        verdict = judge(
            system,
            config.threat.settled(system, x, y, rng).around(x, rng),
            x_adv,
            y,
            wanted[0] if len(wanted) == 1 else None,  # with several, the witness reaches one of them: any wrong label
            rng.child("verdict"),
            minimal=can.minimal,
            bounded=can.bounded,
        )
    return clean, verdict


def _distances_agree(found: dict[str, torch.Tensor], outcomes: Outcomes, rows: torch.Tensor) -> None:
    for norm, values in found.items():
        if not (values - outcomes.distances(norm)[rows]).abs().max() <= 1e-5 * (1 + values.abs().max()):
            raise RecordError(f"the {norm} distances of the witness are not those in the outcomes")
