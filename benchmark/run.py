"""One run: a cell from configuration to record. Read this first.

load, poison and fit a system; attack it; let the core verify, certify and measure; write the record; tell the
observers. Each stage is a module of that name; what travels between them are frozen dataclasses.
"""

from __future__ import annotations

import shutil
import traceback
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.config.check import check
from benchmark.config.describe import attack_info, system_info, threat_info
from benchmark.errors import BenchmarkError, Refused
from benchmark.hooks.events import CellPlan, CellResult, Gallery
from benchmark.hooks.observers import Observers
from benchmark.records.outcomes import GALLERY, OUTCOMES, WITNESS, Outcomes, Witness
from benchmark.records.provenance import provenance
from benchmark.records.record import (
    Audit,
    Card,
    Cost,
    FileInfo,
    Record,
    Status,
    content_key,
    file_sha256,
)
from benchmark.records.store import Store
from benchmark.stages import world
from benchmark.stages.attack import attack, share
from benchmark.stages.batch import Attacked, Job
from benchmark.stages.findings import of_cell
from benchmark.stages.fit import fit
from benchmark.stages.load import Loaded, load
from benchmark.stages.measure import counts, measure
from benchmark.stages.prepare import PREPARED, Prepared
from benchmark.stages.surrogate import named, surrogate
from benchmark.system import System
from benchmark.system.references import References
from benchmark.threat import Access

__all__ = ["run"]

SHOWN = 6
"""How many examples the gallery of a cell has at most."""
GALLERY_BYTES = 1 << 22
"""How large the images of a stored gallery may be together."""


def run(config: RunConfig, sweep: str = "") -> CellResult:
    """Compute a cell, unless the store has it; a failure becomes a record with that status.

    Args:
        sweep: the id of the sweep that the cell belongs to.
    """
    if config.trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        missing = f"trainer.accelerator is {config.trainer.accelerator}, and torch sees no CUDA device; use trainer=cpu"
        return CellResult("", config.name, "failed", missing)  # says nothing of the cell, so nothing is recorded
    store = Store(Path(config.store.root))
    try:
        check(config)
        config = named(config, store)
        key = config.cell_key()
    except Refused as refusal:
        return _without_work(config, store, sweep, "refused", str(refusal))
    except BenchmarkError as error:
        return _without_work(config, store, sweep, "failed", str(error))
    if world.follows(config.trainer):
        return _follow(config, store, key, sweep)
    with store.lock(key):
        known = store.record(key)
        if known is not None and not (known.status == "failed" and config.retry.value == "failed"):
            return CellResult(key, config.name, known.status, _again(known), cached=True)
        plan = _plan(config, store, key, sweep)
        observers = Observers(config.trackers)
        observers.tell("benchmark_cell_started", plan=plan)
        try:
            record, gallery = _compute(config, store, plan, observers)
        except Exception as error:
            record, gallery = _ended(config, key, error), None
        result = _publish(store, plan, record, gallery, observers)
    if config.trainer.strategy == "ddp":
        world.wait()
    return result


def _compute(config: RunConfig, store: Store, plan: CellPlan, observers: Observers) -> tuple[Record, Gallery | None]:
    """The stages, one after the other."""
    loaded, system, card = _system(config, store, observers, plan.sweep)
    attacked = attack(
        _job(config, store, loaded, system, plan.work),
        config.trainer,
        lambda done, total: observers.tell("benchmark_progress", stage="attack", done=done, total=total),
    )
    prepared = Prepared.load(plan.work / "parts")
    gallery = _keep(plan.work, loaded, attacked.outcomes)
    if prepared is not None:
        save_file(prepared.tensors, plan.work / PREPARED)
    return _record(config, plan, loaded, system, card, attacked, prepared), gallery


def _job(config: RunConfig, store: Store, loaded: Loaded, system: System, work: Path) -> Job:
    return Job(
        config.attack,
        config.threat,
        system,
        _seen(config, store, loaded, system),
        loaded.attacked,
        config.seed,
        config.batch_size,
        work / "parts",
        config.certifiers,
        References.of(loaded.splits.train, loaded.splits.spec.classes),
    )


