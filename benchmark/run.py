"""One run: a cell from configuration to record. Read this first.

load, poison and fit a system; attack it; let the core judge, certify and measure; write the record; tell the
observers. Each stage is a module of that name in :mod:`benchmark.stages`; frozen dataclasses travel between them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from benchmark import registry
from benchmark.config.cell import RunConfig
from benchmark.config.check import check_fit
from benchmark.config.describe import attack_info
from benchmark.errors import BenchmarkError, ProcessDied, Refused, message_of
from benchmark.guard import RENDEZVOUS, guarded, listening
from benchmark.hooks.events import CellPlan, CellResult, Gallery
from benchmark.hooks.observers import Observers
from benchmark.records.build import audit_of, counts_of, files_in, given_up_of
from benchmark.records.durable import set_aside
from benchmark.records.outcomes import Outcomes
from benchmark.records.poison import POISON, PoisonedRows
from benchmark.records.record import Cost, Finding, Record
from benchmark.records.store import DEATHS, Store
from benchmark.stages import world
from benchmark.stages.attack import attack, share
from benchmark.stages.backdoor import Backdoor
from benchmark.stages.batch import Attacked
from benchmark.stages.ending import ended, provenance_of, skeleton
from benchmark.stages.findings import of_cell
from benchmark.stages.job import Job
from benchmark.stages.keep import FILES, keep
from benchmark.stages.load import Loaded, leakage
from benchmark.stages.measure import measure
from benchmark.stages.prepare import Prepared
from benchmark.stages.probed import probed
from benchmark.stages.recheck import UNRELIABLE, recheck
from benchmark.stages.surrogate import named, surrogate
from benchmark.stages.survivors import survivors_of
from benchmark.stages.warm import Fitted, fit_warm, forget
from benchmark.system import System
from benchmark.system.references import References
from benchmark.threat import Access

__all__ = ["forget", "run"]


FINAL = "final"
"""Subfolder of a cell's scratch folder for the finished files of its record."""


def run(config: RunConfig, sweep: str = "") -> CellResult:
    """Compute a cell, unless the store has it; a failure becomes a record with that status.

    Args:
        sweep: the id of the cell's sweep.
    """
    if config.trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        missing = (
            f"trainer.accelerator is {config.trainer.accelerator}, but torch finds no CUDA device; use trainer=cpu"
        )
        return CellResult("", config.name, "failed", missing, mendable=True)  # nothing of the cell: not recorded
    config = _anchored(config)
    store = Store(Path(config.store.root))
    try:
        with _watched(config):
            check_fit(config)
            needed = config.attack.supports.access
            config = config.under(named(config.threat, config.system_spec, store, config.store, needed=needed))
            key = config.cell_key()
    except BenchmarkError as error:
        return _without_work(config, store, sweep, error)
    if world.is_follower(config.trainer):
        return _follow(config, store, key, sweep)
    with store.lock(key):
        known = store.record(key)
        wrong = store.damage(known) if known is not None else ""
        if wrong:
            set_aside(store.cell(key), wrong)
            known = None
        if known is not None and not _is_retried(known, config):
            shutil.rmtree(store.work(key), ignore_errors=True)  # of who died between the record and the end
            return _result(known, config.name, cached=True)
        if known is not None and not sweep:
            store.forgive(key)
        plan = _plan(config, store, key, sweep)
        observers = Observers(config.trackers)
        with listening(), store.attempt(key), _told(observers, plan):
            try:
                _check_deaths(store.deaths(key))
                with _watched(config):
                    record, gallery = _compute(config, store, plan, observers)
            except Exception as error:
                record, gallery = ended(config, key, error), None
            if config.trainer.strategy == "ddp":
                world.barrier()  # its followers no longer look for a record
            result = _publish(store, plan, record, gallery, observers)
    if config.trainer.strategy == "ddp":
        world.barrier()
    return result


def _anchored(config: RunConfig) -> RunConfig:
    """Configuration with absolute folders, so that a change of the working directory does not move them."""
    root, data = (str(Path(folder).absolute()) for folder in (config.store.root, config.store.data))
    return dataclasses.replace(config, store=dataclasses.replace(config.store, root=root, data=data))


