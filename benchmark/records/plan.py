"""A plan: the cells of a sweep in a file of one JSON document per line, for any number of tasks.

The first line describes the sweep, each other line a cell, in the order in which to take them: first one cell of each
system, which trains it, then the others, the longest first as far as the store knows their durations.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import ConfigError
from benchmark.records.document import content_key
from benchmark.records.durable import write_atomic
from benchmark.records.record import Record
from benchmark.records.store import Store

__all__ = ["Line", "Plan", "ordered", "progress_of"]

VERSION = 1

OF_SYSTEMS = ("dataset", "model", "defense", "poison", "training", "system", "seed", "attack@training", "trainer")
"""Prefixes of the keys that determine the system of a cell."""


@dataclass(frozen=True)
class Line:
    """A cell. line: hash under which the store indexes its key. leads: it is the first cell of its system.

    overrides: as a sweep passes them to a job. system: equal for cells whose overrides ask for the same system.
    seconds: duration of a similar cell, or None.
    """

    line: str
    overrides: tuple[str, ...]
    system: str
    leads: bool
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """A sweep in a file.

    words: of the command that planned it. root: the store, absolute. fingerprint: of all its configuration sources.
    """

    sweep: str
    words: tuple[str, ...]
    root: str
    fingerprint: str
    lines: tuple[Line, ...]

    def write(self, path: Path) -> None:
        """Write the plan."""
        head = {
            "plan": VERSION,
            "sweep": self.sweep,
            "words": list(self.words),
            "root": self.root,
            "fingerprint": self.fingerprint,
        }
        documents: list[Mapping[str, Any]] = [head, *(vars(line) for line in self.lines)]
        write_atomic(path, "".join(json.dumps(document, sort_keys=True) + "\n" for document in documents))

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a file written by `write`.

        Raises:
            ConfigError: if there is no such file, or it is not a plan.
        """
        try:
            head, *rest = (json.loads(text) for text in path.read_text(encoding="utf-8").splitlines())
            if head.pop("plan") != VERSION:
                raise ValueError("of another version")
            lines = tuple(Line(**{**line, "overrides": tuple(line["overrides"])}) for line in rest)
            return cls(**{**head, "words": tuple(head["words"]), "lines": lines})
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({error.strerror}); write a plan with benchmark plan") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is not a plan ({error}); benchmark plan -o FILE writes one") from error


def ordered(jobs: Sequence[tuple[str, Sequence[str]]], records: Sequence[Record]) -> tuple[Line, ...]:
    """Lines of a plan in the order in which to take them.

    Args:
        jobs: hash and overrides of each cell. records: known records of such cells.
    """
    known: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.status == "complete" and record.cost is not None:
            known[_attack_of(record.provenance.get("overrides", ()))].append(record.cost.seconds)
    lines, seen = [], set()
    for line, overrides in jobs:
        system = content_key(sorted(word for word in overrides if word.lstrip("+").startswith(OF_SYSTEMS)))[:12]
        spent = known.get(_attack_of(overrides))
        seconds = sum(spent) / len(spent) if spent else None
        lines.append(Line(line, tuple(overrides), system, system not in seen, seconds))
        seen.add(system)
    return tuple(sorted(lines, key=lambda line: (not line.leads, -(line.seconds or 0.0))))


def _attack_of(overrides: Sequence[str]) -> str:
    return " ".join(sorted(word for word in overrides if word.startswith(("attack=", "attack."))))


def progress_of(plan: Plan, store: Store) -> dict[str, Record]:
    """Records of the finished cells of a plan, by line."""
    failed = {_words(record.provenance.get("overrides", ())): record for record in store.records()}
    found = {}
    for line in plan.lines:
        key = store.recall(line.line)
        record = store.record(key) if key else failed.get(_words(line.overrides))
        if record is not None:
            found[line.line] = record
    return found


def _words(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(word for word in overrides if not word.startswith("hydra")))
