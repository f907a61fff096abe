"""The options of `benchmark work`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands

__all__ = ["add_work"]


def add_work(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    work = commands.add_parser(
        "work",
        help="take cells of a plan until none is left",
        description="Take the next cell of a plan that is neither recorded nor held by another task, until none is "
        "left. Any number of tasks, on any machines that share the store, may do so; they may join late, die and "
        "restart.",
    )
    work.add_argument("plan", type=Path, metavar="PLAN", help="a file that benchmark plan wrote")
    work.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.sweep import app

    return app.work(options.plan)
