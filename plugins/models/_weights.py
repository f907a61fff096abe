"""Weights in common formats: state dicts, TorchScript, exported programs, Hugging Face folders.

No pickle that could run code is loaded: torch.load is called with weights_only=True.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark.api import ConfigError, DataError

__all__ = ["misfits", "program_in", "state_in", "state_under"]

EXPECTED = (
    "expected a state dict in .safetensors, .pt or .pth, a TorchScript file, an exported program (.pt2), or a folder "
    "with model.safetensors"
)


def misfits(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """One sentence per tensor that is missing, unexpected or of another shape, sorted by name."""
    wants, has = ({name: tuple(value.shape) for name, value in some.items()} for some in (expected, found))
    return [
        f"{name} is {has.get(name, 'missing')}, expected {wants.get(name, 'nothing')}"
        for name in sorted(wants.keys() | has.keys())
        if has.get(name) != wants.get(name)
    ]


def state_in(path: Path, entry: str, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file or folder by name.

    Args:
        entry: the key of the state dict in a larger dictionary.
        prefix: removed from the beginning of names.

    Raises:
        DataError: if there are no tensors.
        ConfigError: if `entry` or `prefix` does not fit, or `entry` is needed.
    """
    found = _read(path)
    if isinstance(found, nn.Module):
        found = dict(found.state_dict())
    if entry:
        if not isinstance(found, dict) or entry not in found:
            raise ConfigError(f"model.entry is {entry!r}, but {path} has {_keys(found)}")
        found = found[entry]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        nested = [name for name, value in found.items() if isinstance(value, dict)] if isinstance(found, dict) else []
        advice = f"set the entry with the weights, such as model.entry={nested[0]}" if nested else EXPECTED
        raise ConfigError(f"{path} contains {_keys(found)} instead of tensors by name; {advice}")
    if prefix:
        lacking = [name for name in found if not name.startswith(prefix)]
        if lacking:
            raise ConfigError(f"model.prefix is {prefix!r}, but {path} has {lacking[0]}, which does not begin with it")
    return {name.removeprefix(prefix): value for name, value in found.items()}


def state_under(path: Path, entries: tuple[str, ...], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a file by name, as :func:`state_in`, of the first of `entries` that it has, if any.

    Args:
        prefixes: removed from the names that begin with them, in this order.

    Raises:
        DataError: if there are no tensors.
    """
    found = _read(path)
    nested = [name for name, value in found.items() if isinstance(value, dict)] if isinstance(found, dict) else []
    entry = next((name for name in entries if name in nested), "")
    if nested and not entry:
        raise DataError(f"{path} has {_keys(found)}; expected tensors by name, alone or under {', '.join(entries)}")
    state = state_in(path, entry, "")
    for prefix in prefixes:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def program_in(path: Path) -> nn.Module | None:
    """The module in a TorchScript file or an exported program; None for a file of weights only.

    Raises:
        DataError: if the file is missing or cannot be read.
    """
    found = _read(path)
    return found if isinstance(found, nn.Module) else None


def _keys(found: object) -> str:
    return f"the entries {', '.join(map(str, list(found)[:6]))}" if isinstance(found, dict) else type(found).__name__


def _read(path: Path) -> Any:
    """The module, or the content of a file of tensors."""
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"model.weights is {str(path)!r}, which is not a file in {Path.cwd()}; {EXPECTED}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        kind = _kind(path)
        if kind == "script":
            return torch.jit.load(str(path), map_location="cpu")
        if kind == "program":
            return _evaluating(torch.export.load(str(path)).module())
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} contains more than weights, and loading it could run code; save only the state dict: "
            "torch.save(model.state_dict(), PATH)"
        ) from error
    except (SafetensorError, RuntimeError, ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}); {EXPECTED}") from error


def _kind(path: Path) -> str:
    """script, program or weights, by the names in the archive."""
    if not zipfile.is_zipfile(path):
        return "weights"
    with zipfile.ZipFile(path) as archive:
        names = [name.partition("/")[2] or name for name in archive.namelist()]
    if any(name.startswith("code/") for name in names) and "constants.pkl" in names:
        return "script"
    program = any("serialized_exported_program" in name or name.startswith("models/") for name in names)
    return "program" if program else "weights"


def _evaluating(module: nn.Module) -> nn.Module:
    """Make train() and eval() of an exported program do nothing, as it was recorded in one mode."""

    def stay(mode: bool = True) -> nn.Module:
        return module

    module.train = stay  # type: ignore[method-assign]
    module.eval = lambda: module  # type: ignore[method-assign]
    return module


def _folder(path: Path) -> dict[str, Tensor]:
    """The weights of a Hugging Face folder, in one file or in several listed by an index."""
    one, index = path / "model.safetensors", path / "model.safetensors.index.json"
    try:
        if one.is_file():
            return safetensors.torch.load_file(one)
        if index.is_file():
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            loaded = [safetensors.torch.load_file(path / Path(name).name) for name in files]
            return {name: value for part in loaded for name, value in part.items()}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"the weights in {path} cannot be read: {error}") from error
    raise DataError(f"{path} has no model.safetensors and no model.safetensors.index.json; {EXPECTED}")
