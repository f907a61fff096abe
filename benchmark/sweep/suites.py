"""Suites: their protocols, the runs that keep to them, and the check of records that claim to.

A suite fixes what systems are tested against: the data, the examples, the threats, the attacks with their settings, and
the seeds. The tested systems are not part of it, so that anyone can enter one on its boards. Neither are attacks of
other names: they are not required of a system, and can only lower its worst case.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchmarkError
from benchmark.records import naming
from benchmark.records.described import AttackInfo, ThreatInfo
from benchmark.records.record import Record

if TYPE_CHECKING:
    from hydra.conf import HydraConf

__all__ = ["ENTERED", "FREE", "departure", "official"]

ENTERED = ("model", "defense", "poison", "training", "system", "certifier")
"""Groups that describe the entered system and its certificates."""

FREE = ("tracker", "trainer", "store", "retry", "cell", "hydra", "batch_size", "until", "survivors_of")
"""Groups and keys that may be overridden within a suite, since they change no worst case."""

SUITE_NAME = re.compile(r"[A-Za-z0-9_]+")

NOT_FREE = "trainer.precision"
"""Exception among those groups: the one key that can change a result."""


def official(overrides: Sequence[str], hydra_cfg: HydraConf) -> bool:
    """True if a job keeps to its suite: only the system, and an attack of another name, are chosen freely."""
    params = dict(hydra_cfg.sweeper.params or {}) if "params" in hydra_cfg.sweeper else {}
    if not any(o.startswith("suite=") for o in overrides):
        return False
    allowed = {key: _choices(key, str(value)) for key, value in params.items()}
    chosen = next((o.partition("=")[2] for o in overrides if o.startswith("attack=")), "")
    own = allowed.get("attack", [])
    other = bool(chosen and own) and chosen not in own  # reads files of variants, for which most cells have no need
    added = other and _plugin_of(chosen) not in map(_plugin_of, own)
    for override in overrides:
        key, _, value = override.partition("=")
        key = key.lstrip("+~")
        group = _group(key)
        if key == "suite" or group in ENTERED or (group in FREE and key != NOT_FREE) or (added and group == "attack"):
            continue
        if value not in allowed.get(key, ()):
            return False
    return bool(params)


def _plugin_of(choice: str) -> str:
    """Attack that a choice configures: the plugin of that name, or the one whose settings a file names."""
    from benchmark.config.members import own_folders, plugin_of

    return plugin_of("attack", choice, own_folders())


def _group(key: str) -> str:
    return re.split(r"[@./]", key, maxsplit=1)[0]


def _choices(key: str, text: str) -> list[str]:
    """Values of one line of a sweep, as Hydra would pass them on."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
    if not override.is_sweep_override():
        return [str(override.get_value_element_as_str())]
    return [str(value) for value in override.sweep_string_iterator()]


# --- records that call themselves official ---


@dataclass
class _Protocol:
    """Protocol of a suite. Its matrix is a grid: every combination may occur.

    name: with the version. examples: of the test split, None for all of it. datasets, threats, attacks: as plain data.
    """

    name: str | None
    examples: int | None
    seeds: list[int]
    datasets: list[dict[str, Any]]
    threats: list[dict[str, Any]]
    attacks: list[dict[str, Any]]

    def admits(self, attack: AttackInfo) -> bool:
        """True for an attack of the suite as it is, given examples, and attacks of other names."""
        return _plain(attack) in self.attacks or attack.name not in {one["name"] for one in self.attacks}


def departure(record: Record, test_total: int) -> str | None:
    """First deviation of an official record from the installed suite; None if there is none or it is unknown.

    An attack of another name than the suite's is none: it is not required, and can only lower a row. Plugin versions,
    the surrogate, which the record names by its key, and the user's data files, of which a suite knows only the paths,
    are not compared.

    Args:
        test_total: number of examples in the test split.
    """
    suite = _protocol((record.suite or "").partition("@")[0])
    if suite is None or suite.name != record.suite:
        return None
    total = test_total if suite.examples is None else min(suite.examples, test_total)
    if record.counts is not None and record.counts.total != total:
        return f"it has {record.counts.total} examples, but {suite.name} has {total}"
    parts = {
        "seed": record.seed in suite.seeds,
        "dataset": any(_is_dataset(record.system.config.get("dataset"), one) for one in suite.datasets),
        "threat": _plain(record.threat) in suite.threats,
        "attack": suite.admits(record.attack),
    }
    return next((f"its {part} is none of those of {suite.name}" for part, kept in parts.items() if not kept), None)


def _is_dataset(held: Any, known: dict[str, Any]) -> bool:
    """True if a record's dataset is that of a suite; the record names files by a digest, the suite by a path."""
    held = naming.unversioned(held)
    if not isinstance(held, dict) or not isinstance(params := held.get("params"), dict):
        return False
    files = {key for key, value in params.items() if str(value).startswith("sha256:") and known["params"].get(key)}
    return bool({**held, "params": {**params, **{key: known["params"][key] for key in files}}} == known)


def _plain(info: ThreatInfo | AttackInfo) -> dict[str, Any]:
    return dict(naming.unversioned(info.model_dump(exclude={"version", "surrogate"})))


@functools.cache
def _protocol(name: str) -> _Protocol | None:
    """Protocol of the suite of that name; None if it is not installed or cannot be composed here.

    Each group of its lines is composed with the first choices of the others.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    from benchmark.config import source
    from benchmark.config.describe import attack_info, threat_info
    from benchmark.config.resolve import resolve
    from benchmark.config.system_spec import described

    if not SUITE_NAME.fullmatch(name):  # it comes from a stranger's record, and an override is a language
        return None
    source.register_schemas()
    made = _Protocol(None, None, [], [], [], [])
    try:
        with initialize_config_module("benchmark.conf", version_base="1.3"):
            params = compose("run", [f"suite={name}"], return_hydra_config=True).hydra.sweeper.params
            for job in _jobs(dict(params)):
                config = resolve(compose("run", [f"suite={name}", *job]))
                made.name, made.examples = config.suite_name, config.examples
                made.seeds.append(config.seed)
                made.datasets.append(naming.unversioned(described(config.dataset)))
                made.threats.append(_plain(threat_info(config.threat)))
                made.attacks.append(_plain(attack_info(config.attack)))
    except (HydraException, BenchmarkError):
        return None
    return made


def _jobs(params: dict[str, str]) -> Iterator[list[str]]:
    """Overrides that cover every choice of every group, one group at a time with the first choices of the others."""
    groups: dict[str, list[list[str]]] = defaultdict(list)
    for key, value in params.items():
        if _group(key) not in ENTERED:
            groups[_group(key)].append([f"{key}={choice}" for choice in _choices(key, str(value))])
    first = {group: [line[0] for line in lines] for group, lines in groups.items()}
    for group, lines in groups.items():
        others = [override for other, overrides in first.items() if other != group for override in overrides]
        for chosen in itertools.product(*lines):
            yield [*others, *chosen]
