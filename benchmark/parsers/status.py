"""The options of `benchmark status`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_store_option

__all__ = ["add_status"]


def add_status(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    status = commands.add_parser(
        "status",
        help="show the matrix of a store: robust accuracies, missing, failed, refused",
        description="Show robust accuracies with their 95 % intervals, what is missing, failed, refused and "
        "interrupted, and every error and finding. Ends with 1 if a cell failed, and with --at-least as `benchmark "
        "gate` does.",
    )
    add_store_option(status, urls=True)
    status.add_argument("--cells", action="store_true", help="print one line per cell instead of the matrix")
    status.add_argument("--json", action="store_true", help="print JSON: every cell with its counts, or its traceback")
    status.add_argument("--at-least", type=float, metavar="SHARE", help="another name for benchmark gate --at-least")
    status.add_argument(
        "--stale", action="store_true", help="also list the cells whose key differs under today's code, and why"
    )
    status.add_argument("--plan", type=Path, metavar="PLAN", help="show the progress of the tasks that work on a plan")
    status.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    if options.plan is not None:
        from benchmark.commands import progress

        return progress.main(options.plan)
    from benchmark.commands import status
    from benchmark.records.remote import fetched

    store = fetched(options.store)
    return status.main(store, as_json=options.json, at_least=options.at_least, old=options.stale, cells=options.cells)