def _follow(config: RunConfig, store: Store, key: str, sweep: str) -> CellResult:
    """What a process that does not lead does: its share of training and attack, and nothing else."""
    known = store.record(key)
    if known is not None:
        return CellResult(key, config.name, known.status, known.error, cached=True)
    loaded, system, _ = _system(config, store, Observers(), sweep)
    share(_job(config, store, loaded, system, store.work(key)), config.trainer, lambda _done, _total: None)
    world.wait()
    return CellResult(key, config.name, "complete")


# --- the system, kept warm between the cells of one process ---

_warm: dict[tuple[str, str], tuple[Loaded, System, Card]] = {}


def _system(config: RunConfig, store: Store, observers: Observers, sweep: str) -> tuple[Loaded, System, Card]:
    """Data and fitted system, from this process's memory if the last cells used them too."""
    key = (str(store.root.absolute()), f"{config.system_key()} {config.examples}")
    loaded = _warm[key][0] if key in _warm else load(config)
    config.attack.check(loaded.splits.spec, config.threat)
    if key not in _warm:
        system, card = fit(config, loaded, store, observers, sweep)
        while len(_warm) >= 2:
            _warm.pop(next(iter(_warm)))
        _warm[key] = (loaded, system, card)
    return _warm[key]


def _seen(config: RunConfig, store: Store, loaded: Loaded, system: System) -> System:
    """What the attacker works on: the system, its undefended model, or under transfer access its own surrogate."""
    if config.threat.access is Access.transfer:
        return surrogate(config, store, loaded)
    return system if config.threat.aware or not system.defended_at_inference else system.undefended()


# --- what is written ---


def _again(known: Record) -> str | None:
    """The error of a recorded cell, with what to do about it."""
    return f"{known.error} (recorded; retry=failed runs it again)" if known.status == "failed" else known.error


def _plan(config: RunConfig, store: Store, key: str, sweep: str) -> CellPlan:
    work = store.scratch(key, {"kind": "cell", "key": key, "name": config.name, "overrides": list(config.overrides)})
    return CellPlan(key, config.name, config.plain(), config.overrides, sweep, store.cell(key), work)


def _skeleton(config: RunConfig, key: str, status: Status, error: str | None, system_key: str) -> Record:
    """What every record says, whatever became of the cell."""
    return Record(
        key=key,
        status=status,
        error=error,
        suite=config.suite_name,
        official=config.official,
        seed=config.seed,
        system=system_info(config, system_key),
        threat=threat_info(config),
        attack=attack_info(config),
    )


def _record(
    config: RunConfig,
    plan: CellPlan,
    loaded: Loaded,
    system: System,
    card: Card,
    attacked: Attacked,
    prepared: Prepared | None,
) -> Record:
    """The record of a complete cell, whose other files lie in the plan's folder already."""
    outcomes = attacked.outcomes
    norm = config.threat.norm.value
    broken = outcomes.distances(norm)[outcomes.broken]
    excess = outcomes.excess[outcomes.attacked & ~outcomes.valid]
    finite = excess[excess.isfinite()]
    audit = Audit(
        max_distance=float(broken.max()) if len(broken) else 0.0,
        max_excess=float(finite.max()) if len(finite) else None,
        **vars(attacked.audit),
    )
    cost = Cost(
        forwards=int(outcomes.forwards.sum()),
        backwards=int(outcomes.backwards.sum()),
        seconds=attacked.seconds + (prepared.seconds if prepared else 0.0),
        peak_memory_bytes=attacked.peak_memory_bytes,
        prepared_forwards=prepared.forwards if prepared else 0,
        prepared_backwards=prepared.backwards if prepared else 0,
    )
    return _skeleton(config, plan.key, "complete", None, card.key).model_copy(
        update={
            "counts": counts(outcomes),
            "metrics": measure(config.metrics, outcomes),
            "cost": cost,
            "audit": audit,
            "findings": of_cell(config, system, card, loaded.attacked, outcomes),
            "splits": loaded.infos,
            "splits_disjoint": loaded.disjoint,
            "dataset_revision": loaded.revision,
            "examples_sha256": loaded.attacked.digest(),
            "weights_sha256": card.weights_sha256,
            "files": [
                _file(plan.work / n) for n in (OUTCOMES, WITNESS, GALLERY, PREPARED) if (plan.work / n).is_file()
            ],
            "provenance": _provenance(config),
        }
    )


