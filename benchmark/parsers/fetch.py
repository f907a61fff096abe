"""The options of `benchmark fetch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.parsers.options import Commands, add_store_option

__all__ = ["add_fetch"]


def add_fetch(commands: Commands) -> None:
    """Add the command to the parser of the command line."""
    fetch = commands.add_parser(
        "fetch",
        help="put a published system into the store, to attack it",
        description="Copy or download the card and the weights of a published system, checked against the sha256 in "
        "its records, into the store. Runs and add-examples then attack these weights; nothing is trained.",
    )
    fetch.add_argument("key", metavar="KEY", help="the system key, as on the page of the system")
    fetch.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="SOURCE",
        help="a folder, a submission, or the URL of the weights with card.json beside it; default: the URL in "
        "systems.json beside the results",
    )
    fetch.add_argument(
        "--results",
        type=Path,
        action="append",
        metavar="PATH",
        help="a folder of published results; may be given again; default: leaderboard/results",
    )
    add_store_option(fetch)
    fetch.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from benchmark_leaderboard import fetch

    results = options.results or [Path("leaderboard/results")]
    status: int = fetch.main(options.key, options.source, results, options.store)
    return status
