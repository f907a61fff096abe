"""Grouping of records into boards, rows and columns, with their labels."""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from benchmark.errors import ConfigError, RecordError
from benchmark.records import naming
from benchmark.records.described import SystemInfo
from benchmark.records.document import content_key
from benchmark.records.record import Record
from benchmark.threat import Norm, parse_eps

from ..board import ANY_CHANGE, AttackColumn, Conditions, Protocol
from ..cells.cell import Cell

__all__ = [
    "base_label",
    "column_key",
    "columns",
    "conditions_key",
    "conditions_of",
    "exact_eps",
    "labels",
    "order_of",
    "protocol",
    "recipe_key",
    "system_names",
    "used_access",
]

NORM_ORDER = (*(norm.value for norm in Norm), ANY_CHANGE)
SHOWN_SETTINGS = 4
LONGEST_VALUE = 60
SIMPLE = re.compile(r"[\w.:/+@-]*")
"""Values shown as they are; in others, such as those with brackets, quotes show where the value ends."""


def conditions_key(conditions: Conditions) -> str:
    """Content address of the conditions."""
    return content_key(conditions.content)


def order_of(conditions: Conditions) -> tuple[object, ...]:
    """Sort key of conditions: records outside suites first, then suites by name, then dataset and norm."""
    of = conditions
    return (
        of.suite or "", not of.official, of.dataset, NORM_ORDER.index(of.norm), of.goal, not of.aware, of.region,
        of.levels or 0, conditions_key(of),
    )  # fmt: skip


def conditions_of(record: Record) -> Conditions:
    """Conditions of a complete record. Attacks that no norm bounds are compared among themselves."""
    threat = record.threat
    return Conditions(
        suite=record.suite,
        official=record.official,
        dataset=record.system.dataset,
        dataset_revision=record.dataset_revision,
        examples_sha256=record.examples_sha256,
        total=record.counts.total if record.counts else 0,
        norm=threat.norm if record.attack.bounded else ANY_CHANGE,
        goal=threat.goal,
        aware=threat.aware,
        region=threat.region,
        levels=threat.levels,
        task=record.task,
    )


def protocol(conditions: Conditions, eps: Fraction) -> Protocol:
    """Protocol of the conditions at one radius."""
    key = content_key({**conditions.content, "eps": str(eps)})
    return Protocol(key=key, conditions=conditions, eps=float(eps), eps_exact=str(eps))


def exact_eps(cell: Cell) -> Fraction:
    """Exact radius of a cell.

    Raises:
        RecordError: if it is malformed, or disagrees with the record's floating-point radius.
    """
    threat = cell.record.threat
    try:
        eps, simple = _exact(threat.eps_exact)
    except ConfigError as error:
        raise RecordError(
            f"{cell.place} has eps_exact {threat.eps_exact[:80]!r}; expected a fraction such as 8/255"
        ) from error
    if simple != eps and float(simple) == float(eps):
        raise RecordError(f"{cell.place} has eps_exact {threat.eps_exact[:80]!r}; expected {simple}, the same number")
    if float(eps) != threat.eps:
        raise RecordError(f"{cell.place} has eps {threat.eps!r} and eps_exact {threat.eps_exact!r}, which differ")
    return eps


@functools.lru_cache(1024)
def _exact(text: str) -> tuple[Fraction, Fraction]:
    """A radius, and the nearest fraction with a small denominator."""
    eps = parse_eps(text)
    return eps, eps.limit_denominator(10**6)


def recipe_key(system: SystemInfo) -> str:
    """Content address of a row: the system without its seed."""
    return content_key(system.model_dump(exclude={"key"}))


# --- columns ---


def column_key(record: Record) -> str:
    """Content address of an attack with its settings, without versions and radii."""
    return content_key(_column_settings(record))[:16]


def system_names(records: Iterable[Record]) -> dict[str, str]:
    """Display name of each trained system: its label, with the seed unless it is 0."""
    made = {}
    for record in records:
        seed = f", seed {record.seed}" if record.seed else ""
        made[record.system.key] = f"{base_label(record.system)}{seed}"
    return made


