"""Proofs of the witnesses of a submission, by another process with bounded memory and time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark import registry
from benchmark.records.record import read_record

from ..cells.cell import Cell
from ..cells.load import RECORD, same_outcomes
from .check_cell import MASK, WEIGHTS
from .claims import names_files

__all__ = ["Proof", "prove", "rerun"]

SECONDS = 1800


MEMORY = 16 << 30


@dataclass(frozen=True)
class Proof:
    """Result of proving a witness. fails: it was disproved. sentence: the reason, or the proof."""

    proved: bool
    fails: bool
    sentence: str


def prove(root: Path, cells: Mapping[str, Cell], store: Path | None, data: Path | None) -> dict[str, Proof]:
    """Prove every witness whose system can be loaded, by `benchmark verify` in another process."""
    found = {}
    by_store: dict[Path | None, list[str]] = {}
    known = {plugin.name for plugin in registry.declared() if plugin.kind == "dataset"}
    for key, cell in cells.items():
        if data is None or cell.record.system.dataset not in known:
            found[key] = Proof(False, False, "its data are not available")
        elif cell.record.threat.region.startswith("file") and not (cell.folder / MASK).is_file():
            found[key] = Proof(False, False, "its region is a mask file, which is not available")
        elif names_files(cell.record.system.config.get("dataset")):
            found[key] = Proof(False, False, "its data are files of its author, and no check opens a path of a record")
        else:
            by_store.setdefault(_store_of(cell, root, store), []).append(key)
    for place, keys in by_store.items():
        found.update(_verified(root, keys, place, data or Path()))
    for key in [key for key in found if cells[key].record.system.brings_code and not found[key].fails]:
        found[key] = replace(found[key], sentence=f"{found[key].sentence}; {NOT_RUN}")
    return found


NOT_RUN = "its model is the submitter's own code, which no check runs"


def _store_of(cell: Cell, root: Path, store: Path | None) -> Path | None:
    """Store with the system's weights; None if there is none, or rebuilding would run or open its author's files."""
    record = cell.record
    if record.system.brings_code or any(
        names_files(settings) for settings in (record.system.config, record.attack.params, record.certifiers)
    ):
        return None
    places = [root, *([store] if store else [])]
    return next((p for p in places if (p / "systems" / cell.record.system.key / WEIGHTS).is_file()), None)


def _verified(root: Path, keys: Sequence[str], store: Path | None, data: Path) -> dict[str, Proof]:
    """Run `benchmark verify` on these cells: a proof with weights from the store, or distances without weights."""
    command = [sys.executable, "-m", "benchmark", "verify", "--data", str(data)]
    command += ["--store", str(store)] if store else ["--distances"]
    command += [str(root / "cells" / key) for key in keys]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS, preexec_fn=_bound_memory
        )
    except subprocess.TimeoutExpired:
        sentence = f"its witness was not proved within {SECONDS} seconds"
        return {key: Proof(False, False, sentence) for key in keys}
    said = {}
    for line in done.stdout.splitlines():
        word, _, rest = line.partition(" ")
        key, _, sentence = rest.strip().partition(" ")
        said[key] = Proof(word == "verified", word == "FAILED", sentence.strip())
    if store is None:
        said = {key: replace(proof, sentence=_without_weights(proof)) for key, proof in said.items()}
    missing = Proof(False, True, "its witness could not be proved: the proving process died")
    return {key: said.get(key, missing) for key in keys}


def _without_weights(proof: Proof) -> str:
    return proof.sentence if proof.fails else f"{proof.sentence}; its system's weights are not available"


def _bound_memory() -> None:
    """Limit the memory of the proving process, and forbid it large files."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def rerun(cell: Cell, store: Path | None) -> bool | None:
    """True if the cell equals the reviewer's own run; None if the store has none."""
    folder = store / "cells" / cell.record.key if store else None
    if folder is None or not (folder / RECORD).is_file():
        return None
    return same_outcomes(cell.record, read_record(folder))
