"""`dry_run=true`: report what each cell would do, with its number of passes, without computing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchmarkError, Refused
from benchmark.hooks.events import CellResult
from benchmark.records.store import Store
from benchmark.records.summary import robust_of
from benchmark.sweep.chosen import telling
from benchmark.sweep.suites import official

if TYPE_CHECKING:
    from hydra.conf import HydraConf
    from omegaconf import DictConfig

    from benchmark.config.cell import RunConfig

__all__ = ["planned", "stored_line"]


def planned(cfg: DictConfig, hydra_cfg: HydraConf, varied: Container[str] = ()) -> CellResult:
    """Result for the composed cell, whose error is the report: stored, refused, or the passes needed.

    Args:
        varied: keys whose values differ between the cells of the sweep.
    """
    from benchmark.config.check import check_fit
    from benchmark.config.resolve import resolve
    from benchmark.stages.surrogate import named

    overrides = tuple(hydra_cfg.overrides.task)
    name = " ".join(overrides) or "the default run"
    try:
        config = resolve(cfg, official=official(overrides, hydra_cfg), overrides=overrides)
        config = dataclasses.replace(config, telling=telling(overrides, varied, config.name))
        name = config.name
        check_fit(config)
        store = Store(Path(config.store.root))
        needed = config.attack.supports.access
        config = config.under(named(config.threat, config.system_spec, store, config.store, needed=needed))
        key = config.cell_key()
    except BenchmarkError as error:
        status = "refused" if isinstance(error, Refused) else "failed"
        return CellResult("", name, status, f"{status}  {name}: {error}", mendable=True)
    record = store.record(key)
    if record is not None:
        found = robust_of(record)
        return CellResult(key, name, "stored", f"stored  {name}: {record.status}{f', robust {found}' if found else ''}")
    trained = "" if store.card(config.system_key()) else f", after training for at most {config.training.epochs} epochs"
    return CellResult(key, name, "to do", f"to do  {name}: {_passes(config, store)}{trained}")


def _passes(config: RunConfig, store: Store) -> str:
    """Expected forward passes of the attack, from a similar cell or from its settings."""
    from benchmark.config.describe import attack_info

    mine = attack_info(config.attack)
    count = f"{config.examples} examples" if config.examples else "all test examples"
    alike = [r for r in store.records() if r.status == "complete" and r.cost and r.counts and r.counts.clean_correct
             and not r.survivors_of and (r.attack.name, r.attack.params) == (mine.name, mine.params)]  # fmt: skip
    if alike:
        best = max(alike, key=lambda r: (r.threat.norm == config.threat.norm.value, r.key))
        assert best.cost is not None
        assert best.counts is not None
        each = best.cost.forwards / best.counts.clean_correct
        seconds = best.cost.seconds / best.counts.clean_correct
        total = f"; {seconds * config.examples:.3g} s" if config.examples else f"; {1000 * seconds:.3g} ms an example"
        return f"{count}, about {each:.4g} passes each{total} (as in {best.key[:8]})"
    budgets = [int(value) for value in (config.threat.queries, mine.params.get("queries")) if isinstance(value, int)]
    most = config.attack.forwards(config.threat)
    if most is not None:
        bound = min([most * _passes_of_system(config), *budgets])
        return f"{count}, {'no pass' if bound == 0 else 'one pass' if bound == 1 else f'at most {bound} passes'} each"
    known = f"at most {min(budgets)} passes each, the budget" if budgets else "number of passes unknown before the run"
    return f"{count}, {known}"


def _passes_of_system(config: RunConfig) -> int:
    """Cost of one pass of the system behind its defenses."""
    passes = 1
    for defense in config.defenses:
        passes = defense.passes(passes)
    return passes


def stored_line(cfg: Any, result: CellResult) -> str:
    """Line about a cell that was in the store already."""
    record = Store(Path(cfg.store.root)).record(result.key)
    found = None if record is None else robust_of(record)
    return f"[stored] {result.name}: robust {found}\n" if found else ""
