"""The options of `benchmark store`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_store_option

__all__ = ["add_store"]


def add_store(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    store = commands.add_parser(
        "store",
        help="check, clean, move or merge stores of results",
        description="Check and clean the files of a store, and move or merge whole stores.",
    )
    actions = store.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="read every file and list what is broken",
        description="Compare every file with the checksum that its record or card gives. Ends with 1 if one differs.",
    )
    clean = actions.add_parser(
        "clean",
        help="set broken files aside, remove leftovers",
        description="Set broken files aside, so that the next run recomputes them, and remove leftovers of "
        "interrupted processes and files set aside before.",
    )
    clean.add_argument("--failed", action="store_true", help="also drop failed cells, so that they are computed again")
    clean.add_argument(
        "--orphans", action="store_true", help="also remove systems that no cell names, and abandoned work"
    )
    move = actions.add_parser("move", help="move a store", description="Move a store, also to another file system.")
    move.add_argument("to", type=Path, metavar="PATH", help="new path; must not exist")
    merge = actions.add_parser(
        "merge",
        help="copy the cells and systems of another store",
        description="Copy cells and systems of another store into this one; either may be on object storage. Two that "
        "differ under one key are named and stay as they are; then it ends with 1.",
    )
    merge.add_argument("other", metavar="STORE|URL", help="the other store, which is not changed")
    for action, name in ((check, "check"), (clean, "clean"), (move, "move"), (merge, "merge")):
        add_store_option(action, urls=name in ("check", "merge"))
        action.set_defaults(command=_run, action=name)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import store

    if options.action == "check":
        from benchmark.records.remote import fetched

        return store.check_store(fetched(options.store, systems=True))
    if options.action == "clean":
        return store.clean(options.store, failed=options.failed, orphans=options.orphans)
    if options.action == "move":
        return store.move(options.store, options.to)
    return store.merge(options.other, options.store)
