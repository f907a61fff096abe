"""`benchmark status --stale`: cells of a store whose key differs under today's code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmark import registry
from benchmark.config.describe import attack_info
from benchmark.config.system_spec import described
from benchmark.errors import BenchmarkError
from benchmark.records.record import GIVEN, Record
from benchmark.stages.rebuild import component, spec_of

__all__ = ["reasons", "stale"]


def stale(records: Sequence[Record]) -> list[tuple[Record, list[str]]]:
    """Records whose key differs under today's code, with the reasons; without refused cells."""
    found = [(record, [*dict.fromkeys(reasons(record))]) for record in records if record.status != "refused"]
    return [(record, why) for record, why in found if why]


def reasons(record: Record) -> Iterator[str]:
    """Name each difference from the code that made the record, in a few words."""
    if not record.harness:
        yield "made by 0.1, whose keys knew inputs by name and code by version"
        return
    try:
        now = spec_of(record.system, record.seed).settings()
        yield from _changes(record.system.config, {**record.system.config, **now})
        if record.attack.name == GIVEN:
            return
        attack = component("attack", record.attack.model_dump(include={"name", "params"}))
        yield from _changes(record.attack.model_dump(), attack_info(attack).model_dump())
        for kind, said in (("certifier", record.certifiers), ("metric", record.measured_by)):
            for one in said:
                yield from _changes(one, described(component(kind, one)))
        harness = registry.harness_version("cell")
        if record.harness != harness:
            yield f"harness {record.harness}, now {harness}"
    except BenchmarkError as error:
        yield str(error)


def _changes(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Settings and plugin versions that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        owner = str(before.get("name", name)) if "version" in before else name
        for key in dict.fromkeys((*before, *now)):
            place = owner if key in ("version", "params") else f"{owner}.{key}" if owner else str(key)
            yield from _changes(before.get(key), now.get(key), place)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for one, other in zip(before, now, strict=True):
            yield from _changes(one, other, name)
    elif before != now:
        yield f"{name} {before}, now {now}"
