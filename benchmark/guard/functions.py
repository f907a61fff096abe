"""Functions of torch, NumPy and Python that every plugin calls: found again, and put back where they were replaced."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["look", "put_back"]

NAMESPACES = (
    "builtins", "math", "random", "numpy", "numpy.linalg", "torch", "torch.Tensor", "torch.autograd", "torch.linalg",
    "torch.nn.Module", "torch.nn.functional",
)  # fmt: skip
"""Modules and classes whose functions are watched, once they are imported."""

_known: dict[str, dict[str, Any]] = {}
"""Content of each namespace when it was last looked at."""


def look() -> None:
    """Take the functions as they are now for the right ones."""
    for name in NAMESPACES:
        space = _found(name)
        if space is not None and not _same(_known.get(name), vars(space)):
            _known[name] = dict(vars(space))


def put_back() -> list[str]:
    """Put back functions that were replaced since the last look; returns their names."""
    changed = []
    for name, old in _known.items():
        space = _found(name)
        if space is None or _same(old, vars(space)):
            continue
        now, above = dict(vars(space)), space.__mro__[1:] if isinstance(space, type) else ()
        for key, value in old.items():
            if callable(value) and now.get(key) is not value:
                setattr(space, key, value)
                changed.append(f"{name}.{key}")
        for key in now.keys() - old.keys():
            if any(key in vars(base) for base in above):  # hides the inherited one
                delattr(space, key)
                changed.append(f"{name}.{key}")
    return sorted(changed)


def _found(name: str) -> Any:
    """Imported module or class of this name, else None."""
    if name in sys.modules:
        return sys.modules[name]
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None)


def _same(old: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    try:
        return old == now
    except Exception:  # of a value in its place, which cannot be compared
        return False
