"""User-provided code: a class or function of a Python file, and the files of its folder that it imports."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from benchmark.api import ConfigError, DataError, DataSpec

__all__ = ["built_by", "imported_files"]


def imported_files(path: Path) -> tuple[Path, ...]:
    """The file and the files of its folder that it imports, transitively; found by parsing, without importing.

    Raises:
        DataError: if there is no such file.
    """
    if path.suffix != ".py" or not path.is_file():
        raise DataError(
            f"model.path is {str(path)!r}, which is not a Python file in {Path.cwd()}; write model=net.py:MyNet"
        )
    found: dict[Path, None] = {}
    todo = [path]
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found[file] = None
        todo += [place for name in _names(file) for place in _places(path.parent, name) if place.is_file()]
    return path, *sorted(other for other in found if other != path)


def _names(file: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports; relative imports start from the folder of the first file."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield node.module
            yield from (f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)


def _places(folder: Path, name: str) -> Iterator[Path]:
    """Possible files below `folder` for the module `name` and the packages that contain it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:count])
        yield place.with_suffix(".py")
        yield place / "__init__.py"


def built_by(path: Path, factory: str, args: Mapping[str, Any], spec: DataSpec) -> nn.Module:
    """The module returned by a class or function of a file for `args`, and `spec` if it has a parameter of that name.

    Raises:
        DataError: if the file cannot be imported.
        ConfigError: if it does not define the name, or the arguments do not fit.
    """
    files = imported_files(path)
    with _siblings(path.parent):
        module = _module(path, files)
        made: object = module
        for part in factory.split("."):
            if not hasattr(made, part):
                known = [name for name, value in vars(module).items() if _is_own(value, module.__name__)]
                raise ConfigError(
                    f"{path} has no {factory!r}; it defines {', '.join(known) or 'no classes or functions'}: write "
                    "model=FILE.py:NAME"
                )
            made = getattr(made, part)
        return _called(made, f"{path}:{factory}", args, spec)


def _is_own(value: object, module: str) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module


def _called(made: Any, name: str, args: Mapping[str, Any], spec: DataSpec) -> nn.Module:
    if isinstance(made, nn.Module) or not callable(made):
        raise ConfigError(f"{name} is a {type(made).__name__}; expected a class, or a function that returns the model")
    signature = inspect.signature(made)
    given = {**({"spec": spec} if "spec" in signature.parameters else {}), **args}
    try:
        signature.bind(**given)
    except TypeError as error:
        names = ", ".join(name for name in signature.parameters if name != "spec") or "no arguments"
        raise ConfigError(f"{name} cannot be called: {error}; it takes {names}: set them as model.args.NAME") from error
    module = made(**given)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{name} returned a {type(module).__name__}; expected a torch.nn.Module")
    return module


def _module(path: Path, files: tuple[Path, ...]) -> Any:
    """The file imported as a module, under a name derived from its content."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    name = f"benchmark_own_{path.stem}_{digest}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses in it look themselves up there
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise DataError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


@contextlib.contextmanager
def _siblings(folder: Path) -> Iterator[None]:
    """Make the files of a folder importable inside the block; afterwards remove them from the imported modules."""
    place, known = str(folder.absolute()), set(sys.modules)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
        for name in set(sys.modules) - known:
            origin = getattr(sys.modules[name], "__file__", None)
            if not name.startswith("benchmark_own_") and origin and Path(origin).is_relative_to(place):
                del sys.modules[name]
