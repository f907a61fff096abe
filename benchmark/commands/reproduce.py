"""`benchmark reproduce RECORD`: recompute a cell from its record, and report the differences.

The system is trained and attacked again in a temporary store; outcomes and witness are then compared bit for bit. Data
come from the data folder, files that the record identifies by content from their old place or from `--input`, and the
surrogates of a transfer attack from `--store`. Another processor, other package versions or another number of threads
may train other weights: the differences between the two environments are listed too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.config.cell import RunConfig
from benchmark.config.describe import recorded_threat
from benchmark.config.schema import StoreConfig, SuiteConfig, SystemConfig, Trainer
from benchmark.errors import RecordError, Unproved
from benchmark.records.content import PREFIX, content_sha256
from benchmark.records.record import GIVEN, Record, read_record
from benchmark.records.store import Store
from benchmark.stages.rebuild import component, dataset_of, filled, spec_of
from benchmark.stages.replay import checked_outcomes, places_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["config_of", "differences", "main"]


def main(path: Path, store: Path, data: Path, *, inputs: Sequence[Path] = ()) -> int:
    """Recompute the cell and print the differences; returns 0 if outcomes and witness are identical, else 1."""
    from benchmark.run import run

    folder = path if path.is_dir() else path.parent
    record = read_record(path)
    if record.status != "complete":
        raise RecordError(f"{folder} is {record.status}; only a complete cell can be compared")
    if record.attack.name == GIVEN:
        raise RecordError(
            f"{folder} holds examples that were added from a file and cannot be recomputed; use benchmark verify"
        )
    checked_outcomes(folder, record)
    places = {**places_of(record), **{PREFIX + content_sha256(p): str(p) for p in inputs}}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        _borrow(record, folder, Store(store), root)
        config = config_of(record, folder, root, data, {**_weights(record, Store(store)), **places})
        sys.stdout.write(f"recomputing {record.name}\n")
        result = run(config)
        made = Store(root).record(result.key)
        if made is None or made.status != "complete":
            raise Unproved(f"{record.name} cannot be recomputed here: {result.error}")
        lines = [*differences(folder, record, Store(root).cell(result.key), made)]
        for line in [*_settings(record, made), *lines]:
            sys.stdout.write(f"  {line}\n")
    sys.stdout.write(f"{record.key}  {'differs' if lines else 'outcomes and witness are identical, bit for bit'}\n")
    return 1 if lines else 0


def config_of(record: Record, folder: Path, root: Path, data: Path, places: Mapping[str, str]) -> RunConfig:
    """Configuration of a recorded cell.

    Args:
        folder: of the record. root: of the store to use. data: the folder of datasets. places: paths of the inputs that
            the record identifies by content.

    Raises:
        RecordError, Unproved: if a part of it is unknown or missing here.
    """
    parts = spec_of(record.system, record.seed, places)
    lost = [text for text in (parts.init_from, *_texts(record.system.config["model"])) if text.startswith(PREFIX)]
    lost = [text for text in lost if text not in places]
    if lost:
        raise Unproved(f"the record names {lost[0]}, which does not exist any more; give its new path with --input")
    name, _, version = (record.suite or "").partition("@")
    said = record.provenance
    trainer = filled(Trainer, {**said.get("trainer", {}), "precision": parts.precision}, "trainer")
    return RunConfig(
        dataset=dataset_of(record.system, places),
        model=parts.model,
        attack=component("attack", record.attack.model_dump(include={"name", "params"})),
        threat=recorded_threat(record.threat, folder),
        defenses=parts.defenses,
        poisons=parts.poisons,
        certifiers=tuple(component("certifier", described) for described in record.certifiers),
        metrics=tuple(component("metric", described) for described in record.measured_by),
        training=parts.training,
        trainer=trainer,
        store=StoreConfig(root=str(root), data=str(data), offline=True),
        suite=SuiteConfig(name, int(version)) if name else SuiteConfig(),
        system=SystemConfig(init_from=parts.init_from),
        seed=record.seed,
        examples=_examples(record),
        batch_size=int(said.get("batch_size", 256)),
        official=record.official,
        survivors_of=tuple(record.survivors_of),
    )


def _examples(record: Record) -> int | None:
    """Requested number of examples; records of 0.1 hold only the number attacked."""
    if record.harness:
        return record.examples
    assert record.counts is not None
    return None if record.counts.total == record.splits["test"].count else record.counts.total


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


def _borrow(record: Record, folder: Path, store: Store, root: Path) -> None:
    """Copy a transfer attacker's surrogates and the cells whose survivors were attacked into the temporary store."""
    for key in record.threat.surrogate.split(",") if record.threat.surrogate else []:
        if store.card(key) is None:
            raise Unproved(f"the attacker's surrogate {key} is not in {store.root}; name its store with --store")
        (root / "systems").mkdir(exist_ok=True)
        (root / "systems" / key).symlink_to(store.system(key).absolute())
    for key in record.survivors_of:
        place = next((p for p in (folder.absolute().parent / key, store.cell(key).absolute()) if p.is_dir()), None)
        if place is None:
            raise Unproved(
                f"the attack ran on the survivors of cell {key}, which is not in {store.root}; name its store"
            )
        (root / "cells").mkdir(exist_ok=True)
        (root / "cells" / key).symlink_to(place)


