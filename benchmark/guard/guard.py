"""The guard around a call into a plugin."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from benchmark.errors import BenchmarkError, PluginFault
from benchmark.guard.generators import generators_now, set_generators
from benchmark.guard.interrupt import let_a_person_through
from benchmark.guard.state import process_state, restored

__all__ = ["RENDEZVOUS", "guarded"]

RENDEZVOUS = ("MASTER_", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK", "GROUP_RANK", "OMP_NUM_THREADS")
"""Variables by which processes that train together find each other: Lightning sets them."""


@contextlib.contextmanager
def guarded(
    owner: str | Callable[[], str],
    *,
    generators: bool = True,
    draws: bool = True,
    spared: Sequence[str] = (),
    fault: type[BenchmarkError] = PluginFault,
) -> Iterator[None]:
    """Around a call into a plugin: afterwards the process is as it was before, or the plugin is named.

    What the first import of a library adds to the environment and to the filters of warnings is undone without blame.

    Args:
        owner: the plugin, for messages. generators: put the global random generators back.
        draws: whether it may draw from them.
        spared: beginnings of the names of variables of the environment that the plugin may change.

    Raises:
        PluginFault: or `fault`, if it left something changed, or asked for the end of the process.
    """
    before, random_before, modules = process_state(), generators_now() if generators else None, len(sys.modules)
    try:
        yield
    except BaseException as error:
        restored(before, spared)
        if isinstance(error, Exception):
            raise
        let_a_person_through(error)
        raise fault(
            f"{_named(owner)} raised {type(error).__name__}({error}), which ends the process; it must raise an error "
            "of its own and leave the end to the user: its author must mend it"
        ) from error
    finally:
        drew = random_before is not None and set_generators(random_before)
    changed = restored(before, spared)
    if drew and not draws:
        changed["global random generators"] = "drawn from or seeded; randomness must come from `rng`"
    if len(sys.modules) > modules:
        changed = {name: text for name, text in changed.items() if name not in ("environment", "filters of warnings")}
    if changed:
        told = "; ".join(f"{name} ({text})" for name, text in changed.items())
        raise fault(
            f"{_named(owner)} left the process changed for every plugin beside it: {told}; that was put back. It must "
            "leave the process as it finds it: its author must mend it"
        )


def _named(owner: str | Callable[[], str]) -> str:
    return owner if isinstance(owner, str) else owner()
