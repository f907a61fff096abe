"""Judge a stored witness again: what `verify`, `transfer` and `add-examples` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import RecordError
from benchmark.records.record import GIVEN, Record, file_sha256
from benchmark.records.store import Store

if TYPE_CHECKING:
    import torch

    from benchmark.api import Attack, Poison
    from benchmark.data import Examples
    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import Answer, Verdict
    from benchmark.system import System
    from benchmark.threat import Threat

__all__ = ["BATCH", "Replay", "check_distances", "checked_outcomes", "judged", "rebuilt", "rows_of"]


BATCH = 256


def checked_outcomes(folder: Path, record: Record) -> Outcomes:
    """The outcomes beside a record, which must name its files and count what they hold."""
    from benchmark.records.outcomes import OUTCOMES, Outcomes

    for file in record.files:
        path = folder / Path(file.path).name
        if not path.is_file() or file_sha256(path) != file.sha256:
            raise RecordError(f"{path} is missing or has another sha256 than the record names")
    outcomes = Outcomes.load(folder / OUTCOMES)
    _check_counts(record, outcomes)
    return outcomes


def _check_counts(record: Record, outcomes: Outcomes) -> None:
    from benchmark.records.build import counts_of

    said = counts_of(outcomes)
    if record.counts != said:
        raise RecordError(f"the record counts {record.counts}, and its outcomes give {said}")


@dataclass(frozen=True)
class Replay:
    """A recorded cell, ready to be judged again.

    seed: the cell's. examples: its example list. poisons: of the system.
    """

    system: System
    attack: Attack
    threat: Threat
    seed: int
    examples: Examples
    poisons: tuple[Poison, ...] = ()


def rebuilt(record: Record, store: Store, data: Path) -> Replay:
    """Rebuild the cell that a record describes, with its system from the store.

    Raises:
        RecordError: if the system is not there, or has other weights.
    """
    import torch

    from benchmark.config.describe import recorded_threat
    from benchmark.stages import rebuild

    card = store.card(record.system.key)
    if card is None:
        raise RecordError(
            f"the system {record.system.key} is not in {store.root}/systems, and without it nothing can be proved; "
            "name the store that has it with --store"
        )
    if card.weights_sha256 != record.weights_sha256:
        raise RecordError("the system in the store has other weights than the record names")
    parts = rebuild.spec_of(record.system, record.seed)
    attack, threat = _attack(record), recorded_threat(record.threat)
    splits = parts.dataset.load(data, offline=True)
    system = rebuild.stored_system(parts, card, store, splits.spec)
    assert record.counts is not None
    return Replay(
        system, attack, threat, record.seed, splits.test.take(torch.arange(record.counts.total)), parts.poisons
    )


def _attack(record: Record) -> Any:
    """The attack that the record names; for given candidates one that has none of its own."""
    from benchmark.stages import rebuild

    given = record.attack.name == GIVEN
    described = {"name": "none", "params": {}} if given else record.attack.model_dump(include={"name", "params"})
    return rebuild.component("attack", described)


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


def judged(
    cell: Replay, rows: torch.Tensor, x_adv: torch.Tensor, aimed: torch.Tensor | None = None
) -> tuple[Answer, Verdict]:
    """Judge candidates for the examples at `rows` as the run would: the clean answer, and the verdict.

    aimed: (M,) int64, the labels that a trigger is to evoke; None for attacks that show none.
    """
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.batch import goals
    from benchmark.stages.devices import exact_math
    from benchmark.stages.judge import answer, judge
    from benchmark.stages.settle import with_fixed_region

    x, y, ids = cell.examples.x(rows), cell.examples.y[rows], cell.examples.ids[rows]
    rng = SampleRandom(derive_seed(cell.seed, "cell"), ids)
    can = cell.attack.supports
    with exact_math():
        clean = answer(cell.system, x, y, rng.child("clean"))
        wanted = goals(cell.threat.goal, y, clean.logits, rng) if aimed is None else (aimed,)
        verdict = judge(
            cell.system,
            with_fixed_region(cell.threat, cell.system, x, y, rng).around(x, rng),
            x_adv,
            y,
            wanted[0] if len(wanted) == 1 else None,  # with several, the witness reaches one of them: any wrong label
            rng.child("verdict"),
            minimal=can.minimal,
            bounded=can.bounded,
        )
    return clean, verdict


def check_distances(found: dict[str, torch.Tensor], outcomes: Outcomes, rows: torch.Tensor) -> None:
    """Compare measured distances (b,) by norm with those of the outcomes at `rows` (b,).

    Raises:
        RecordError: if they differ by more than rounding.
    """
    for norm, values in found.items():
        if not (values - outcomes.distances(norm)[rows]).abs().max() <= 1e-5 * (1 + values.abs().max()):
            raise RecordError(f"the {norm} distances of the witness are not those in the outcomes")