def columns(records: Mapping[str, list[Record]], names: Mapping[str, str] | None = None) -> dict[str, AttackColumn]:
    """Column of each key, sorted by name and settings, with distinct labels.

    Args:
        names: of surrogates, by the key of the system; others are shown by a prefix of their key.
    """
    first = {key: group[0] for key, group in records.items()}
    settings = {key: _flat(_column_settings(record)) for key, record in first.items()}
    for key, record in first.items():
        held = record.threat.surrogate.split(",") if record.threat.surrogate else ["none"]
        settings[key]["surrogate"] = " and ".join((names or {}).get(system, system[:8]) for system in held)
    names = _told_apart({key: record.attack.label for key, record in first.items()}, settings)
    made = {}
    for key in sorted(
        first, key=lambda k: (first[k].attack.label, json.dumps(_column_settings(first[k]), sort_keys=True))
    ):
        attack, threat = first[key].attack, first[key].threat
        made[key] = AttackColumn(
            key=key,
            name=attack.name,
            label=names[key],
            params=attack.params,
            distribution=attack.distribution,
            versions=tuple(sorted({record.attack.version for record in records[key]})),
            access=threat.access,
            queries=threat.queries,
            eot=threat.eot,
            surrogate=threat.surrogate,
            minimal=attack.minimal,
            randomized=attack.randomized,
            used=used_access(records[key]),
        )
    return made


def used_access(records: Iterable[Record]) -> str:
    """Access that an attack used, from the counted passes; a threat often grants more.

    `gradients` if there were backward passes; `transfer` if it worked on another system; `none` if it made no query,
    like random noise; else the granted access, or `queries` if that is gradients, which it did not use.
    """
    some = [record for record in records if record.cost is not None]
    if not some:
        return ""
    permitted = some[0].threat.access
    if permitted == "transfer":
        return permitted
    costs = [record.cost for record in some if record.cost is not None]
    if permitted == "gradients" and any(cost.backwards or cost.prepared_backwards for cost in costs):
        return permitted
    if not any(cost.forwards or cost.prepared_forwards for cost in costs):
        return "none"
    return "queries" if permitted == "gradients" else permitted


def _column_settings(record: Record) -> dict[str, Any]:
    attack, threat = record.attack, record.threat
    return {
        "name": attack.name,
        "distribution": attack.distribution,
        "params": naming.unversioned(attack.params),
        "access": threat.access,
        "queries": threat.queries,
        "eot": threat.eot,
        "surrogate": threat.surrogate,
    }


# --- labels ---


def base_label(system: SystemInfo) -> str:
    """Display name of model and defenses; the dataset is the board's."""
    label = " + ".join([system.model_name, *system.defenses])
    return f"{label}, poisoned by {' and '.join(system.poison)}" if system.poison else label


def labels(systems: Mapping[str, SystemInfo]) -> dict[str, str]:
    """A unique label for each row key: rows with the same name list the settings that differ."""
    return _told_apart(
        {key: base_label(system) for key, system in systems.items()},
        {key: _flat(system.config) for key, system in systems.items()},
    )


def _told_apart(base: Mapping[str, str], settings: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    sharing: dict[str, list[str]] = defaultdict(list)
    for key in sorted(base):
        sharing[base[key]].append(key)
    found = {}
    for label, keys in sharing.items():
        differing = _differing([settings[key] for key in keys]) if len(keys) > 1 else []
        for key in keys:
            said = [f"{_short(name, differing)}={settings[key][name]}" for name in differing if name in settings[key]]
            found[key] = f"{label} ({', '.join(said[:SHOWN_SETTINGS])})" if said else label
    taken = list(found.values())
    return {key: label if taken.count(label) == 1 else f"{label} [{key[:6]}]" for key, label in found.items()}


def _differing(settings: list[Mapping[str, str]]) -> list[str]:
    """Names of settings that are not the same for all."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({one.get(name) for one in settings}) > 1]


def _short(name: str, others: list[str]) -> str:
    """Last component of a setting's name, or the whole name if that is ambiguous."""
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in others].count(last) == 1 else name


def _like_a_number(text: str) -> bool:
    """True if a text would be read as a number or a constant, and is therefore quoted."""
    return re.fullmatch(r"[-+.\d]+([eE][-+]?\d+)?|true|false|null|None", text.strip()) is not None


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested settings flattened to `defenses.adversarial_training.eps: 1/10`."""
    if isinstance(value, dict):
        inner = sorted(value.items())
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        inner = [(str(item.get("name", at)), item) for at, item in enumerate(value)]
    else:
        plain = isinstance(value, str) and SIMPLE.fullmatch(value) and not _like_a_number(value)
        text = str(value) if plain else json.dumps(value, ensure_ascii=False)
        return {name: text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."}
    found: dict[str, str] = {}
    for key, item in inner:
        path = name if key == "params" else f"{name}.{key}" if name else key
        found.update(_flat(item, path))
    return found
