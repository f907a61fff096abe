"""The options of `benchmark publish`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands

__all__ = ["add_publish"]


def add_publish(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    publish = commands.add_parser(
        "publish",
        help="tell a tracker of results that were made without it",
        description="Tell a tracker of finished cells and their systems from the records alone: a run for each.",
    )
    publish.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cells, or folders of cells")
    publish.add_argument("--tracker", required=True, metavar="NAME", help="such as wandb")
    publish.add_argument(
        "--sweep", default="", metavar="NAME", help="what the cells belong to: the group of their runs"
    )
    publish.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import publish

    return publish.main(options.paths, options.tracker, options.sweep)