def _watched(config: RunConfig) -> AbstractContextManager[None]:
    """Guard everything that a cell does: restore what no inner guard has caught, and blame one of its parts."""
    spared = [name for tracker in config.trackers for name in tracker.environment]
    return guarded(lambda: registry.owners(config.parts), spared=(*spared, *RENDEZVOUS))


@contextlib.contextmanager
def _told(observers: Observers, plan: CellPlan) -> Iterator[None]:
    """Tell the observers that a cell starts, and if it is interrupted, that too."""
    observers.tell("benchmark_cell_started", plan=plan)
    try:
        yield
    except BaseException:
        observers.tell("benchmark_cell_interrupted", plan=plan)
        raise


def _check_deaths(deaths: list[str]) -> None:
    """Raise ProcessDied for a cell on which too many processes died."""
    if len(deaths) >= DEATHS:
        raise ProcessDied(
            f"the process died ({deaths[-1]}), in each of {len(deaths)} attempts; it may need more memory, or one of "
            "its plugins may end the process"
        )


def _compute(config: RunConfig, store: Store, plan: CellPlan, observers: Observers) -> tuple[Record, Gallery | None]:
    """Run the stages in order."""
    fitted = fit_warm(config, store, observers, plan.sweep)
    job = _job(config, store, fitted, plan.work)
    attacked = attack(
        job,
        config.trainer,
        lambda stage, done, total: observers.tell("benchmark_progress", stage=stage, done=done, total=total),
    )
    prepared = Prepared.load(plan.work / "parts")
    findings = _findings(config, store, fitted, job, attacked.outcomes)
    images = fitted.loaded.splits.spec.image
    final = plan.work / FINAL
    final.mkdir(exist_ok=True)
    kept = fitted.loaded.attacked, attacked.outcomes
    gallery = keep(plan.work / "parts", final, *kept, config.threat.region, images=images)
    return _record(config, plan, fitted, attacked, prepared, findings), gallery


def _findings(config: RunConfig, store: Store, fitted: Fitted, job: Job, outcomes: Outcomes) -> list[Finding]:
    """Findings about the cell; the attack is rechecked only if none says that its system is unreliable."""
    attack = attack_info(config.attack)
    about = probed(config.threat, store, fitted.card, fitted.system, fitted.loaded.attacked)
    found = of_cell(config.threat, attack, fitted.system, fitted.card, outcomes, about)
    found += leakage(fitted.loaded)
    if {finding.name for finding in found} & UNRELIABLE:
        return found
    again = recheck(job, config.trainer, outcomes)
    return found if again is None else [*found, again]


def _job(config: RunConfig, store: Store, fitted: Fitted, work: Path) -> Job:
    loaded = fitted.loaded
    return Job(
        attack=config.attack,
        threat=config.threat,
        system=fitted.system,
        attacker_view=_attacker_view(config, store, fitted),
        examples=loaded.attacked,
        seed=config.seed,
        batch_size=config.batch_size,
        folder=work / "parts",
        certifiers=config.certifiers,
        owned=References.of(loaded.splits.train, loaded.splits.spec.classes),
        backdoor=_backdoor(config, store, loaded),
        survivors=survivors_of(config.skeleton(), store) if config.survivors_of else None,
    )


def _backdoor(config: RunConfig, store: Store, loaded: Loaded) -> Backdoor | None:
    """Trigger stored with the system, for an attack that applies it."""
    if not config.attack.supports.trigger:
        return None
    backdoor, path = Backdoor.of(config.poisons, loaded.splits.test), store.system(config.system_key()) / POISON
    if backdoor is not None:
        backdoor.recheck(PoisonedRows.load(path), loaded.splits.test, path)
    return backdoor


def _follow(config: RunConfig, store: Store, key: str, sweep: str) -> CellResult:
    """Do only this process's part of training and attack, in a process that is not the leader."""
    known = store.record(key)
    led = CellResult(key, config.name, "followed", cached=known is not None)  # the leader says how the cell ended
    if known is not None and not store.damage(known) and not _is_retried(known, config):
        return led
    try:
        fitted = fit_warm(config, store, Observers(), sweep)
        share(_job(config, store, fitted, store.work(key)), config.trainer, lambda _stage, _done, _total: None)
    except Exception as error:  # as the leader's, which records it
        sys.stderr.write(f"benchmark: failed: {config.name}: {type(error).__name__}: {message_of(error)}\n")
    world.barrier()
    world.barrier()
    return led


