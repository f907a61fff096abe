"""The options of `benchmark reattack`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_data_option, add_store_option

__all__ = ["add_reattack"]


def add_reattack(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    reattack = commands.add_parser(
        "reattack",
        help="attack published systems again, by the adaptive search",
        description="Run one attack on every system and threat of published cells that it was not run on, with the "
        "published weights from the store (see benchmark fetch). The new cells belong to the same rows of the board; "
        "benchmark leaderboard pack adds them. Ends with 1 if a system was left out.",
    )
    reattack.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="published cells, or folders of cells")
    reattack.add_argument("--attack", default="adaptive", metavar="NAME", help="default: adaptive")
    add_store_option(reattack)
    add_data_option(reattack)
    reattack.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import reattack

    return reattack.main(options.paths, options.store, options.data, attack=options.attack)
