"""Display names of systems, threats and cells, for tables, messages and trackers. Files are named by keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["apart", "cell_name", "natural", "own_name", "system_name", "told", "unversioned", "variant_name"]

SHOWN = 8
"""Number of characters of a digest that are displayed."""

NO_SETTINGS = ("version", "distribution", "harness")
"""Keys of described plugins that are not settings."""

VARIANTS = ("method", "estimator", "factory")
"""Settings by which a bridge to a library, or to a file of the user's own, chooses what it runs."""

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")


def system_name(dataset: str, model: str, parts: Iterable[str]) -> str:
    """Name of a system, dataset/model+part+..., where the parts are defenses, then poisons."""
    return "+".join([f"{dataset}/{model}", *parts])


def cell_name(system: str, attack: str, threat: str, seed: int) -> str:
    """Name of a cell: its system, attack, threat and seed."""
    return f"{system} {attack} {threat} seed {seed}"


def told(name: str, overrides: Sequence[str]) -> str:
    """Name followed by overrides, such as `digits/linear [training.epochs=1]`."""
    return f"{name} [{', '.join(overrides)}]" if overrides else name


def natural(name: str) -> list[str | float]:
    """Sort key of a name, in which numbers count by their values: `[steps=9]` is before `[steps=10]`."""
    return [float(part) if at % 2 else part for at, part in enumerate(re.split(r"(\d+(?:\.\d+)?)", name))]


def own_name(plugin: str, params: Mapping[str, Any]) -> str:
    """Name of a dataset or model: the plugin's, or the user's own name if it has one."""
    held = params.get({"given": "name", "file": "factory"}.get(plugin, ""))
    return str(held) if held else variant_name(plugin, params)


def variant_name(plugin: str, params: Mapping[str, Any]) -> str:
    """Name of an attack, a model or a defense, followed by what it runs of its library, such as `foolbox LinfPGD`.

    Values that are not identifiers are left out, because a foreign record may contain anything.
    """
    chosen = [params[key] for key in VARIANTS if isinstance(params.get(key), str)]
    return " ".join([plugin, *(one for one in chosen if _IDENTIFIER.fullmatch(one))])


def apart(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Make names distinct by the settings that differ, such as `pgd [steps=10]`.

    As few settings as possible are shown, and no empty ones.

    Args:
        settings: of each, nested plain data.
    """
    flat = [dict(_flat(one)) for one in settings]
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for name, one in zip(names, flat, strict=True):
        alike.setdefault(name, []).append(one)
    telling = {name: _telling(those) for name, those in alike.items()}
    found = []
    for name, mine in zip(names, flat, strict=True):
        keys = telling[name]
        found.append(
            told(name, [f"{_short(key, keys)}={_value(mine[key])}" for key in keys if mine.get(key) not in (None, "")])
        )
    return found


def _telling(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Few keys whose values differ wherever the settings do, chosen greedily by the names that they separate."""
    rows = list({repr(sorted(one.items(), key=str)): one for one in settings}.values())
    keys = sorted({key for one in rows for key in one}, key=lambda key: (key == "inputs", key))
    chosen: list[str] = []

    def groups(by: Sequence[str]) -> int:
        return len({tuple(repr(one.get(key)) for key in by) for one in rows})

    while groups(chosen) < groups(keys):
        chosen.append(max(keys, key=lambda key: groups([*chosen, key])))
    return sorted(chosen)


def unversioned(described: Any) -> Any:
    """Described plugins without their versions, including plugins inside them."""
    if isinstance(described, Mapping):
        plugin = {"name", "version"} <= described.keys()
        return {key: unversioned(value) for key, value in described.items() if not (plugin and key == "version")}
    return [unversioned(one) for one in described] if isinstance(described, list) else described


def _flat(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Settings by dotted path; anything else is left out."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key not in NO_SETTINGS:
                below = path if key == "params" else f"{path}.{key}" if path else str(key)
                yield from _flat(one, below)
    elif isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
        for at, one in enumerate(value):
            yield from _flat(one, f"{path}.{at}")
    else:
        yield path, value


def _short(path: str, others: Sequence[str]) -> str:
    """Last component of a path, or the whole path if another ends in the same one."""
    last = path.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in others) == 1 else path


def _value(value: Any) -> str:
    text = str(value)
    digest = text.removeprefix("sha256:")
    return digest[:SHOWN] if len(digest) == 64 and not set(digest) - set("0123456789abcdef") else text
