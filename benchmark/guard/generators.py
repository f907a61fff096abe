"""Save, compare and restore the global random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["drawn", "generators_now", "set_generators"]


def drawn(device: Any) -> tuple[Any, ...]:
    """States of the global random generators, which compare equal as long as nothing is drawn.

    Args:
        device: a torch device, whose generator is included.
    """
    torch, numpy = sys.modules["torch"], sys.modules["numpy"]
    state: Any = numpy.random.get_state(legacy=True)
    states: list[Any] = [torch.get_rng_state().numpy().tobytes(), random.getstate(), state[1].tobytes(), *state[2:]]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return tuple(states)


def generators_now() -> list[tuple[Callable[[Any], object], Any]]:
    """Setter and present state of each global random generator."""
    found: list[tuple[Callable[[Any], object], Any]] = [(random.setstate, random.getstate())]
    if "numpy" in sys.modules:
        generator = sys.modules["numpy"].random
        found.append((generator.set_state, generator.get_state(legacy=True)))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        found.append((torch.set_rng_state, torch.get_rng_state()))
        if torch.cuda.is_initialized():
            found.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return found


def set_generators(states: list[tuple[Callable[[Any], object], Any]]) -> bool:
    """Restore the generators; True if any was in another state."""
    now = dict(generators_now())
    changed = False
    for write, state in states:
        if not _same(now[write], state):
            changed = True
            write(state)
    return changed


def _same(one: Any, other: Any) -> bool:
    """Equality of generator states: tensors, arrays, and nested tuples and lists of them."""
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if hasattr(one, "numpy"):
        one, other = one.numpy(), other.numpy()
    return bool((one == other).all()) if hasattr(one, "tobytes") and hasattr(one, "all") else bool(one == other)
