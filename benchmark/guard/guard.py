"""Guard around calls into plugins."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from benchmark.errors import BenchmarkError, PluginFault, message_of
from benchmark.guard import forks, functions
from benchmark.guard.generators import generators_now, set_generators
from benchmark.guard.interrupt import let_a_person_through
from benchmark.guard.state import process_state, restored

__all__ = ["RENDEZVOUS", "guarded"]

RENDEZVOUS = ("MASTER_", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "RANK", "GROUP_RANK", "OMP_NUM_THREADS")
"""Environment variables that connect the processes of a distributed training; Lightning sets them."""

LASTING = ("exit handlers", "threads of Python")
"""State that cannot be undone, and that trackers may change."""

OF_AN_IMPORT = ("environment", "filters of warnings", *LASTING)
"""State that the first import of a library may change."""


@contextlib.contextmanager
def guarded(
    owner: str | Callable[[], str],
    *,
    generators: bool = True,
    draws: bool = True,
    lasting: bool = False,
    spared: Sequence[str] = (),
    fault: type[BenchmarkError] = PluginFault,
) -> Iterator[None]:
    """Guard a call into a plugin: restore the process state afterwards, and raise if the plugin changed it.

    Changes that the first import of a library makes to the environment and the warning filters are undone silently;
    its exit handlers, threads and replaced functions stay.

    Args:
        owner: the plugin, for messages. generators: restore the global random generators.
        draws: allow draws from them. lasting: also refuse exit handlers and threads that are left.
        spared: prefixes of the environment variables that the plugin may change.

    Raises:
        PluginFault: or `fault`, if the plugin left something changed, or tried to end the process.
    """
    before, random_before, modules = process_state(), generators_now() if generators else None, len(sys.modules)
    functions.look()
    start = forks.mark()
    try:
        try:
            yield
        finally:
            doubled = forks.doubled(start)
            replaced = functions.put_back() if len(sys.modules) == modules else []
    except BaseException as error:
        restored(before, spared)
        if isinstance(error, Exception):
            raise
        let_a_person_through(error)
        raise fault(
            f"{_named(owner)} raised {type(error).__name__}({message_of(error)}), which ends the process; it must "
            "raise an ordinary error and leave that to the user: its author must fix it"
        ) from error
    else:
        changed = restored(before, spared)
    finally:
        drew = random_before is not None and set_generators(random_before)
    if drew and not draws:
        changed["global random generators"] = "drawn from or seeded; randomness must come from `rng`"
    if replaced:
        changed["functions"] = ", ".join(replaced)
    excused = (*(OF_AN_IMPORT if len(sys.modules) > modules else ()), *(() if lasting else LASTING))
    changed = {name: text for name, text in changed.items() if name not in excused}
    if doubled:
        raise fault(
            f"{_named(owner)} forked the process and returned in both; the child was ended there, or it would have run "
            "the sweep a second time: its author must fix it"
        )
    if changed:
        told = "; ".join(f"{name} ({text})" for name, text in changed.items())
        raise fault(
            f"{_named(owner)} changed process state that other plugins share: {told}; it was restored. A plugin must "
            "leave the process unchanged: its author must fix it"
        )


def _named(owner: str | Callable[[], str]) -> str:
    return owner if isinstance(owner, str) else owner()
