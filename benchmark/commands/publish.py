"""`benchmark publish --tracker NAME PATH`: report stored results to a tracker, from the records alone."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import registry
from benchmark.errors import BenchmarkError, RecordError, StoreError
from benchmark.hooks.events import CellResult, Gallery, SweepSummary, TrainingPlan
from benchmark.hooks.observers import Observers
from benchmark.records.card import Card
from benchmark.records.durable import file_sha256
from benchmark.records.published import Published
from benchmark.records.record import Record, cell_folders, read_record
from benchmark.records.store import Store

if TYPE_CHECKING:
    from benchmark.hooks.events import CellPlan

__all__ = ["main", "republish"]


def main(paths: Sequence[Path], tracker: str, sweep: str, *, rate: float = 0.0, again: bool = False) -> int:
    """Publish every record under the paths that the tracker does not have yet.

    Args:
        rate: largest number of records per minute, 0 for any. again: also publish what the tracker has.

    Returns:
        1 if a record is unreadable or the tracker failed.
    """
    made: Any = registry.load("tracker", tracker)()
    observers = Observers([made])
    told = republish(paths, observers, sweep, tracker="" if again else tracker, pause=60.0 / rate if rate else 0.0)
    failed = [result for result in told if not result.key]
    before = len([result for result in told if result.cached and result.key])
    for result in failed:
        sys.stderr.write(f"{result.error}\n")
    known = f", {before} were before (--again publishes them once more)" if before else ""
    new, problems = len(told) - len(failed) - before, len(failed) + len(observers.problems)
    sys.stdout.write(f"{new} cells published{known}, {problems} problems\n")
    return 1 if failed or observers.problems else 0


def republish(
    paths: Sequence[Path], observers: Observers, sweep: str = "", *, tracker: str = "", pause: float = 0.0
) -> tuple[CellResult, ...]:
    """Report every record under the paths to observers, and the training of every system whose card is in its store.

    They receive the events of the original run, except for those that no record holds: progress, and settings that
    change no result.

    Args:
        sweep: id that groups the cells. tracker: name under which each store remembers what was published, so that it
            is published once; "" to publish everything and remember nothing. pause: least time between two records,
            in seconds.

    Returns:
        One result per record, `cached` if it was published before; unreadable ones have no key.

    Raises:
        RecordError: if there is no record.
    """
    folders = cell_folders(paths)
    told: list[CellResult] = []
    trained: set[Path] = set()
    ledgers: dict[Path, Published] = {}
    for folder in folders:
        begun = time.monotonic()
        try:
            root = folder.parent.parent
            known = ledgers.setdefault(root, Published(Store(root), tracker)) if tracker else None
            told.append(_publish(folder, observers, sweep, known, trained))
        except StoreError:
            raise
        except BenchmarkError as error:
            told.append(CellResult("", folder.name, "failed", str(error)))
        if pause and folder is not folders[-1] and not told[-1].cached:
            time.sleep(max(0.0, pause - (time.monotonic() - begun)))
    observers.tell("benchmark_sweep_finished", summary=SweepSummary(sweep, tuple(told), 0.0))
    return tuple(told)


def _publish(folder: Path, observers: Observers, sweep: str, known: Published | None, trained: set[Path]) -> CellResult:
    """Publish a record and, before the first of its system, the training; note what no observer failed on."""
    record, sha256 = read_record(folder), file_sha256(folder / "record.json")
    plan = _plan(record, folder, sweep)
    store = Store(folder.parent.parent)
    with known.once(record.key, sha256) if known else contextlib.nullcontext(True) as new:
        if new:
            gallery = _gallery(folder, record)
            before = len(observers.problems)
            home = store.system(record.system.key)
            card = store.card(record.system.key)
            if card is not None and home not in trained:
                trained.add(home)
                _tell_training(observers, card, home, sweep)
            observers.tell("benchmark_cell_started", plan=plan)
            observers.tell("benchmark_cell_finished", plan=plan, record=record, folder=folder, gallery=gallery)
            if known and len(observers.problems) == before:
                known.note(record.key, sha256)
    return CellResult(record.key, plan.name, record.status, record.error, cached=not new)


def _plan(record: Record, folder: Path, sweep: str) -> CellPlan:
    from benchmark.hooks.events import CellPlan

    attack = record.attack
    config: dict[str, Any] = {
        **record.system.config,
        "attack": {
            "name": attack.name,
            "distribution": attack.distribution,
            "version": attack.version,
            "params": attack.params,
        },
        "threat": record.threat.model_dump(mode="json"),
        "seed": record.seed,
        "suite": record.suite,
    }
    overrides = tuple(str(word) for word in record.provenance.get("overrides", []))
    return CellPlan(record.key, record.name, config, overrides, sweep, folder, folder)


def _tell_training(observers: Observers, card: Card, folder: Path, sweep: str) -> None:
    config = card.system.config
    epochs = config.get("training", {}).get("epochs", card.epochs_run)
    training = TrainingPlan(card.key, card.system.name, config, epochs, sweep, folder)
    observers.tell("benchmark_training_started", training=training)
    for values in card.history:
        observers.tell("benchmark_epoch", training=training, epoch=int(values["epoch"]), values=values)
    observers.tell("benchmark_training_finished", training=training, card=card)


def _gallery(folder: Path, record: Record) -> Gallery | None:
    """Images beside a record, None if it names none."""
    from benchmark.records.outcomes import GALLERY

    named = next((file for file in record.files if file.path == GALLERY), None)
    if named is None:
        return None
    path = folder / GALLERY
    if not path.is_file() or file_sha256(path) != named.sha256:
        raise RecordError(f"{path} is missing or does not have the sha256 in the record")
    from safetensors.torch import load_file

    return Gallery(**load_file(str(path)))
