"""The options of `benchmark report`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands, add_store_option

__all__ = ["add_report"]


def add_report(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    report = commands.add_parser(
        "report",
        help="report the boards, curves and site of a store to a tracker",
        description="Report a whole store as one run: a table per board, the curves, and the site as an artifact.",
    )
    add_store_option(report, urls=True)
    report.add_argument("--tracker", default="wandb", metavar="NAME", help="default: wandb")
    report.add_argument("--name", default="report", metavar="NAME", help="name of the run; default: report")
    report.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import report

    from benchmark.records.remote import fetched

    status: int = report.main(fetched(options.store), options.tracker, options.name)
    return status