def _weights(record: Record, store: Store) -> dict[str, str]:
    """Path of the initial weights of training, if a system in the store has them."""
    wanted = str(record.system.config.get("init_from", ""))
    if not wanted.startswith(PREFIX):
        return {}
    cards = (store.card(path.parent.name) for path in sorted((store.root / "systems").glob("*/card.json")))
    found = [card.key for card in cards if card is not None and PREFIX + card.weights_sha256 == wanted]
    return {wanted: str(store.system(found[0]) / "weights.safetensors")} if found else {}


# --- what differs ---


def differences(folder: Path, record: Record, other: Path, made: Record) -> list[str]:
    """Compare outcomes and witness of two cells: a sentence for each column that differs in any bit."""
    from benchmark.records.outcomes import OUTCOMES, Outcomes
    from benchmark.records.witness import WITNESS, Witness

    if record.examples_sha256 != made.examples_sha256:
        return ["other examples"]
    before, now = Outcomes.load(folder / OUTCOMES).tensors(), Outcomes.load(other / OUTCOMES).tensors()
    found = [f"the weights of the system: {record.weights_sha256[:12]} before, {made.weights_sha256[:12]} now"]
    found = [] if record.weights_sha256 == made.weights_sha256 else found
    for name in sorted({*before, *now}):
        if name not in before or name not in now:
            found.append(f"{name}: only {'now' if name in now else 'before'}")
        elif count := _unequal(before[name], now[name]):
            found.append(f"{name}: {count} of {len(now[name])} examples")
    old, new = Witness.load(folder / WITNESS), Witness.load(other / WITNESS)
    if old.ids.tolist() != new.ids.tolist():
        found.append(f"the witness: of {len(old.ids)} examples before and of {len(new.ids)} now")
    elif count := _unequal(old.x_adv, new.x_adv):
        found.append(f"the witness: {count} of {len(new.ids)} candidates")
    return found


def _unequal(one: Tensor, other: Tensor) -> int:
    """Number of rows that differ in any bit."""
    import torch

    if one.shape != other.shape:
        return max(len(one), len(other))
    same = (one == other) | (one.isnan() & other.isnan()) if one.is_floating_point() else one == other
    return int((~same.reshape(len(same), -1).all(1)).sum()) if len(same) else int(not torch.equal(one, other))


def _settings(record: Record, made: Record) -> Iterator[str]:
    """Differences in code and environment."""
    if record.key != made.key:
        yield f"the key is now {made.key}"
    if record.harness != made.harness:
        yield f"harness {record.harness or record.provenance.get('harness', '0.1')} before, {made.harness} now"
    if record.attack.version != made.attack.version:
        yield f"attack.{record.attack.name} {record.attack.version} before, {made.attack.version} now"
    before, now = record.provenance, made.provenance
    for name, version in now.get("packages", {}).items():
        if before.get("packages", {}).get(name) != version:
            yield f"{name} {before.get('packages', {}).get(name)} before, {version} now"
    for name in ("python", "platform", "threads", "gpus"):
        if before.get(name) != now.get(name):
            yield f"{name} {before.get(name)} before, {now.get(name)} now"
