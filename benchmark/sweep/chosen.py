"""Settings of one choice in a sweep: `attack.square.queries=50` applies to the cells with attack=square.

Settings of plugins are withheld when Hydra composes the sweep as a whole, which has only one choice of each kind; each
cell is given those that apply to it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING

from benchmark import registry
from benchmark.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

__all__ = ["for_one_cell", "given_to", "hint", "is_setting", "options_first", "own", "telling", "varied"]

SHARED = ("tracker",)
"""Kinds of plugin that serve the sweep as a whole."""

SETTING = re.compile(rf"({'|'.join(k for k in registry.KINDS if k not in SHARED)})\.(\w+)([\w.]*)=.*", re.DOTALL)
"""Kind, first name after it, and the rest of the key of a setting."""

IN_EVERY_NAME = ("seed", "threat", "threat.norm", "threat.eps", "threat.queries", "threat.goal", "threat.levels")
"""Keys whose values are in every display name of a cell."""

TELLING = (*(kind for kind in registry.KINDS if kind not in ("dataset", "certifier", "metric", "tracker")), "training")
"""Groups whose words tell a single run from others of the same system, attack and threat."""

JobWords = Sequence[str]


def is_setting(word: str) -> bool:
    """True for a setting of a plugin that takes part in cells, such as attack.steps=10."""
    return SETTING.fullmatch(word) is not None


def for_one_cell(words: Sequence[str]) -> list[str]:
    """Words of a single run; as in a sweep, a setting may name the choice that it applies to."""
    chosen = {kind: names for kind in registry.KINDS if (names := _chosen(words, kind))}
    found = []
    for word in words:
        match = SETTING.fullmatch(word)
        if match is not None and match[3] and match[1] not in registry.LISTS and match[2] in chosen.get(match[1], ()):
            found.append(word.replace(f"{match[1]}.{match[2]}.", f"{match[1]}.", 1))
        else:
            found.append(word)
    return found


def given_to(
    jobs: Sequence[JobWords],
    settings: Iterable[Override],
    default: Callable[[str], Sequence[str]],
    options: Callable[[str], Sequence[str]],
    *,
    narrowed: Container[str] = (),
) -> list[list[str]]:
    """Cells of a sweep with their plugin settings; several values multiply the cells that they apply to.

    Args:
        jobs: the overrides of each cell. default: from a kind to the choices of a cell that does not set it.
        options: from a kind to all its choices.
        narrowed: kinds with fewer choices than the settings were written for: settings of a choice that no cell makes
            are dropped.

    Raises:
        ConfigError: if a setting names a choice that no cell makes.
    """
    found = [list(job) for job in jobs]
    for setting in settings:
        values = _values(setting)
        match = SETTING.fullmatch(values[0])
        assert match is not None
        kind, name, rest = match[1], match[2], match[3]
        fits = [name in (_chosen(job, kind) or default(kind)) for job in found]
        named = bool(rest) and (kind in registry.LISTS or any(fits) or name in options(kind))
        if named and not any(fits):
            if kind in narrowed:
                continue
            chosen = sorted({c for job in found for c in _chosen(job, kind) or default(kind)})
            raise ConfigError(
                f"{values[0].partition('=')[0]} is a setting of {kind} {name!r}, which no cell chooses ({kind}: "
                f"{', '.join(chosen) or 'none'}); choose it, or leave the setting out"
            )
        if not named:
            fits = [True] * len(found)
        elif kind not in registry.LISTS:
            values = [value.replace(f"{kind}.{name}.", f"{kind}.", 1) for value in values]
        found = list(itertools.chain.from_iterable(
            [_with(job, value) for value in values] if fit else [job] for job, fit in zip(found, fits, strict=True)
        ))  # fmt: skip
    return found


def options_first(words: Sequence[str]) -> list[str]:
    """Words with the overrides at the end, side by side, as Hydra's parser wants them."""
    overrides = [word for word in words if not word.startswith("-") and ("=" in word or word[:1] in ("~", "+"))]
    return [*(word for word in words if word not in overrides), *overrides]


def own(words: Iterable[str]) -> frozenset[str]:
    """Keys of a single run that its name should say: choices and settings of the system and of the attack."""
    keys = (word.partition("=")[0] for word in words)
    return frozenset(key for key in keys if re.split(r"[.@]", key.lstrip("+"))[0] in TELLING)


def varied(jobs: Iterable[JobWords]) -> frozenset[str]:
    """Keys whose values differ between the cells of a sweep, or that only some of them set."""
    settings = [dict(word.partition("=")[::2] for word in job) for job in jobs]
    keys = {key for one in settings for key in one}
    return frozenset(key for key in keys if len({one.get(key) for one in settings}) > 1)


def telling(job: JobWords, keys: Container[str], name: str) -> tuple[str, ...]:
    """Words of a cell with these keys that its display name does not say already.

    A name says the seed, the threat, and the choices that it has as words: `attack=pgd`, but not `attack=pgd_10`.
    """
    said = {*re.split(r"[\s/+]+", name)}
    found = []
    for word in job:
        key = word.partition("=")[0].lstrip("+")
        by_name = key in registry.KINDS and said.issuperset(_chosen([word], key))
        if word.partition("=")[0] in keys and key not in IN_EVERY_NAME and not by_name:
            found.append(word)
    return tuple(found)


def hint(job: JobWords) -> str:
    """Advice for a cell that cannot be composed with the settings of a sweep; empty if it was given none."""
    for word in job:
        match = SETTING.fullmatch(word)
        if match is not None and match[1] not in registry.LISTS:
            key = f"{match[2]}{match[3]}"
            return f"; to set it for one choice of a sweep, include the name: {match[1]}.NAME.{key}=VALUE"
    return ""


def _values(setting: Override) -> list[str]:
    key = setting.get_key_element()
    if setting.is_sweep_override():
        return [f"{key}={value}" for value in setting.sweep_string_iterator()]
    return [f"{key}={setting.get_value_element_as_str()}"]


def _with(job: JobWords, value: str) -> list[str]:
    """Cell with a setting, which replaces an earlier value."""
    key = value.partition("=")[0]
    return [*(word for word in job if word.partition("=")[0] != key), value]


def _chosen(job: JobWords, kind: str) -> list[str]:
    """Choices of a kind in a cell: one, or any number for kinds of which a run takes a list."""
    found = []
    for word in job:
        key, _, value = word.partition("=")
        if key.lstrip("+") == kind:
            found += [name for name in re.split(r"[\[\],'\"\s]+", value) if name]
    return found
