"""Rules for trackers: every hook is called with plain values, in a temporary folder."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pluggy
import torch

from benchmark import GROUP
from benchmark.api import Tracker
from benchmark.hooks.events import CellResult, Gallery, SweepSummary, TrainingPlan
from benchmark.records.card import Card
from benchmark.records.described import AttackInfo, SystemInfo, ThreatInfo
from benchmark.records.document import to_text
from benchmark.records.record import Record
from benchmark.testing.rule import demand, leaving_the_process_alone, rules_of
from benchmark.testing.worlds import global_state, same_state, seeded

_SYSTEM = SystemInfo(key="s" * 24, dataset="digits", model="mlp", defenses=[], poison=[], config={"training": {}})


def _record(status: Any) -> Record:
    return Record(
        key="c" * 24,
        status=status,
        error=None if status == "complete" else "ValueError: planted",
        suite=None,
        official=False,
        seed=0,
        system=_SYSTEM,
        threat=ThreatInfo(
            norm="linf",
            eps=0.1,
            eps_exact="1/10",
            access="gradients",
            aware=True,
            targeted=False,
            goal="untargeted",
            region="full",
            queries=None,
            eot=1,
        ),
        attack=AttackInfo(name="pgd", params={}, distribution="d", version="1", minimal=False, randomized=True),
    )


def _card() -> Card:
    return Card(
        key=_SYSTEM.key,
        system=_SYSTEM,
        seed=0,
        init_from=None,
        dataset_revision="r",
        splits={},
        splits_disjoint=True,
        train_examples=10,
        poisoned_examples=0,
        epochs_run=1,
        selected_epoch=0,
        robust_selection=None,
        select_correct=1,
        select_total=2,
        test_correct=1,
        test_total=2,
        parameters=3,
        weights_sha256="w",
        seconds=0.1,
    )


def _gallery() -> Gallery:
    zeros = torch.zeros(2, dtype=torch.int64)
    return Gallery(zeros, zeros, torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4), zeros, zeros + 1)


def _calls(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Hook calls of a sweep of two cells, the second of which failed."""
    from benchmark.hooks.events import CellPlan

    training = TrainingPlan(_SYSTEM.key, "digits/mlp", {"seed": 0}, 2, "sweep", folder / "systems" / _SYSTEM.key)
    for status, gallery in (("complete", _gallery()), ("failed", None)):
        record = _record(status)
        cell = folder / status
        cell.mkdir(parents=True)
        (cell / "record.json").write_text(to_text(record))
        plan = CellPlan(record.key, "digits/mlp pgd", {"seed": 0}, ("seed=0",), "sweep", cell, folder / "work" / status)
        plan.work.mkdir(parents=True)
        yield "benchmark_cell_started", {"plan": plan}
        if status == "complete":
            yield "benchmark_training_started", {"training": training}
            yield "benchmark_epoch", {"training": training, "epoch": 0, "values": {"train_loss": 1.0}}
            yield "benchmark_training_finished", {"training": training, "card": _card()}
        else:
            yield "benchmark_training_started", {"training": training}
            yield "benchmark_training_finished", {"training": training, "card": None}
        yield "benchmark_progress", {"stage": "attack", "done": 1, "total": 2}
        yield "benchmark_progress", {"stage": "attack", "done": 2, "total": 2}
        yield "benchmark_cell_finished", {"plan": plan, "record": record, "folder": cell, "gallery": gallery}
    results = (CellResult("c" * 24, "digits/mlp pgd", "complete"), CellResult("", "?", "failed", "planted"))
    yield "benchmark_sweep_finished", {"summary": SweepSummary("sweep", results, 1.5)}


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """Temporary working directory, without network for W&B and without output."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.chdir(name)
        quiet = io.StringIO()
        offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": name}
        try:
            with (
                mock.patch.dict(os.environ, offline),
                contextlib.redirect_stdout(quiet),
                contextlib.redirect_stderr(quiet),
            ):
                yield Path(name)
        finally:
            os.chdir(here)


def _manager(tracker: Tracker) -> pluggy.PluginManager:
    from benchmark.hooks import hookspecs

    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(tracker)
    return manager


def observes_something(tracker: Tracker) -> None:
    """At least one hook is implemented, and none is misspelt."""
    manager = _manager(tracker)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise AssertionError(f"{error}; the hooks are listed in benchmark.hooks.hookspecs") from error
    hooks = [hook.name for hook in manager.get_hookcallers(tracker) or []]
    demand(hooks, "the tracker implements no hook; decorate its methods with @hookimpl")


def takes_every_event(tracker: Tracker) -> None:
    """No hook raises on the events of a sweep with a complete and a failed cell."""
    manager = _manager(tracker)
    with _elsewhere() as folder:
        for hook, values in _calls(folder):
            try:
                getattr(manager.hook, hook)(**values)
            except Exception as error:
                raise AssertionError(f"{hook} raised {type(error).__name__}: {error}") from error


@leaving_the_process_alone
def leaves_global_rng_alone(tracker: Tracker) -> None:
    """Observing draws nothing from global generators, so that training does not depend on the trackers."""
    manager = _manager(tracker)  # not by way of observers, which put the generators back
    with seeded(0):
        before = global_state()
        with _elsewhere() as folder:
            for hook, values in _calls(folder):
                with contextlib.suppress(Exception):  # another rule is about those
                    getattr(manager.hook, hook)(**values)
        same = same_state(before, global_state())
    demand(same, "a global generator was drawn from or seeded while observing")


RULES = rules_of(observes_something, takes_every_event, leaves_global_rng_alone)
