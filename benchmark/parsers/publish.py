"""The options of `benchmark publish`."""

from __future__ import annotations

import argparse

from benchmark.parsers.options import Commands

__all__ = ["add_publish"]


def add_publish(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    publish = commands.add_parser(
        "publish",
        help="report finished results to a tracker",
        description="Report finished cells and their systems to a tracker from the records alone, one run each. The "
        "store remembers what was published, so an interrupted command goes on where it stopped.",
    )
    publish.add_argument("paths", nargs="+", metavar="PATH|URL", help="cells, or folders of cells")
    publish.add_argument("--tracker", required=True, metavar="NAME", help="such as wandb")
    publish.add_argument("--sweep", default="", metavar="NAME", help="group of the cells' runs")
    publish.add_argument("--rate", type=_rate, default=0.0, metavar="N", help="at most N records a minute")
    publish.add_argument("--again", action="store_true", help="also what was published before")
    publish.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark.commands import publish
    from benchmark.records.remote import fetched

    paths = [fetched(path) for path in options.paths]
    return publish.main(paths, options.tracker, options.sweep, rate=options.rate, again=options.again)


def _rate(text: str) -> float:
    """Positive number of records per minute."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} records a minute; expected a positive number")
    return value
