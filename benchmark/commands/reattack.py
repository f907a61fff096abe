"""`benchmark reattack PATH`: attack published systems again, by an attack that the maintainers choose.

The worst case of a row is only as good as the attacks that its authors chose. This command runs one attack, by default
the adaptive search, on every system and threat of the given records, with the published weights. Its cells belong to
the same rows.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmark.commands.reproduce import config_of
from benchmark.config.cell import RunConfig
from benchmark.errors import BenchmarkError, Unproved
from benchmark.records.record import GIVEN, Record, cell_folders, read_record
from benchmark.records.store import Store
from benchmark.stages.rebuild import component
from benchmark.stages.replay import places_of

__all__ = ["main", "unattacked"]


def main(paths: Sequence[Path], store: Path, data: Path, *, attack: str) -> int:
    """Attack every system and threat of the records, and print a line for each; returns 1 if one was left out, else 0.

    Args:
        paths: cells, or folders of cells, which are only read. store: with the systems; gets the new cells.
        attack: name of an attack, with its default settings.
    """
    records = {folder: read_record(folder) for folder in cell_folders(paths)}
    left = list(unattacked(records.values(), attack))
    places = {record.key: folder for folder, record in records.items()}
    out = 0
    for record in left:
        try:
            line = _attacked(record, places[record.key], Store(store), data, attack)
        except BenchmarkError as error:
            out += 1
            line = f"left out {record.system.name} {record.threat.name} seed {record.seed}: {error}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if not left:
        sys.stdout.write(f"every system under every threat was attacked by {attack} already\n")
    return 1 if out else 0


def unattacked(records: Iterable[Record], attack: str) -> Iterator[Record]:
    """Record of the strongest attack on each system, threat and example list that the attack was not run on."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.status == "complete" and record.threat.aware and record.threat.access != "transfer":
            threat = record.threat.model_dump(exclude={"access", "eot"})
            same = (record.system.key, record.suite, record.examples_sha256, str(sorted(threat.items())))
            groups.setdefault(same, []).append(record)
    for group in groups.values():
        run = [record for record in group if record.attack.name != GIVEN]
        if run and all(record.attack.name != attack for record in run):
            yield min(run, key=lambda record: record.counts.robust_correct if record.counts else 0)


def _attacked(record: Record, folder: Path, store: Store, data: Path, attack: str) -> str:
    """Attack the system of a record; returns the result as a line.

    Raises:
        Unproved: if the published weights are not in the store, or the plugins here make another system of the record.
        ConfigError: if the attack does not fit the system or the threat.
    """
    from benchmark.run import run

    config = _config(record, folder, store, data, attack)
    card = store.card(record.system.key)
    if card is None or card.weights_sha256 != record.weights_sha256 or store.differs(card):
        raise Unproved(
            f"{store.root} does not have its published weights; get them with: benchmark fetch {record.system.key}"
        )
    if (key := config.system_key()) != record.system.key:
        raise Unproved(
            f"with the plugins installed here its key would be {key}, so it would be trained again; install the "
            f"versions of the record, {record.harness or 'an earlier harness'}"
        )
    result = run(config)
    made = store.record(result.key)
    if made is None or made.status != "complete" or made.counts is None or record.counts is None:
        raise Unproved(result.error or result.status)
    total = made.counts.total
    return (
        f"{store.cell(made.key)}  {made.system.name} {made.threat.name} seed {made.seed}: robust "
        f"{made.counts.robust_correct} of {total} under {attack}, {record.counts.robust_correct} under "
        f"{record.attack.name}"
    )


def _config(record: Record, folder: Path, store: Store, data: Path, attack: str) -> RunConfig:
    config = config_of(record, folder, store.root, data, places_of(record))
    kept = [word for word in record.provenance.get("overrides", []) if not str(word).startswith("attack")]
    return dataclasses.replace(
        config,
        attack=component("attack", {"name": attack, "params": {}}),
        survivors_of=(),
        overrides=(*map(str, kept), f"attack={attack}") if kept else (),
    )
