"""`model=net.py:MyNet` and `model=net.pt2`: a model in a file, rewritten as settings of the plugin that reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmark.config.overrides import brief
from benchmark.errors import ConfigError

__all__ = ["written_out"]

PROGRAMS = (".pt2", ".pt", ".pth", ".ts")
"""Suffixes of files that may contain a model with its code."""

CODE = re.compile(r"(?P<path>[^:,=]+\.py):(?P<factory>[A-Za-z_][\w.]*)")
SAFE = re.compile(r"[\w./+-]+")


def written_out(words: Sequence[str]) -> list[str]:
    """Replace each file chosen as a model by the settings of model=file.

    Values of `model.args` are added as new keys, since only the user's code knows their names.

    Raises:
        ConfigError: if one choice mixes files and names, or a file of code is named without its class.
    """
    found: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if key == "model" and equals:
            found += _model(value.strip("'\""))
        else:
            found.append(f"++{word}" if key.startswith("model.args.") else word)
    return found


def _model(value: str) -> list[str]:
    choices = value.split(",")
    own = [choice for choice in choices if _is_file(choice)]
    if not own:
        return [f"model={value}"]
    if len(own) < len(choices):
        raise ConfigError(
            f"model={brief(value)} mixes files and names of plugins; use a separate command for each kind (the "
            "store keeps both)"
        )
    code = [CODE.fullmatch(choice) for choice in choices]
    if not any(code) and not any(choice.endswith(".py") for choice in choices):
        return ["model=file", f"model.weights={','.join(map(_quoted, choices))}"]
    if not all(code):
        raise ConfigError(f"model={brief(value)} names a file without its class; write model=FILE.py:NAME")
    paths = list(dict.fromkeys(match["path"] for match in code if match))
    factories = list(dict.fromkeys(match["factory"] for match in code if match))
    if len(paths) > 1 and len(factories) > 1:
        raise ConfigError(
            f"model={brief(value)} names several classes in several files; sweep over the files of one class, or "
            "the classes of one file"
        )
    return ["model=file", f"model.path={','.join(map(_quoted, paths))}", f"model.factory={','.join(factories)}"]


def _is_file(choice: str) -> bool:
    return CODE.fullmatch(choice) is not None or choice.endswith((".py", *PROGRAMS))


def _quoted(path: str) -> str:
    """Path in Hydra's syntax."""
    return path if SAFE.fullmatch(path) else "'" + path.replace("\\", "\\\\").replace("'", "\\'") + "'"