def _provenance(config: RunConfig, **more: Any) -> dict[str, Any]:
    return provenance(
        overrides=list(config.overrides),
        trainer=registry.settings(config.trainer),
        batch_size=config.batch_size,
        plugins=[
            {"kind": registry.name_of(part)[0], **registry.distribution_of(part)}
            for part in (
                config.dataset,
                config.model,
                *config.defenses,
                *config.poisons,
                config.attack,
                *config.certifiers,
                *config.metrics,
            )
        ],
        **more,
    )


def _file(path: Path) -> FileInfo:
    return FileInfo(path=path.name, bytes=path.stat().st_size, sha256=file_sha256(path))


def _ended(config: RunConfig, key: str, error: Exception) -> Record:
    """The record of a cell that a plugin refused, or that failed.

    With the sentence for people and the traceback for the plugin's author.
    """
    sentence = str(error)
    if not isinstance(error, BenchmarkError):
        owner = registry.blamed(error)
        sentence = f"{owner} raised {type(error).__name__}: {error}" if owner else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    status: Status = "refused" if isinstance(error, Refused) else "failed"
    record = _skeleton(config, key, status, sentence, config.system_key())
    return record.model_copy(update={"provenance": _provenance(config, traceback=trace)})


def _without_work(config: RunConfig, store: Store, sweep: str, status: Status, error: str) -> CellResult:
    """A cell that ended before anything was loaded."""
    key = config.cell_key(refused=True)
    with store.lock(key):
        known = store.record(key)
        if status == "refused" and known is not None and known.status == status:
            return CellResult(key, config.name, status, error, cached=True)
        plan = _plan(config, store, key, sweep)
        observers = Observers(config.trackers)
        observers.tell("benchmark_cell_started", plan=plan)
        system = content_key({"system": config.system_settings(), "seed": config.seed})
        record = _skeleton(config, key, status, error, system).model_copy(update={"provenance": _provenance(config)})
        return _publish(store, plan, record, None, observers)


def _publish(store: Store, plan: CellPlan, record: Record, gallery: Gallery | None, observers: Observers) -> CellResult:
    """Put the record in its place, then tell the observers."""
    if record.status == "failed":  # finished batches stay for the next attempt; the record goes to its own folder
        source = plan.work.with_name(f"{plan.key}-record")
        source.mkdir(parents=True, exist_ok=True)
    else:
        shutil.rmtree(plan.work / "parts", ignore_errors=True)
        (plan.work / "plan.json").unlink(missing_ok=True)
        source = plan.work
    folder = store.put_record(record, source)
    observers.tell("benchmark_cell_finished", plan=plan, record=record, folder=folder, gallery=gallery)
    return CellResult(record.key, plan.name, record.status, record.error)


def _keep(work: Path, loaded: Loaded, outcomes: Outcomes) -> Gallery | None:
    """Write outcomes, witness and gallery of a finished attack into the folder of its work; the gallery is returned."""
    outcomes.save(work / OUTCOMES)
    (work / "parts" / WITNESS).replace(work / WITNESS)
    (work / GALLERY).unlink(missing_ok=True)
    gallery = _gallery(loaded, outcomes, work / WITNESS)
    if gallery is not None:
        fits = GALLERY_BYTES // (2 * 4 * gallery.clean[0].numel())
        if fits:
            save_file({name: value[:fits].contiguous() for name, value in vars(gallery).items()}, work / GALLERY)
    return gallery


def _gallery(loaded: Loaded, outcomes: Outcomes, witness: Path) -> Gallery | None:
    """Broken examples, then other adversarial ones, each in the order of the example list; None without images."""
    found = outcomes.adversarial.nonzero().flatten()
    if not loaded.splits.spec.image or not len(found):
        return None
    broken = outcomes.broken[found]
    rows = torch.cat([broken.nonzero(), (~broken).nonzero()]).flatten()[:SHOWN]
    at = found[rows]
    return Gallery(
        ids=outcomes.ids[at],
        y=outcomes.y[at],
        clean=loaded.attacked.x(at),
        adv=torch.cat([Witness.load(witness, row, row + 1).x_adv for row in rows.tolist()]),
        clean_label=outcomes.clean_label[at],
        adv_label=outcomes.adv_label[at],
    )