def _is_retried(known: Record, config: RunConfig) -> bool:
    """True for a recorded failure that is to be computed again."""
    return known.status == "failed" and config.retry.value == "failed"


def _attacker_view(config: RunConfig, store: Store, fitted: Fitted) -> System:
    """System that the attacker works on: the deployed one, its undefended model, or a surrogate (transfer access)."""
    system = fitted.system
    if config.threat.access is Access.transfer:
        return surrogate(config.threat, config.dataset, fitted.loaded.splits.spec, store, config.store)
    return system if config.threat.aware or not system.defended_at_inference else system.undefended()


# --- what is written ---


def _result(record: Record, name: str, *, cached: bool = False) -> CellResult:
    """Result of a cell from its record; the error of a recorded failure includes how to retry."""
    again = " (recorded; retry=failed runs it again)" if cached and record.status == "failed" else ""
    error = None if record.error is None else f"{record.error}{again}"
    return CellResult(record.key, name, record.status, error, cached, bool(record.provenance.get("mendable")))


def _plan(config: RunConfig, store: Store, key: str, sweep: str) -> CellPlan:
    work = store.scratch(key, {"kind": "cell", "key": key, "name": config.name, "overrides": list(config.overrides)})
    return CellPlan(key, config.name, config.plain(), config.overrides, sweep, store.cell(key), work)


def _record(
    config: RunConfig,
    plan: CellPlan,
    fitted: Fitted,
    attacked: Attacked,
    prepared: Prepared | None,
    findings: list[Finding],
) -> Record:
    """Record of a complete cell, whose other files are in the plan's folder already."""
    outcomes, loaded, card = attacked.outcomes, fitted.loaded, fitted.card
    cost = Cost(
        forwards=int(outcomes.forwards.sum()),
        backwards=int(outcomes.backwards.sum()),
        seconds=attacked.seconds + (prepared.seconds if prepared else 0.0),
        peak_memory_bytes=attacked.peak_memory_bytes,
        prepared_forwards=prepared.forwards if prepared else 0,
        prepared_backwards=prepared.backwards if prepared else 0,
    )
    return skeleton(config, plan.key, "complete").model_copy(
        update={
            "counts": counts_of(outcomes),
            "metrics": measure(config.metrics, outcomes),
            "cost": cost,
            "audit": audit_of(outcomes, config.threat.norm.value, attacked.audit),
            "path": attacked.path,
            "given_up": given_up_of(outcomes, attack_info(config.attack), config.threat.queries),
            "findings": findings,
            "splits": loaded.infos,
            "splits_disjoint": loaded.disjoint,
            "dataset_revision": loaded.revision,
            "examples_sha256": loaded.attacked.digest(),
            "weights_sha256": card.weights_sha256,
            "files": files_in(plan.work / FINAL, FILES),
            "provenance": provenance_of(config, inputs=config.places()),
        }
    )


def _without_work(config: RunConfig, store: Store, sweep: str, error: BenchmarkError) -> CellResult:
    """Result of a cell that was refused or failed before anything was loaded."""
    key = config.cell_key(refused=True)
    with store.lock(key):
        known = store.record(key)
        if isinstance(error, Refused) and known is not None and known.status == "refused":
            return CellResult(key, config.name, "refused", str(error), cached=True)
        plan = _plan(config, store, key, sweep)
        observers = Observers(config.trackers)
        observers.tell("benchmark_cell_started", plan=plan)
        record = ended(config, key, error, unseen=True)
        return _publish(store, plan, record, None, observers)


def _publish(store: Store, plan: CellPlan, record: Record, gallery: Gallery | None, observers: Observers) -> CellResult:
    """Move the record to its place, then tell the observers."""
    if record.status == "failed":  # finished batches stay for the next attempt; the record goes to its own folder
        source = plan.work.with_name(f"{plan.key}-record")
    else:
        source = plan.work / FINAL
    source.mkdir(parents=True, exist_ok=True)
    folder = store.put_record(record, source)
    if record.status != "failed":  # only now: until the record is in its place, the finished batches are all there is
        shutil.rmtree(plan.work, ignore_errors=True)
    observers.tell("benchmark_cell_finished", plan=plan, record=record, folder=folder, gallery=gallery)
    return _result(record, plan.name)
