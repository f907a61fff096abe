"""Judge a stored witness again: what `verify`, `transfer` and `add-examples` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import RecordError
from benchmark.records.record import GIVEN, Record, file_sha256
from benchmark.records.store import Store

if TYPE_CHECKING:
    import torch

    from benchmark.config.cell import RunConfig
    from benchmark.records.outcomes import Outcomes
    from benchmark.stages.judge import Answer, Verdict
    from benchmark.system import System
    from benchmark.threat import Threat

__all__ = ["checked_outcomes", "judged", "rebuilt"]


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
    from benchmark.stages.measure import counts

    said = counts(outcomes)
    if record.counts != said:
        raise RecordError(f"the record counts {record.counts}, and its outcomes give {said}")


def rebuilt(record: Record, store: Store, data: Path) -> tuple[RunConfig, System, Any]:
    """Configuration, system and example list that the record describes."""
    import torch

    from benchmark.config.cell import RunConfig
    from benchmark.config.schema import StoreConfig
    from benchmark.stages import rebuild

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
        threat=recorded_threat(record),
        store=StoreConfig(root=str(store.root), data=str(data), offline=True),
    )
    config = rebuild.configuration(record.system, record.seed, like=made)
    splits = config.dataset.load(data, offline=True)
    system = rebuild.stored_system(config, card, store, splits.spec)
    assert record.counts is not None
    return config, system, splits.test.take(torch.arange(record.counts.total))


def _attack(record: Record) -> Any:
    """The attack that the record names; for given candidates one that has none of its own."""
    from benchmark.stages import rebuild

    given = record.attack.name == GIVEN
    described = {"name": "none", "params": {}} if given else record.attack.model_dump(include={"name", "params"})
    return rebuild.component("attack", described)


def recorded_threat(record: Record) -> Threat:
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


def judged(
    config: RunConfig, system: System, examples: Any, rows: torch.Tensor, x_adv: torch.Tensor
) -> tuple[Answer, Verdict]:
    """What the run would say of these candidates for the examples at `rows`: of the clean inputs, and of them."""
    from benchmark.sampling import SampleRandom, derive_seed
    from benchmark.stages.batch import goals
    from benchmark.stages.devices import exact_math
    from benchmark.stages.judge import answer, judge
    from benchmark.stages.settle import with_fixed_region

    x, y, ids = examples.x(rows), examples.y[rows], examples.ids[rows]
    rng = SampleRandom(derive_seed(config.seed, "cell"), ids)
    can = config.attack.supports
    with exact_math():
        clean = answer(system, x, y, rng.child("clean"))
        wanted = goals(config.threat.goal, y, clean.logits, rng)
        verdict = judge(
            system,
            with_fixed_region(config.threat, system, x, y, rng).around(x, rng),
            x_adv,
            y,
            wanted[0] if len(wanted) == 1 else None,  # with several, the witness reaches one of them: any wrong label
            rng.child("verdict"),
            minimal=can.minimal,
            bounded=can.bounded,
        )
    return clean, verdict


def check_distances(found: dict[str, torch.Tensor], outcomes: Outcomes, rows: torch.Tensor) -> None:
    for norm, values in found.items():
        if not (values - outcomes.distances(norm)[rows]).abs().max() <= 1e-5 * (1 + values.abs().max()):
            raise RecordError(f"the {norm} distances of the witness are not those in the outcomes")
