"""Errors of overrides in one sentence instead of the several lines of Hydra and OmegaConf."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Sequence

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from benchmark import registry
from benchmark.errors import ConfigError

__all__ = ["NO_WORD", "brief", "refuse_unknown", "sentence"]

NO_WORD = "Config group override must be a string or a list"
"""Hydra's message, in a ValueError, for a choice that parses as a number."""

ALL_SETTINGS = "List all: benchmark run --cfg job"

FEW = 8
"""Largest number of names to list in full; beyond it, only close matches are listed."""


LONG = 60
"""Largest number of characters of a value to print in full."""


def brief(text: str) -> str:
    """Text of at most LONG characters; a longer one loses its middle."""
    return text if len(text) <= LONG else f"{text[: LONG - 18]} ... {text[-13:]}"


def _once(text: str) -> str:
    """Text where it is said again in the same sentence: dots in place of a long one."""
    return text if len(text) <= LONG else "..."


def sentence(error: BaseException) -> str:
    """Error sentence for a configuration that cannot be composed: what is wrong, and the alternatives.

    A sentence of the harness passes unchanged.
    """
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        return _no_choice(str(error.missing_cfg_file), list(error.options))
    if isinstance(error, OverrideParseException) and "=" in error.override:
        return _unquoted(error.override)
    for beginning, mended in MENDED.items():
        if text.startswith(beginning):
            return mended(text, error.__cause__)
    return " ".join(text.split()) or _first_line(error.__cause__)


def refuse_unknown(cfg: DictConfig, known: Sequence[str]) -> None:
    """Refuse settings that `+KEY=VALUE` added to a composed configuration and nothing reads.

    Args:
        known: top-level keys.

    Raises:
        ConfigError: with close matches.
    """
    for key in map(str, cfg):
        if key not in known:
            raise ConfigError(
                f"there is no setting {key}, and no config group of that name.{_near(key, sorted(known))} "
                f"{ALL_SETTINGS}; to add a group, create a folder {key}/ in the folder of --config-dir"
            )
        child = cfg._get_node(key)
        if key in registry.LISTS and isinstance(child, DictConfig):
            for name in map(str, child):
                if not dataclasses.is_dataclass(OmegaConf.get_type(child, name)):
                    raise ConfigError(
                        f"{key}.{name} is not a setting, since {key} {name!r} is not among the chosen plugins"
                    )
                _refuse_fields(child._get_node(name), f"{key}.{name}")
        else:
            _refuse_fields(child, key)


def _refuse_fields(node: object, path: str) -> None:
    """Refuse keys of a node that are not fields of its dataclass, recursively."""
    kind = OmegaConf.get_type(node)
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or not dataclasses.is_dataclass(kind):
        return
    fields = [f.name for f in dataclasses.fields(kind)]
    for key in map(str, node):
        if key not in fields:
            raise ConfigError(f"there is no setting {path}.{key}.{_near(key, sorted(fields))} {ALL_SETTINGS}")
        _refuse_fields(node._get_node(key), f"{path}.{key}")


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _near(word: str, known: list[str]) -> str:
    """All known names if they are few, otherwise close matches."""
    if 0 < len(known) <= FEW:
        return f" Known: {', '.join(known)}."
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.4)
    return f" Did you mean {', '.join(close)}?" if close else ""


def _no_choice(path: str, options: list[str]) -> str:
    group, _, name = path.rpartition("/")
    if not name:
        return f"nothing is chosen for {group}; write {group}=NAME"
    more = f" List all: benchmark plugins {group}" if group in registry.KINDS else ""
    return f"no {group} named {brief(name)!r}; {len(options)} are available.{_near(name, sorted(options))}{more}"


def _not_loaded(text: str, cause: BaseException | None) -> str:
    path = text.split("'")[3]
    return _no_choice(path, registry.names(path.partition("/")[0]))


def _no_key(text: str, cause: BaseException | None) -> str:
    key = text.split("'")[1]
    owner = cause.object_type if isinstance(cause, OmegaConfBaseException) else None
    known = [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []
    full = str(getattr(cause, "full_key", None) or key)
    above, _, last = full.rpartition(".")
    if "@" in key:
        return f"no chosen plugin has a field {key.partition('@')[2]}; first choose the plugin that has it"
    if not known and above in registry.LISTS:
        return f"{key} is not a setting, since {above} {last!r} is not chosen; choose it first: '{above}=[{last}]'"
    return f"there is no setting {full}.{_near(last, sorted(known))} {ALL_SETTINGS}"


def _no_value(text: str, cause: BaseException | None) -> str:
    given = text.removeprefix("Error merging override ")
    held, said = getattr(cause, "child_node", None), brief(given)
    if isinstance(held, DictConfig) and "is not a subclass of" in str(cause):
        key, settings = given.partition("=")[0], [str(name) for name in held]
        return f"{said}: {key} has the settings {', '.join(settings)}; set one of them, as in {key}.{settings[0]}=VALUE"
    value = given.partition("=")[2]
    return f"{said}: {_first_line(cause).replace(value, brief(value))}"


def _several(text: str, cause: BaseException | None) -> str:
    given = text.splitlines()[0].split("'")[1]
    key, _, values = given.partition("=")
    again = _once(values)
    no_list = (key in registry.KINDS and key not in registry.LISTS) or "[" in values
    listed = "" if no_list else f"; for a list: '{key}=[{again}]'"
    each = f"to run each of them, add -m: benchmark run -m {key}={again}{listed}"
    return (
        f"{key}={brief(values)} gives several values; {each}; to pass one value that contains a comma, quote it: "
        f"\"{key}='{again}'\""
    )


def _unreadable(text: str, cause: BaseException | None) -> str:
    if "=" not in text.split("'")[1]:
        return f"{brief(text.split(chr(39))[1])!r} is neither GROUP=CHOICE nor KEY=VALUE; see benchmark run --help"
    return _unquoted(text.split("'")[1])


def _unquoted(given: str) -> str:
    """Error sentence for a word that Hydra cannot parse, such as `dataset.path=a(1).npz`."""
    key, _, value = given.partition("=")
    quoted = _once(value.replace("'", "\\'"))
    return (
        f"{key}={brief(value)} cannot be parsed: some of its characters are special to Hydra, as to the shell; put the "
        f"value in quotes within quotes: \"{key}='{quoted}'\""
    )


def _no_word(text: str, cause: BaseException | None) -> str:
    return f"{text}; a number, a boolean or null cannot name a plugin"


MENDED: dict[str, Callable[[str, BaseException | None], str]] = {
    "In 'run': Could not load": _not_loaded,
    "Could not override": _no_key,
    "Error merging override": _no_value,
    "Ambiguous value": _several,
    "Error parsing override": _unreadable,
    NO_WORD: _no_word,
}
"""Functions from Hydra's message and its cause to a sentence, by the message's first words."""
