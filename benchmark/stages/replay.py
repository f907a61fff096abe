"""Judgement of a stored witness, shared by `verify`, `transfer` and `add-examples`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import RecordError, Unproved
from benchmark.records.card import Card
from benchmark.records.record import GIVEN, Record
from benchmark.records.store import Store
from benchmark.stages.arithmetic import checked_outcomes

if TYPE_CHECKING:
    import torch

    from benchmark.api import Attack, Poison
    from benchmark.data import Examples, Splits
    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.backdoor import Backdoor
    from benchmark.stages.judge import Answer, Verdict
    from benchmark.system import System
    from benchmark.threat import Threat

__all__ = [
    "BATCH",
    "Replay",
    "backdoor_of",
    "check_distances",
    "checked_outcomes",
    "example_list",
    "judged",
    "places_of",
    "rebuilt",
    "rows_of",
]


BATCH = 256


@dataclass(frozen=True)
class Replay:
    """A recorded cell, rebuilt to judge its witness.

    seed: the cell's. examples: its example list. splits: the whole dataset. card, poisons: of the system.
    """

    system: System
    attack: Attack
    threat: Threat
    seed: int
    examples: Examples
    splits: Splits
    card: Card
    poisons: tuple[Poison, ...] = ()


def backdoor_of(cell: Replay) -> Backdoor | None:
    """Trigger of the system's poison, for an attack that applies it.

    Raises:
        RecordError: if the attack applies one, but the system has none.
    """
    from benchmark.stages.backdoor import Backdoor

    if not cell.attack.supports.trigger:
        return None
    found = Backdoor.of(cell.poisons, cell.splits.test)
    if found is None:
        raise RecordError("the attack applies the trigger of a poison, but the system has no such poison")
    return found


def places_of(record: Record) -> dict[str, str]:
    """Paths of the inputs that a record identifies by content, as far as known."""
    said = record.provenance.get("inputs")
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}


def rebuilt(
    record: Record, store: Store, data: Path, folder: Path | None = None, places: Mapping[str, str] | None = None
) -> Replay:
    """Rebuild the cell that a record describes, with its system from the store.

    Args:
        folder: of the record, with the mask of its region. places: of inputs, in addition to those in provenance.

    Raises:
        RecordError: if the stored system has other weights, or is not the described one.
        Unproved: if the system is not in the store, or the data are not here.
    """
    from benchmark.config.describe import recorded_threat
    from benchmark.stages import rebuild

    card = store.card(record.system.key)
    if card is None:
        raise Unproved(
            f"the system {record.system.key} is not in {store.root}/systems, and without it nothing can be proved; "
            "name its store with --store"
        )
    if card.weights_sha256 != record.weights_sha256:
        raise RecordError("the system in the store has other weights than the record")
    if (card.system, card.seed, card.dataset_revision) != (record.system, record.seed, record.dataset_revision):
        raise RecordError("the system in the store is not the one that the record describes")
    known = {**places_of(record), **(places or {})}
    rebuild.dataset_of(record.system, known)
    parts = rebuild.spec_of(record.system, record.seed, known)
    if record.harness and record.fitted_on != parts.fitted_on():
        raise RecordError(f"the record says that detectors were fitted on {record.fitted_on}, not {parts.fitted_on()}")
    attack, threat = _attack(record), recorded_threat(record.threat, folder)
    splits = parts.dataset.load(data, offline=True)
    system = rebuild.stored_system(parts, card, store, splits.spec)
    return Replay(system, attack, threat, record.seed, example_list(record, splits), splits, card, parts.poisons)


def example_list(record: Record, splits: Splits) -> Examples:
    """Examples of a cell: the first ones of the test split.

    Raises:
        RecordError: if they are not the recorded ones.
    """
    import torch

    assert record.counts is not None
    total, there = record.counts.total, len(splits.test)
    asked = there if record.examples is None else min(record.examples, there)
    if total > there or (record.harness and total != asked):
        raise RecordError(
            f"the record counts {total} examples, but was made on {asked} of the {there} in the test split"
        )
    examples = splits.test.take(torch.arange(total))
    if examples.digest() != record.examples_sha256:
        raise RecordError("the dataset gives another example list than the record")
    return examples


def _attack(record: Record) -> Any:
    """Attack of the record; a stand-in for given candidates, which have none."""
    from benchmark.stages import rebuild

    given = record.attack.name == GIVEN
    described = {"name": "none", "params": {}} if given else record.attack.model_dump(include={"name", "params"})
    return rebuild.component("attack", described)


def rows_of(ids: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
    """Positions of the witness's examples in the outcomes, (M,) int64."""
    import torch

    order = outcomes.ids.argsort()
    at = torch.searchsorted(outcomes.ids[order], ids).clamp_max(len(order) - 1)
    rows = order[at]
    if not torch.equal(outcomes.ids[rows], ids) or len(ids.unique()) != len(ids):
        raise RecordError("the witness has examples that are not in the outcomes, or has one twice")
    if not bool(outcomes.adversarial[rows].all()) or int(outcomes.adversarial.sum()) != len(ids):
        raise RecordError("the witness does not consist of exactly the adversarial examples of the outcomes")
    return rows


def judged(
    cell: Replay, rows: torch.Tensor, x_adv: torch.Tensor, aimed: torch.Tensor | None = None
) -> tuple[Answer, Verdict]:
    """Judge candidates for the examples at `rows` like the run; returns the clean answer and the verdict.

    aimed: (M,) int64, target labels of a trigger; None for attacks that apply none.
    """
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.attempts import goals
    from benchmark.stages.devices import exact_math
    from benchmark.stages.judge import answer, judge, verdict_random
    from benchmark.stages.settle import with_fixed_region

    x, y, ids = cell.examples.x(rows), cell.examples.y[rows], cell.examples.ids[rows]
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise RecordError(f"the witness has inputs of shape {list(x_adv.shape[1:])}, the dataset {list(x.shape[1:])}")
    rng = SampleRandom(derive_seed(cell.seed, "cell"), ids)
    can = cell.attack.supports
    with exact_math():
        clean = answer(cell.system, x, y, rng.child("clean"), cell.threat.goal)
        wanted = goals(cell.threat.goal, y, clean.logits, rng) if aimed is None else (aimed,)
        verdict = judge(
            cell.system,
            with_fixed_region(cell.threat, cell.system, x, y, rng).around(x, rng),
            x_adv,
            y,
            wanted[0] if len(wanted) == 1 else None,  # with several, the witness reaches one of them: any wrong label
            verdict_random(cell.system, rng),
            minimal=can.minimal,
            bounded=can.bounded,
            kind=cell.threat.goal,
        )
    return clean, verdict


def check_distances(found: dict[str, torch.Tensor], outcomes: Outcomes, rows: torch.Tensor) -> None:
    """Compare measured distances (b,) by norm with those of the outcomes at `rows` (b,).

    Raises:
        RecordError: if one differs by more than rounding, however small it is.
    """
    for norm, values in found.items():
        off = (values - outcomes.distances(norm)[rows]).abs()
        if not bool((off <= 1e-5 * values + 1e-12).all()):
            raise RecordError(f"the {norm} distances of the witness are not those in the outcomes")
