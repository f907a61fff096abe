"""probed: findings of the probes, stored beside the system, so that its further cells do not probe it again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from benchmark import registry
from benchmark.data import Examples
from benchmark.records.card import Card
from benchmark.records.durable import set_aside, write_atomic
from benchmark.records.record import Finding
from benchmark.records.store import Store
from benchmark.stages.devices import exact_math
from benchmark.stages.probes import of_system
from benchmark.system import System
from benchmark.threat import Access, Threat

__all__ = ["follows_gradients", "probed"]


def follows_gradients(threat: Threat) -> bool:
    """True if attackers under the threat follow gradients of the system, or of one like it."""
    return threat.access in (Access.gradients, Access.transfer)


def probed(threat: Threat, store: Store, card: Card, system: System, examples: Examples) -> list[Finding]:
    """The findings of :func:`of_system`, from the store if the same code made them of the same system and examples."""
    gradients = follows_gradients(threat)
    device = next((value.device.type for value in system.state_dict().values()), "cpu")
    parts = card.key, card.weights_sha256, examples.digest(), registry.harness_version("cell"), device, gradients
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    path = store.system(card.key) / f"probed-{name}.json"
    known = _read(path)
    if known is not None:
        return known
    with exact_math():
        found = of_system(system, examples, gradients=gradients)
    if path.parent.is_dir():
        said = [finding.model_dump(mode="json") for finding in found]
        with contextlib.suppress(OSError):  # a store that only others may write: the next cell asks again
            write_atomic(path, json.dumps({"findings": said, "sha256": _digest(said)}, indent=2) + "\n")
    return found


def _read(path: Path) -> list[Finding] | None:
    """Findings that are remembered, or None; a file that is not what was written is set aside."""
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["sha256"] == _digest(stored["findings"]):
            return [Finding.model_validate(said) for said in stored["findings"]]
    except (ValueError, KeyError, TypeError):
        pass
    set_aside(path, "is broken: its content does not match its checksum")
    return None


def _digest(said: object) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
